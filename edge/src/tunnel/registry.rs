//! Who serves which endpoint, on this edge. Decides take-over and pooling when an agent binds;
//! picking is a read without I/O.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use http::uri::Scheme;
use papaya::HashMap;
use proto::bind::{BindRequest, ProxyProtocol, UpstreamProtocol};
use proto::code::Code;
use proto::head::ProxyAddrs;
use proto::id::{AuthtokenId, EndpointId, InstanceId, TunnelId};
use proto::limits::STREAMS_PER_TUNNEL_MAX;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::tunnel::lanes::Lanes;
use crate::tunnel::link::Link;

/// One authenticated agent connection.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    pub(crate) authtoken: AuthtokenId,
    pub(crate) instance: InstanceId,
    /// Its first link: control, and the streams of whoever has no lane.
    pub(crate) link: Link,
    /// All of its links.
    pub(crate) lanes: Lanes,
    pub(crate) agent_version: String,
    pub(crate) os: String,
    /// Exchanges under way.
    pub(crate) open_streams: AtomicU64,
    /// Streams that live, idle ones included.
    pub(crate) reserved: AtomicU32,
    /// Asks the tunnel's driver to close for good, with this code.
    pub(crate) close: Close,
    /// It has left the registry: its lanes end with it.
    pub(crate) ended: CancellationToken,
}

/// A stream's place on its tunnel; freed when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Tunnel>);

/// A one-time order to close a tunnel.
#[derive(Debug, Default)]
pub(crate) struct Close {
    order: Mutex<Option<Code>>,
    given: CancellationToken,
}

/// A tunnel's claim to serve an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) generation: u64,
    pub(crate) pooling: bool,
    pub(crate) serving: Serving,
    /// Given up in favour of a newer one: its driver tells the agent.
    pub(crate) superseded: CancellationToken,
}

impl Binding {
    /// Whom the upstream is told of, if it wants to know.
    pub(crate) fn proxy_addrs(&self, client: SocketAddr, edge: SocketAddr) -> Option<ProxyAddrs> {
        (self.serving.proxy_protocol != ProxyProtocol::None).then(|| ProxyAddrs::new(client, edge))
    }
}

/// How the upstream behind a binding wants to be spoken to. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) upstream_protocol: UpstreamProtocol,
    /// What an HTTP/2 upstream is told: whether its agent speaks TLS to it.
    pub(crate) scheme: Scheme,
    /// In the place of the host that the visitor named.
    pub(crate) host_header: Option<HeaderValue>,
    /// Whether it is told who connected. Such streams are for one connection only.
    pub(crate) proxy_protocol: ProxyProtocol,
}

/// A tunnel's place in the registry.
#[derive(Debug)]
pub(crate) struct Joined {
    registry: Arc<Registry>,
    pub(crate) tunnel: Arc<Tunnel>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.registry.leave(self.tunnel.id);
        self.tunnel.ended.cancel();
    }
}

/// Endpoints with a ready tunnel.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Who serves an endpoint: never nobody, and replaced whole, so that picking takes no lock.
    serving: HashMap<EndpointId, Bindings>,
    tunnels: HashMap<TunnelId, Arc<Tunnel>>,
    /// What each tunnel serves. Held by whoever changes `serving`: one change at a time.
    claims: Mutex<BTreeMap<TunnelId, BTreeSet<EndpointId>>>,
    returning: Returning,
}

/// Endpoints whose agents are on their way back after the edge's start.
#[derive(Debug)]
struct Returning {
    until: Instant,
    /// Those that came since.
    came: HashMap<EndpointId, ()>,
    /// Woken by a bind. Taken on no path of a request but the one that waits.
    awaited: Mutex<BTreeMap<EndpointId, Arc<Notify>>>,
}

type Bindings = Arc<[Arc<Binding>]>;
type Claims<'a> = MutexGuard<'a, BTreeMap<TunnelId, BTreeSet<EndpointId>>>;

impl Registry {
    /// Whether a bind would be accepted now; [`Registry::bind`] decides again.
    pub(crate) fn check(&self, endpoint: EndpointId, asking: &Binding) -> Result<(), Code> {
        judge(&self.serving(endpoint), asking)
    }

    /// Whether an agent of another instance serves an endpoint.
    pub(crate) fn others_serve(&self, endpoint: EndpointId, instance: InstanceId) -> bool {
        self.serving(endpoint)
            .iter()
            .any(|binding| binding.tunnel.instance != instance)
    }

    /// Lets a tunnel serve an endpoint. An older generation of the same instance is superseded at
    /// once: nothing ever waits for a dead link.
    ///
    /// # Errors
    /// `generation_superseded` for a generation that is not newer, `name_taken` when another instance
    /// serves it and not both pool, `authtoken_revoked` when the tunnel is being closed.
    pub(crate) fn bind(&self, endpoint: EndpointId, binding: Binding) -> Result<(), Code> {
        let mut claims = self.claims();
        if let Some(code) = binding.tunnel.close.ordered() {
            return Err(code);
        }
        let before = self.serving(endpoint);
        judge(&before, &binding)?;
        let (tunnel, instance) = (binding.tunnel.id, binding.tunnel.instance);
        let (superseded, others): (Vec<_>, Vec<_>) = before
            .iter()
            .map(Arc::clone)
            .partition(|other| other.tunnel.instance == instance);
        let now = others.into_iter().chain([Arc::new(binding)]).collect();
        self.serving.pin().insert(endpoint, now);
        for older in &superseded {
            drop_claim(&mut claims, older.tunnel.id, endpoint);
        }
        claims.entry(tunnel).or_default().insert(endpoint);
        drop(claims);
        self.returning.note(endpoint);
        // Nothing new goes to it any more: now its agent may hear.
        for older in superseded {
            older.superseded.cancel();
        }
        Ok(())
    }

    /// Ends one tunnel's claim to an endpoint.
    pub(crate) fn unbind(&self, endpoint: EndpointId, tunnel: TunnelId) {
        let mut claims = self.claims();
        drop_claim(&mut claims, tunnel, endpoint);
        self.remove(endpoint, tunnel, &claims);
    }

    /// The least loaded tunnel that serves an endpoint, of those that were not tried yet; of equals
    /// each in turn. Takes no lock.
    pub(crate) fn pick(&self, endpoint: EndpointId, tried: &[TunnelId]) -> Option<Arc<Binding>> {
        let serving = self.serving.pin();
        let serving = serving.get(&endpoint)?;
        if let [only] = &**serving {
            return (!tried.contains(&only.tunnel.id)).then(|| Arc::clone(only));
        }
        let (before, from) = serving.split_at(turn() % serving.len().max(1));
        from.iter()
            .chain(before)
            .filter(|binding| !tried.contains(&binding.tunnel.id))
            .min_by_key(|binding| binding.tunnel.load())
            .map(Arc::clone)
    }

    /// Waits a little for an endpoint whose agent has not come back since the edge started: it was told
    /// to, and visitors need not see that. Returns at once for one that came, and left.
    pub(crate) async fn returned(&self, endpoint: EndpointId) {
        self.returning.wait(endpoint).await;
    }

    /// Adds a tunnel; it leaves, with every claim that it has, when the guard is dropped.
    pub(crate) fn join(self: &Arc<Self>, tunnel: &Arc<Tunnel>) -> Joined {
        self.tunnels.pin().insert(tunnel.id, Arc::clone(tunnel));
        Joined {
            registry: Arc::clone(self),
            tunnel: Arc::clone(tunnel),
        }
    }

    fn leave(&self, tunnel: TunnelId) {
        self.tunnels.pin().remove(&tunnel);
        let mut claims = self.claims();
        for endpoint in claims.remove(&tunnel).unwrap_or_default() {
            self.remove(endpoint, tunnel, &claims);
        }
    }

    /// Closes every tunnel of an authtoken for good.
    pub(crate) fn close_authtoken(&self, authtoken: AuthtokenId, code: Code) {
        self.tunnels
            .pin()
            .values()
            .filter(|tunnel| tunnel.authtoken == authtoken)
            .for_each(|tunnel| tunnel.close.give(code));
    }

    /// The tunnel of an id.
    pub(crate) fn tunnel(&self, id: TunnelId) -> Option<Arc<Tunnel>> {
        self.tunnels.pin().get(&id).map(Arc::clone)
    }

    /// Every tunnel.
    pub(crate) fn all(&self) -> Vec<Arc<Tunnel>> {
        self.tunnels.pin().values().map(Arc::clone).collect()
    }

    /// Endpoints that have a tunnel.
    pub(crate) fn online(&self) -> Vec<EndpointId> {
        self.serving.pin().keys().copied().collect()
    }

    /// What a tunnel serves.
    pub(crate) fn served_by(&self, tunnel: TunnelId) -> Vec<EndpointId> {
        let claims = self.claims();
        claims.get(&tunnel).into_iter().flatten().copied().collect()
    }

    fn serving(&self, endpoint: EndpointId) -> Bindings {
        let serving = self.serving.pin();
        serving.get(&endpoint).map(Arc::clone).unwrap_or_default()
    }

    /// Takes a tunnel out of those that serve an endpoint. The claims are held: nobody else changes it.
    fn remove(&self, endpoint: EndpointId, tunnel: TunnelId, _: &Claims<'_>) {
        let before = self.serving(endpoint);
        let now: Bindings = before
            .iter()
            .filter(|binding| binding.tunnel.id != tunnel)
            .map(Arc::clone)
            .collect();
        if now.is_empty() {
            self.serving.pin().remove(&endpoint);
        } else if now.len() < before.len() {
            self.serving.pin().insert(endpoint, now);
        }
    }

    fn claims(&self) -> Claims<'_> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Returning {
    fn default() -> Self {
        Self {
            until: Instant::now() + RETURN_WITHIN,
            came: HashMap::new(),
            awaited: Mutex::default(),
        }
    }
}

impl Returning {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn note(&self, endpoint: EndpointId) {
        if self.is_over() {
            return;
        }
        self.came.pin().insert(endpoint, ());
        let awaited = self.awaited().remove(&endpoint);
        if let Some(awaited) = awaited {
            awaited.notify_waiters();
        }
    }

    async fn wait(&self, endpoint: EndpointId) {
        if self.is_over() {
            return;
        }
        let awaited = Arc::clone(self.awaited().entry(endpoint).or_default());
        let mut bound = std::pin::pin!(awaited.notified());
        // Registered before looking, so that no bind falls between.
        bound.as_mut().enable();
        if !self.came.pin().contains_key(&endpoint) {
            let _ = tokio::time::timeout_at(self.until, bound).await;
        }
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Arc<Notify>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_claim(claims: &mut Claims<'_>, tunnel: TunnelId, endpoint: EndpointId) {
    if let Some(endpoints) = claims.get_mut(&tunnel) {
        endpoints.remove(&endpoint);
        if endpoints.is_empty() {
            claims.remove(&tunnel);
        }
    }
}

/// Whose turn it is among equals, counted by each thread for itself.
fn turn() -> usize {
    thread_local! {
        static TURN: Cell<usize> = const { Cell::new(0) };
    }
    TURN.replace(TURN.get().wrapping_add(1))
}

impl Tunnel {
    /// Exchanges under way.
    pub(crate) fn load(&self) -> u64 {
        self.open_streams.load(Ordering::Relaxed)
    }

    /// Bytes that its links may hold for readers that do not empty their streams.
    pub(crate) fn held(&self) -> u64 {
        self.lanes.all().iter().map(|lane| lane.link.held()).sum()
    }

    /// A place for one more stream, unless the agent takes no more. Opening one without a place would
    /// wait.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Slot> {
        self.reserved
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |reserved| {
                (reserved < STREAMS_MAX).then_some(reserved + 1)
            })
            .ok()
            .map(|_| Slot(Arc::clone(self)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.reserved.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Serving {
    /// What a bind that passed its check asks for.
    pub(crate) fn of(request: &BindRequest) -> Self {
        Self {
            upstream_protocol: request.upstream_protocol,
            scheme: if request.upstream.starts_with("https://") {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            host_header: request
                .host_header
                .as_deref()
                .and_then(|host| HeaderValue::from_str(host).ok()),
            proxy_protocol: request.proxy_protocol,
        }
    }
}

impl Close {
    /// Orders the close; the first code stays.
    pub(crate) fn give(&self, code: Code) {
        self.order
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(code);
        self.given.cancel();
    }

    pub(crate) fn ordered(&self) -> Option<Code> {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once a close was ordered.
    pub(crate) async fn given(&self) -> Code {
        self.given.cancelled().await;
        self.ordered().unwrap_or(Code::Internal)
    }
}

/// Whether `asking` may serve beside, or instead of, who serves now.
fn judge(serving: &[Arc<Binding>], asking: &Binding) -> Result<(), Code> {
    for other in serving {
        if other.tunnel.instance == asking.tunnel.instance {
            if asking.generation <= other.generation && other.tunnel.id != asking.tunnel.id {
                return Err(Code::GenerationSuperseded);
            }
        } else if !(other.pooling && asking.pooling) {
            return Err(Code::NameTaken);
        }
    }
    Ok(())
}

/// Agents that an edge's drain has sent away try every two seconds.
const RETURN_WITHIN: Duration = Duration::from_secs(5);
/// Some places are left for probes, and for ends that are still on their way.
const STREAMS_MAX: u32 = STREAMS_PER_TUNNEL_MAX - 16;
