//! The public door: connections, requests, and the story of each in `handle`.
//!
//! Reading order: `listener`, `proxied`, `hello`, `http`, `handle`, `request`, `headers`, `forward`,
//! `exchange`, `upstream`, `pool`, `tail`, `upgrade`, `websocket`, `streams`; `tcp` and `raw` for what is
//! no HTTP; `respond` is the one place where an error becomes HTTP here. Nothing is decided in this
//! module: `auth` judges, `tunnel` picks.

pub(crate) mod access_log;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod frames;
pub(crate) mod grpc;
pub(crate) mod handle;
pub(crate) mod headers;
pub(crate) mod hello;
pub(crate) mod http;
pub(crate) mod listener;
mod pick;
pub(crate) mod pool;
pub(crate) mod proxied;
pub(crate) mod raw;
pub(crate) mod request;
pub(crate) mod respond;
pub(crate) mod streams;
pub(crate) mod tail;
pub(crate) mod tcp;
pub(crate) mod upgrade;
pub(crate) mod upstream;
pub(crate) mod websocket;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::auth::Auth;
use crate::clock::Clock;
use crate::ingress::proxied::Proxies;
use crate::metrics::Metrics;
use crate::model::site::Site;
use crate::route::table::Table;
use crate::shutdown::Shutdown;
use crate::tunnel::registry::Registry;

/// Wired by the server: ingress does not know what becomes of a link.
pub(crate) type TakesLinks = Box<dyn Fn(TlsStream<TcpStream>, SocketAddr) + Send + Sync>;

/// What serving public requests needs. Shared by all workers.
pub(crate) struct Ingress {
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) routes: Arc<Table>,
    pub(crate) auth: Auth,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    /// The doors behind `api.` and `dashboard.`, wired by the server.
    pub(crate) api: axum::Router,
    pub(crate) dashboard: axum::Router,
    /// Takes agents that came by TCP.
    pub(crate) links: TakesLinks,
    pub(crate) limits: Limits,
    /// Whose PROXY headers are believed.
    pub(crate) proxies: Proxies,
    /// For TLS endpoints that this edge ends: as for HTTP, without naming protocols.
    pub(crate) raw_tls: Arc<rustls::ServerConfig>,
    /// Raw connections that are open.
    pub(crate) raw: raw::Tally,
    pub(crate) shutdown: Shutdown,
}

/// What one worker serves requests with: what all share, and what is its own.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) ingress: Arc<Ingress>,
    /// Upstream connections live on the worker that made them.
    pub(crate) pool: Arc<pool::Pool>,
    /// Exchanges that are open here.
    pub(crate) exchanges: Arc<AtomicUsize>,
    /// This worker's share of what the edge may have open.
    pub(crate) exchanges_max: usize,
}

/// Bounds on what a client may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// TLS handshake.
    pub(crate) handshake: Duration,
    /// Until a request's head is complete.
    pub(crate) header_read: Duration,
    /// A connection without an open request.
    pub(crate) idle: Duration,
    /// A request body that sends nothing.
    pub(crate) body_idle: Duration,
    pub(crate) head_bytes_max: usize,
    /// Exchanges open on the whole edge, each with its buffers.
    pub(crate) exchanges_max: usize,
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingress")
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}
