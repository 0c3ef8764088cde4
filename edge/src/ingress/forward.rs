//! From a permit and a tunnel to a response: the request is made ready, a stream opened, the exchange
//! begun. Forwarding takes the permit by value: code that forwards without authorising does not compile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version as HttpVersion, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use proto::bind::UpstreamProtocol;
use proto::code::Code;
use proto::head::{ProxyAddrs, StreamHead, StreamKind};

use crate::auth::Permit;
use crate::ingress::Worker;
use crate::ingress::body::ResponseBody;
use crate::ingress::connection::{Connection, Version};
use crate::ingress::exchange::{Answer, Exchange, NoAnswer};
use crate::ingress::headers;
use crate::ingress::pick::Picking;
use crate::ingress::pool::{IDLE_MAX, Key};
use crate::ingress::request::{RequestBody, Target, hold_for_continue};
use crate::ingress::upgrade::{Client, Protocol};
use crate::ingress::upstream::Upstream;
use crate::ingress::websocket::{self, Extended};
use crate::model::session::CutReason;
use crate::tunnel::lanes::{Carried, Lane};
use crate::tunnel::registry::{Binding, Serving, Tunnel};
use crate::tunnel::stream::{AgentStream, NotOpened};

/// A request that was let in, taken apart.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) parts: request::Parts,
    pub(crate) body: Incoming,
    pub(crate) target: Target,
    pub(crate) identity: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body_idle: Duration,
}

/// A connection to the upstream of an endpoint, and its weight on the tunnel that carries it.
#[derive(Debug)]
pub(crate) struct Opened {
    upstream: Upstream,
    load: Load,
    serving: Serving,
}

/// Which upstream connections a request may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reuse {
    /// A fresh one only.
    Never,
    /// One that was idle for no longer than this.
    IdleFor(Duration),
}

impl Reuse {
    pub(crate) fn of(parts: &request::Parts, body: &Incoming) -> Self {
        if parts.headers.contains_key(header::UPGRADE) {
            Self::Never
        } else if parts.method.is_idempotent() && body.is_end_stream() {
            Self::IdleFor(IDLE_MAX)
        } else {
            Self::IdleFor(IDLE_ONCE_MAX)
        }
    }
}

/// Picks a tunnel and finds an idle connection over it, or opens a stream. Nothing of the request has
/// been sent by then, so an agent that does not get through, for whatever reason, is left, and the
/// next one is asked.
///
/// # Errors
/// `edge_busy` when too much is open, `endpoint_offline` when no tunnel is left; the code that says who failed; or why the permit ended.
pub(crate) async fn open(
    permit: &mut Permit,
    worker: &Worker,
    connection: &Connection,
    reuse: Reuse,
) -> Result<Opened, Code> {
    let endpoint = permit.endpoint().id;
    if worker.exchanges.load(Ordering::Relaxed) >= worker.exchanges_max {
        return Err(Code::EdgeBusy);
    }
    let mut picking = Picking::new(&worker.ingress.registry, endpoint);
    loop {
        let (binding, lane) = picking.next(permit).await?;
        let key = Key {
            endpoint,
            tunnel: binding.tunnel.id,
            generation: binding.generation,
            lane: lane.number,
        };
        // An upstream that was told who connected is told once: its connection is that client's.
        let proxy = binding.proxy_addrs(connection.peer, connection.local);
        let load = Load::on(&binding, &lane, worker);
        if let Reuse::IdleFor(age_max) = reuse
            && proxy.is_none()
            && let Some(upstream) = idle(worker, connection, &key, age_max).await
        {
            return Ok(Opened {
                upstream,
                load,
                serving: binding.serving.clone(),
            });
        }
        let fresh = tokio::select! {
            biased;
            reason = permit.cut() => return Err(code_of(reason)),
            // Boxed: it is rare, and every connection has room for what is not.
            fresh = Box::pin(fresh(worker, &binding, &lane, key, proxy)) => fresh,
        };
        let opened = fresh.map(|upstream| Opened {
            upstream,
            load,
            serving: binding.serving.clone(),
        });
        match opened {
            Ok(opened) => return Ok(opened),
            Err(refused) => picking.refused(&binding, &lane, &refused),
        }
    }
}

/// An idle connection that is still alive.
async fn idle(
    worker: &Worker,
    connection: &Connection,
    key: &Key,
    age_max: Duration,
) -> Option<Upstream> {
    loop {
        let own = connection.own.take(key);
        let mut idle = own.or_else(|| worker.pool.take(key, age_max))?;
        if idle.is_ready_now().await {
            return Some(idle);
        }
    }
}

async fn fresh(
    worker: &Worker,
    binding: &Binding,
    lane: &Lane,
    key: Key,
    proxy: Option<ProxyAddrs>,
) -> Result<Upstream, NotOpened> {
    let tunnel = &binding.tunnel;
    let slot = tunnel.reserve().or_else(|| {
        worker.pool.evict(tunnel.id);
        tunnel.reserve()
    });
    let Some(slot) = slot else {
        return Err(NotOpened::new(Code::TunnelBusy, ""));
    };
    let head = StreamHead {
        proxy,
        ..StreamHead::new(StreamKind::Http, key.endpoint, key.generation)
    };
    let stream = AgentStream::open(&lane.link, &head).await?;
    tunnel.lanes.opened(lane);
    let serving = &binding.serving;
    let upstream = match serving.upstream_protocol {
        UpstreamProtocol::Http2 => Upstream::http2(stream, key, slot, serving.scheme.clone()).await,
        UpstreamProtocol::Http1 | UpstreamProtocol::Unknown => {
            Upstream::http1(stream, key, slot, true).await
        }
    };
    let mut upstream = upstream.map_err(|code| NotOpened::new(code, "the stream ended at once"))?;
    // A PROXY header speaks of one client.
    upstream.is_reusable &= proxy.is_none();
    Ok(upstream)
}

/// Forwards a request through a tunnel and gives the upstream's response as it begins.
///
/// # Errors
/// The code that says who failed; nothing of the upstream has reached the client then.
pub(crate) async fn forward(
    permit: Permit,
    opened: Opened,
    worker: &Worker,
    connection: &Connection,
    passed: Passed,
) -> Result<Response<ResponseBody>, Code> {
    let (mut request, upgrade) = towards_upstream(connection, passed)?;
    let is_extended = upgrade
        .as_ref()
        .is_some_and(|client| client.extended.is_some());
    address(&mut request, &opened.serving);
    let exchange = Exchange {
        permit,
        connection: connection.clone(),
        open: connection.begin_request(),
        load: opened.load,
        upgrade,
        pool: Arc::clone(&worker.pool),
    };
    let answer = match exchange.run(opened.upstream, request).await {
        Err(NoAnswer::Again(again)) => Box::pin(once_more(*again, worker, connection)).await,
        answer => answer,
    };
    match answer {
        Ok(answer) if is_extended && answer.status == StatusCode::SWITCHING_PROTOCOLS => {
            Ok(websocket::opened(response_of(answer)))
        }
        Ok(answer) => Ok(response_of(answer)),
        Err(NoAnswer::Failed(code)) => Err(code),
        Err(NoAnswer::Cut(reason)) => Err(code_of(reason)),
        Err(NoAnswer::Again(_)) => Err(Code::UpstreamClosed),
    }
}

/// Sends a request again whose idle connection was found dead, on a fresh one.
async fn once_more(
    (mut exchange, mut request): (Exchange, Request<RequestBody>),
    worker: &Worker,
    connection: &Connection,
) -> Result<Answer, NoAnswer> {
    tracing::debug!("an idle connection was dead: once more on a fresh one");
    let opened = open(&mut exchange.permit, worker, connection, Reuse::Never)
        .await
        .map_err(NoAnswer::Failed)?;
    exchange.load = opened.load;
    address(&mut request, &opened.serving);
    exchange.run(opened.upstream, request).await
}

/// Makes a client's request the upstream's.
fn towards_upstream(
    connection: &Connection,
    passed: Passed,
) -> Result<(Request<RequestBody>, Option<Client>), Code> {
    let Passed {
        mut parts,
        body,
        target,
        identity,
        body_idle,
    } = passed;
    let upgrade = upgrade_of(connection, &mut parts)?;
    let client = connection.peer.ip();
    let asked = parts.headers.get(header::UPGRADE).cloned();
    headers::clean_request(&mut parts.headers);
    headers::add_forwarding(&mut parts.headers, client, &target, identity);
    if let Some(extended) = upgrade.as_ref().and_then(|client| client.extended.as_ref()) {
        extended.add_key(&mut parts.headers);
    }
    if upgrade.is_some()
        && let Some(protocol) = asked
    {
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    let mut request = Request::new(RequestBody::new(body, body_idle));
    *request.method_mut() = parts.method;
    *request.uri_mut() = target.path_and_query.into();
    *request.version_mut() = HttpVersion::HTTP_11;
    *request.headers_mut() = parts.headers;
    hold_for_continue(&mut request);
    Ok((request, upgrade))
}

/// Names the host that this binding's upstream wants to be called by: the visitor's, or one of its own.
fn address(request: &mut Request<RequestBody>, serving: &Serving) {
    let headers = request.headers_mut();
    let host = serving
        .host_header
        .as_ref()
        .or_else(|| headers.get("x-forwarded-host"));
    if let Some(host) = host.cloned() {
        headers.insert(header::HOST, host);
    }
}

fn response_of(answer: Answer) -> Response<ResponseBody> {
    let Answer {
        status,
        reason,
        mut headers,
        body,
    } = answer;
    // A status without a standard phrase would be given one by hyper.
    let unknown = || {
        status
            .canonical_reason()
            .is_none()
            .then(|| ReasonPhrase::from_static(b""))
    };
    let switching = (status == StatusCode::SWITCHING_PROTOCOLS).then(|| upgrade_headers(&headers));
    headers::clean_response(&mut headers);
    headers.extend(switching.unwrap_or_default());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(reason) = reason.or_else(unknown) {
        response.extensions_mut().insert(reason);
    }
    response
}

fn upgrade_headers(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    kept.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = headers.get(header::UPGRADE) {
        kept.insert(header::UPGRADE, protocol.clone());
    }
    kept
}

/// The upgrade that a request asks for. One to HTTP/2 in the clear is no business of an upstream
/// behind us: it would take the connection out of our hands.
fn upgrade_of(connection: &Connection, parts: &mut request::Parts) -> Result<Option<Client>, Code> {
    let extended = parts.extensions.remove::<Extended>();
    if connection.version != Version::Http1 && extended.is_none() {
        return Ok(None);
    }
    let names_upgrade = parts
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
        });
    let Some(protocol) = parts.headers.get(header::UPGRADE).filter(|_| names_upgrade) else {
        return Ok(None);
    };
    let Ok(protocol) = protocol.to_str() else {
        return Err(Code::UpgradeRefused);
    };
    if protocol
        .split(',')
        .any(|name| name.trim().to_ascii_lowercase().starts_with("h2c"))
    {
        return Ok(None);
    }
    let protocol = if protocol.trim().eq_ignore_ascii_case("websocket") {
        if parts.method != Method::GET {
            return Err(Code::UpgradeRefused);
        }
        Protocol::WebSocket
    } else {
        Protocol::Other
    };
    Ok(parts
        .extensions
        .remove::<OnUpgrade>()
        .map(|upgraded| Client {
            protocol,
            upgraded,
            extended,
        }))
}

/// Why a request that was let in is refused before anything reached the client.
pub(crate) const fn code_of(reason: CutReason) -> Code {
    match reason {
        CutReason::Revoked | CutReason::LoggedOut | CutReason::Absent => Code::SessionRevoked,
        CutReason::Expired | CutReason::Idle => Code::SessionExpired,
        CutReason::PolicyChanged => Code::NotAllowed,
        CutReason::EndpointRemoved | CutReason::AuthtokenRevoked => Code::EndpointOffline,
        CutReason::LeaseLost => Code::StoreUnavailable,
        CutReason::Shutdown => Code::EdgeDraining,
    }
}

/// Counts an exchange on its tunnel and on its worker until dropped.
#[derive(Debug)]
pub(crate) struct Load {
    tunnel: Arc<Tunnel>,
    _on_lane: Carried,
    on_worker: Arc<AtomicUsize>,
}

impl Load {
    fn on(binding: &Binding, lane: &Arc<Lane>, worker: &Worker) -> Self {
        binding.tunnel.open_streams.fetch_add(1, Ordering::Relaxed);
        worker.exchanges.fetch_add(1, Ordering::Relaxed);
        Self {
            tunnel: Arc::clone(&binding.tunnel),
            _on_lane: Carried::on(lane),
            on_worker: Arc::clone(&worker.exchanges),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tunnel.open_streams.fetch_sub(1, Ordering::Relaxed);
        self.on_worker.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that cannot be sent again must not meet a connection that its app is just closing: they do
/// so after two seconds at the earliest.
const IDLE_ONCE_MAX: Duration = Duration::from_millis(1500);
