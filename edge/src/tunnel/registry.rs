//! Who serves which endpoint, on this edge. Decides take-over and pooling when an agent binds;
//! picking is a read without I/O.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use proto::bind::{BindRequest, ProxyProtocol, UpstreamProtocol};
use proto::code::Code;
use proto::head::ProxyAddrs;
use proto::id::{AuthtokenId, EndpointId, InstanceId, TunnelId};
use proto::limits::STREAMS_PER_TUNNEL_MAX;
use tokio_util::sync::CancellationToken;

use crate::tunnel::link::Link;

/// One authenticated agent connection.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    pub(crate) authtoken: AuthtokenId,
    pub(crate) instance: InstanceId,
    pub(crate) link: Link,
    pub(crate) agent_version: String,
    pub(crate) os: String,
    /// Exchanges under way.
    pub(crate) open_streams: AtomicU64,
    /// Streams that live, idle ones included.
    pub(crate) reserved: AtomicU32,
    /// Asks the tunnel's driver to close for good, with this code.
    pub(crate) close: Close,
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Serving {
    pub(crate) upstream_protocol: UpstreamProtocol,
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
    }
}

/// Endpoints with a ready tunnel.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    bindings: Mutex<HashMap<EndpointId, Vec<Binding>>>,
    tunnels: Mutex<HashMap<TunnelId, Arc<Tunnel>>>,
}

impl Registry {
    /// Whether a bind would be accepted now; [`Registry::bind`] decides again.
    pub(crate) fn check(&self, endpoint: EndpointId, asking: &Binding) -> Result<(), Code> {
        let bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        judge(bindings.get(&endpoint).map_or(&[], Vec::as_slice), asking)
    }

    /// Whether an agent of another instance serves an endpoint.
    pub(crate) fn others_serve(&self, endpoint: EndpointId, instance: InstanceId) -> bool {
        self.bindings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&endpoint)
            .is_some_and(|serving| {
                serving
                    .iter()
                    .any(|binding| binding.tunnel.instance != instance)
            })
    }

    /// Lets a tunnel serve an endpoint. An older generation of the same instance is superseded at
    /// once: nothing ever waits for a dead link.
    ///
    /// # Errors
    /// `generation_superseded` for a generation that is not newer, `name_taken` when another instance
    /// serves it and not both pool, `authtoken_revoked` when the tunnel is being closed.
    pub(crate) fn bind(&self, endpoint: EndpointId, binding: Binding) -> Result<(), Code> {
        let mut bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = binding.tunnel.close.ordered() {
            return Err(code);
        }
        let serving = bindings.entry(endpoint).or_default();
        judge(serving, &binding)?;
        serving.retain(|other| {
            let same = other.tunnel.instance == binding.tunnel.instance;
            if same {
                other.superseded.cancel();
            }
            !same
        });
        serving.push(binding);
        Ok(())
    }

    /// Ends one tunnel's claim to an endpoint.
    pub(crate) fn unbind(&self, endpoint: EndpointId, tunnel: TunnelId) {
        let mut bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(serving) = bindings.get_mut(&endpoint) {
            serving.retain(|binding| binding.tunnel.id != tunnel);
            if serving.is_empty() {
                bindings.remove(&endpoint);
            }
        }
    }

    /// The least loaded tunnel that serves an endpoint, of those that were not tried yet.
    pub(crate) fn pick(&self, endpoint: EndpointId, tried: &[TunnelId]) -> Option<Binding> {
        let bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = bindings.get(&endpoint)?;
        serving
            .iter()
            .filter(|binding| !tried.contains(&binding.tunnel.id))
            .min_by_key(|binding| binding.tunnel.open_streams.load(Ordering::Relaxed))
            .cloned()
    }

    /// Adds a tunnel; it leaves, with every claim that it has, when the guard is dropped.
    pub(crate) fn join(self: &Arc<Self>, tunnel: &Arc<Tunnel>) -> Joined {
        self.tunnels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(tunnel.id, Arc::clone(tunnel));
        Joined {
            registry: Arc::clone(self),
            tunnel: Arc::clone(tunnel),
        }
    }

    fn leave(&self, tunnel: TunnelId) {
        self.tunnels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tunnel);
        let mut bindings = self.bindings.lock().unwrap_or_else(PoisonError::into_inner);
        bindings.retain(|_, serving| {
            serving.retain(|binding| binding.tunnel.id != tunnel);
            !serving.is_empty()
        });
    }

    /// Closes every tunnel of an authtoken for good.
    pub(crate) fn close_authtoken(&self, authtoken: AuthtokenId, code: Code) {
        self.tunnels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter(|tunnel| tunnel.authtoken == authtoken)
            .for_each(|tunnel| tunnel.close.give(code));
    }

    /// How many tunnels there are.
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Endpoints that have a tunnel.
    pub(crate) fn online(&self) -> Vec<EndpointId> {
        self.bindings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .copied()
            .collect()
    }
}

impl Tunnel {
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
fn judge(serving: &[Binding], asking: &Binding) -> Result<(), Code> {
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

/// Some places are left for probes, and for ends that are still on their way.
const STREAMS_MAX: u32 = STREAMS_PER_TUNNEL_MAX - 16;
