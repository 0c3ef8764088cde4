//! Memory of a client that has asked once and stays connected: the growth from some clients to many, so that what
//! is there anyway does not count.

use std::time::Duration;

use tokio::time::sleep;

use crate::bench::load::{Load, held};
use crate::bench::process;
use crate::bench::report::Report;
use crate::bench::rounds::{self, Line, Pace};
use crate::bench::row::{Figure, Link};
use crate::bench::world::{App, SMALL_TARGET, Subject, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    let figure = Figure {
        case: "idle",
        name: "memory per idle client",
        unit: "KB",
        method: METHOD,
    };
    let (first, more) = pace.choose((1000, 4000), (500, 1500));
    // Memory that was used once stays with the process, so every round has processes of its own.
    let line = Line::up(world, links, App::Pages).await;
    let pace = pace.once();
    rounds::run(
        pace,
        &line,
        &[figure],
        report,
        true,
        async |subject: &Subject| {
            let client = held::idle(&subject.door, SMALL_TARGET);
            let some = Load::connect(first, client.clone()).await?;
            sleep(SETTLE).await;
            let before = process::resident_bytes(&subject.pids)?;
            let many = Load::connect(more, client).await?;
            sleep(SETTLE).await;
            let after = process::resident_bytes(&subject.pids)?;
            drop((some, many));
            Ok(vec![
                after.saturating_sub(before) as f64 / 1000.0 / more as f64,
            ])
        },
    )
    .await;
    world.leave(&line.subjects).await;
    Ok(())
}

/// Until what was needed for connecting has been let go.
const SETTLE: Duration = Duration::from_secs(2);
const METHOD: &str = "resident memory of edge and agent (or nginx): growth from 1,000 to 5,000 TLS clients that have asked \
     once and stay connected, by client";
