//! An endpoint: a public host or port bound to an authtoken, with the rules that say who may pass.

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use proto::id::{AuthtokenId, EndpointId};

/// An endpoint as the store keeps it. The host belongs to its authtoken until that is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    /// Lower case, no trailing dot, no port; but `host:port` of a TCP endpoint, which no name can be
    /// mistaken for.
    pub(crate) host: String,
    pub(crate) authtoken: AuthtokenId,
    /// The upstream as the agent named it, for people.
    pub(crate) upstream: String,
    pub(crate) access: Access,
    pub(crate) kind: Kind,
    pub(crate) networks: NetworkRule,
    pub(crate) created_at: Timestamp,
}

/// What is spoken at an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Http,
    /// Raw bytes, on a port of its own.
    Tcp {
        port: u16,
        /// For whom the edge chose the port: the same asker gets it again. `None`: it was asked for.
        keeper: Option<Keeper>,
    },
    /// Raw bytes within TLS, told apart by the name in the hello.
    Tls(Termination),
}

impl Kind {
    /// The scheme of its public address.
    pub(crate) const fn scheme(&self) -> &'static str {
        match self {
            Self::Http => "https",
            Self::Tcp { .. } => "tcp",
            Self::Tls(_) => "tls",
        }
    }
}

/// Who asked for a port without saying which: a digest of authtoken, instance and upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Keeper(pub(crate) [u8; 32]);

/// Who ends the TLS of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Termination {
    /// This edge, with its own certificate.
    Edge,
    /// Agent or upstream: the edge passes the bytes through.
    Beyond,
}

/// Which networks may connect. Empty: all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct NetworkRule {
    /// With one or more, nobody else may.
    pub(crate) allow: Vec<IpNet>,
    /// Win over `allow`.
    pub(crate) deny: Vec<IpNet>,
}

/// Who may reach an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Public,
    Login(LoginRule),
}

/// A login in front of an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LoginRule {
    /// The provider's name on this edge.
    pub(crate) provider: String,
    /// Whole addresses, lower case. With both lists empty anyone who signs in passes.
    pub(crate) allow_emails: Vec<String>,
    /// Whole mail domains, lower case; a subdomain is another domain.
    pub(crate) allow_domains: Vec<String>,
    /// Absolute life of a session.
    pub(crate) session_life: Duration,
    pub(crate) idle_limit: Option<Duration>,
}
