//! The control messages. Each variant says who sends it and when; order is `control`'s matter.
//!
//! On the wire a frame is a JSON object whose `type` is the variant in snake case. Receivers ignore
//! fields and types that they do not know; a new field is always optional.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::authtoken::TokenSecret;
use crate::bind::{BindRequest, Notice};
use crate::code::Code;
use crate::id::{AuthtokenId, EdgeId, EndpointId, InstanceId, TunnelId};
use crate::limits;

/// A control message. Its `Debug` never shows the secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Frame {
    /// Agent, first on the control stream: what it is and which versions it speaks.
    Hello {
        /// The oldest protocol version that it speaks.
        proto_min: u32,
        /// The newest.
        proto_max: u32,
        /// What it can do beyond the version.
        #[serde(default)]
        features: Vec<String>,
        /// Its release.
        #[serde(default)]
        agent_version: String,
        /// Its operating system.
        #[serde(default)]
        os: String,
        /// Its processor architecture.
        #[serde(default)]
        arch: String,
    },
    /// Edge, the answer to hello: the version that both use from here on.
    Welcome {
        /// The newest version in common.
        version: u32,
        /// Which edge answers.
        edge: EdgeId,
        /// Its release.
        #[serde(default)]
        edge_version: String,
        /// Where the other edges are, as `host:port`.
        #[serde(default)]
        edges: Vec<String>,
        /// What the edge can do beyond the version.
        #[serde(default)]
        features: Vec<String>,
    },
    /// Agent, after welcome: its authtoken and its lasting identity.
    Authenticate {
        /// Which authtoken.
        authtoken: AuthtokenId,
        /// What proves it.
        secret: TokenSecret,
        /// Which installation of the agent.
        instance: InstanceId,
        /// The tunnel that this link is to be one more lane of, as the edge asked with widen. Nothing
        /// is bound on a lane: it carries data streams.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        joins: Option<TunnelId>,
    },
    /// Edge, the answer to authenticate when the authtoken is good; otherwise it closes.
    Authenticated {
        /// The tunnel that this link now is, or is a lane of.
        tunnel: TunnelId,
    },
    /// Edge, any time once authenticated: so many links beside this one would serve the tunnel better at
    /// present. The agent may open them, each with authenticate and `joins`.
    Widen {
        /// How many beside the first, those that are there included.
        lanes: u32,
    },
    /// Agent, any number of times once authenticated: a wish to serve an endpoint.
    Bind(BindRequest),
    /// Edge, an answer to bind: the endpoint is served, its path was probed.
    Bound {
        /// The number of the request.
        request: u32,
        /// The endpoint, as data streams will name it.
        endpoint: EndpointId,
        /// Its public address.
        url: String,
        /// What whoever started the agent should know.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notices: Vec<Notice>,
    },
    /// Edge, the other answer to bind.
    BindRefused {
        /// The number of the request.
        request: u32,
        /// Why. [`Code::is_permanent`] says whether asking again is of use.
        code: Code,
        /// What exactly was wrong.
        #[serde(default)]
        message: String,
        /// What to do.
        #[serde(default)]
        next_step: String,
    },
    /// Agent: it no longer serves an endpoint. Has no answer.
    Unbind {
        /// Which.
        endpoint: EndpointId,
    },
    /// Edge: an endpoint is no longer served by this tunnel. The agent does not bind it again when
    /// the code is permanent, such as `generation_superseded`.
    Unbound {
        /// Which.
        endpoint: EndpointId,
        /// Why.
        code: Code,
        /// What exactly happened.
        #[serde(default)]
        message: String,
    },
    /// Either side once authenticated: are you there? Answered at once.
    Probe {
        /// Comes back in the answer.
        token: u64,
    },
    /// Either side, the answer to probe.
    ProbeAnswer {
        /// The probe's.
        token: u64,
    },
    /// Edge: it will stop. The agent connects elsewhere, then closes; open streams go on meanwhile.
    Drain {
        /// Where to go, as `host:port`; none when the edge knows of no other.
        #[serde(default)]
        edges: Vec<String>,
    },
    /// Either side, last: nothing follows from its sender, and nothing more is heard.
    Close {
        /// Why.
        code: Code,
        /// What exactly happened.
        #[serde(default)]
        message: String,
        /// Whether connecting again may help.
        #[serde(default)]
        retry: bool,
    },
    /// A type of a later version. Received only, and ignored.
    #[serde(other)]
    Unknown,
}

impl Frame {
    /// The type as it is on the wire, for logs and messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Welcome { .. } => "welcome",
            Self::Authenticate { .. } => "authenticate",
            Self::Authenticated { .. } => "authenticated",
            Self::Widen { .. } => "widen",
            Self::Bind(_) => "bind",
            Self::Bound { .. } => "bound",
            Self::BindRefused { .. } => "bind_refused",
            Self::Unbind { .. } => "unbind",
            Self::Unbound { .. } => "unbound",
            Self::Probe { .. } => "probe",
            Self::ProbeAnswer { .. } => "probe_answer",
            Self::Drain { .. } => "drain",
            Self::Close { .. } => "close",
            Self::Unknown => "unknown",
        }
    }

    /// Whether every text and list is within its bound. A bind is judged by [`BindRequest::check`],
    /// because a wrong one is refused by itself and does not end the link.
    pub(crate) fn is_bounded(&self) -> bool {
        let texts = |texts: &[&String]| {
            texts
                .iter()
                .all(|text| limits::is_text(text, limits::TEXT_BYTES_MAX))
        };
        let list = |list: &[String], bytes_max: usize| {
            list.len() <= limits::LIST_MAX
                && list.iter().all(|text| limits::is_text(text, bytes_max))
        };
        match self {
            Self::Hello {
                features,
                agent_version,
                os,
                arch,
                ..
            } => list(features, limits::FEATURE_BYTES_MAX) && texts(&[agent_version, os, arch]),
            Self::Welcome {
                edge_version,
                edges,
                features,
                ..
            } => {
                list(features, limits::FEATURE_BYTES_MAX)
                    && list(edges, limits::ADDR_BYTES_MAX)
                    && texts(&[edge_version])
            }
            Self::Bound { url, notices, .. } => {
                limits::is_text(url, limits::URL_BYTES_MAX)
                    && notices.len() <= limits::NOTICES_MAX
                    && notices
                        .iter()
                        .all(|notice| texts(&[&notice.message, &notice.next_step]))
            }
            Self::BindRefused {
                message, next_step, ..
            } => texts(&[message, next_step]),
            Self::Unbound { message, .. } | Self::Close { message, .. } => texts(&[message]),
            Self::Drain { edges } => list(edges, limits::ADDR_BYTES_MAX),
            Self::Authenticate { .. }
            | Self::Authenticated { .. }
            | Self::Widen { .. }
            | Self::Bind(_)
            | Self::Unbind { .. }
            | Self::Probe { .. }
            | Self::ProbeAnswer { .. }
            | Self::Unknown => true,
        }
    }
}
