//! Judgement: who asks, may they pass, and what they are answered when they may not yet.
//!
//! Plain `http` values in, plain values out: no sockets, no HTML (that is `ingress::respond`), no rule
//! of its own (that is `policy`). Reading order: `authorize` and `permit` for the data path; `flow`,
//! then `login`, `callback`, `handover`, `logout` for the way in and out; `cookie`, `binding`,
//! `once`, `target`, `query`, `fetch`, `pace` and `assertion` are what they are made of.

mod assertion;
mod authorize;
mod binding;
mod callback;
mod cookie;
mod fetch;
mod flow;
mod handover;
mod login;
mod logout;
mod once;
mod pace;
mod paths;
pub(crate) mod permit;
mod query;
pub(crate) mod reply;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use proto::code::Code;

use crate::clock::Clock;
use crate::context::{GeoIp, UserAgents};
use crate::idp::Providers;
use crate::model::endpoint::Endpoint;
use crate::model::site::Site;
use crate::route::table::Table;
use crate::secret::{ClusterKey, Secret};
use crate::session::live::Live;
use crate::session::revoke::Revocations;
use crate::store::seal::Sealer;
use crate::store::{Store, StoreError};

pub(crate) use authorize::Verdict;
pub(crate) use fetch::wants_page;
pub(crate) use permit::{Delivery, Permit};
pub(crate) use reply::Reply;

/// Judges requests and answers the paths that belong to logging in. Shared by all workers.
pub(crate) struct Auth {
    store: Arc<Store>,
    live: Arc<Live>,
    routes: Arc<Table>,
    providers: Arc<Providers>,
    revocations: Revocations,
    user_agents: Arc<UserAgents>,
    geoip: Option<Arc<GeoIp>>,
    site: Site,
    clock: Clock,
    fresh: Fresh,
    cookies: cookie::Cookies,
    tickets: Sealer,
    codes: once::Codes,
    pace: pace::Pace,
    assertions: assertion::Assertions,
}

/// Whether memory may be believed right now.
pub(crate) type Fresh = Arc<dyn Fn() -> bool + Send + Sync>;

/// What [`Auth`] is built from.
pub(crate) struct AuthParts {
    pub(crate) store: Arc<Store>,
    pub(crate) live: Arc<Live>,
    pub(crate) routes: Arc<Table>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) revocations: Revocations,
    pub(crate) user_agents: Arc<UserAgents>,
    pub(crate) geoip: Option<Arc<GeoIp>>,
    pub(crate) site: Site,
    pub(crate) cluster_key: ClusterKey,
    /// Still reads what it made; makes nothing any more.
    pub(crate) previous_cluster_key: Option<ClusterKey>,
    pub(crate) clock: Clock,
    pub(crate) fresh: Fresh,
}

impl Auth {
    pub(crate) fn new(parts: AuthParts) -> Self {
        let (current, previous) = (&parts.cluster_key, parts.previous_cluster_key.as_ref());
        Self {
            cookies: cookie::Cookies::new(current, previous),
            tickets: sealer(current, previous),
            codes: once::Codes::new(current, previous),
            pace: pace::Pace::new(),
            assertions: assertion::Assertions::new(current, previous),
            store: parts.store,
            live: parts.live,
            routes: parts.routes,
            providers: parts.providers,
            revocations: parts.revocations,
            user_agents: parts.user_agents,
            geoip: parts.geoip,
            site: parts.site,
            clock: parts.clock,
            fresh: parts.fresh,
        }
    }

    /// Whether the edge answers this path itself, on every endpoint.
    pub(crate) fn is_reserved(path: &str) -> bool {
        target::is_reserved(path)
    }

    /// Who is signed in, for the upstream. Empty for a permit without a session.
    pub(crate) fn identity_headers(&self, permit: &Permit) -> Vec<(HeaderName, HeaderValue)> {
        permit.session().map_or_else(Vec::new, |session| {
            let origin = || self.origin(permit.endpoint());
            self.assertions.headers(session, origin, self.clock.now())
        })
    }

    /// `https://host[:port]` of an endpoint.
    fn origin(&self, endpoint: &Endpoint) -> String {
        self.site.url_of(&endpoint.host)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

/// What seals tickets on their way through a browser.
fn sealer(current: &ClusterKey, previous: Option<&ClusterKey>) -> Sealer {
    let key = |cluster_key: &ClusterKey| cluster_key.derive("login tickets");
    Sealer::new(
        key(current).expose(),
        previous.map(key).as_ref().map(Secret::expose),
    )
}

/// What a person is told when the store did not do it. The cause goes to the log, here.
fn store_code(error: &StoreError) -> Code {
    let code = match error {
        StoreError::RevokedMeanwhile => return Code::SessionRevoked,
        StoreError::Full(_) => Code::StoreFull,
        StoreError::Unavailable(_)
        | StoreError::NewerSchema { .. }
        | StoreError::Unreadable { .. } => Code::StoreUnavailable,
    };
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "store not usable for a login or session"
    );
    code
}
