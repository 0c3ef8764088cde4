//! An endpoint: a public host bound to an authtoken, with the rule that says who may pass.

use std::time::Duration;

use jiff::Timestamp;
use proto::id::{AuthtokenId, EndpointId};

/// An endpoint as the store keeps it. The host belongs to its authtoken until that is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    /// Lower case, no port, no trailing dot.
    pub(crate) host: String,
    pub(crate) authtoken: AuthtokenId,
    /// The upstream as the agent named it, for people.
    pub(crate) upstream: String,
    pub(crate) access: Access,
    pub(crate) created_at: Timestamp,
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
