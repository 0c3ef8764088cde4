//! Counts tests from what the runners print, because neither says it all in one place.

/// What has been counted so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
    /// Names of failed tests, each once.
    pub(super) failures: Vec<String>,
}

impl Tally {
    /// Takes in one line of output.
    pub(super) fn read(&mut self, line: &str) {
        let line = plain(line);
        let line = line.trim();
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.add(counts, "ignored");
        } else if let Some(counts) = line.strip_prefix("Summary [") {
            self.add(counts, "skipped");
        } else if let Some(name) = failure(line)
            && !self.failures.iter().any(|known| known == name)
        {
            self.failures.push(name.to_owned());
        }
    }

    /// Adds `… 5 passed; 1 failed; 2 ignored …` or `… 5 passed (1 slow), 1 failed, 2 skipped`.
    fn add(&mut self, counts: &str, ignored: &str) {
        self.passed += number_before(counts, "passed");
        self.failed += number_before(counts, "failed")
            + number_before(counts, "exec failed")
            + number_before(counts, "timed out");
        self.ignored += number_before(counts, ignored);
    }
}

/// The number in front of a word.
fn number_before(text: &str, word: &str) -> u64 {
    text.split([';', ',', ':', '.', ']'])
        .filter_map(|part| part.trim().split_once(' '))
        .find(|(_, rest)| *rest == word || rest.starts_with(&format!("{word} ")))
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

/// The name in `test a::b ... FAILED` or in nextest's `FAIL [   0.012s] (3/9) tests::it a::b`.
fn failure(line: &str) -> Option<&str> {
    if let Some(test) = line.strip_prefix("test ") {
        return Some(test.strip_suffix(" ... FAILED")?.trim());
    }
    let rest = line
        .strip_prefix("FAIL [")
        .or_else(|| line.strip_prefix("TIMEOUT ["))
        .or_else(|| line.strip_prefix("ABORT ["))
        .or_else(|| line.strip_prefix("SIGSEGV ["))
        .or_else(|| line.strip_prefix("SIGABRT ["))?;
    let (_, name) = rest.split_once(']')?;
    let name = name.trim();
    match name.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map(|(_, name)| name.trim()),
        None => Some(name),
    }
}

/// A line without its colours.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // `ESC [ … letter`
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(char);
        }
    }
    out
}
