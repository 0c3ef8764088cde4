//! Everything automated: `cargo xtask demo`, `test`, `bench`, `check`, `gen`, `tidy`, and the programs that the
//! demo, the tests and the bench put around the product (a development identity provider, apps).
//!
//! One file per command, its parts in the folder of the same name. Nothing here ships with `edge` or
//! `agent`, and nothing here imports them: they are met as programs, on their command lines.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on both"
)]

mod bench;
mod check;
mod children;
mod demo;
mod dev_provider;
mod ends;
mod generate;
mod html;
mod place;
mod sample_app;
mod supervise;
mod test;
mod tidy;
mod workspace;

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything automated around Sallyport",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start an edge, a login, an app and an agent on this machine, and say what to try
    Demo(demo::Args),
    /// Set up what the tests need, then run all of them
    Test(test::Args),
    /// Measure speed and cost beside others on this machine
    Bench(bench::Args),
    /// Format, clippy, documentation, tidy, generated files, dependencies
    Check,
    /// Write docs/errors.md and docs/config.md
    Gen(generate::Args),
    /// Check the house rules: floors, names, markers, manifests, generated files
    Tidy,
    /// The identity provider of the demo and the tests
    #[command(hide = true)]
    DevProvider(dev_provider::Args),
    /// The local app of the demo and the tests
    #[command(hide = true)]
    SampleApp(sample_app::Args),
    /// The local app of the bench
    #[command(hide = true)]
    BenchUpstream(bench::upstream::Args),
    /// Keeps other programs from outliving the one that started them
    #[command(hide = true)]
    Supervise(supervise::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => {
            Cli::command().print_help()?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Demo(args)) => on_this_thread(demo::run(args))?,
        Some(Command::Test(args)) => test::run(&args),
        Some(Command::Bench(args)) => {
            bench::prepare()?;
            on_this_thread(bench::run(args))?
        }
        Some(Command::Check) => check::run(),
        Some(Command::Gen(args)) => generate::run(args),
        Some(Command::Tidy) => tidy::run(),
        Some(Command::DevProvider(args)) => on_this_thread(dev_provider::run(args))?,
        Some(Command::SampleApp(args)) => on_this_thread(sample_app::run(args))?,
        Some(Command::BenchUpstream(args)) => bench::upstream::run(&args),
        Some(Command::Supervise(args)) => supervise::run(&args),
    }
}

/// Runs a future on the main thread. The demo's children are told of the death of the *thread* that
/// started them, so that thread must be the one that lives as long as the process.
fn on_this_thread<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(future))
}
