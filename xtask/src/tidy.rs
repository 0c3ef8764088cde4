//! The house rules that no compiler checks: imports by floor, names, markers, manifests, generated files.
//!
//! Everything is read as tokens and text; nothing is compiled, so a tree that does not build can still be
//! checked. Rules are data where they can be (`floors`), and each has a bad sample in the tests.
//!
//! Reading order: `source` (text into tokens), `paths` (tokens into paths), `floors`, `words`, `manifests`.

mod floors;
mod manifests;
mod paths;
mod source;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::generate;
use crate::tidy::source::Source;
use crate::workspace;

/// A rule that is broken, and where.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Finding {
    /// Relative to the workspace.
    file: PathBuf,
    /// From 1; 0 when the whole file is meant.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            0 => write!(f, "{file}: {}", self.what),
            line => write!(f, "{file}:{line}: {}", self.what),
        }
    }
}

/// Whether the generated files are compared as well; `check` does that in a step of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Generated {
    Compare,
    Skip,
}

/// The command: prints what is broken.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let findings = findings(&workspace::root()?, Generated::Compare)?;
    Ok(if report(&findings) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints findings; whether there are none.
pub(crate) fn report(findings: &[Finding]) -> bool {
    for finding in findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: the house is in order");
    } else {
        println!("tidy: {} to put right", findings.len());
    }
    findings.is_empty()
}

/// All broken rules, by file and line.
pub(crate) fn findings(root: &Path, generated: Generated) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut files = Vec::new();
    let mut words_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for member in MEMBERS {
        collect(root, Path::new(member), &mut files)?;
    }
    for top in [".ci", ".config", ".cargo", "docs"] {
        if root.join(top).is_dir() {
            collect(root, Path::new(top), &mut files)?;
        }
    }
    collect_top(root, &mut files)?;
    for file in &files {
        let text =
            fs::read(root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        // What is not text has no words.
        let Ok(text) = String::from_utf8(text) else {
            continue;
        };
        findings.extend(words::in_name(file));
        if file.extension().is_some_and(|extension| extension == "rs") {
            let source = Source::read(&text);
            findings.extend(words::in_source(file, &text, &source));
            findings.extend(floors::in_source(file, &source));
            words_of
                .entry(member_of(file))
                .or_default()
                .extend(source.words());
        } else {
            findings.extend(words::in_text(file, &text));
        }
    }
    findings.extend(floors::in_tree(&files));
    findings.extend(manifests::in_workspace(root, &words_of)?);
    if generated == Generated::Compare {
        for stale in generate::stale(root) {
            findings.push(Finding::new(Path::new(stale.file), 0, stale.why));
        }
    }
    findings.sort();
    Ok(findings)
}

/// The crate that a file is in: its folder, relative to the workspace.
fn member_of(file: &Path) -> String {
    if file.starts_with(MUX) {
        return MUX.to_owned();
    }
    file.iter()
        .next()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Every file below a folder, relative to the workspace, without what tools put there.
fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(root.join(folder))
        .with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if !SKIPPED_FOLDERS
                .iter()
                .any(|name| entry.file_name() == *name)
            {
                collect(root, &path, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The documents and manifests at the top.
fn collect_top(root: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root)? {
        let name = PathBuf::from(entry?.file_name());
        if name
            .extension()
            .is_some_and(|extension| extension == "md" || extension == "toml")
        {
            files.push(name);
        }
    }
    Ok(())
}

const MEMBERS: [&str; 5] = ["agent", "edge", "proto", "tests", "xtask"];
/// The one crate within another's folder.
const MUX: &str = "proto/mux";
/// What tools make, and what somebody else wrote.
const SKIPPED_FOLDERS: [&str; 7] = [
    "__pycache__",
    "artifacts",
    "corpus",
    "node_modules",
    "target",
    "uap-core",
    "venv",
];
