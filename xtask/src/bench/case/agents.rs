//! Ten thousand agents on one edge, with nothing to do but to stay.

use std::time::Duration;

use tokio::time::sleep;

use crate::bench::fleet::Fleet;
use crate::bench::process;
use crate::bench::report::Report;
use crate::bench::rounds::Pace;
use crate::bench::row::{Figure, Link};
use crate::bench::world::World;

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    for link in links {
        let values = match link {
            Link::Quic => measure(world, pace).await,
            Link::Tls => Err(anyhow::anyhow!("the agents of this case speak QUIC only")),
        };
        // Fewer agents are another figure.
        let at_rest = pace.choose("processor at rest", "processor at rest, fewer agents");
        let figure = |name, unit| Figure {
            case: "agents",
            name,
            unit,
            method: METHOD,
        };
        let figures = [figure("memory per idle agent", "KB"), figure(at_rest, "%")];
        let values = values.map(|values| values.map(|value| vec![value]));
        report.push_alone(figures, Some(*link), values);
    }
    Ok(())
}

async fn measure(world: &mut World, pace: Pace) -> anyhow::Result<[f64; 2]> {
    let edge = world.fresh_edge("agents-edge").await?;
    let result = async {
        let mut fleet = Fleet::new(&edge.authtoken, &edge.link_ca(), edge.addr)?;
        // What the first ones need is there for all.
        fleet.grow(FIRST).await?;
        sleep(SETTLE).await;
        let before = process::resident_bytes(&[edge.pid])?;
        let more = pace.choose(MANY, FEW) - FIRST;
        fleet.grow(more).await?;
        sleep(SETTLE).await;
        let after = process::resident_bytes(&[edge.pid])?;
        let time = pace.choose(Duration::from_secs(20), Duration::from_secs(10));
        let began = process::cpu(&[edge.pid])?;
        sleep(time).await;
        let used = process::cpu(&[edge.pid])?.saturating_sub(began);
        drop(fleet);
        anyhow::Ok([
            after.saturating_sub(before) as f64 / 1000.0 / more as f64,
            used.as_secs_f64() / time.as_secs_f64() * 100.0,
        ])
    };
    let result = result.await;
    world.end(&[edge.pid]).await;
    result
}

const FIRST: usize = 100;
const MANY: usize = 10_000;
const FEW: usize = 1000;
const SETTLE: Duration = Duration::from_secs(5);
const METHOD: &str = "agents in one process over QUIC, each with an endpoint; resident memory of the edge: growth from 100 to \
     10,000, by agent; its time on processors over 20 s, of one core";
