//! The link: how bytes travel between agent and edge, and the proof that it is the right edge.
//!
//! Nothing outside this module knows which transport it is; a further one is one more file and one
//! more arm of each enum. No control frames, no retries.

mod quic;
mod verify;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::budget::Budget;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::addrs;
use crate::config::Congestion;

/// Where an edge is and how it proves itself.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `host:port`, tried in order.
    pub(crate) addrs: Vec<String>,
    /// The name that its certificate must carry. Not resolved: addresses and name are apart.
    pub(crate) server_name: String,
    pub(crate) trust: Trust,
    pub(crate) congestion: Congestion,
    /// Memory for what local apps leave unread, of all links together.
    pub(crate) unread: Budget,
}

/// What an edge's certificate must be signed by. There is no third way in: neither the system's
/// roots nor a switch to skip the check.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// The link CA's Ed25519 public key, as the authtoken pins it.
    LinkCa([u8; 32]),
    /// Roots that the person named.
    Roots(Vec<CertificateDer<'static>>),
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// No address answered.
    #[error("no edge answers at {addrs}: {last}")]
    Unreachable { addrs: String, last: String },
    /// Somebody answered who is not the edge that was meant.
    #[error("whoever answers at {addr} is not the edge that was meant ({reason})")]
    Untrusted { addr: SocketAddr, reason: String },
    /// The pinned name or the roots cannot be used at all.
    #[error("the edge cannot be verified: {0}")]
    Unusable(String),
}

/// A connection to a verified edge. Cheap to clone; it ends by [`Link::close`], by the edge, or when
/// nothing comes for half a minute.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    transport: Transport,
}

#[derive(Clone, Debug)]
enum Transport {
    Quic(quic::QuicLink),
}

/// The link has ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct LinkEnded {
    /// For people.
    pub(crate) why: String,
    /// The number that the edge closed with; zero says nothing.
    pub(crate) code: u64,
}

/// A bidirectional stream. Each half that is dropped before its good end resets its direction, so
/// neither an abort nor a panic looks like a complete body.
#[derive(Debug)]
pub(crate) struct LinkStream {
    pub(crate) receive: LinkReceive,
    pub(crate) send: LinkSend,
}

/// The reading half. Dropped before its end was read, it asks the edge to stop sending.
#[derive(Debug)]
pub(crate) struct LinkReceive {
    half: ReceiveHalf,
}

/// The writing half. Only a shutdown ends it well; dropped without one, it resets.
#[derive(Debug)]
pub(crate) struct LinkSend {
    half: SendHalf,
}

#[derive(Debug)]
enum ReceiveHalf {
    Quic(quic::QuicReceive),
}

#[derive(Debug)]
enum SendHalf {
    Quic(quic::QuicSend),
}

impl Link {
    /// Dials the target's addresses and verifies whoever answers first.
    ///
    /// # Errors
    /// [`DialError::Untrusted`] when somebody answered who is not the edge, even where other
    /// addresses were silent: that is what a person must hear.
    pub(crate) async fn dial(target: &Target) -> Result<Self, DialError> {
        let dialler = quic::Dialler::new(target)?;
        let (found, mut trouble) = resolve_all(&target.addrs).await;
        let errors = match addrs::race(&found, addrs::STAGGER, |addr| dialler.dial(addr)).await {
            Ok(link) => {
                let transport = Transport::Quic(link);
                return Ok(Self { transport });
            }
            Err(errors) => errors,
        };
        for error in errors {
            match error {
                quic::AttemptError::Untrusted { addr, reason } => {
                    return Err(DialError::Untrusted { addr, reason });
                }
                quic::AttemptError::Failed(reason) => trouble = Some(reason),
            }
        }
        let addrs = target.addrs.join(", ");
        let last = trouble.unwrap_or_else(|| "no answer".to_owned());
        // Where there is one address only, it need not be said twice.
        let last = match last.strip_prefix(&format!("{addrs}: ")) {
            Some(bare) => bare.to_owned(),
            None => last,
        };
        Err(DialError::Unreachable { addrs, last })
    }

    /// Opens a stream; the agent opens one, for control.
    pub(crate) async fn open(&self) -> Result<LinkStream, LinkEnded> {
        match &self.transport {
            Transport::Quic(link) => link.open().await.map(LinkStream::from),
        }
    }

    /// Waits for the next data stream that the edge opens.
    pub(crate) async fn accept(&self) -> Result<LinkStream, LinkEnded> {
        match &self.transport {
            Transport::Quic(link) => link.accept().await.map(LinkStream::from),
        }
    }

    /// Resolves once the link has ended, for whatever reason.
    pub(crate) async fn closed(&self) -> LinkEnded {
        match &self.transport {
            Transport::Quic(link) => link.closed().await,
        }
    }

    /// Ends the link and every stream on it, and waits shortly for the goodbye to go out.
    pub(crate) async fn close(&self) {
        match &self.transport {
            Transport::Quic(link) => link.close().await,
        }
    }

    /// A number that changes with everything that comes, acknowledgements included.
    pub(crate) fn received(&self) -> u64 {
        match &self.transport {
            Transport::Quic(link) => link.received(),
        }
    }

    /// Whether local apps that do not read hold so much of this link that it takes no more streams.
    pub(crate) fn is_over(&self) -> bool {
        match &self.transport {
            Transport::Quic(link) => link.is_over(),
        }
    }

    /// The transport's own estimate.
    pub(crate) fn round_trip(&self) -> Duration {
        match &self.transport {
            Transport::Quic(link) => link.round_trip(),
        }
    }

    /// The edge's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        match &self.transport {
            Transport::Quic(link) => link.peer(),
        }
    }
}

impl LinkReceive {
    /// Resolves when the edge has reset the stream or the link has ended, though nobody reads. Stays
    /// pending after a good end. Dropping the future loses nothing.
    pub(crate) async fn reset(&mut self) {
        match &mut self.half {
            ReceiveHalf::Quic(half) => half.reset().await,
        }
    }
}

impl LinkSend {
    /// Resolves when nobody reads any more: the edge asked to stop, or the link ended. Stays pending
    /// after a good end that the edge has received.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        match &self.half {
            SendHalf::Quic(half) => half.stopped(),
        }
    }
}

impl AsyncRead for LinkReceive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.half {
            ReceiveHalf::Quic(half) => half.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for LinkSend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.half {
            SendHalf::Quic(half) => half.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.half {
            // quinn sends by itself.
            SendHalf::Quic(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.half {
            SendHalf::Quic(half) => Poll::Ready(half.finish()),
        }
    }
}

impl From<(quic::QuicSend, quic::QuicReceive)> for LinkStream {
    fn from((send, receive): (quic::QuicSend, quic::QuicReceive)) -> Self {
        Self {
            receive: LinkReceive {
                half: ReceiveHalf::Quic(receive),
            },
            send: LinkSend {
                half: SendHalf::Quic(send),
            },
        }
    }
}

/// Every address of every entry, and the last trouble with one.
async fn resolve_all(entries: &[String]) -> (Vec<SocketAddr>, Option<String>) {
    let mut found = Vec::new();
    let mut trouble = None;
    for entry in entries {
        let resolved = match split_host_port(entry) {
            None => Err("this is not host:port".to_owned()),
            Some((host, port)) => {
                let look_up = tokio::time::timeout(RESOLVE_WITHIN, addrs::resolve(host, port));
                match look_up.await {
                    Ok(Ok(addrs)) => Ok(addrs),
                    Ok(Err(_)) => Err("the name has no address here".to_owned()),
                    Err(_) => Err("looking the name up took too long".to_owned()),
                }
            }
        };
        match resolved {
            Ok(addrs) => {
                for addr in addrs {
                    if !found.contains(&addr) {
                        found.push(addr);
                    }
                }
            }
            Err(why) => trouble = Some(format!("{entry}: {why}")),
        }
    }
    found.truncate(ADDRS_MAX);
    (found, trouble)
}

/// `host:port` or `[v6]:port`.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return None;
    }
    let host = bare.unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// Addresses of one dial: with the stagger of the race, the last begins after four seconds.
const ADDRS_MAX: usize = 16;
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(crate) mod tests;
