//! What the command line prints: results on standard output, failures on standard error.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

/// Prints lines as they are. A reader that went away (`| head`) is no failure.
pub(super) fn text(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints one line of JSON.
pub(super) fn json(value: &impl Serialize) {
    // Views are strings, numbers and lists: they always serialise.
    let line = serde_json::to_string(value).unwrap_or_default();
    text(&format!("{line}\n"));
}

/// Prints a failure with its causes, and what to do.
pub(super) fn failure(
    error: &dyn std::error::Error,
    code: Option<&str>,
    next_step: Option<&str>,
    json: bool,
) {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(message, ": {cause}");
        source = cause.source();
    }
    let lines = if json {
        let view = serde_json::json!({ "event": "error", "code": code, "message": message, "next_step": next_step });
        format!("{view}\n")
    } else {
        let code = code.map_or_else(String::new, |code| format!(" ({code})"));
        let next = next_step.map_or_else(String::new, |next| format!("Next: {next}\n"));
        format!("edge: {message}{code}\n{next}")
    };
    let _ = std::io::stderr().lock().write_all(lines.as_bytes());
}

/// Columns under their names, as wide as they need to be.
pub(super) fn table<const N: usize>(names: [&str; N], rows: &[[String; N]]) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths = names.map(width);
    for row in rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = width(cell).max(*most);
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(names);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    out
}

/// Facts, one a line, their names aligned.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let mut out = String::new();
    for (name, value) in facts {
        let _ = writeln!(out, "{name:<width$}{value}");
    }
    out
}
