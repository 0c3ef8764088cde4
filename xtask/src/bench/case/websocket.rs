//! A WebSocket's echo of 64 bytes: what a hop costs in time.

use crate::bench::load::{drive, websocket};
use crate::bench::report::Report;
use crate::bench::rounds::{self, Line, Pace};
use crate::bench::row::{Figure, Link};
use crate::bench::world::{App, ECHO, Subject, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    let line = Line::up(world, links, App::Own).await;
    for clients in [1, 64] {
        let names = ["round trips", "p50", "p99"].map(|name| format!("c={clients} {name}"));
        let figures: Vec<Figure<'_>> = names
            .iter()
            .zip(["round trips/s", "ms", "ms"])
            .map(|(name, unit)| Figure {
                case: "websocket",
                name,
                unit,
                method: METHOD,
            })
            .collect();
        rounds::run(
            pace,
            &line,
            &figures,
            report,
            true,
            async |subject: &Subject| {
                let client = websocket::client(&subject.door, ECHO);
                let measured = drive(pace.plan(clients), &subject.pids, client).await?;
                measured.tally.check()?;
                let latency = |part| measured.tally.latency.quantile_ms(part).unwrap_or(f64::NAN);
                Ok(vec![measured.per_second(), latency(0.5), latency(0.99)])
            },
        )
        .await;
    }
    world.leave(&line.subjects).await;
    Ok(())
}

const METHOD: &str = "WebSocket over HTTP/1.1 and TLS 1.3; 64 bytes there and back, one message under way per client";
