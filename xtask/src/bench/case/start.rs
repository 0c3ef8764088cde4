//! How soon an edge serves after its start, and how soon a name answers after its agent's.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use crate::bench::load::Door;
use crate::bench::load::http1::{Connection, request};
use crate::bench::nginx::free_addr;
use crate::bench::product::{Agent, DOMAIN, Edge, Serve};
use crate::bench::report::Report;
use crate::bench::rounds::Pace;
use crate::bench::row::{Figure, Link};
use crate::bench::world::{SMALL_TARGET, World};

pub(super) async fn run(
    world: &mut World,
    pace: Pace,
    links: &[Link],
    report: &mut Report,
) -> anyhow::Result<()> {
    let tries = pace.choose(20, 5);
    let edge = edge_starts(world, tries).await;
    let figures = [figure("edge to first request")];
    report.push_alone(figures, None, edge.map(|values| [values]));
    for link in links {
        let agent = agent_starts(world, *link, tries).await;
        let figures = [figure("agent to name answering")];
        report.push_alone(figures, Some(*link), agent.map(|values| [values]));
    }
    Ok(())
}

fn figure(name: &str) -> Figure<'_> {
    Figure {
        case: "start",
        name,
        unit: "ms",
        method: METHOD,
    }
}

async fn edge_starts(world: &mut World, tries: usize) -> anyhow::Result<Vec<f64>> {
    // The first start makes keys and store; what is measured is a restart.
    let name = "start-edge";
    let edge = world.fresh_edge(name).await?;
    world.end(&[edge.pid]).await;
    let folder = world.folder().join(name);
    let mut all = Vec::new();
    for _ in 0..tries {
        let addr = free_addr().await?;
        let began = Instant::now();
        let says = Edge::spawn(&mut world.children, &world.programs, &folder, addr)?;
        let pid = says.pid;
        says.drain();
        let door = door(world, addr);
        all.push(until(began, &door, |status| status > 0).await?);
        world.end(&[pid]).await;
    }
    Ok(all)
}

async fn agent_starts(world: &mut World, link: Link, tries: usize) -> anyhow::Result<Vec<f64>> {
    let name = format!("start-{link}");
    let serve = Serve {
        name: &name,
        endpoint: &name,
        link,
        upstream: world.pages,
        is_pooled: false,
        far: None,
    };
    let folder = world.folder();
    let (children, programs) = (&mut world.children, &world.programs);
    let agent = Agent::start(children, programs, &folder, &world.edge, &serve).await?;
    let door = agent.door(&world.edge, &world.certificates).await?;
    world.end(&[agent.pid]).await;
    let mut all = Vec::new();
    for _ in 0..tries {
        let began = Instant::now();
        let says = Agent::spawn(
            &mut world.children,
            &world.programs,
            &folder,
            &world.edge,
            &serve,
        )?;
        let pid = says.pid;
        says.drain();
        all.push(until(began, &door, |status| status == 200).await?);
        world.end(&[pid]).await;
    }
    Ok(all)
}

/// The way to an edge on which nobody is signed in: any answer means that it serves.
fn door(world: &World, addr: SocketAddr) -> Door {
    let name = format!("auth.{DOMAIN}");
    Door {
        addr,
        authority: format!("{name}:{}", addr.port()),
        name,
        cookie: None,
        tls: Some(world.certificates.http1.clone()),
    }
}

/// Asks until the answer is right; milliseconds since the start.
async fn until(began: Instant, door: &Door, is_right: impl Fn(u16) -> bool) -> anyhow::Result<f64> {
    let ask = request("GET", door, SMALL_TARGET, "");
    let mut connection: Option<Connection> = None;
    let mut last = anyhow::anyhow!("never asked");
    while began.elapsed() < WITHIN {
        let status = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(door).await?,
            };
            let status = open.status(&ask).await?;
            connection = Some(open);
            ensure!(is_right(status), "answered {status}");
            Ok(())
        };
        match status.await {
            Ok(()) => return Ok(began.elapsed().as_secs_f64() * 1000.0),
            Err(error) => last = error,
        }
        sleep(BETWEEN).await;
    }
    Err(last).context("it did not answer as it should")
}

const WITHIN: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_millis(1);
const METHOD: &str = "from the start of the process, which was set up before, to the first answer, asked for every \
     millisecond; median of all starts";
