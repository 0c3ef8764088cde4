//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT is made the upgrade that it stands for, before
//! anything judges it, so that there is one kind of WebSocket behind this file; and the 101 that answers
//! it becomes a 200.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use proto::code::Code;

use crate::ingress::streams::Stream;
use crate::secret;

/// Marks a request that came as an extended CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Extended {
    pub(crate) stream: Stream,
    /// What the upstream is sent as `Sec-WebSocket-Key`.
    key: HeaderValue,
}

/// Marks the answer that opens the WebSocket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened;

impl Extended {
    /// A key of our own: over HTTP/2 there is none.
    fn new(stream: Stream) -> Self {
        let key = STANDARD.encode(secret::random::<16>());
        Self {
            stream,
            // Base64 is ASCII.
            key: HeaderValue::from_str(&key).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// What HTTP/1.1 wants beside the client's own headers.
    pub(crate) fn add_key(&self, headers: &mut HeaderMap) {
        headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
    }

    /// Whether the upstream proved that it read the key: what answers may be no WebSocket server.
    pub(crate) fn is_accepted(&self, headers: &HeaderMap) -> bool {
        headers
            .get(header::SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|accept| accept.as_bytes() == accept_of(self.key.as_bytes()).as_bytes())
    }
}

/// What answers a key (RFC 6455 §4.2.2).
pub(crate) fn accept_of(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

/// Makes an extended CONNECT for a WebSocket a GET that asks for an upgrade, and says whether it was one.
/// Any other request stays as it is.
///
/// # Errors
/// `upgrade_refused` for a protocol that is not served.
pub(crate) fn translate<B>(request: &mut Request<B>) -> Result<bool, Code> {
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else {
        return Ok(false);
    };
    let stream = Stream::current().ok_or(Code::UpgradeRefused)?;
    if request.method() != Method::CONNECT || !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return Err(Code::UpgradeRefused);
    }
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    // They have no meaning here, and would be answered to (RFC 8441 §5).
    headers.remove(header::SEC_WEBSOCKET_KEY);
    headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    request.extensions_mut().insert(Extended::new(stream));
    Ok(true)
}

/// Makes the upstream's 101 the answer to an extended CONNECT.
pub(crate) fn opened<B>(mut response: Response<B>) -> Response<B> {
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_ACCEPT,
        header::CONTENT_LENGTH,
    ] {
        headers.remove(name);
    }
    response.extensions_mut().insert(Opened);
    response
}

/// Whether an answer would look like an open WebSocket though it is none: to a CONNECT, each 2xx does.
pub(crate) fn misleads<B>(response: &Response<B>) -> bool {
    response.status().is_success() && response.extensions().get::<Opened>().is_none()
}

const WEBSOCKET: &str = "websocket";
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §1.3's own example.
    #[test]
    fn accepts() {
        assert_eq!(
            accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    /// Only an answer to our own key opens a WebSocket.
    #[test]
    fn other_accepts_are_refused() {
        let extended = Extended::new(Stream::default());
        let mut headers = HeaderMap::new();
        assert!(!extended.is_accepted(&headers));
        headers.insert(
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        );
        assert!(!extended.is_accepted(&headers));
        let accept = accept_of(extended.key.as_bytes());
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().unwrap());
        assert!(extended.is_accepted(&headers));
    }

    /// To a CONNECT every 2xx is an open tunnel, so only ours may be one.
    #[test]
    fn what_misleads() {
        let response = |status| Response::builder().status(status).body(()).unwrap();
        assert!(misleads(&response(200)));
        assert!(misleads(&response(204)));
        assert!(!misleads(&response(403)));
        assert!(!misleads(&opened(response(101))));
    }
}
