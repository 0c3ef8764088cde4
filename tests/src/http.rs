//! Requests and replies as the tests write and judge them, for both versions.

use bytes::Bytes;
use serde_json::Value;

use crate::http1::{self, H1Response};
use crate::http2::{self, H2Response};
use crate::net::Net;

/// Which version of HTTP carries a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    H1,
    H2,
}

impl Version {
    /// Both, for tables.
    pub const BOTH: [Self; 2] = [Self::H1, Self::H2];
}

/// A request. `host` is the authority as it is sent; the TLS name is the host of the connection.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    /// The name in the TLS hello.
    pub sni: String,
    /// The `Host` header or `:authority`.
    pub authority: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

/// A request's body.
#[derive(Clone, Debug)]
pub enum Body {
    None,
    /// With a `Content-Length`.
    Whole(Bytes),
    /// The caller sends it, in chunks.
    Streamed,
}

/// A reply, read whole.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing promised.
    pub end: Result<(), Fault>,
}

/// How a connection or stream ended before its time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// TCP RST, or RST_STREAM with its reason.
    Reset,
    /// The peer closed TCP without TLS's close_notify.
    Fin,
    /// The peer closed TLS politely in the middle of a message.
    CloseNotify,
    /// HTTP/2 GOAWAY or a connection error.
    Connection(String),
    /// What came is not HTTP.
    Garbage(String),
}

impl Ask {
    /// GET of a path at an endpoint.
    pub fn get(net: &Net, label: &str, target: &str) -> Self {
        let host = if label.contains('.') {
            label.to_owned()
        } else {
            net.host(label)
        };
        Self {
            method: "GET".to_owned(),
            authority: format!("{host}:{}", net.addr.port()),
            sni: host,
            target: target.to_owned(),
            headers: Vec::new(),
            body: Body::None,
        }
    }

    /// Another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Whole(body.into());
        self
    }

    /// A body that the caller sends.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.body = Body::Streamed;
        self
    }

    /// Another authority than the connection's name.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    /// The headers of a page navigation that somebody typed.
    #[must_use]
    pub fn navigation(self) -> Self {
        self.header("accept", HTML)
            .header("sec-fetch-site", "none")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-user", "?1")
    }

    /// With a cookie header.
    #[must_use]
    pub fn cookie(self, cookie: &str) -> Self {
        self.header("cookie", cookie)
    }

    /// Sends it on a connection of its own and reads the reply whole.
    pub async fn send(self, net: &Net, version: Version) -> Reply {
        let shown = format!("{} {} over {version:?}", self.method, self.target);
        crate::wait::within(&shown, async {
            let open = self
                .open(net, version)
                .await
                .unwrap_or_else(|fault| panic!("{shown}: {fault:?}"));
            open.whole().await
        })
        .await
    }

    /// Sends it on a connection of its own; gives the reply's head and its body to come.
    ///
    /// # Errors
    /// How the connection ended without a head.
    pub async fn open(self, net: &Net, version: Version) -> Result<Response, Fault> {
        match version {
            Version::H1 => {
                let mut connection = http1::Connection::open(net, &self.sni)
                    .await
                    .map_err(|error| http1::fault(&error))?;
                connection.send(&self).await?;
                Ok(Response::H1(connection.response(&self.method).await?))
            }
            Version::H2 => {
                let connection = http2::Connection::open(net, &self.sni, None).await?;
                Ok(Response::H2(connection.request(&self).await?))
            }
        }
    }
}

/// A reply whose head is here.
#[derive(Debug)]
pub enum Response {
    H1(H1Response),
    H2(H2Response),
}

impl Response {
    pub fn status(&self) -> u16 {
        match self {
            Self::H1(response) => response.status,
            Self::H2(response) => response.status,
        }
    }

    pub fn headers(&self) -> &[(String, String)] {
        match self {
            Self::H1(response) => &response.headers,
            Self::H2(response) => &response.headers,
        }
    }

    /// The next piece of the body; `None` once it ended as its framing promised.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::H1(response) => response.chunk().await,
            Self::H2(response) => response.chunk().await,
        }
    }

    /// Reads the rest.
    pub async fn whole(mut self) -> Reply {
        let mut body = Vec::new();
        let end = loop {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        Reply {
            status: self.status(),
            headers: self.headers().to_vec(),
            body,
            end,
        }
    }
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: status {} {:?}", self.status, self.text()))
    }

    /// The code of a refusal, from its header.
    pub fn code(&self) -> &str {
        self.header("sallyport-error").unwrap_or("")
    }

    /// Asserts a refusal for the stated reason: status, code in header and body, and a request id.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str, what: &str) {
        assert_eq!(
            (self.status, self.code()),
            (status, code),
            "{what}: {}",
            self.text()
        );
        assert!(
            self.header("sallyport-request-id")
                .is_some_and(|id| id.starts_with("req_")),
            "{what}: no request id"
        );
        assert!(
            self.text().contains(code),
            "{what}: the code is not in the body: {}",
            self.text()
        );
    }
}

/// The first value of a header.
pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// Whether a value is a JSON object with exactly these keys.
#[track_caller]
pub fn assert_keys(value: &Value, keys: &[&str]) {
    let mut found: Vec<&str> = value
        .as_object()
        .unwrap_or_else(|| panic!("an object: {value}"))
        .keys()
        .map(String::as_str)
        .collect();
    let mut wanted = keys.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{value:#}");
}

/// What browsers accept when they navigate.
pub const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
