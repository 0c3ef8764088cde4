//! Requests of a kilobyte's answer on connections that stay open: how many, how fast, at what cost.

use crate::bench::load::{drive, requests};
use crate::bench::report::Report;
use crate::bench::rounds::{self, Line, Outcome, Pace};
use crate::bench::row::{Figure, Link, OURS, Row, Series};
use crate::bench::world::{App, SMALL_TARGET, Subject, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut line = Line::up(world, links, App::Pages).await;
    let mut by_clients = Vec::new();
    for clients in CLIENTS {
        if clients == SHOWN_BOTH_WAYS {
            line.subjects.push(world.nginx_as_it_comes());
        }
        let outcome = at(clients, pace, &line, report).await;
        line.subjects
            .retain(|subject| subject.name != world.nginx_as_it_comes().name);
        by_clients.push((clients, outcome));
    }
    no_collapse(&by_clients, report);
    world.leave(&line.subjects).await;
    Ok(())
}

async fn at(clients: usize, pace: Pace, line: &Line, report: &mut Report) -> Outcome {
    let all = [
        ("requests", "requests/s"),
        ("p50", "ms"),
        ("p99", "ms"),
        ("CPU per request", "µs"),
        ("the load's own CPU per request", "µs"),
    ];
    let shown = all.len() - usize::from(clients != SHOWN_BOTH_WAYS);
    let named = all.map(|(name, unit)| (format!("c={clients} {name}"), unit));
    let figures: Vec<Figure<'_>> = named
        .iter()
        .take(shown)
        .map(|(name, unit)| Figure {
            case: CASE,
            name,
            unit,
            method: METHOD,
        })
        .collect();
    rounds::run(
        pace,
        line,
        &figures,
        report,
        true,
        async |subject: &Subject| {
            let client = requests::client(&subject.door, SMALL_TARGET);
            let measured = drive(pace.plan(clients), &subject.pids, client).await?;
            measured.tally.check()?;
            let latency = |part| measured.tally.latency.quantile_ms(part).unwrap_or(f64::NAN);
            Ok(vec![
                measured.per_second(),
                latency(0.5),
                latency(0.99),
                measured.cpu_us().unwrap_or(f64::NAN),
                measured.own_cpu_us().unwrap_or(f64::NAN),
            ])
        },
    )
    .await
}

/// Ours with many clients against ours with some.
fn no_collapse(by_clients: &[(usize, Outcome)], report: &mut Report) {
    let of = |clients: usize, link: Option<Link>| -> Option<Series> {
        let (_, outcome) = by_clients.iter().find(|(count, _)| *count == clients)?;
        let (_, series) = outcome
            .iter()
            .find(|(subject, _)| subject.name == OURS && subject.link == link)?;
        series.as_ref()?.first().cloned()
    };
    let figure = Figure {
        case: CASE,
        name: "c=1024 requests ÷ c=64",
        unit: "requests/s",
        method: METHOD,
    };
    let links: Vec<Option<Link>> = by_clients
        .first()
        .map(|(_, outcome)| outcome)
        .into_iter()
        .flatten()
        .filter(|(subject, _)| subject.name == OURS)
        .map(|(subject, _)| subject.link)
        .collect();
    for link in links {
        let few = of(64, link).map(|series| Series {
            subject: "itself, c=64".to_owned(),
            ..series
        });
        report.push(match of(1024, link) {
            Some(many) => Row::measured(figure, &many, few.as_ref()),
            None => Row::did_not_run(figure, OURS, link, "see c=1024".to_owned()),
        });
    }
}

const CASE: &str = "keepalive";
const CLIENTS: [usize; 5] = [1, 16, 64, 256, 1024];
/// Where nginx as it comes is shown as well, and what the load itself uses.
const SHOWN_BOTH_WAYS: usize = 64;
const METHOD: &str =
    "GET of 1 KiB over HTTP/1.1 and TLS 1.3, keep-alive, session cookie in every request";
