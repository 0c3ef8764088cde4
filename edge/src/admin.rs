//! The doors for people and programs that run the edge: the API, the dashboard, the operator's socket.
//!
//! One resource per file: parameters in, views out. Every route stands in one table per door
//! (`routes`), and the door's check is laid around all of them at once. Nothing here revokes by
//! itself: `session::revoke` does, for all three doors alike. Reading order: `routes`, `check`,
//! `error`, `params`, `views`, then `api`, `dashboard`, `socket`.

mod api;
mod check;
mod dashboard;
mod error;
mod failures;
mod mint;
mod params;
pub(crate) mod routes;
pub(crate) mod socket;
pub(crate) mod views;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use proto::id::{EdgeId, EndpointId, RequestId, TunnelId};

use crate::clock::Clock;
use crate::model::change::Scope;
use crate::model::receipt::Receipt;
use crate::model::session::CutReason;
use crate::model::site::Site;
use crate::session::revoke::Revocations;
use crate::store::{Store, StoreError};

use failures::Failures;

/// What the doors are made of.
pub(crate) struct AdminParts {
    pub(crate) store: Arc<Store>,
    pub(crate) revocations: Revocations,
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) issuer: AuthtokenIssuer,
    pub(crate) presence: Box<dyn Fn() -> Presence + Send + Sync>,
    /// Orders the edge to drain, with a bound, and to end.
    pub(crate) drain: Box<dyn Fn(Duration) + Send + Sync>,
    pub(crate) verify_provider: VerifyProvider,
    /// Whether addresses have places: otherwise the dashboard says how to get them.
    pub(crate) knows_places: bool,
    /// The ports of TCP endpoints, as `FIRST-LAST`.
    pub(crate) tcp_ports: Option<String>,
}

/// What goes into an authtoken beside its secret.
#[derive(Clone, Debug)]
pub(crate) struct AuthtokenIssuer {
    /// Where the edges are, as `host:port`.
    pub(crate) addrs: Vec<String>,
    /// The name in the edges' link certificates.
    pub(crate) server_name: String,
    /// The link CA's raw public key.
    pub(crate) link_ca_key: [u8; 32],
}

/// What this edge holds at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    pub(crate) edge: EdgeId,
    pub(crate) started_at: Timestamp,
    pub(crate) tunnels: u64,
    /// Sessions in the live table.
    pub(crate) sessions: u64,
    pub(crate) online: Vec<EndpointId>,
    /// Public connections that are open.
    pub(crate) connections: u64,
    /// Exchanges under way on all tunnels.
    pub(crate) exchanges: u64,
    /// Memory of the process, where the system tells.
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) links: Vec<LinkPresence>,
    /// Nobody is inside any more: the edge is about to end.
    pub(crate) is_emptied: bool,
    /// Exchanges that a drain cut.
    pub(crate) cut: u64,
    /// Exchanges that are raw connections: TCP and TLS.
    pub(crate) raw: u64,
    /// Quiet raw connections that a drain ended.
    pub(crate) raw_ended: u64,
}

/// An agent's link.
#[derive(Clone, Debug)]
pub(crate) struct LinkPresence {
    pub(crate) tunnel: TunnelId,
    pub(crate) transport: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) agent_version: String,
    pub(crate) os: String,
    pub(crate) round_trip: Duration,
    /// Exchanges under way.
    pub(crate) streams: u64,
    /// Bytes held for visitors that do not read.
    pub(crate) held_bytes: u64,
    pub(crate) endpoints: Vec<EndpointId>,
}

/// A provider that an operator wants to add. Its secret plays no part in the trial.
#[derive(Clone, Debug)]
pub(crate) struct ProviderWanted {
    pub(crate) name: String,
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: String,
    pub(crate) scopes: Vec<String>,
}

/// What a trial of it found.
#[derive(Clone, Debug)]
pub(crate) struct ProviderFound {
    /// A preset's name, or `oidc`.
    pub(crate) kind: String,
    pub(crate) issuer: String,
}

/// Tries a provider before it is stored. The error is a sentence for the operator.
pub(crate) type VerifyProvider = Box<dyn Fn(ProviderWanted) -> Verifying + Send + Sync>;

/// A trial under way.
pub(crate) type Verifying = Pin<Box<dyn Future<Output = Result<ProviderFound, String>> + Send>>;

/// Request extension: the address that the request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(pub(crate) IpAddr);

/// Request extension: the request's id, where the door outside has given it one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation(pub(crate) RequestId);

/// All doors and what they share.
pub(crate) struct Admin {
    parts: AdminParts,
    failures: Failures,
}

impl Admin {
    pub(crate) fn new(parts: AdminParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            failures: Failures::new(),
        })
    }

    /// The API at `https://api.<domain>`.
    pub(crate) fn api(self: &Arc<Self>) -> Router {
        routes::build(self, routes::Door::Api, api::routes())
    }

    /// The dashboard at `https://dashboard.<domain>`.
    pub(crate) fn dashboard(self: &Arc<Self>) -> Router {
        routes::build(self, routes::Door::Dashboard, dashboard::routes())
    }

    /// What the operator's socket serves.
    pub(crate) fn socket(self: &Arc<Self>) -> Router {
        routes::build(self, routes::Door::Socket, socket::routes())
    }

    /// Revokes, whether or not the asker waits for the end: a closed connection leaves no receipt
    /// half done. `None` when there is nothing of that name.
    async fn revoke(
        &self,
        scope: Scope,
        reason: String,
        delete_user: bool,
    ) -> Result<Option<Receipt>, StoreError> {
        let revocations = self.parts.revocations.clone();
        let work = async move {
            revocations
                .revoke(scope, CutReason::Revoked, reason, delete_user)
                .await
        };
        let outcome = match tokio::spawn(work).await {
            Ok(outcome) => outcome?,
            Err(ended) => return Err(StoreError::Unavailable(Box::new(ended))),
        };
        if let Some(receipt) = &outcome {
            tracing::info!(
                receipt.id = %receipt.id,
                sessions = receipt.sessions_ended,
                connections = receipt.connections_cut,
                edges.missing = receipt.edges_missing.len(),
                "revoked"
            );
        }
        Ok(outcome)
    }

    fn presence(&self) -> Presence {
        (self.parts.presence)()
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("site", &self.parts.site)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
