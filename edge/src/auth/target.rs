//! Where a person goes after a login or a log-out: the one parser of return targets.
//!
//! It reads as browsers do (the WHATWG URL standard, by `url`), so that no second reading exists,
//! and what is sent is its output, always with the endpoint's own origin in front, never its input.

use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use url::{Position, Url};

/// A place on the endpoint's own host: path, query and fragment, beginning with `/`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Target(String);

impl Target {
    /// The endpoint's root.
    pub(super) fn home() -> Self {
        Self("/".to_owned())
    }

    /// Reads a target that somebody asks for. `origin` is the endpoint's, `https://host[:port]`.
    /// `None` for everything that leads elsewhere, or onto our reserved paths.
    pub(super) fn parse(text: &str, origin: &str) -> Option<Self> {
        // `url` drops tabs and line ends, as browsers do: what holds any was not made by us.
        if text.len() > TARGET_BYTES_MAX || text.chars().any(char::is_control) {
            return None;
        }
        let base = Url::parse(origin).ok()?;
        let url = Url::options().base_url(Some(&base)).parse(text).ok()?;
        let is_own = url.scheme() == base.scheme()
            && url.host() == base.host()
            && url.port_or_known_default() == base.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none();
        let place = &url[Position::BeforePath..];
        let is_fine = is_own
            && place.starts_with('/')
            && place.len() <= TARGET_BYTES_MAX
            && !is_reserved(url.path());
        is_fine.then(|| Self(place.to_owned()))
    }

    /// Where a request was going, or the root when that cannot be carried through a login.
    pub(super) fn of_request(asked: Option<&PathAndQuery>, origin: &str) -> Self {
        // With the origin in front: a path such as `//x` is a path here, and no host.
        asked
            .and_then(|asked| Self::parse(&format!("{origin}{asked}"), origin))
            .unwrap_or_else(Self::home)
    }

    /// The absolute address.
    pub(super) fn url(&self, origin: &str) -> String {
        format!("{origin}{}", self.0)
    }

    /// For a query parameter.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the edge answers a path itself, on every endpoint.
pub(super) fn is_reserved(path: &str) -> bool {
    path.strip_prefix(RESERVED)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) const RESERVED: &str = "/.sallyport";
/// Bytes of a target: with it a ticket stays below 4 KiB.
const TARGET_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://app.example.com:8443";

    fn parsed(text: &str) -> Option<String> {
        Target::parse(text, ORIGIN).map(|target| target.url(ORIGIN))
    }

    /// A target on the endpoint's own host is kept; its canonical form is what is sent.
    #[test]
    fn own_targets() {
        for (text, place) in [
            ("", "/"),
            ("/", "/"),
            ("/a/b?x=1&y=%2F#z", "/a/b?x=1&y=%2F#z"),
            ("/a b", "/a%20b"),
            ("/\u{e4}", "/%C3%A4"),
            ("/a/../b", "/b"),
            ("?x=1", "/?x=1"),
            ("https://app.example.com:8443/x", "/x"),
            ("HTTPS://APP.example.com:8443/x", "/x"),
            ("https://app.example.com:8443//evil.tld", "//evil.tld"),
            ("/.//evil.tld", "//evil.tld"),
            ("/x%0d%0aSet-Cookie:a=b", "/x%0d%0aSet-Cookie:a=b"),
            ("/.sallyportal", "/.sallyportal"),
            ("/?next=//evil.tld", "/?next=//evil.tld"),
            ("evil.tld", "/evil.tld"),
            // A back slash ends the host: other readers take what follows for one, so it is rewritten.
            ("https://app.example.com:8443\\@evil.tld", "/@evil.tld"),
            // Without slashes after the own scheme it is relative, to browsers too.
            ("https:evil.tld", "/evil.tld"),
        ] {
            assert_eq!(parsed(text), Some(format!("{ORIGIN}{place}")), "{text}");
        }
    }

    /// c01 to c06, c08: whatever a browser would take elsewhere is refused.
    #[test]
    fn foreign_targets() {
        for text in [
            "//evil.tld",
            "///evil.tld",
            "////evil.tld/x",
            "/\\evil.tld",
            "\\\\evil.tld",
            "\\/evil.tld",
            "/\t/evil.tld",
            "/\n/evil.tld",
            "\u{1}//evil.tld",
            " //evil.tld",
            "https://evil.tld",
            "https:\\\\evil.tld",
            "https:///evil.tld",
            "http://app.example.com:8443/",
            "https://app.example.com/",
            "https://app.example.com:8444/",
            "https://badapp.example.com:8443/",
            "https://app.example.com.evil.tld:8443/",
            "https://x.app.example.com:8443/",
            "https://example.com:8443/",
            "https://app.example.com:8443@evil.tld/",
            "https://app.example.com@evil.tld:8443/",
            "https://evil@app.example.com:8443/",
            "https://:pw@app.example.com:8443/",
            "//app.example.com:8443@evil.tld",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "blob:https://app.example.com:8443/x",
            "/x\r\nSet-Cookie: a=b",
            "/.sallyport/logout",
            "/.sallyport",
            "/x/../.sallyport/callback?code=1",
            "/%2e/.sallyport/login",
            &format!("/{}", "a".repeat(TARGET_BYTES_MAX)),
            &format!("/{}", "\u{e4}".repeat(700)),
        ] {
            let got = parsed(text);
            assert_eq!(got, None, "{text}");
        }
    }

    /// A request's own path is never read as a host, and what cannot be carried leads home.
    #[test]
    fn request_targets() {
        let of = |text: &str| {
            let asked: PathAndQuery = text.parse().unwrap();
            Target::of_request(Some(&asked), ORIGIN).url(ORIGIN)
        };
        assert_eq!(of("/a?b=c"), format!("{ORIGIN}/a?b=c"));
        assert_eq!(of("//evil.tld/x"), format!("{ORIGIN}//evil.tld/x"));
        assert_eq!(of("/.sallyport/x"), format!("{ORIGIN}/"));
        assert_eq!(of(&format!("/{}", "a".repeat(3000))), format!("{ORIGIN}/"));
        assert_eq!(Target::of_request(None, ORIGIN), Target::home());
    }
}
