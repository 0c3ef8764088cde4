//! What an agent's machine is told at the start, and tells its shell.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::authtoken::TokenSecret;
use crate::bind::Notice;
use crate::code::Code;
use crate::id::{AuthtokenId, EdgeId, EndpointId, InstanceId, TunnelId};

/// Who the agent is. The secret leaves the machine only after the edge's welcome.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its release.
    pub agent_version: String,
    /// Its operating system.
    pub os: String,
    /// Its processor architecture.
    pub arch: String,
    /// Which authtoken.
    pub authtoken: AuthtokenId,
    /// What proves it.
    pub secret: TokenSecret,
    /// Which installation it is.
    pub instance: InstanceId,
    /// The tunnel that the link is to be a lane of; `None` for a tunnel of its own.
    pub joins: Option<TunnelId>,
}

/// What the shell learns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The edge answered.
    Welcomed {
        /// The protocol version that both use.
        version: u32,
        /// Which edge.
        edge: EdgeId,
        /// Its release.
        edge_version: String,
        /// Where the other edges are, as `host:port`.
        edges: Vec<String>,
    },
    /// The authtoken is good. A refused one closes.
    Authenticated {
        /// The tunnel that the link now is, or is a lane of.
        tunnel: TunnelId,
    },
    /// More links would serve the tunnel better.
    Widen {
        /// How many beside the first.
        lanes: u32,
    },
    /// The endpoint is served.
    Bound {
        /// The number of the request.
        request: u32,
        /// The endpoint, as data streams will name it.
        endpoint: EndpointId,
        /// Its public address.
        url: String,
        /// What whoever started the agent should know.
        notices: Vec<Notice>,
    },
    /// The endpoint is not served.
    BindRefused {
        /// The number of the request.
        request: u32,
        /// Why. [`Code::is_permanent`] says whether asking again is of use.
        code: Code,
        /// What exactly was wrong.
        message: String,
        /// What to do.
        next_step: String,
    },
    /// The endpoint is no longer served here. Not to be bound again when the code is permanent.
    Unbound {
        /// Which.
        endpoint: EndpointId,
        /// Why.
        code: Code,
        /// What exactly happened.
        message: String,
    },
    /// The link lives.
    Probed {
        /// There and back.
        round_trip: Duration,
    },
    /// The edge will stop: connect elsewhere, bind there, finish what is open, then close.
    Drain {
        /// Where to go, as `host:port`; when empty, to the addresses already known.
        edges: Vec<String>,
    },
    /// The last event. Send what frames are left, then close the link.
    Closed {
        /// Why.
        code: Code,
        /// What exactly happened.
        message: String,
        /// Whether connecting again may help; never for a permanent code.
        retry: bool,
        /// Whether the edge closed.
        by_peer: bool,
    },
}
