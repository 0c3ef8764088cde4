//! Writes the documents that follow from code, or compares them with what is there: `docs/errors.md` from
//! `proto`'s table of codes, `docs/config.md` and `docs/metrics.md` from what the edge says of itself.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use proto::code::{Blame, Code};

use crate::workspace;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare instead of writing; fail when a file is out of date
    #[arg(long)]
    check: bool,
}

/// A generated file that is not what it should be.
#[derive(Debug)]
pub(crate) struct Stale {
    pub(crate) file: &'static str,
    pub(crate) why: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    if args.check {
        return Ok(if is_up_to_date(&root) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let mut code = ExitCode::SUCCESS;
    for document in DOCUMENTS {
        match (document.make)(&root) {
            Ok(text) => {
                let file = root.join(document.file);
                if let Some(folder) = file.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::write(&file, text)
                    .with_context(|| format!("cannot write {}", document.file))?;
                println!("wrote {}", document.file);
            }
            Err(error) => {
                eprintln!("error: {}: {error:#}", document.file);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// `gen --check`: says what is out of date.
pub(crate) fn is_up_to_date(root: &Path) -> bool {
    let stale = stale(root);
    for Stale { file, why } in &stale {
        println!("{file}: {why}");
    }
    if stale.is_empty() {
        println!("generated files are up to date");
    }
    stale.is_empty()
}

/// Compares every document with what is there.
pub(crate) fn stale(root: &Path) -> Vec<Stale> {
    let mut stale = Vec::new();
    for document in DOCUMENTS {
        let why = match (document.make)(root) {
            Ok(text) => match fs::read_to_string(root.join(document.file)) {
                Ok(found) if found == text => continue,
                Ok(found) => format!(
                    "out of date from line {} on; run: cargo xtask gen",
                    first_difference(&found, &text)
                ),
                Err(_) => "missing; run: cargo xtask gen".to_owned(),
            },
            Err(error) => format!("cannot be made: {error:#}"),
        };
        let file = document.file;
        stale.push(Stale { file, why });
    }
    stale
}

fn first_difference(found: &str, wanted: &str) -> usize {
    let same = found
        .lines()
        .zip(wanted.lines())
        .take_while(|(a, b)| a == b);
    same.count() + 1
}

struct Document {
    file: &'static str,
    make: fn(&Path) -> anyhow::Result<String>,
}

const DOCUMENTS: [Document; 3] = [
    Document {
        file: "docs/errors.md",
        make: errors,
    },
    Document {
        file: "docs/config.md",
        make: |root| of_edge(root, "config"),
    },
    Document {
        file: "docs/metrics.md",
        make: |root| of_edge(root, "metrics"),
    },
];

/// The table of codes as a document.
fn errors(_root: &Path) -> anyhow::Result<String> {
    let mut page = String::from(ERRORS_INTRODUCTION);
    for (band, title) in BANDS {
        let codes = Code::ALL.iter().filter(|code| code.number() / 1000 == band);
        write!(page, "\n## {band}xxx: {title}\n\n{ERRORS_HEAD}")?;
        for code in codes {
            writeln!(
                page,
                "| `{code}` | `{}` | {} | {} | {} | {} |",
                code.name(),
                code.status(),
                blame(code.blame()),
                cell(code.meaning()),
                cell(code.next_step()),
            )?;
        }
    }
    let shown = |code: &&Code| BANDS.iter().any(|(band, _)| *band == code.number() / 1000);
    ensure!(
        Code::ALL.iter().all(|code| shown(&code)),
        "a code is in no band; add the band to xtask's generate.rs"
    );
    Ok(page)
}

fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::Client => "client",
        Blame::Policy => "policy",
        Blame::Agent => "agent",
        Blame::Upstream => "upstream",
        Blame::Peer => "peer",
        Blame::Us => "edge",
    }
}

/// Text that a table's cell shows as it is.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

/// What the edge prints about itself.
fn of_edge(root: &Path, page: &str) -> anyhow::Result<String> {
    static EDGE: OnceLock<PathBuf> = OnceLock::new();
    let edge = if let Some(edge) = EDGE.get() {
        edge
    } else {
        let programs = workspace::build(root).context("edge, which knows it, cannot be built")?;
        EDGE.get_or_init(|| programs.edge)
    };
    let output = Command::new(edge)
        .args(["docs", page])
        .stdin(Stdio::null())
        .output()
        .context("cannot start edge")?;
    ensure!(
        output.status.success(),
        "`edge docs {page}` failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("`edge docs {page}` printed no text"))?;
    ensure!(
        !text.trim().is_empty(),
        "`edge docs {page}` printed nothing"
    );
    Ok(format!("{}\n", text.trim_end()))
}

const ERRORS_INTRODUCTION: &str = "\
# Errors

<!-- Generated by `cargo xtask gen` from proto/src/code.rs. -->

Every error that a person or a program meets has a number that never changes its meaning. It comes with a
sentence, a next step and the id of the request: as a page for browsers, else as JSON; in the headers
`Sallyport-Error` and `Sallyport-Request-Id`; and from `agent` and `edge` on the terminal.

*Blame* says whose doing it is: the client's, a policy's, the agent's, the upstream's, a peer's (another edge
or an identity provider), or the edge's own.
";
const ERRORS_HEAD: &str = "\
| Code | Name | HTTP | Blame | What happened | What to do |
| --- | --- | --- | --- | --- | --- |
";
const BANDS: [(u16, &str); 5] = [
    (1, "requests"),
    (2, "sign-in, API and dashboard"),
    (3, "tunnels"),
    (4, "agents and upstreams"),
    (5, "the edge itself"),
];
