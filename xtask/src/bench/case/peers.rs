//! The same requests through other tunnels. Their visitors speak plain HTTP and nobody checks who they are; ours
//! speak TLS, with a session in every request.

use crate::bench::load::{Door, drive, requests};
use crate::bench::peers::Peer;
use crate::bench::report::Report;
use crate::bench::rounds::{self, Line, Pace};
use crate::bench::row::{Figure, Link, OURS, Row};
use crate::bench::world::{App, SMALL_TARGET, Subject, World};
use crate::workspace;

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut ours, mut absent) = (Vec::new(), Vec::new());
    for link in links {
        match world.ours(*link, App::Pages).await {
            Ok(subject) => ours.push(subject),
            Err(error) => absent.push((*link, format!("{error:#}"))),
        }
    }
    for peer in Peer::ALL {
        let names = ["requests", "p99", "CPU per request"]
            .map(|what| format!("c={CLIENTS} {what} ÷ {}", peer.name()));
        let figures: Vec<Figure<'_>> = names
            .iter()
            .zip(["requests/s", "ms", "µs"])
            .map(|(name, unit)| Figure {
                case: "peers",
                name,
                unit,
                method: METHOD,
            })
            .collect();
        let subject = match start(world, peer).await {
            Ok(subject) => subject,
            Err(error) => {
                for figure in &figures {
                    let why = format!("{error:#}");
                    report.push(Row::did_not_run(*figure, peer.name(), None, why));
                    for link in links {
                        let why = format!("{} does not run", peer.name());
                        report.push(Row::did_not_run(*figure, OURS, Some(*link), why));
                    }
                }
                continue;
            }
        };
        let subjects = [vec![subject.clone()], ours.clone()].concat();
        let line = Line::of(subjects, absent.clone());
        rounds::run(
            pace,
            &line,
            &figures,
            report,
            true,
            async |subject: &Subject| {
                let client = requests::client(&subject.door, SMALL_TARGET);
                let measured = drive(pace.plan(CLIENTS), &subject.pids, client).await?;
                measured.tally.check()?;
                Ok(vec![
                    measured.per_second(),
                    measured.tally.latency.quantile_ms(0.99).unwrap_or(f64::NAN),
                    measured.cpu_us().unwrap_or(f64::NAN),
                ])
            },
        )
        .await;
        world.end(&subject.pids).await;
    }
    world.leave(&ours).await;
    Ok(())
}

async fn start(world: &mut World, peer: Peer) -> anyhow::Result<Subject> {
    let program = peer.install(&workspace::root()?).await?;
    let folder = world.folder();
    let upstream = world.pages;
    let running = peer
        .start(
            &mut world.children,
            &program,
            &folder,
            &world.certificates,
            upstream,
        )
        .await?;
    Ok(Subject {
        name: peer.name(),
        link: None,
        door: Door {
            addr: running.addr,
            name: String::new(),
            authority: running.addr.to_string(),
            cookie: None,
            tls: None,
        },
        pids: running.pids,
    })
}

const CLIENTS: usize = 64;
const METHOD: &str = "GET of 1 KiB over HTTP/1.1, keep-alive; rathole 0.5.0 with TLS between its sides, chisel 1.11.3, bore \
     0.6.0 (which encrypts nothing), visitors of all three over plain TCP; ours with TLS and login";
