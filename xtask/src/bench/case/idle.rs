//! Memory of a client that has asked once and stays connected: the growth from some clients to many, so that what
//! is there anyway does not count. Memory that was used once stays with a process, so every round has processes
//! of its own.

use std::time::Duration;

use tokio::time::sleep;

use crate::bench::load::{Load, held};
use crate::bench::process;
use crate::bench::report::Report;
use crate::bench::rounds::Pace;
use crate::bench::row::{Figure, Link, OURS, Row, Series};
use crate::bench::world::{App, SMALL_TARGET, Subject, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    let clients = pace.choose((1000, 4000), (500, 1500));
    let mut nginx = Vec::new();
    let mut ours: Vec<anyhow::Result<Vec<f64>>> = links.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..pace.rounds {
        let subject = world.fresh_nginx(&format!("idle-nginx-{round}")).await?;
        nginx.push(growth(&subject, clients).await?);
        world.end(&subject.pids).await;
        for (link, values) in links.iter().zip(&mut ours) {
            let Ok(sofar) = values else { continue };
            let name = format!("idle-{link}-{round}");
            match once(world, &name, *link, clients).await {
                Ok(value) => sofar.push(value),
                Err(error) => *values = Err(error),
            }
        }
    }
    let figure = Figure {
        case: "idle",
        name: "memory per idle client",
        unit: "KB",
        method: METHOD,
    };
    let nginx = Series {
        subject: "nginx".to_owned(),
        link: None,
        values: nginx,
    };
    report.push(Row::measured(figure, &nginx, None));
    for (link, values) in links.iter().zip(ours) {
        report.push(match values {
            Ok(values) => {
                let series = Series {
                    subject: OURS.to_owned(),
                    link: Some(*link),
                    values,
                };
                Row::measured(figure, &series, Some(&nginx))
            }
            Err(why) => Row::did_not_run(figure, OURS, Some(*link), format!("{why:#}")),
        });
    }
    Ok(())
}

async fn once(
    world: &mut World,
    name: &str,
    link: Link,
    clients: (usize, usize),
) -> anyhow::Result<f64> {
    let subject = world.fresh(name, link, App::Pages).await?;
    let value = growth(&subject, clients).await;
    world.end(&subject.pids).await;
    value
}

/// Kilobytes for each client of the second group.
async fn growth(subject: &Subject, (first, more): (usize, usize)) -> anyhow::Result<f64> {
    let client = held::idle(&subject.door, SMALL_TARGET);
    let some = Load::connect(first, client.clone()).await?;
    sleep(SETTLE).await;
    let before = process::resident_bytes(&subject.pids)?;
    let many = Load::connect(more, client).await?;
    sleep(SETTLE).await;
    let after = process::resident_bytes(&subject.pids)?;
    drop((some, many));
    Ok(after.saturating_sub(before) as f64 / 1000.0 / more as f64)
}

/// Until what was needed for connecting has been let go.
const SETTLE: Duration = Duration::from_secs(2);
const METHOD: &str = "resident memory of edge and agent (or nginx): growth from 1,000 to 5,000 TLS clients that have asked \
     once and stay connected, by client";
