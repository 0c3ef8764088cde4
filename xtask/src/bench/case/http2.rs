//! A hundred streams on one HTTP/2 connection, as a browser's page with many parts has.

use crate::bench::load::{drive, http2};
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
    let mut line = Line::up(world, links, App::Pages).await;
    for subject in &mut line.subjects {
        subject.door.tls = Some(world.certificates.http2.clone());
    }
    let figure = |name, unit| Figure {
        case: "h2",
        name,
        unit,
        method: METHOD,
    };
    let figures = [
        figure("requests", "requests/s"),
        figure("p50", "ms"),
        figure("p99", "ms"),
        figure("CPU per request", "µs"),
    ];
    rounds::run(
        pace,
        &line,
        &figures,
        report,
        true,
        async |subject: &Subject| {
            let client = http2::client(&subject.door, SMALL_TARGET, STREAMS);
            let measured = drive(pace.plan(1), &subject.pids, client).await?;
            measured.tally.check()?;
            let latency = |part| measured.tally.latency.quantile_ms(part).unwrap_or(f64::NAN);
            Ok(vec![
                measured.per_second(),
                latency(0.5),
                latency(0.99),
                measured.cpu_us().unwrap_or(f64::NAN),
            ])
        },
    )
    .await;
    world.leave(&line.subjects).await;
    Ok(())
}

const STREAMS: usize = 100;
const METHOD: &str = "GET of 1 KiB on 100 streams of one HTTP/2 connection, TLS 1.3";
