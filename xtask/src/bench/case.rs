//! What can be measured: one file each.

mod agents;
mod bulk;
mod connections;
mod cut;
mod distance;
mod http2;
mod idle;
mod keepalive;
mod peers;
mod start;
mod websocket;

use clap::ValueEnum;

use crate::bench::report::Report;
use crate::bench::rounds::Pace;
use crate::bench::row::Link;
use crate::bench::world::World;

/// The cases by name, in the order in which they run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Case {
    /// Requests on connections that stay open, by 1 to 1024 clients
    Keepalive,
    /// New TLS connections
    Connections,
    /// A hundred streams on one HTTP/2 connection
    H2,
    /// Echoes of 64 bytes over a WebSocket
    Websocket,
    /// Large bodies, down and up, 1 and 8 at a time
    Bulk,
    /// Memory of clients that stay connected
    Idle,
    /// From a revocation to the end of what was open: 1, 1,000 and 10,000 streams
    Cut,
    /// From the start of edge and agent to the first answer
    Start,
    /// Edge and agent 50 ms apart, with 0, 0.1 and 1 % loss
    Distance,
    /// 10,000 agents that have little to do
    Agents,
    /// The same requests through rathole, chisel and bore; installs them (also --peers)
    Peers,
}

impl Case {
    /// As it is called in rows and on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive",
            Self::Connections => "connections",
            Self::H2 => "h2",
            Self::Websocket => "websocket",
            Self::Bulk => "bulk",
            Self::Idle => "idle",
            Self::Cut => "cut",
            Self::Start => "start",
            Self::Distance => "distance",
            Self::Agents => "agents",
            Self::Peers => "peers",
        }
    }

    /// Runs it; writes its rows.
    pub(super) async fn run(
        self,
        world: &mut World,
        pace: Pace,
        links: &[Link],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        match self {
            Self::Keepalive => keepalive::run(world, pace, links, report).await,
            Self::Connections => connections::run(world, pace, links, report).await,
            Self::H2 => http2::run(world, pace, links, report).await,
            Self::Websocket => websocket::run(world, pace, links, report).await,
            Self::Bulk => bulk::run(world, pace, links, report).await,
            Self::Idle => idle::run(world, pace, links, report).await,
            Self::Cut => cut::run(world, pace, links, report).await,
            Self::Start => start::run(world, pace, links, report).await,
            Self::Distance => distance::run(world, pace, links, report).await,
            Self::Agents => agents::run(world, pace, links, report).await,
            Self::Peers => peers::run(world, pace, links, report).await,
        }
    }
}
