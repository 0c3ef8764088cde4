//! What a request says of how it came about: fetch metadata first, older headers only without it.

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, request};

/// Whether a person is looking at the answer: a page load, not a script's request.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    match only(headers, &SEC_FETCH_MODE) {
        Only::One(mode) => mode == "navigate",
        Only::Unreadable => false,
        Only::Absent => accepts_html(headers),
    }
}

/// Whether a request is a page load that may be sent to a login: GET or HEAD, no upgrade.
pub(super) fn is_navigation(parts: &request::Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
        && !is_upgrade(&parts.headers)
        && wants_page(&parts.headers)
}

/// Whether a request that could do something comes from another site, or from a sibling endpoint.
///
/// `Sec-Fetch-Site` decides when present. `Origin` is compared only without it: under
/// `Referrer-Policy: no-referrer` a browser sends `Origin: null` even to itself. With neither it is no
/// browser, whose cookies nobody else can make it send.
pub(super) fn is_cross_site(parts: &request::Parts, origin: &str) -> bool {
    let is_safe = matches!(
        parts.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    if is_safe && !is_upgrade(&parts.headers) {
        return false;
    }
    match only(&parts.headers, &SEC_FETCH_SITE) {
        Only::One(site) => !matches!(site, "same-origin" | "none"),
        Only::Unreadable => true,
        Only::Absent => match only(&parts.headers, &header::ORIGIN) {
            Only::One(from) => from != origin,
            Only::Unreadable => true,
            Only::Absent => false,
        },
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let media = range.split(';').next().unwrap_or_default().trim();
            media.eq_ignore_ascii_case("text/html")
                || media.eq_ignore_ascii_case("application/xhtml+xml")
        })
}

/// A header that is there once, not at all, or in a form that nobody sends in good faith.
enum Only<'h> {
    One(&'h str),
    Absent,
    Unreadable,
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Only<'h> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Only::Absent,
        (Some(value), None) => value.to_str().map_or(Only::Unreadable, Only::One),
        (Some(_), Some(_)) => Only::Unreadable,
    }
}

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const ORIGIN: &str = "https://app.example.com:8443";

    fn parts(method: &str, pairs: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::builder().method(method);
        for (name, value) in pairs {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    /// Only page loads by GET and HEAD are sent to a login.
    #[test]
    fn navigations() {
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        let mode = |mode| ("sec-fetch-mode", mode);
        let yes: [(&str, &[(&str, &str)]); 4] = [
            ("GET", &[html]),
            ("HEAD", &[html]),
            ("GET", &[mode("navigate")]),
            ("GET", &[mode("navigate"), ("accept", "*/*")]),
        ];
        for (method, pairs) in yes {
            assert!(is_navigation(&parts(method, pairs)), "{method} {pairs:?}");
        }
        let no: [(&str, &[(&str, &str)]); 8] = [
            ("GET", &[]),
            ("GET", &[("accept", "*/*")]),
            ("GET", &[("accept", "application/json")]),
            ("GET", &[html, mode("cors")]),
            ("GET", &[html, mode("navigate"), mode("navigate")]),
            ("POST", &[html]),
            ("POST", &[html, mode("navigate")]),
            ("GET", &[html, ("upgrade", "websocket")]),
        ];
        for (method, pairs) in no {
            assert!(!is_navigation(&parts(method, pairs)), "{method} {pairs:?}");
        }
    }

    /// Unsafe methods and upgrades count only when they come from the endpoint itself.
    #[test]
    fn cross_site() {
        let site = |site| ("sec-fetch-site", site);
        let from = |origin| ("origin", origin);
        let upgrade = ("upgrade", "websocket");
        let own: [(&str, &[(&str, &str)]); 8] = [
            ("GET", &[site("cross-site")]),
            ("HEAD", &[from("https://evil.tld")]),
            ("POST", &[site("same-origin"), from("null")]),
            ("POST", &[site("none")]),
            ("POST", &[from(ORIGIN)]),
            ("POST", &[]),
            ("GET", &[upgrade, from(ORIGIN)]),
            ("GET", &[upgrade, site("same-origin")]),
        ];
        for (method, pairs) in own {
            assert!(
                !is_cross_site(&parts(method, pairs), ORIGIN),
                "{method} {pairs:?}"
            );
        }
        let other: [(&str, &[(&str, &str)]); 10] = [
            ("POST", &[site("cross-site")]),
            ("POST", &[site("same-site"), from(ORIGIN)]),
            ("POST", &[site("same-origin"), site("same-origin")]),
            ("POST", &[site("")]),
            ("DELETE", &[from("null")]),
            ("PUT", &[from("https://app.example.com")]),
            ("PUT", &[from("http://app.example.com:8443")]),
            ("POST", &[from("https://other.example.com:8443")]),
            ("GET", &[upgrade, from("https://other.example.com:8443")]),
            ("GET", &[upgrade, site("same-site")]),
        ];
        for (method, pairs) in other {
            assert!(
                is_cross_site(&parts(method, pairs), ORIGIN),
                "{method} {pairs:?}"
            );
        }
    }
}
