//! What an endpoint is: HTTP under a name, a TCP port, or TLS under a name; and how its upstream is told
//! who connected. Words only: ports and names are the edge's to judge.

use serde::{Deserialize, Serialize};

/// What kind of endpoint an agent asks for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EndpointKind {
    /// HTTP, with everything that an edge can do for it.
    #[default]
    Http,
    /// A TCP port of the edge.
    Tcp {
        /// The wanted port; without one (or with 0) the edge chooses one that stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// TLS, told apart by the name in its hello.
    Tls {
        /// Who ends it.
        #[serde(default, skip_serializing_if = "is_default")]
        termination: Termination,
    },
    /// A kind of a later version. Received only, and refused.
    #[serde(other)]
    Unknown,
}

/// Who ends the TLS of a TLS endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// The local app: the edge passes the bytes through.
    #[default]
    Upstream,
    /// The agent, with a certificate of its own: the edge passes the bytes through.
    Agent,
    /// The edge, with its certificate: the local app gets plain bytes.
    Edge,
    /// A word of a later version. Received only, and refused.
    #[serde(other)]
    Unknown,
}

/// Whether an upstream is told by PROXY protocol who connected.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// It is not.
    #[default]
    None,
    /// By version 1, a line of text.
    #[serde(rename = "1")]
    V1,
    /// By version 2, binary.
    #[serde(rename = "2")]
    V2,
    /// A version that is not known here. Received only, and refused.
    #[serde(other)]
    Unknown,
}

impl EndpointKind {
    /// For people, and the scheme of its public address: `https`, `tcp`, `tls`.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Http | Self::Unknown => "https",
            Self::Tcp { .. } => "tcp",
            Self::Tls { .. } => "tls",
        }
    }
}

/// Whether a word goes without saying.
pub(super) fn is_default<T: Default + PartialEq>(word: &T) -> bool {
    *word == T::default()
}
