//! A public request, normalised once: host, target and body, the same for every decision and for the
//! upstream. What is ambiguous is refused, not guessed.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use proto::code::Code;
use tokio::time::{Instant, Sleep, Timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::ingress::connection::{Connection, Version};
use crate::ingress::headers;

/// Where a request wants to go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// Lower case, no port, no trailing dot.
    pub(crate) host: String,
    /// What the client named, with its port if it gave one: for `Host` and `X-Forwarded-Host`.
    pub(crate) authority: String,
    /// Origin form, byte for byte as it is forwarded.
    pub(crate) path_and_query: PathAndQuery,
}

impl Target {
    /// Normalises a request's target.
    ///
    /// # Errors
    /// 400 for what is ambiguous, coded in a way that is not passed on, or no target of a web request; 405
    /// for CONNECT and TRACE; 421 when the name in the TLS hello is another one.
    pub(crate) fn of(
        connection: &Connection,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Code> {
        // A proxy's method; and one whose answer shows a page what scripts must not see: cookies that we
        // take out, identity that we put in (RFC 9110 §9.3.8).
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(Code::MethodNotAllowed);
        }
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        // Taken off on the way, so any other than plain chunks, once, would reach the upstream unnamed.
        let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if codings.next().is_some_and(|coding| !is_chunked(coding)) || codings.next().is_some() {
            return Err(Code::BadRequest);
        }
        let authority = authority(connection.version, uri, headers)?;
        let host = canonical_host(&authority).ok_or(Code::HostMissing)?;
        if connection
            .server_name
            .as_deref()
            .is_some_and(|name| name != host)
        {
            return Err(Code::MisdirectedRequest);
        }
        let path_and_query = uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        // The server as a whole, which only OPTIONS can mean (RFC 9112 §3.2.4).
        let is_whole_server = method == Method::OPTIONS && path_and_query == "*";
        let is_path =
            path_and_query.path().starts_with('/') && !is_ambiguous(path_and_query.path());
        if !is_path && !is_whole_server {
            return Err(Code::BadRequestTarget);
        }
        Ok(Self {
            host,
            authority,
            path_and_query,
        })
    }
}

/// One authority, from wherever this version carries it; two that differ are refused.
fn authority(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<String, Code> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match hosts.next() {
        Some(host) => Some(host.to_str().map_err(|_| Code::HostMissing)?),
        None => None,
    };
    if hosts.next().is_some() {
        return Err(Code::HostMismatch);
    }
    let named = uri.authority().map(http::uri::Authority::as_str);
    if named.is_some_and(|named| named.contains('@')) {
        return Err(Code::BadRequestTarget);
    }
    match (named, host) {
        (Some(named), Some(host)) if !same_authority(named, host) => Err(Code::HostMismatch),
        (Some(named), _) => Ok(named.to_owned()),
        (None, Some(host)) if version == Version::Http1 => Ok(host.to_owned()),
        (None, Some(_) | None) => Err(Code::HostMissing),
    }
}

fn same_authority(a: &str, b: &str) -> bool {
    let parts = |text: &str| (canonical_host(text), port(text).unwrap_or(443));
    parts(a) == parts(b)
}

fn port(authority: &str) -> Option<u16> {
    authority
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
}

/// Lower case, without port and without one trailing dot. `None` when it is no host name: routes are
/// names, so address literals have no place here either.
pub(crate) fn canonical_host(authority: &str) -> Option<String> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        Some(_) => return None,
        None => authority,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = !name.is_empty()
        && name.len() <= HOST_MAX
        && name.split('.').all(|label| !label.is_empty())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    is_name.then(|| name.to_ascii_lowercase())
}

/// Whether two readers could take a path for two different ones: dot segments in any spelling, and
/// back slashes. Browsers resolve both before they send.
fn is_ambiguous(path: &str) -> bool {
    path.contains('\\') || path.split('/').any(is_dot_segment)
}

/// `.` and `..`, with `%2e` for a dot, with path parameters after `;` cut off.
fn is_dot_segment(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    if name.len() > 6 {
        return false;
    }
    let name = name.to_ascii_lowercase().replace("%2e", ".");
    name == "." || name == ".."
}

/// The client's request body on its way to the upstream. Pulled, never buffered; a client that sends
/// nothing for too long ends the request.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<Arriving>);

#[derive(Debug)]
struct Arriving {
    incoming: Incoming,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    /// Present while the client waits for `100 Continue`, and the upstream has not said it.
    held: Option<Pin<Box<Hold>>>,
    fault: Fault,
}

/// What a client did to its body, for those whom hyper does not tell: over HTTP/2 an upstream's error is
/// the reset that follows.
pub(crate) type Fault = Arc<OnceLock<ClientFault>>;

/// Resolves at the upstream's word, or after a while without it.
type Hold = Timeout<WaitForCancellationFutureOwned>;

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, idle_max: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Some(Arriving {
            incoming,
            idle: Box::pin(tokio::time::sleep(idle_max)),
            idle_max,
            held: None,
            fault: Fault::default(),
        }))
    }

    /// Where a fault is noted; `None` where there is no body to break off.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.as_ref().map(|arriving| Arc::clone(&arriving.fault))
    }

    /// Sends the body whether or not the upstream says that it may come.
    pub(crate) fn go_on(&mut self) {
        if let Some(arriving) = &mut self.0 {
            arriving.held = None;
        }
    }

    pub(crate) const fn empty() -> Self {
        Self(None)
    }
}

/// Lets the upstream decide whether a client that sent `Expect: 100-continue` sends its body: hyper says
/// `100 Continue` to the client when the body is first asked for, so it is not asked for before the
/// upstream has said so. An upstream that knows nothing of it is waited for no longer than clients wait.
pub(crate) fn hold_for_continue(request: &mut Request<RequestBody>) {
    let expectation = request.headers().get(header::EXPECT);
    let expects =
        expectation.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let Some(arriving) = request.body_mut().0.as_mut().filter(|_| expects) else {
        return;
    };
    let word = CancellationToken::new();
    let hold = tokio::time::timeout(CONTINUE_WITHIN, word.clone().cancelled_owned());
    arriving.held = Some(Box::pin(hold));
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            word.cancel();
        }
    });
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let Some(arriving) = &mut self.0 else {
            return Poll::Ready(None);
        };
        if let Some(held) = &mut arriving.held {
            // Said, or not said in time: either way the body goes on now.
            let _ = std::task::ready!(held.as_mut().poll(cx));
            arriving.held = None;
            let deadline = Instant::now() + arriving.idle_max;
            arriving.idle.as_mut().reset(deadline);
        }
        let polled = match Pin::new(&mut arriving.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let deadline = Instant::now() + arriving.idle_max;
                arriving.idle.as_mut().reset(deadline);
                Poll::Ready(frame.map(|frame| frame.map(cleaned).map_err(|_| ClientFault::Broken)))
            }
            Poll::Pending => match arriving.idle.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(ClientFault::Idle))),
                Poll::Pending => Poll::Pending,
            },
        };
        if let Poll::Ready(Some(Err(fault))) = &polled {
            // The first stays.
            let _ = arriving.fault.set(*fault);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|arriving| arriving.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(
            || SizeHint::with_exact(0),
            |arriving| arriving.incoming.size_hint(),
        )
    }
}

/// Identity in trailers is as forged as in the head.
fn cleaned(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::remove_ours(trailers);
    }
    frame
}

/// What a client did to its own request body.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ClientFault {
    #[error("the client broke off its request")]
    Broken,
    #[error("the client sent nothing for too long")]
    Idle,
}

/// The client's fault behind an error of the upstream's connection, if it is one.
pub(crate) fn client_fault(error: &hyper::Error) -> Option<ClientFault> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(fault) = cause.downcast_ref::<ClientFault>() {
            return Some(*fault);
        }
        source = cause.source();
    }
    None
}

/// What curl waits for before it sends its body unasked.
const CONTINUE_WITHIN: Duration = Duration::from_secs(1);
/// RFC 1035 §2.3.4.
const HOST_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[expect(clippy::unwrap_in_result, reason = "the test's own input is valid")]
    fn target(
        version: Version,
        sni: Option<&str>,
        uri: &str,
        hosts: &[&str],
    ) -> Result<Target, Code> {
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), sni.map(Arc::from), version);
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        Target::of(&connection, &Method::GET, &uri.parse().unwrap(), &headers)
    }

    /// Every spelling of a host is one host; what names two hosts, or none, is refused.
    #[test]
    fn one_host_or_none() {
        let ok = |version, uri, hosts: &[&str]| {
            target(version, None, uri, hosts).map(|target| target.host)
        };
        let app = Ok("app.example.com".to_owned());
        assert_eq!(ok(Version::Http1, "/", &["APP.Example.COM.:443"]), app);
        assert_eq!(
            ok(
                Version::Http1,
                "http://app.example.com/",
                &["app.example.com"]
            ),
            app
        );
        assert_eq!(
            ok(Version::Http1, "http://b.example/", &["app.example.com"]),
            Err(Code::HostMismatch)
        );
        assert_eq!(
            ok(Version::Http1, "/", &["app.example.com", "app.example.com"]),
            Err(Code::HostMismatch)
        );
        assert_eq!(ok(Version::Http1, "/", &[]), Err(Code::HostMissing));
        for wrong in [
            "",
            "a b",
            "[::1]:443",
            "app.example.com:x",
            "a/b",
            "..",
            "user@app.example.com",
        ] {
            assert!(ok(Version::Http1, "/", &[wrong]).is_err(), "{wrong}");
        }
        assert_eq!(ok(Version::Http2, "https://app.example.com/", &[]), app);
        assert_eq!(
            ok(
                Version::Http2,
                "https://app.example.com:8443/",
                &["app.example.com"]
            ),
            Err(Code::HostMismatch)
        );
    }

    /// A request for another name than the TLS hello's is sent back to make a connection of its own.
    #[test]
    fn misdirected() {
        let sni = Some("a.example.com");
        assert_eq!(
            target(Version::Http2, sni, "https://b.example.com/", &[]),
            Err(Code::MisdirectedRequest)
        );
        assert!(target(Version::Http2, sni, "https://a.example.com/", &[]).is_ok());
    }

    /// One path for policy and upstream: what could be read as two is refused, the rest is untouched.
    #[test]
    fn one_path() {
        for wrong in [
            "/public/../admin",
            "/%2e%2e/admin",
            "/a/.%2E",
            "/..;/x",
            "/a/.",
            "/./x",
            "/a\\b",
        ] {
            let parsed: Result<Uri, _> = wrong.parse();
            let Ok(uri) = parsed else { continue };
            assert!(is_ambiguous(uri.path()), "{wrong}");
        }
        let server = |method| {
            let connection = Connection::new(([127, 0, 0, 1], 1).into(), None, Version::Http1);
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "app.example.com".parse().unwrap());
            Target::of(&connection, &method, &"*".parse().unwrap(), &headers)
        };
        assert_eq!(server(Method::OPTIONS).unwrap().path_and_query, "*");
        assert_eq!(server(Method::GET), Err(Code::BadRequestTarget));
        assert_eq!(server(Method::TRACE), Err(Code::MethodNotAllowed));
        for fine in [
            "/",
            "/a%2fb?x=../y",
            "/...",
            "/.well-known/x",
            "/a..b",
            "/%2e%2e%2e",
        ] {
            let got = target(Version::Http1, None, fine, &["app.example.com"]).unwrap();
            assert_eq!(got.path_and_query.as_str(), fine);
        }
    }
}
