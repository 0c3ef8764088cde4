//! What a gRPC call is told when it is ended here: a status, in trailers, since a client makes little
//! sense of a bare reset. Calls themselves are HTTP/2 like any other.

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::model::session::CutReason;

/// The numbers of gRPC's statuses that are said here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Status {
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a response is gRPC's own. In gRPC-Web trailers are a part of the body.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The trailers of a call whose right ended.
pub(crate) fn cut(reason: CutReason) -> HeaderMap {
    trailers(Status::Unauthenticated, reason.as_str())
}

/// The trailers of a call whose app broke off.
pub(crate) fn broken() -> HeaderMap {
    trailers(Status::Unavailable, "the app broke off")
}

/// The message is printable ASCII without a percent sign, so it needs no encoding.
fn trailers(status: Status, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from(status as u16),
    );
    trailers.insert(
        HeaderName::from_static("grpc-message"),
        HeaderValue::from_static(message),
    );
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gRPC and its encodings; neither gRPC-Web nor what only begins like it.
    #[test]
    fn is_told_by_its_type() {
        let is = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            is_grpc(&headers)
        };
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert!(is(kind), "{kind}");
        }
        for kind in [
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/json",
        ] {
            assert!(!is(kind), "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
