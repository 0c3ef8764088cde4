//! How long it takes from the order to end a session until what it has open has ended: one stream, and thousands
//! of one person's.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join;

use crate::bench::api::Api;
use crate::bench::load::http1::{Connection, request};
use crate::bench::load::{Door, Load, Window, held};
use crate::bench::product::{Agent, Serve};
use crate::bench::report::Report;
use crate::bench::rounds::Pace;
use crate::bench::row::{Figure, Link};
use crate::bench::sign_in::sign_in;
use crate::bench::stats::quantile;
use crate::bench::world::{App, HOLD, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    for link in links {
        let one = one(world, pace, *link).await;
        let figures = ["one stream, p50", "one stream, p99"].map(figure);
        let values = one.map(|values| values.map(|value| vec![value]));
        report.push_alone(figures, Some(*link), values);
        for streams in pace.choose(&MANY[..], &MANY[..1]) {
            let names =
                ["resets queued", "last client"].map(|what| format!("{streams} streams, {what}"));
            let figures = names.each_ref().map(|name| figure(name));
            let values = many(world, pace, *link, *streams).await;
            report.push_alone(figures, Some(*link), values);
        }
    }
    Ok(())
}

fn figure(name: &str) -> Figure<'_> {
    Figure {
        case: "cut",
        name,
        unit: "ms",
        method: METHOD,
    }
}

/// From the order to the end as the client sees it: median and 99th percentile.
async fn one(world: &mut World, pace: Pace, link: Link) -> anyhow::Result<[f64; 2]> {
    let subject = world.ours(link, App::Own).await?;
    let tls = world.certificates.http1.clone();
    let mut api = Api::open(&world.edge, &world.children, &tls).await?;
    let mut all = Vec::new();
    for _ in 0..pace.choose(200, 40) {
        let url = format!("https://{}/", subject.door.authority);
        let door = Door {
            cookie: Some(sign_in(&url, &tls).await?),
            ..subject.door.clone()
        };
        let session = api.newest_session().await?;
        let mut connection = Connection::open(&door).await?;
        connection.send(&request("GET", &door, HOLD, "")).await?;
        let head = connection.head().await?;
        ensure!(head.status == 200, "answered {}", head.status);
        connection.some().await?;

        let began = Instant::now();
        let ends = async {
            while connection.some().await.is_ok_and(|bytes| !bytes.is_empty()) {}
            Ok(milliseconds(began.elapsed()))
        };
        let (ended, ()) = try_join(ends, api.revoke(&session)).await?;
        all.push(ended);
    }
    world.leave(&[subject]).await;
    let at = |part| quantile(&all, part).unwrap_or(f64::NAN);
    Ok([at(0.5), at(0.99)])
}

/// From the order to its answer, and to the end as the last client sees it.
async fn many(
    world: &mut World,
    pace: Pace,
    link: Link,
    streams: usize,
) -> anyhow::Result<[Vec<f64>; 2]> {
    let mut agents = Vec::new();
    let result = many_through(world, pace, link, streams, &mut agents).await;
    let pids: Vec<u32> = agents.iter().map(|agent| agent.pid).collect();
    world.end(&pids).await;
    result
}

async fn many_through(
    world: &mut World,
    pace: Pace,
    link: Link,
    streams: usize,
    agents: &mut Vec<Agent>,
) -> anyhow::Result<[Vec<f64>; 2]> {
    let endpoint = format!("many-{link}");
    for number in 0..=streams / STREAMS_PER_AGENT {
        let name = format!("{endpoint}-{number}");
        let serve = Serve {
            name: &name,
            endpoint: &endpoint,
            link,
            upstream: world.app,
            is_pooled: true,
            far: None,
        };
        let folder = world.folder();
        let (children, programs) = (&mut world.children, &world.programs);
        agents.push(Agent::start(children, programs, &folder, &world.edge, &serve).await?);
    }
    let first = agents.first().cloned();
    let Some(agent) = first else {
        return Ok(Default::default());
    };
    let tls = world.certificates.http1.clone();
    let mut api = Api::open(&world.edge, &world.children, &tls).await?;
    let mut result = [Vec::new(), Vec::new()];
    for _ in 0..pace.rounds {
        let door = agent.door(&world.edge, &world.certificates).await?;
        let session = api.newest_session().await?;
        let load = Load::connect(streams, held::held(&door, HOLD)).await?;
        let began = Instant::now();
        load.begin(Window {
            begin: began,
            end: began + END_WITHIN,
        });
        api.revoke(&session).await?;
        let queued = began.elapsed();
        let tally = load.finish().await?;
        tally.check()?;
        ensure!(
            tally.ended.len() == streams,
            "{} of {streams} streams ended",
            tally.ended.len()
        );
        let last = tally.ended.iter().max().map(|last| *last - began);
        let [queues, lasts] = &mut result;
        queues.push(milliseconds(queued));
        lasts.push(last.map_or(f64::NAN, milliseconds));
    }
    Ok(result)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

const MANY: [usize; 2] = [1000, 10_000];
/// Below the bound of streams for each tunnel, so that all find a place.
const STREAMS_PER_AGENT: usize = 900;
const END_WITHIN: Duration = Duration::from_secs(20);
const METHOD: &str = "answers over HTTP/1.1 and TLS that do not end; from DELETE /app/sessions/{id} to its answer, which comes \
     when resets are queued, and to the end as clients see it";
