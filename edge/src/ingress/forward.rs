//! From a permit and a tunnel to a response: the request is made ready, a stream opened, the exchange
//! begun. Forwarding takes the permit by value: code that forwards without authorising does not compile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version as HttpVersion, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use proto::code::Code;
use proto::head::{StreamHead, StreamKind};

use crate::auth::Permit;
use crate::ingress::body::ResponseBody;
use crate::ingress::connection::{Connection, Version};
use crate::ingress::exchange::{Answer, Exchange, NoAnswer};
use crate::ingress::headers;
use crate::ingress::request::{RequestBody, Target};
use crate::ingress::upgrade::Protocol;
use crate::model::session::CutReason;
use crate::tunnel::registry::{Binding, Registry, Serving};
use crate::tunnel::stream::AgentStream;

/// A request that was let in, taken apart.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) parts: request::Parts,
    pub(crate) body: Incoming,
    pub(crate) target: Target,
    pub(crate) identity: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body_idle: Duration,
}

/// A stream to the upstream of an endpoint, and its weight on the tunnel that carries it.
#[derive(Debug)]
pub(crate) struct Opened {
    stream: AgentStream,
    load: Load,
    serving: Serving,
}

/// Picks a tunnel and opens a stream. Nothing of the request has been sent by then, so a tunnel whose
/// link turns out to be dead is left, and the next one is asked.
///
/// # Errors
/// `endpoint_offline` when no tunnel is left; the code that says who failed; or why the permit ended.
pub(crate) async fn open(
    permit: &mut Permit,
    registry: &Registry,
    connection: &Connection,
) -> Result<Opened, Code> {
    let endpoint = permit.endpoint().id;
    loop {
        let binding = registry.pick(endpoint).ok_or(Code::EndpointOffline)?;
        let head = StreamHead {
            proxy: binding.proxy_addrs(connection.peer, connection.local),
            ..StreamHead::new(StreamKind::Http, endpoint, binding.generation)
        };
        let load = Load::on(&binding);
        let stream = tokio::select! {
            biased;
            reason = permit.cut() => return Err(code_of(reason)),
            stream = AgentStream::open(&binding.tunnel.link, &head) => stream,
        };
        match stream {
            Ok(stream) => {
                let serving = binding.serving;
                return Ok(Opened {
                    stream,
                    load,
                    serving,
                });
            }
            Err(refused) => {
                tracing::debug!(code = %refused.code, message = refused.message, "stream not opened");
                if !refused.is_link_lost {
                    return Err(refused.code);
                }
                registry.unbind(endpoint, binding.tunnel.id);
            }
        }
    }
}

/// Forwards a request through a tunnel and gives the upstream's response as it begins.
///
/// # Errors
/// The code that says who failed; nothing of the upstream has reached the client then.
pub(crate) async fn forward(
    permit: Permit,
    opened: Opened,
    connection: &Connection,
    passed: Passed,
) -> Result<Response<ResponseBody>, Code> {
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
    if let Some(host) = opened.serving.host_header {
        parts.headers.insert(header::HOST, host);
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

    let open = connection.begin_request();
    let exchange = Exchange {
        permit,
        connection: connection.clone(),
        open,
        load: opened.load,
        upgrade,
    };
    match exchange.begin(opened.stream, request).await {
        Ok(answer) => Ok(response_of(answer)),
        Err(NoAnswer::Failed(code)) => Err(code),
        Err(NoAnswer::Cut(reason)) => Err(code_of(reason)),
    }
}

fn response_of(answer: Answer) -> Response<ResponseBody> {
    let Answer {
        status,
        mut headers,
        body,
    } = answer;
    let switching = (status == StatusCode::SWITCHING_PROTOCOLS).then(|| upgrade_headers(&headers));
    headers::clean_response(&mut headers);
    headers.extend(switching.unwrap_or_default());
    let body = body.map_or_else(|| bytes::Bytes::new().into(), ResponseBody::Exchange);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
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
fn upgrade_of(
    connection: &Connection,
    parts: &mut request::Parts,
) -> Result<Option<(Protocol, OnUpgrade)>, Code> {
    if connection.version != Version::Http1 {
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
        .map(|upgrade| (protocol, upgrade)))
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

/// Counts an exchange on its tunnel until dropped.
#[derive(Debug)]
pub(crate) struct Load(std::sync::Arc<crate::tunnel::registry::Tunnel>);

impl Load {
    pub(crate) fn on(binding: &Binding) -> Self {
        binding.tunnel.open_streams.fetch_add(1, Ordering::Relaxed);
        Self(std::sync::Arc::clone(&binding.tunnel))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}
