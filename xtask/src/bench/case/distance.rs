//! Edge and agent 50 ms apart on a way that carries 1 Gbit/s and loses some: large answers, and small ones beside
//! them. The visitor is next to the edge, the app next to the agent.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use crate::bench::distance::Distance;
use crate::bench::load::http1::{Connection, request};
use crate::bench::load::{Door, Plan, bulk, drive, mixed, requests};
use crate::bench::nginx::{Nginx, Role};
use crate::bench::product::{Agent, Serve, Site};
use crate::bench::report::Report;
use crate::bench::rounds::{self, Line, Pace};
use crate::bench::row::{Figure, Link, OURS, Row};
use crate::bench::world::{LARGE, SMALL_TARGET, Subject, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    let distance = match Distance::make() {
        Ok(distance) => distance,
        Err(error) => {
            absent(links, &format!("{error:#}"), report);
            return Ok(());
        }
    };
    let mut pids = Vec::new();
    let result = between(world, pace, links, report, &distance, &mut pids).await;
    world.end(&pids).await;
    result
}

/// A row of each figure that says why there is none.
fn absent(links: &[Link], why: &str, report: &mut Report) {
    for (loss, _) in LOSSES {
        for (name, unit) in NAMES {
            let name = format!("{loss} % loss, {name}");
            for link in links {
                let figure = figure(&name, unit);
                report.push(Row::did_not_run(figure, OURS, Some(*link), why.to_owned()));
            }
        }
    }
}

async fn between(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
    distance: &Distance,
    pids: &mut Vec<u32>,
) -> anyhow::Result<()> {
    let folder = world.folder();
    let files = world.files();
    let role = Role::Upstream { files: &files };
    let far = Some(distance);
    let app = Nginx::spawn(&mut world.children, "far-pages", &folder, &role, far).await?;
    pids.push(app.pid);
    let edge = world
        .edge_at("near-edge", Site::Near(distance.here))
        .await?;
    pids.push(edge.pid);
    let (mut subjects, mut absent) = (Vec::new(), Vec::new());
    for link in links {
        let name = format!("far-{link}");
        let serve = Serve {
            name: &name,
            endpoint: &name,
            link: *link,
            upstream: app.addr,
            is_pooled: false,
            far,
        };
        let (children, programs) = (&mut world.children, &world.programs);
        match Agent::start(children, programs, &folder, &edge, &serve).await {
            Ok(agent) => {
                pids.push(agent.pid);
                let door = agent.door_without_login(&edge, &world.certificates.http1)?;
                answers(&door).await?;
                subjects.push(Subject {
                    name: OURS,
                    link: Some(*link),
                    door,
                    pids: vec![edge.pid, agent.pid],
                });
            }
            Err(error) => absent.push((*link, format!("{error:#}"))),
        }
    }
    let line = Line::of(subjects, absent);
    for (loss, of_a_thousand) in LOSSES {
        distance.lose(of_a_thousand);
        let names = NAMES.map(|(name, _)| format!("{loss} % loss, {name}"));
        for (at, name) in names.iter().enumerate() {
            let Some((_, unit)) = NAMES.get(at) else {
                continue;
            };
            let figures = [figure(name, unit)];
            rounds::run(
                pace,
                &line,
                &figures,
                report,
                false,
                async |subject: &Subject| one(at, pace, subject).await.map(|value| vec![value]),
            )
            .await;
        }
    }
    Ok(())
}

/// The value of the figure at this place of the names.
async fn one(at: usize, pace: Pace, subject: &Subject) -> anyhow::Result<f64> {
    let down = bulk::down(&subject.door, LARGE);
    let plan = |clients| Plan {
        clients,
        // Until the windows are open.
        warm_up: pace.choose(Duration::from_secs(3), Duration::from_secs(2)),
        duration: pace.choose(Duration::from_secs(6), Duration::from_secs(3)),
    };
    if let Some(streams) = [1, 8].get(at) {
        let measured = drive(plan(*streams), &subject.pids, down).await?;
        measured.tally.check()?;
        return Ok(measured.megabytes_per_second() * 8.0);
    }
    let small = requests::client(&subject.door, SMALL_TARGET);
    let client = mixed::client(down, DOWNLOADS, small);
    let measured = drive(plan(DOWNLOADS + ASKING), &subject.pids, client).await?;
    measured.tally.check()?;
    let p50 = measured.tally.latency.quantile_ms(0.5);
    p50.context("no small request was answered")
}

/// Waits for the first good answer: the app far away may still be starting.
async fn answers(door: &Door) -> anyhow::Result<()> {
    let ask = request("GET", door, SMALL_TARGET, "");
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        let once = async {
            let status = Connection::open(door).await?.status(&ask).await?;
            ensure!(status == 200, "it answered {status}");
            Ok(())
        };
        match once.await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(TRY_EVERY).await,
        }
    }
}

fn figure<'a>(name: &'a str, unit: &'static str) -> Figure<'a> {
    Figure {
        case: "distance",
        name,
        unit,
        method: METHOD,
    }
}

/// In per cent as text, and of a thousand.
const LOSSES: [(&str, u32); 3] = [("0", 0), ("0.1", 1), ("1", 10)];
const NAMES: [(&str, &str); 3] = [
    ("one stream", "Mbit/s"),
    ("eight streams", "Mbit/s"),
    ("small requests beside two downloads, p50", "ms"),
];
const DOWNLOADS: usize = 2;
/// Enough for a median within seconds.
const ASKING: usize = 4;
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const TRY_EVERY: Duration = Duration::from_millis(50);
const METHOD: &str = "agent and app in a network namespace, 25 ms each way, 1 Gbit/s, MTU 1500, loss by chance in each \
     direction (a relay between TUN devices); public endpoint without a login";
