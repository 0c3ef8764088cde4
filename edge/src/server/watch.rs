//! What the listener for metrics and health is told: wiring only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proto::id::EdgeId;
use tokio::sync::Mutex;

use crate::admin::{LinkPresence, Presence};
use crate::clock::Clock;
use crate::ingress::Ingress;
use crate::ingress::listener::Admission;
use crate::ingress::raw::Tally;
use crate::metrics::Now;
use crate::server::StartError;
use crate::session::live::Live;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::telemetry::{Log, Watch, Watched};
use crate::tunnel::registry::Registry;

/// What is watched.
pub(super) struct Parts {
    pub(super) edge: EdgeId,
    pub(super) ingress: Arc<Ingress>,
    pub(super) admission: Arc<Admission>,
    pub(super) live: Arc<Live>,
    pub(super) store: Arc<Store>,
    pub(super) log: Arc<Log>,
}

/// Opens the listener, where one is wanted.
pub(super) async fn open(
    address: Option<SocketAddr>,
    parts: Parts,
) -> Result<Option<Watch>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let Parts {
        edge,
        ingress,
        admission,
        live,
        store,
        log,
    } = parts;
    let heard = Arc::new(Heard {
        edge,
        store,
        clock: ingress.clock,
        last: Mutex::new(None),
    });
    let watched = Watched {
        metrics: Arc::clone(&ingress.metrics),
        shutdown: ingress.shutdown.clone(),
        now: Box::new(move || now(&ingress, &admission, &live, &log)),
        store_answers: Box::new(move || {
            let heard = Arc::clone(&heard);
            Box::pin(async move { heard.store_answers().await })
        }),
    };
    match Watch::open(address, watched).await {
        Ok(watch) => Ok(Some(watch)),
        Err(source) => Err(StartError::Metrics { address, source }),
    }
}

fn now(ingress: &Ingress, admission: &Admission, live: &Live, log: &Log) -> Now {
    let tunnels = ingress.registry.all();
    let mut now = Now {
        connections: admission.held() as u64,
        tunnels: tunnels.len() as u64,
        endpoints_online: ingress.registry.online().len() as u64,
        sessions: live.len() as u64,
        resident_bytes: resident_bytes(),
        log_lines_dropped: log.dropped(),
        ..Now::default()
    };
    for tunnel in tunnels {
        now.streams += tunnel.load();
        now.link_bytes += tunnel.held();
        let transport = tunnel.link.transport();
        match now.links.iter_mut().find(|(name, _)| *name == transport) {
            Some((_, count)) => *count += 1,
            None => now.links.push((transport, 1)),
        }
    }
    now
}

/// Where it is known who is here.
pub(super) struct Present {
    pub(super) live: Arc<Live>,
    pub(super) registry: Arc<Registry>,
    pub(super) admission: Arc<Admission>,
    pub(super) shutdown: Shutdown,
    /// See [`super::drain::Inside`].
    pub(super) cut: Arc<AtomicU64>,
    pub(super) raw: Tally,
}

/// What the operator is told of this edge.
pub(super) fn presence(
    edge: EdgeId,
    clock: Clock,
    inside: Present,
) -> Box<dyn Fn() -> Presence + Send + Sync> {
    let started_at = clock.now();
    let Present {
        live,
        registry,
        admission,
        shutdown,
        cut,
        raw,
    } = inside;
    Box::new(move || {
        let links: Vec<_> = registry
            .all()
            .iter()
            .map(|tunnel| LinkPresence {
                tunnel: tunnel.id,
                transport: tunnel.link.transport(),
                address: tunnel.link.peer(),
                agent_version: tunnel.agent_version.clone(),
                os: tunnel.os.clone(),
                round_trip: tunnel.link.round_trip(),
                streams: tunnel.load(),
                held_bytes: tunnel.held(),
                endpoints: registry.served_by(tunnel.id),
            })
            .collect();
        Presence {
            edge,
            started_at,
            tunnels: links.len() as u64,
            sessions: live.len() as u64,
            online: registry.online(),
            connections: admission.held() as u64,
            exchanges: links.iter().map(|link| link.streams).sum(),
            resident_bytes: resident_bytes(),
            links,
            is_emptied: shutdown.has_emptied(),
            cut: cut.load(Ordering::Relaxed),
            raw: raw.open(),
            raw_ended: raw.ended(),
        }
    })
}

/// Memory of this process, as Linux counts it.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Whether the store answers: asked once a second at most, whoever asks how often.
struct Heard {
    edge: EdgeId,
    store: Arc<Store>,
    clock: Clock,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Heard {
    async fn store_answers(&self) -> bool {
        let mut last = self.last.lock().await;
        let now = self.clock.monotonic();
        if let Some((at, answered)) = *last
            && now.duration_since(at) < BELIEVED
        {
            return answered;
        }
        // A write: a store that takes none could revoke nobody.
        let answered = match self.store.heartbeat(self.edge).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "not ready: the store does not answer"
                );
                false
            }
        };
        *last = Some((now, answered));
        answered
    }
}

const BELIEVED: Duration = Duration::from_secs(1);
