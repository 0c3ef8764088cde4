//! Runs all tests after setting up what they need, and ends with one line: `N passed, N failed, N skipped`.
//!
//! A machine without, say, a browser still runs everything else and says what is missing and how to get
//! it. With `CI` set a missing component is a failure, never a skip.
//!
//! Reading order: `needs` (programs), `providers` (npm packages), `python` (its packages), `h2spec` (a Go
//! module), `runner` (cargo), `tally` (its output).

mod h2spec;
pub(crate) mod needs;
mod no_services;
mod providers;
mod python;
mod runner;
mod tally;

#[cfg(test)]
mod tests;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only tests whose names contain this
    filter: Option<String>,
    /// The link that agents take where a test does not choose [default: as the product does]
    #[arg(long, value_name = "LINK", value_parser = ["auto", "quic", "tls"])]
    link: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    let started = Instant::now();
    let is_ci = is_ci();

    say(started, "looking for what the tests need");
    let mut missing = needs::set_up();
    if let Err(error) = providers::set_up(&root) {
        missing.push(format!("npm packages of tests/providers: {error:#}"));
    }
    if let Err(error) = h2spec::set_up(&root) {
        missing.push(format!("h2spec: {error:#}"));
    }
    if let Err(error) = python::set_up(&root) {
        missing.push(format!("Python packages of tests/python: {error:#}"));
    }
    for one in &missing {
        eprintln!("missing: {one}");
    }
    if is_ci && !missing.is_empty() {
        bail!(
            "CI is set, so nothing may be missing: {} missing",
            missing.len()
        );
    }

    say(started, "building the programs");
    let programs = workspace::build(&root)?;

    let artefacts = root.join("artefacts");
    fs::create_dir_all(&artefacts).context("cannot make the folder for artefacts")?;
    let skips = artefacts.join(runner::SKIPPED);
    if skips.exists() {
        fs::remove_file(&skips)?;
    }

    say(started, "building and running the tests");
    let run = runner::Run {
        root: &root,
        bin_dir: programs.folder()?,
        artefacts: &artefacts,
        filter: args.filter.as_deref(),
        link: args.link.as_deref(),
        is_ci,
    };
    let ended = run.all()?;
    say(started, "done");
    for name in &ended.tally.failures {
        println!("failed: {name}");
    }
    for skipped in &ended.skipped {
        println!("skipped: {skipped}");
    }
    if !ended.is_success && ended.tally.failed == 0 {
        println!("cargo failed without a failed test; its messages are above");
    }
    println!("{}", ended.summary());
    let is_chosen = |line: &String| line.ends_with(runner::NOT_ON_THIS_LINK);
    let may_skip = !is_ci || ended.skipped.iter().all(is_chosen);
    let is_green = ended.is_success && ended.tally.failed == 0 && may_skip;
    Ok(if is_green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether a machine runs this for a project, with nobody watching.
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

fn say(started: Instant, what: &str) {
    eprintln!("── [{:>6.1} s] {what}", started.elapsed().as_secs_f64());
}
