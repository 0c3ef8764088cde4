//! What the upstream sees beside the client's own headers: forwarding and identity headers, ours
//! only. Whatever a client sends under those names is removed first, in every spelling, on every path.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::ingress::request::Target;

/// Makes a client's headers ready for the upstream: forged and hop-by-hop ones out, cookies joined
/// and without ours. An upgrade's own two headers are put back by the caller.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    // `Connection` is read before anything of ours is added, so it cannot name ours away.
    remove_hop_by_hop(headers);
    remove_ours(headers);
    let cookies = join_cookies(headers);
    headers.remove(header::COOKIE);
    if let Some(value) = cookies.and_then(|cookies| HeaderValue::from_bytes(&cookies).ok()) {
        headers.insert(header::COOKIE, value);
    }
}

/// Takes out whatever only the edge sets. Trailers too: some upstreams read them as headers.
pub(crate) fn remove_ours(headers: &mut HeaderMap) {
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_ours(name.as_str()))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
}

/// Sets ours, once.
pub(crate) fn add_forwarding(
    headers: &mut HeaderMap,
    client: IpAddr,
    target: &Target,
    identity: Vec<(HeaderName, HeaderValue)>,
) {
    for (name, value) in identity {
        headers.insert(name, value);
    }
    headers.insert(
        HeaderName::from_static("x-forwarded-proto"),
        HeaderValue::from_static("https"),
    );
    for (name, text) in [
        ("x-forwarded-for", client.to_canonical().to_string()),
        ("x-forwarded-host", target.authority.clone()),
    ] {
        // Both are of an alphabet that a header takes.
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.remove(header::HOST);
    if let Ok(value) = HeaderValue::from_str(&target.authority) {
        headers.insert(header::HOST, value);
    }
}

/// Makes an upstream's headers ready for the client: hop-by-hop ones out, and nothing that only the edge
/// says, such as a cookie of our name.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in SAID_BY_THE_EDGE {
        headers.remove(*name);
    }
    if headers
        .get_all(header::SET_COOKIE)
        .iter()
        .any(sets_our_cookie)
    {
        let kept: Vec<HeaderValue> = headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter(|value| !sets_our_cookie(value))
            .cloned()
            .collect();
        headers.remove(header::SET_COOKIE);
        for value in kept {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// Whether credentials, or a challenge, are of a scheme that authenticates a connection and not one
/// request (RFC 4559 §6).
pub(crate) fn is_of_connection(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
    scheme.is_some_and(|scheme| {
        scheme.eq_ignore_ascii_case(b"negotiate") || scheme.eq_ignore_ascii_case(b"ntlm")
    })
}

/// Joins all `Cookie` values with `; ` (HTTP/2 sends crumbs), leaves ours out, and keeps the rest
/// byte for byte. `None` when nothing is left.
fn join_cookies(headers: &HeaderMap) -> Option<Vec<u8>> {
    let joined = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    let kept: Vec<&[u8]> = joined
        .split(|byte| *byte == b';')
        .filter(|pair| !is_our_cookie(pair))
        .collect();
    let rest = kept.join(&b';');
    let start = rest.iter().position(|byte| *byte != b' ')?;
    rest.get(start..).map(<[u8]>::to_vec)
}

fn is_our_cookie(pair: &[u8]) -> bool {
    pair.trim_ascii_start()
        .to_ascii_lowercase()
        .starts_with(OUR_COOKIES)
}

fn sets_our_cookie(value: &HeaderValue) -> bool {
    is_our_cookie(value.as_bytes())
}

/// Whether a header is one that only the edge sets. Names are folded first: some upstreams read `_`
/// as `-`.
fn is_ours(name: &str) -> bool {
    let is_folded = name.contains('_');
    let name = name.to_ascii_lowercase().replace('_', "-");
    if is_folded && FRAMING.contains(&name.as_str()) {
        return true;
    }
    OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || OUR_NAMES.contains(&name.as_str())
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // `TE: trailers` says that the client takes trailers; every other value is between neighbours. Asked
    // first: a client that sends it names it in `Connection` too (RFC 9110 §10.1.4).
    let takes_trailers = headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
        });
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| {
            !matches!(
                name.as_str(),
                "host" | "content-length" | "cookie" | "authorization"
            )
        })
        .collect();
    for name in named {
        headers.remove(name);
    }
    // Of two framings the length is not the one that was read (RFC 9112 §6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// RFC 9110 §7.6.1, with the older names that are still sent.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
const OUR_PREFIXES: &[&str] = &["sallyport-", "ngrok-auth-", "x-forwarded-"];
const OUR_NAMES: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "proxy",
];
/// What tells one message from the next: spelled with `_` it is no such header to us, and one to some.
const FRAMING: &[&str] = &["content-length", "transfer-encoding"];
const SAID_BY_THE_EDGE: &[&str] = &["sallyport-error", "sallyport-request-id"];
const OUR_COOKIES: &[u8] = b"__host-sallyport";

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        clean_request(&mut headers);
        headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect()
    }

    fn expect(pairs: &[(&str, &str)], left: &[(&str, &str)]) {
        let left: Vec<_> = left
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(cleaned(pairs), left);
    }

    /// Identity and forwarding headers of a client never pass, in whatever spelling.
    #[test]
    fn forged_headers_are_removed() {
        expect(
            &[
                ("Sallyport_User_Email", "a@x"),
                ("Transfer_Encoding", "chunked"),
                ("content_length", "5"),
                ("sallyport-user-email", ""),
                ("SALLYPORT-USER-EMAIL", "a@x"),
                ("Ngrok-Auth_User-Email", "a@x"),
                ("Sallyport-Assertion", "e30.e30."),
                ("X_Forwarded_For", "127.0.0.1"),
                ("X-Forwarded-Uri", "/healthz"),
                ("X-Original-Url", "/healthz"),
                ("Forwarded", "for=10.0.0.1"),
                ("X-HTTP-Method-Override", "DELETE"),
                ("accept", "*/*"),
            ],
            &[("accept", "*/*")],
        );
    }

    /// `Connection` takes hop-by-hop headers away, and can neither name identity nor credentials.
    #[test]
    fn hop_by_hop() {
        expect(
            &[
                (
                    "connection",
                    "close, X-Secret, Sallyport-User-Email, Cookie",
                ),
                ("x-secret", "1"),
                ("te", "gzip, trailers"),
                ("cookie", "a=1"),
            ],
            &[("te", "trailers"), ("cookie", "a=1")],
        );
        expect(
            &[("connection", "TE"), ("te", "trailers")],
            &[("te", "trailers")],
        );
        expect(&[("connection", "TE"), ("te", "gzip")], &[]);
    }

    /// Our cookies never reach the upstream; the others do, byte for byte.
    #[test]
    fn cookies() {
        expect(
            &[("cookie", "__Host-sallyport=s; theme=dark;  x=\"a b\"")],
            &[("cookie", "theme=dark;  x=\"a b\"")],
        );
        expect(
            &[("cookie", "a=1; __Host-sallyport-login-x=2")],
            &[("cookie", "a=1")],
        );
        expect(
            &[
                ("cookie", "a=1"),
                ("cookie", "__host-SALLYPORT=s"),
                ("cookie", "b=2"),
            ],
            &[("cookie", "a=1; b=2")],
        );
        expect(&[("cookie", "__Host-sallyport=s")], &[]);
    }

    /// An upstream cannot plant a cookie of our name.
    #[test]
    fn upstream_cookies() {
        let mut headers = HeaderMap::new();
        for value in ["__Host-sallyport=evil; Path=/", "app=1"] {
            headers.append(header::SET_COOKIE, value.parse().unwrap());
        }
        clean_response(&mut headers);
        assert_eq!(
            headers
                .get_all(header::SET_COOKIE)
                .iter()
                .collect::<Vec<_>>(),
            ["app=1"]
        );
    }

    /// Of two framings the upstream's length is not the one that was read: passed on, it would cut the
    /// body or never end it.
    #[test]
    fn one_framing() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
        clean_response(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
    }
}
