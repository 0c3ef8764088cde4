//! Everything that can be said about the tree without running the product: format, clippy, documentation,
//! tidy, generated files, and the dependencies where the tools for that are installed.
//!
//! Every step runs, also after one has failed, so that one run says all there is to say.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::tidy::{self, Generated};
use crate::{generate, workspace};

/// How a step ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    /// The tool for it is not there.
    NotInstalled,
}

struct Step {
    name: &'static str,
    run: fn(&Path) -> anyhow::Result<Outcome>,
}

const STEPS: [Step; 7] = [
    Step {
        name: "format",
        run: |root| cargo(root, &["fmt", "--all", "--check"], &[]),
    },
    Step {
        name: "clippy",
        run: |root| {
            let args = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ];
            cargo(root, &args, &[])
        },
    },
    Step {
        name: "documentation",
        run: |root| {
            let args = [
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ];
            cargo(root, &args, &[("RUSTDOCFLAGS", "-D warnings")])
        },
    },
    Step {
        name: "tidy",
        run: |root| {
            Ok(passed_if(tidy::report(&tidy::findings(
                root,
                Generated::Skip,
            )?)))
        },
    },
    Step {
        name: "generated files",
        run: |root| Ok(passed_if(generate::is_up_to_date(root))),
    },
    Step {
        name: "unused dependencies",
        run: |root| tool(root, "cargo-machete", &["machete"]),
    },
    Step {
        name: "licences, bans, sources",
        run: |root| {
            tool(
                root,
                "cargo-deny",
                &["deny", "check", "bans", "licenses", "sources"],
            )
        },
    },
];

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    let started = Instant::now();
    let mut results = Vec::new();
    for (at, step) in STEPS.iter().enumerate() {
        println!("── check {}/{}: {}", at + 1, STEPS.len(), step.name);
        let began = Instant::now();
        let outcome = (step.run)(&root).unwrap_or_else(|error| {
            println!("error: {error:#}");
            Outcome::Failed
        });
        println!(
            "── {}: {} in {}",
            step.name,
            word(outcome),
            seconds(began.elapsed())
        );
        results.push((step.name, outcome));
    }
    println!(
        "check: {}, {}",
        summary(&results),
        seconds(started.elapsed())
    );
    let has_failed = results
        .iter()
        .any(|(_, outcome)| *outcome == Outcome::Failed);
    Ok(if has_failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn cargo(root: &Path, args: &[&str], envs: &[(&str, &str)]) -> anyhow::Result<Outcome> {
    let mut command = workspace::cargo(root);
    command.args(args).envs(envs.iter().copied());
    finish(&mut command)
}

fn tool(root: &Path, program: &str, args: &[&str]) -> anyhow::Result<Outcome> {
    if workspace::find_program(program).is_none() {
        println!("{program} is not installed; `cargo install --locked {program}` gets it");
        return Ok(Outcome::NotInstalled);
    }
    cargo(root, args, &[])
}

fn finish(command: &mut Command) -> anyhow::Result<Outcome> {
    let status = command.status().context("cannot start cargo")?;
    Ok(passed_if(status.success()))
}

fn passed_if(is_good: bool) -> Outcome {
    if is_good {
        Outcome::Passed
    } else {
        Outcome::Failed
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "FAILED",
        Outcome::NotInstalled => "skipped, not installed",
    }
}

/// `5 passed, 1 failed (clippy), 1 not installed (cargo-deny)`.
fn summary(results: &[(&str, Outcome)]) -> String {
    let of = |wanted: Outcome| -> Vec<&str> {
        let matching = results.iter().filter(|(_, outcome)| *outcome == wanted);
        matching.map(|(name, _)| *name).collect()
    };
    let mut text = format!("{} passed", of(Outcome::Passed).len());
    for (outcome, word) in [
        (Outcome::Failed, "failed"),
        (Outcome::NotInstalled, "not installed"),
    ] {
        let names = of(outcome);
        if !names.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, ", {} {word} ({})", names.len(), names.join("; "));
        }
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
