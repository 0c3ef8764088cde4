//! How fast and how dear, beside others on the same machine: one command, one table.
//!
//! Everything is a release build and a program of its own, and runs are interleaved with those of the baseline,
//! nginx as a TLS reverse proxy without tunnel and login. Nothing is pinned to a core. All of it ends with us.
//!
//! Reading order: `world` (what runs), `rounds` (how it is measured), `load` (by what), `case` (what), `row` and
//! `targets` (what is made of it).

mod api;
mod case;
mod certificates;
mod distance;
mod fleet;
mod histogram;
mod load;
mod machine;
mod nginx;
mod page;
mod peers;
mod process;
mod product;
mod release;
mod report;
mod rounds;
mod row;
mod sign_in;
mod stats;
mod table;
mod targets;
pub(crate) mod upstream;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum as _;

use crate::bench::case::Case;
use crate::bench::machine::Machine;
use crate::bench::report::Report;
use crate::bench::rounds::Pace;
use crate::bench::row::Link;
use crate::bench::world::World;
use crate::children::Children;
use crate::ends::Ends;
use crate::place::Place;
use crate::workspace::{self, Programs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure; all of it when nothing is named
    #[arg(value_enum, value_name = "CASE")]
    cases: Vec<Case>,
    /// Only this link; both when left out
    #[arg(long)]
    link: Option<Link>,
    /// Shorter runs, for a look
    #[arg(long)]
    quick: bool,
    /// Also other tunnels, those that install from their registries
    #[arg(long)]
    peers: bool,
    /// Write rows, machine and versions into a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the tables into docs/performance.md
    #[arg(long)]
    write_docs: bool,
    /// Fail when a target is missed
    #[arg(long)]
    check: bool,
}

impl Args {
    /// All but the peers, unless some are named.
    fn asks_for(&self, case: Case) -> bool {
        let is_of_all = self.cases.is_empty() && case != Case::Peers;
        self.cases.contains(&case) || is_of_all || (case == Case::Peers && self.peers)
    }
}

/// Prepares what needs no runtime, among that becoming a release build.
pub(crate) fn prepare() -> anyhow::Result<()> {
    release::enter(&workspace::root()?)
}

/// Measures, prints, judges.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    nginx::install()?;
    raise_open_files();
    let programs = workspace::build(&root)?;
    let command = command_line();
    let mut report = Report::new(Machine::look(&programs.edge, &programs.agent), command);
    eprintln!("{}", report.machine.line());

    let mut ends = Ends::listen()?;
    let place = Place::new(PREFIX)?;
    let children = Children::new(&programs.xtask, &place);
    let ended = tokio::select! {
        ended = measure(&args, place, children, programs, &mut report) => ended.map(|()| true),
        () = ends.come() => Ok(false),
    };
    // Also after a failure: what was measured was.
    println!("{}", report.markdown());
    if let Some(file) = &args.json {
        report.write_json(file)?;
    }
    let is_whole = ended?;
    if args.write_docs && is_whole {
        page::write(&root, &report)?;
    }
    let missed: Vec<String> = report
        .missed()
        .map(|row| format!("{} {}", row.case, row.figure))
        .collect();
    if !missed.is_empty() {
        eprintln!("missed: {}", missed.join("; "));
    }
    let is_good = missed.is_empty() || !args.check;
    Ok(if is_whole && is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn measure(
    args: &Args,
    place: Place,
    children: Children,
    programs: Programs,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut world = World::start(place, children, programs).await?;
    let pace = Pace {
        is_quick: args.quick,
        rounds: ROUNDS,
    };
    let links = args
        .link
        .map_or_else(|| vec![Link::Quic, Link::Tls], |link| vec![link]);
    let mut result = Ok(());
    for case in Case::value_variants() {
        if !args.asks_for(*case) {
            continue;
        }
        // What is left of a case that failed must not stop the others.
        let why = match case.run(&mut world, pace, &links, report).await {
            Ok(()) if args.quick => "left out with --quick".to_owned(),
            Ok(()) => "the case gave no such figure".to_owned(),
            Err(error) => {
                eprintln!("error: {}: {error:#}", case.name());
                let why = format!("{error:#}");
                result = Err(error).with_context(|| format!("{} failed", case.name()));
                why
            }
        };
        report.complete(case.name(), &links, &why);
    }
    if result.is_err() {
        world.children.show_logs();
    }
    world.stop().await;
    result
}

/// As it was typed.
fn command_line() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", words.join(" "))
}

/// Loads open thousands of connections.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
}

/// The least of which a median says something.
const ROUNDS: usize = 3;
/// Starts the names of its folders.
const PREFIX: &str = "sallyport-bench-";
