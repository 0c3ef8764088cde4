//! The local app: its address as people write it, and a connection to it, with TLS where it wants that.
//!
//! Knows nothing of tunnels. A failure to connect is typed, because the edge turns it into a page.

mod connection;
mod ends_tls;
mod health;
mod manner;
mod tls;

use std::fmt;
use std::io;
use std::time::Duration;

use proto::code::Code;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::addrs;
use tls::Refused;

pub(crate) use connection::Connection;
pub(crate) use ends_tls::EndsTls;
pub(crate) use health::{Health, Watched};
pub(crate) use manner::Manner;
pub(crate) use tls::{Roots, Tls};

/// An address that HTTP, or raw bytes, are spoken to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Upstream {
    scheme: Scheme,
    host: Host<String>,
    port: u16,
}

/// What is spoken there below HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scheme {
    Http,
    Https,
    /// Whatever the client speaks.
    Tcp,
    /// The same, which is TLS.
    Tls,
}

/// Why a text is no usable upstream. The code's next step says what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidUpstream(String);

/// Why there is no connection to the upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nobody accepts there.
    #[error("{upstream} does not accept connections")]
    Refused {
        /// For people.
        upstream: String,
        /// The last attempt's error.
        source: io::Error,
    },
    /// Its name has no address.
    #[error("the name {host} has no address here")]
    Unresolved {
        /// The name.
        host: String,
        /// The resolver's answer, where it gave one.
        source: io::Error,
    },
    /// Nobody answered within [`DIAL_WITHIN`].
    #[error("{upstream} did not answer within {} seconds", DIAL_WITHIN.as_secs())]
    TimedOut {
        /// For people.
        upstream: String,
    },
    /// Its certificate proves nothing to us.
    #[error("the certificate of {upstream} is not trusted here: {why}")]
    Untrusted {
        /// For people.
        upstream: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its certificate is somebody else's.
    #[error("the certificate of {upstream} is for another name: {why}")]
    NameMismatch {
        /// For people.
        upstream: String,
        /// The names.
        why: String,
    },
    /// It takes TLS, and no HTTP of the version that was asked for.
    #[error("{upstream} does not speak the version of HTTP that it was meant to")]
    Protocol {
        /// For people.
        upstream: String,
    },
    /// No handshake.
    #[error("there is no TLS with {upstream}: {why}")]
    Tls {
        /// For people.
        upstream: String,
        /// What happened.
        why: String,
    },
}

impl Upstream {
    /// Parses `8080`, `host:port`, `http://host[:port]` or `https://host[:port]`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidUpstream> {
        let text = text.trim();
        let invalid = |why: &str| {
            InvalidUpstream(format!(
                "{text:?} is not usable as the local app's address: {why}"
            ))
        };
        if text.is_empty() {
            return Err(InvalidUpstream(
                "the local app's address is missing".to_owned(),
            ));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let port = text.parse().ok().filter(|port| *port != 0);
            let port = port.ok_or_else(|| invalid("a port is a number from 1 to 65535"))?;
            return Ok(Self {
                scheme: Scheme::Http,
                host: Host::Domain("localhost".to_owned()),
                port,
            });
        }
        let written = text.split_once("://").map(|(scheme, _)| scheme);
        let (scheme, address) = match written.map(str::to_ascii_lowercase).as_deref() {
            None => (Scheme::Http, format!("http://{text}")),
            Some("http") => (Scheme::Http, text.to_owned()),
            Some("https") => (Scheme::Https, text.to_owned()),
            Some(_) => {
                return Err(invalid("only http:// and https:// are served"));
            }
        };
        let url = Url::parse(&address).map_err(|_| invalid("it is no address"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUpstream(
                "the local app's address must not hold a user name or password".to_owned(),
            ));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(
                "it must end after the port, because the visitor's path is passed on as it is",
            ));
        }
        let host = url.host().ok_or_else(|| invalid("it names no host"))?;
        let port = match written {
            Some(_) => url.port().unwrap_or_else(|| scheme.port()),
            // Without a scheme the port must be written: "8o80" would else mean a host of that name.
            None => explicit_port(text).ok_or_else(|| invalid("it names no port"))?,
        };
        if port == 0 {
            return Err(invalid("a port is a number from 1 to 65535"));
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
        })
    }

    /// Parses `5432`, `host:port` or, with this scheme, `tcp://host:port` or `tls://host:port`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse_raw(text: &str, is_tls: bool) -> Result<Self, InvalidUpstream> {
        let text = text.trim();
        let written = text.split_once("://");
        let address = match written {
            None => text,
            Some(("tcp", address)) => address,
            Some(("tls", address)) if is_tls => address,
            Some(_) => {
                let wanted = if is_tls { "tcp:// or tls://" } else { "tcp://" };
                return Err(InvalidUpstream(format!(
                    "{text:?} is not usable as the local app's address: here it is a port, host:port or {wanted}"
                )));
            }
        };
        let scheme = if is_tls { Scheme::Tls } else { Scheme::Tcp };
        Ok(Self {
            scheme,
            ..Self::parse(address)?
        })
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Its host, as a certificate names it.
    pub(crate) fn host(&self) -> String {
        self.host.to_string()
    }

    /// `host:port` as a Host header says it: without the scheme's own port.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Connects within [`DIAL_WITHIN`].
    ///
    /// A name's addresses are raced, so that an app on `::1` only, or on `127.0.0.1` only, is found
    /// either way. `header` is written first; with `tls` it is a connection once the handshake is done.
    /// Dropping the future drops every attempt.
    ///
    /// # Errors
    /// [`DialError`], whose [`DialError::code`] the edge is told.
    pub(crate) async fn dial(
        &self,
        tls: Option<&Tls>,
        header: &[u8],
    ) -> Result<Connection, DialError> {
        let dial = async {
            let mut stream = self.connect().await?;
            // Small writes (a WebSocket frame, an event) must not wait for an acknowledgement. Failing
            // to set it costs milliseconds, not correctness.
            let _ = stream.set_nodelay(true);
            // Some bytes into a fresh socket's buffer.
            stream
                .write_all(header)
                .await
                .map_err(|source| DialError::Refused {
                    upstream: self.to_string(),
                    source,
                })?;
            let Some(tls) = tls else {
                return Ok(Connection::Plain(stream));
            };
            let connected = tls.connect(stream).await;
            let stream = connected.map_err(|refused| self.refused(refused))?;
            Ok(Connection::Tls(Box::new(stream)))
        };
        let dialled = tokio::time::timeout(DIAL_WITHIN, dial).await;
        dialled.map_err(|_| DialError::TimedOut {
            upstream: self.to_string(),
        })?
    }

    fn refused(&self, refused: Refused) -> DialError {
        let upstream = self.to_string();
        match refused {
            Refused::Certificate(why) => DialError::Untrusted { upstream, why },
            Refused::Name(why) => DialError::NameMismatch { upstream, why },
            Refused::Protocol => DialError::Protocol { upstream },
            Refused::Handshake(why) => DialError::Tls { upstream, why },
        }
    }

    async fn connect(&self) -> Result<TcpStream, DialError> {
        let host = match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let addrs = addrs::resolve(&host, self.port)
            .await
            .map_err(|source| DialError::Unresolved { host, source })?;
        addrs::race(&addrs, addrs::STAGGER, TcpStream::connect)
            .await
            .map_err(|mut errors| DialError::Refused {
                upstream: self.to_string(),
                source: errors
                    .pop()
                    .unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable)),
            })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
            Scheme::Tls => "tls",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Scheme {
    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            // They are always written.
            Self::Tcp | Self::Tls => 0,
        }
    }
}

impl DialError {
    /// What the edge is told.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Refused { .. } | Self::Unresolved { .. } => Code::UpstreamUnreachable,
            Self::TimedOut { .. } => Code::UpstreamTimeout,
            Self::Untrusted { .. } => Code::UpstreamUntrusted,
            Self::NameMismatch { .. } => Code::UpstreamNameMismatch,
            Self::Protocol { .. } => Code::UpstreamProtocolMismatch,
            Self::Tls { .. } => Code::UpstreamTlsFailed,
        }
    }

    /// One sentence for the person beside the agent: what to do.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::Refused { upstream, .. } => {
                format!("start the app, or check the port: nothing listens at {upstream}")
            }
            Self::Unresolved { .. } => "check the spelling of the host".to_owned(),
            Self::TimedOut { .. } => {
                "check that the host is up and that no firewall drops the connection".to_owned()
            }
            Self::Untrusted { .. }
            | Self::NameMismatch { .. }
            | Self::Protocol { .. }
            | Self::Tls { .. } => self.code().next_step().to_owned(),
        }
    }
}

/// The port as written in `host:port` or `[v6]:port`; a URL parser would hide an explicit 80.
fn explicit_port(text: &str) -> Option<u16> {
    let text = text.strip_suffix('/').unwrap_or(text);
    text.rsplit_once(':')?.1.parse().ok()
}

/// From the first attempt to a connection, name look-up included.
pub(crate) const DIAL_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
