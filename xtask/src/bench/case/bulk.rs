//! Large bodies, down and up, one and eight at a time.

use crate::bench::load::{Client, bulk, drive};
use crate::bench::report::Report;
use crate::bench::rounds::{self, Line, Pace};
use crate::bench::row::{Figure, Link};
use crate::bench::world::{App, LARGE, SINK, Subject, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    for (direction, app) in [("down", App::Pages), ("up", App::Own)] {
        let line = Line::up(world, links, app).await;
        for streams in [1, 8] {
            let plural = if streams == 1 { "stream" } else { "streams" };
            let name = format!("{direction}, {streams} {plural}");
            at(&name, streams, app, pace, &line, report).await;
        }
        world.leave(&line.subjects).await;
    }
    Ok(())
}

async fn at(name: &str, streams: usize, app: App, pace: Pace, line: &Line, report: &mut Report) {
    let cpu = format!("{name}, CPU");
    let figure = |name, unit| Figure {
        case: "bulk",
        name,
        unit,
        method: METHOD,
    };
    let figures = [figure(name, "MB/s"), figure(cpu.as_str(), "µs/MB")];
    rounds::run(
        pace,
        line,
        &figures,
        report,
        true,
        async |subject: &Subject| {
            let client: Client = match app {
                App::Pages => bulk::down(&subject.door, LARGE),
                App::Own => bulk::up(&subject.door, SINK),
            };
            let measured = drive(pace.plan(streams), &subject.pids, client).await?;
            measured.tally.check()?;
            let megabytes = measured.tally.bytes as f64 / 1e6;
            Ok(vec![
                measured.megabytes_per_second(),
                measured.cpu.as_secs_f64() * 1e6 / megabytes,
            ])
        },
    )
    .await;
}

const METHOD: &str = "HTTP/1.1 over TLS 1.3; down: a file of 512 MiB from nginx, again and again; up: bodies of 256 MiB \
     into an app that counts them";
