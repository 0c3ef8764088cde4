//! The whole product on this machine, from nothing: builds it, starts an edge on loopback, a development
//! identity provider, a sample app and an agent, and says what to try. Runs until Ctrl-C.
//!
//! Every port is one that the system picks and every file is in a folder of its own, so two demos run side
//! by side. Nothing outlives it, however it ends: see `supervise`. A part that dies is reported and left
//! alone, because somebody may be trying just that.
//!
//! Reading order: `parts` (how each is started), `probe`, `say`.

mod parts;
mod probe;
mod say;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use crate::children::Children;
use crate::demo::parts::{Agent, App, Edge, Provider};
use crate::demo::say::Progress;
use crate::ends::Ends;
use crate::place::Place;
use crate::workspace::{self, Programs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say where everything is in one line of JSON, once it is ready
    #[arg(long)]
    json: bool,
    /// Put your own app behind it: the port that it listens on
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

/// Where everything is. The fields are an interface: see the README.
#[derive(Debug, Serialize)]
struct Ready {
    endpoint_url: String,
    dashboard_url: String,
    /// Signs an operator in, once.
    operator_link: String,
    api_url: String,
    api_key: String,
    auth_url: String,
    issuer_url: String,
    ca_file: String,
    authtoken: String,
    agent_bin: String,
    edge_bin: String,
    agent_pid: u32,
    edge_pids: Vec<u32>,
    /// The endpoint as reached through each edge.
    edge_urls: Vec<String>,
    data_dir: String,
    #[serde(skip)]
    app_port: u16,
}

/// Builds, starts, waits for the end.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(Instant::now());
    // Until everything is built there is nothing to stop in order, so signals may end us as they are.
    progress.say("building edge and agent; the first time takes some minutes");
    let root = workspace::root()?;
    let programs = workspace::build(&root)?;

    let mut ends = Ends::listen()?;
    let place = Place::new(PREFIX)?;
    let mut children = Children::new(&programs.xtask, &place);
    let result = tokio::select! {
        ready = start(&args, &progress, &programs, &place, &mut children) => ready.map(Some),
        () = ends.come() => Ok(None),
    };
    let result = match result {
        Ok(Some(ready)) => {
            say::ready(&ready, &progress, &place, args.json)?;
            tokio::select! {
                () = ends.come() => {}
                () = children.report_deaths(|text| progress.say(text)) => {}
            }
            Ok(ExitCode::SUCCESS)
        }
        Ok(None) => Ok(ExitCode::FAILURE),
        Err(error) => {
            children.show_logs();
            Err(error)
        }
    };
    progress.say("stopping");
    tokio::select! {
        () = children.stop() => {}
        // Asked twice: at once.
        () = ends.come() => {}
    }
    drop(children);
    place.remove();
    result
}

/// Starts every part, in the order in which they need each other.
async fn start(
    args: &Args,
    progress: &Progress,
    programs: &Programs,
    place: &Place,
    children: &mut Children,
) -> anyhow::Result<Ready> {
    progress.say("starting the identity provider and the app");
    let provider = Provider::start(children).await?;
    let port = match args.port {
        Some(port) => port,
        None => App::start(children).await?.port,
    };

    progress.say("starting the edge");
    let edge = Edge::start(children, &programs.edge, place).await?;
    edge.add_provider(children, &provider).await?;
    let authtoken = edge.create_authtoken(children).await?;
    let api_key = edge.create_api_key(children).await?;

    progress.say("starting the agent");
    let agent = Agent::start(children, &programs.agent, place, &authtoken, port).await?;

    progress.say("waiting for the endpoint to answer");
    probe::until_it_answers(&agent.url, &edge.ready.ca_file)
        .await
        .with_context(|| format!("{} does not answer as it should", agent.url))?;
    // Last, because it is good for some minutes only.
    let operator_link = edge.operator_link(children).await?;

    Ok(Ready {
        endpoint_url: agent.url.clone(),
        dashboard_url: edge.ready.dashboard_url,
        operator_link,
        api_url: edge.ready.api_url,
        api_key,
        auth_url: edge.ready.auth_url,
        issuer_url: provider.issuer,
        ca_file: edge.ready.ca_file,
        authtoken,
        agent_bin: programs.agent.display().to_string(),
        edge_bin: programs.edge.display().to_string(),
        agent_pid: agent.pid,
        edge_pids: vec![edge.pid],
        edge_urls: vec![agent.url],
        data_dir: edge.ready.data_dir,
        app_port: port,
    })
}

/// Starts the names of its folders.
const PREFIX: &str = "sallyport-demo-";
