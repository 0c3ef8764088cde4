//! Accepts agents on the public UDP port, on each worker, takes those that came by TCP from ingress, and
//! gives each a driver of its own.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use proto::budget::Budget;
use proto::id::EdgeId;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::server::TlsStream;

use crate::clock::Clock;
use crate::model::endpoint::Endpoint;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::tunnel::agent;
use crate::tunnel::bind::Binder;
use crate::tunnel::link::{self, Congestion, Connecting, Listener};
use crate::tunnel::registry::Registry;

/// Waits until this edge routes an endpoint as it was claimed, so that the address an agent prints
/// works. Bounded by whoever wired it.
pub(crate) type Settled =
    Arc<dyn Fn(Endpoint) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Gives a place to a link that has not authenticated yet, unless its network, or all together, hold as
/// many as they may. Freed when dropped.
pub(crate) type Admit = Arc<dyn Fn(IpAddr) -> Option<Place> + Send + Sync>;
pub(crate) type Place = Box<dyn Send + Sync>;

/// What accepting and serving agents needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tunnels {
    /// Those that [`Tunnels::run`] serves.
    pub(crate) listeners: Arc<std::sync::Mutex<Vec<Listener>>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<Store>,
    pub(crate) binder: Binder,
    pub(crate) settled: Settled,
    pub(crate) admit: Admit,
    pub(crate) edge: EdgeId,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    /// Memory for what links leave unread.
    pub(crate) budget: Budget,
    pub(crate) congestion: Congestion,
    /// One bind decides at a time: what it looked at stays true until it has claimed.
    pub(crate) deciding: Arc<Mutex<()>>,
}

impl Tunnels {
    /// Accepts agents on a worker's socket until the edge stops. Runs on that worker: so does all that
    /// it begins.
    pub(crate) async fn run(self, listener: Listener) {
        self.listeners().push(listener.clone());
        loop {
            let connecting = tokio::select! {
                () = self.shutdown.begun() => break,
                connecting = listener.accept() => connecting,
            };
            let Some(connecting) = connecting else { break };
            let Some(place) = (self.admit)(connecting.peer().ip()) else {
                tracing::debug!(agent.address = %connecting.peer(), "too many links that have not authenticated");
                connecting.refuse();
                continue;
            };
            let tunnels = self.clone();
            self.shutdown
                .spawn(async move { tunnels.establish(connecting, place).await });
        }
        listener.stop_accepting();
    }

    /// Serves an agent whose TLS handshake is complete, on the runtime that this is called on.
    pub(crate) fn take(&self, stream: TlsStream<TcpStream>, peer: SocketAddr) {
        let Some(place) = (self.admit)(peer.ip()) else {
            tracing::debug!(agent.address = %peer, "too many links that have not authenticated");
            return;
        };
        let (link, driver) = link::over_tls(stream, peer, &self.budget, self.congestion);
        self.shutdown.spawn(driver);
        self.shutdown.spawn(agent::serve(self.clone(), link, place));
    }

    async fn establish(self, connecting: Connecting, place: Place) {
        let peer = connecting.peer();
        match tokio::time::timeout(HANDSHAKE, connecting.establish()).await {
            Ok(Ok(link)) => {
                // In a task of its own: this one has room for a handshake.
                let shutdown = self.shutdown.clone();
                shutdown.spawn(agent::serve(self, link, place));
            }
            Ok(Err(error)) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                agent.address = %peer,
                "link not established"
            ),
            Err(_) => tracing::debug!(agent.address = %peer, "link handshake timed out"),
        }
    }

    /// Ends every link that is left and waits, for a bounded time, until the goodbyes are out.
    pub(crate) async fn end(&self) {
        let listeners = self.listeners().clone();
        for listener in &listeners {
            listener.close();
        }
        let idle = async {
            for listener in &listeners {
                listener.wait_idle().await;
            }
        };
        if tokio::time::timeout(GOODBYES, idle).await.is_err() {
            tracing::debug!("some links did not say goodbye in time");
        }
        if let Some(listener) = listeners.first() {
            let (handed, dropped) = listener.handed_over();
            tracing::debug!(handed, dropped, "datagrams that workers handed over");
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLS and address validation of a link.
const HANDSHAKE: Duration = Duration::from_secs(10);
const GOODBYES: Duration = Duration::from_secs(1);
