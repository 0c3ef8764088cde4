//! Names and words: forbidden module names, a `//!` at the top, leftover markers, `allow` without a reason.

use std::path::Path;

use crate::tidy::Finding;
use crate::tidy::source::{Comment, Kind, Source};

/// Checks a file's own name and its folders'.
pub(super) fn in_name(file: &Path) -> Option<Finding> {
    if file.extension().is_none_or(|extension| extension != "rs") {
        return None;
    }
    let bad = file
        .components()
        .filter_map(|part| Path::new(part.as_os_str()).file_stem()?.to_str())
        .find(|name| BAD_NAMES.contains(name))?;
    let what = format!("nothing is called {bad}: name it for the thing it is");
    Some(Finding::new(file, 0, what))
}

/// Checks a Rust file.
pub(super) fn in_source(file: &Path, text: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        let what = "a module opens with //!: why it exists, and what it must not do";
        findings.push(Finding::new(file, 1, what));
    }
    for at in 0..source.tokens.len() {
        let what = left_over_macro(source, at)
            .or_else(|| bad_inline_module(source, at))
            .or_else(|| silent_permission(source, at));
        findings.extend(what.map(|what| Finding::new(file, source.line(at), what)));
    }
    for Comment { text, line } in &source.comments {
        findings.extend(marker(text).map(|what| Finding::new(file, *line, what)));
    }
    findings
}

/// Checks any other text.
pub(super) fn in_text(file: &Path, text: &str) -> Vec<Finding> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    let mut findings = Vec::new();
    if file
        .file_name()
        .is_some_and(|name| name == "package-lock.json")
    {
        let lines = text.lines().enumerate();
        findings.extend(
            lines
                .filter(|(_, line)| line.contains("\"resolved\""))
                .take(1)
                .map(|(at, _)| {
                    Finding::new(file, at + 1, "a lock file holds no download addresses")
                }),
        );
    } else if extension.is_none_or(|extension| TEXT_EXTENSIONS.contains(&extension)) {
        for (at, line) in text.lines().enumerate() {
            findings.extend(marker(line).map(|what| Finding::new(file, at + 1, what)));
        }
    }
    findings
}

fn left_over_macro(source: &Source, at: usize) -> Option<String> {
    let word = source.word(at)?;
    (MACROS.contains(&word) && source.is_mark(at + 1, '!') && !source.is_mark(at + 2, '='))
        .then(|| format!("{word}! is left over"))
}

fn bad_inline_module(source: &Source, at: usize) -> Option<String> {
    let name = source.word(at + 1)?;
    (source.word(at) == Some("mod") && BAD_NAMES.contains(&name))
        .then(|| format!("nothing is called {name}: name it for the thing it is"))
}

/// `#[allow(…)]` and `#[expect(…)]`, also inside `cfg_attr`, say why.
fn silent_permission(source: &Source, at: usize) -> Option<String> {
    let word = source.word(at)?;
    if !matches!(word, "allow" | "expect")
        || !source.is_mark(at + 1, '(')
        || !opens_attribute(source, at)
    {
        return None;
    }
    let mut depth = 0_usize;
    for next in at + 1..source.tokens.len() {
        match source.tokens.get(next).map(|token| &token.kind)? {
            Kind::Mark('(') => depth += 1,
            Kind::Mark(')') => {
                depth -= 1;
                if depth == 0 {
                    return Some(format!("{word} without a reason"));
                }
            }
            Kind::Word(inner) if inner == "reason" && source.is_mark(next + 1, '=') => return None,
            Kind::Word(_) | Kind::Mark(_) | Kind::Literal | Kind::Lifetime => {}
        }
    }
    None
}

/// Whether the word at a place stands where an attribute's name does.
fn opens_attribute(source: &Source, at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else {
        return false;
    };
    if source.is_mark(before, '[') {
        return before
            .checked_sub(1)
            .is_some_and(|at| source.is_mark(at, '#') || source.is_mark(at, '!'));
    }
    // `cfg_attr(condition, allow(…))`: somewhere before, on its way back to `#[`.
    source.is_mark(before, ',')
        && (0..before)
            .rev()
            .take(CFG_ATTR_TOKENS)
            .take_while(|at| !source.is_mark(*at, ';') && !source.is_mark(*at, ']'))
            .any(|at| source.word(at) == Some("cfg_attr") && at > 0 && source.is_mark(at - 1, '['))
}

/// A marker that stands alone as a word.
fn marker(text: &str) -> Option<String> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_')
        .find(|word| MARKERS.contains(word))
        .map(|word| format!("{word} is left over"))
}

const BAD_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "types", "misc"];
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
const MARKERS: [&str; 4] = ["FIXME", "HACK", "TODO", "XXX"];
const TEXT_EXTENSIONS: [&str; 12] = [
    "css", "html", "js", "json", "md", "mjs", "sh", "svg", "toml", "txt", "yaml", "yml",
];
/// As long as any condition gets.
const CFG_ATTR_TOKENS: usize = 64;
