//! Cargo runs the tests: nextest where it is installed (each test in a process of its own), else cargo's
//! own runner. Its output is passed on line by line as it comes, and counted.

use std::fs;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, anyhow};

use crate::test::tally::Tally;
use crate::workspace;

/// One run of everything.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) root: &'a Path,
    pub(super) bin_dir: &'a Path,
    pub(super) artefacts: &'a Path,
    pub(super) filter: Option<&'a str>,
    /// What agents are told in their environment.
    pub(super) link: Option<&'a str>,
    pub(super) is_ci: bool,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) tally: Tally,
    /// Tests that ended early for want of a component, as they noted it.
    pub(super) skipped: Vec<String>,
    pub(super) is_success: bool,
}

impl Ended {
    /// The one line at the end.
    pub(super) fn summary(&self) -> String {
        let skipped = self.skipped.len() as u64;
        let Tally {
            passed,
            failed,
            ignored,
            ..
        } = &self.tally;
        // A test that skipped itself passed as far as its runner knows.
        let passed = passed.saturating_sub(skipped);
        format!(
            "{passed} passed, {failed} failed, {} skipped",
            ignored + skipped
        )
    }
}

impl Run<'_> {
    pub(super) fn all(&self) -> anyhow::Result<Ended> {
        let mut tally = Tally::default();
        let mut is_success = true;
        if workspace::find_program("cargo-nextest").is_some() {
            let mut tests = workspace::cargo(self.root);
            tests.args([
                "nextest",
                "run",
                "--workspace",
                "--no-fail-fast",
                "--no-tests=pass",
            ]);
            tests.args(self.filter);
            is_success &= self.one(&mut tests, &mut tally)?;
            // Nextest runs no examples of documentation.
            let mut examples = workspace::cargo(self.root);
            examples.args(["test", "--workspace", "--no-fail-fast", "--doc"]);
            examples.args(self.filter);
            is_success &= self.one(&mut examples, &mut tally)?;
        } else {
            let mut tests = workspace::cargo(self.root);
            tests.args(["test", "--workspace", "--no-fail-fast"]);
            tests.args(self.filter);
            is_success &= self.one(&mut tests, &mut tally)?;
        }
        let skipped = fs::read_to_string(self.artefacts.join(SKIPPED)).unwrap_or_default();
        Ok(Ended {
            tally,
            skipped: skipped.lines().map(str::to_owned).collect(),
            is_success,
        })
    }

    fn one(&self, command: &mut Command, tally: &mut Tally) -> anyhow::Result<bool> {
        command
            .env(workspace::BIN_DIR, self.bin_dir)
            .env("SALLYPORT_ARTEFACTS", self.artefacts)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(link) = self.link {
            command.env("SALLYPORT_LINK", link);
        }
        if self.is_ci {
            command.env("SALLYPORT_REQUIRE_ALL", "1");
        }
        if std::io::stderr().is_terminal() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        let mut child = command.spawn().context("cannot start cargo")?;
        let stdout = child.stdout.take().context("cargo has no output")?;
        let stderr = child.stderr.take().context("cargo has no error output")?;
        let counted = Mutex::new(std::mem::take(tally));
        let passed_on = thread::scope(|scope| {
            // Nextest reports on standard error, cargo's own runner on standard output.
            let errors = scope.spawn(|| pass_on(stderr, std::io::stderr(), &counted));
            let outputs = pass_on(stdout, std::io::stdout(), &counted);
            errors
                .join()
                .map_err(|_| anyhow!("reading cargo's messages panicked"))?
                .and(outputs)
        });
        *tally = counted
            .into_inner()
            .map_err(|_| anyhow!("counting the tests panicked"))?;
        passed_on?;
        Ok(child.wait()?.success())
    }
}

/// Copies lines, counting what they say. Bytes that are no text are passed on as they are.
fn pass_on(from: impl Read, mut to: impl Write, tally: &Mutex<Tally>) -> anyhow::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        if let Ok(mut tally) = tally.lock() {
            tally.read(&String::from_utf8_lossy(&line));
        }
        to.write_all(&line)?;
        to.flush()?;
        line.clear();
    }
    Ok(())
}

/// How the note of a test ends that was left out by choosing a link: nothing is missing.
pub(super) const NOT_ON_THIS_LINK: &str = "not on this link";
/// The file in the artefacts where a test notes, one line each, that it skipped itself and why.
pub(super) const SKIPPED: &str = "skipped.txt";
