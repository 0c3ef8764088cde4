//! New TLS connections: a full handshake, one request, the end.

use crate::bench::load::{drive, handshakes};
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
    let line = Line::up(world, links, App::Pages).await;
    let figure = |name, unit| Figure {
        case: "connections",
        name,
        unit,
        method: METHOD,
    };
    let figures = [
        figure("new connections", "connections/s"),
        figure("CPU per connection", "µs"),
        figure("p99", "ms"),
    ];
    rounds::run(
        pace,
        &line,
        &figures,
        report,
        true,
        async |subject: &Subject| {
            let client = handshakes::client(&subject.door, SMALL_TARGET);
            let measured = drive(pace.plan(CLIENTS), &subject.pids, client).await?;
            measured.tally.check()?;
            Ok(vec![
                measured.per_second(),
                measured.cpu_us().unwrap_or(f64::NAN),
                measured.tally.latency.quantile_ms(0.99).unwrap_or(f64::NAN),
            ])
        },
    )
    .await;
    world.leave(&line.subjects).await;
    Ok(())
}

const CLIENTS: usize = 16;
const METHOD: &str = "16 clients; each connects (TLS 1.3, X25519, ECDSA P-256, no resumption), asks for 1 KiB, closes";
