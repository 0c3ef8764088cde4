//! What the command line prints: results on standard output, failures on standard error.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

/// Prints lines as they are. A reader that went away (`| head`) is no failure.
#[cfg_attr(
    test,
    expect(
        clippy::print_stdout,
        reason = "what the command prints is its interface"
    )
)]
pub(super) fn text(text: &str) {
    #[cfg(not(test))]
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    // Only this way does the test runner keep it to itself.
    #[cfg(test)]
    print!("{text}");
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
        let text = cause.to_string();
        // Some errors quote their cause.
        if !message.ends_with(&text) {
            let _ = write!(message, ": {text}");
        }
        source = cause.source();
    }
    let message = sentence(&message);
    let next_step = next_step.map(sentence);
    let lines = if json {
        let view = serde_json::json!({ "event": "error", "code": code, "message": message, "next_step": next_step });
        format!("{view}\n")
    } else {
        let code = code.map_or_else(String::new, |code| format!(" ({code})"));
        let next = next_step.map_or_else(String::new, |next| format!("next:  {next}\n"));
        format!("error: {message}{code}\n{next}")
    };
    let _ = std::io::stderr().lock().write_all(lines.as_bytes());
}

/// An error as a sentence, which errors are kept without. What begins with a name of its own (a path,
/// a flag) keeps its spelling, and what ends in a command gets no full stop that would be pasted too.
fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    let is_word = first
        .trim_end_matches([',', ':'])
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || b"'-".contains(&byte));
    let mut characters = text.chars();
    let text = match characters.next() {
        Some(letter) if is_word => {
            format!("{}{}", letter.to_ascii_uppercase(), characters.as_str())
        }
        _ => text.to_owned(),
    };
    let ends_in_command = text.contains(": edge ") || text.contains(" --");
    if ends_in_command || text.ends_with(['.', '!', '?', ')', '`']) || text.contains(": chmod ") {
        text
    } else {
        format!("{text}.")
    }
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
