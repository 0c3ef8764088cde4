//! What an edge's machine is told at the start, tells its shell, and is answered.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::authtoken::TokenSecret;
use crate::bind::{BindRequest, Notice};
use crate::code::Code;
use crate::id::{AuthtokenId, EdgeId, EndpointId, InstanceId, TunnelId};

/// What the edge says of itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which edge it is.
    pub edge: EdgeId,
    /// Its release.
    pub edge_version: String,
    /// Where the other edges are, as `host:port`; the first [`crate::limits::LIST_MAX`] travel.
    pub edges: Vec<String>,
}

/// What the shell learns, or is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Is the authtoken good? Wants [`Answer::Authenticated`] or [`Answer::Refused`].
    Authenticate {
        /// Which authtoken.
        id: AuthtokenId,
        /// What proves it.
        secret: TokenSecret,
        /// Which installation of the agent.
        instance: InstanceId,
        /// The tunnel that the link is to be a lane of. The authtoken and the instance must be that
        /// tunnel's.
        joins: Option<TunnelId>,
        /// The agent's release, as it says.
        agent_version: String,
        /// Its operating system, as it says.
        os: String,
        /// Its processor architecture, as it says.
        arch: String,
    },
    /// May the agent serve this? Wants [`Answer::Bound`] or [`Answer::BindRefused`] with its number.
    Bind(BindRequest),
    /// The agent no longer serves the endpoint, or never learned that it could: release it.
    Unbind {
        /// Which.
        endpoint: EndpointId,
    },
    /// The link lives.
    Probed {
        /// There and back.
        round_trip: Duration,
    },
    /// The last event. Send what frames are left, then close the link.
    Closed {
        /// Why.
        code: Code,
        /// What exactly happened.
        message: String,
        /// Whether the agent closed.
        by_peer: bool,
    },
}

/// The shell's answer to an event. One that comes too late, or that nobody asked for, does nothing;
/// but a late [`Answer::Bound`] is given back as [`Event::Unbind`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The authtoken is good.
    Authenticated {
        /// The tunnel that the link now is.
        tunnel: TunnelId,
    },
    /// The authtoken is not good: the machine closes.
    Refused {
        /// Why.
        code: Code,
        /// What exactly.
        message: String,
    },
    /// The agent serves the endpoint.
    Bound {
        /// The number of the request.
        request: u32,
        /// The endpoint.
        endpoint: EndpointId,
        /// Its public address.
        url: String,
        /// What whoever started the agent should know; the first [`crate::limits::NOTICES_MAX`] travel.
        notices: Vec<Notice>,
    },
    /// The agent does not serve it.
    BindRefused {
        /// The number of the request.
        request: u32,
        /// Why; the next step travels with it.
        code: Code,
        /// What exactly.
        message: String,
    },
}
