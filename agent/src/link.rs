//! The link: how bytes travel between agent and edge, and the proof that it is the right edge.
//!
//! Nothing outside this module knows which transport it is; a further one is one more file and one
//! more arm of each enum. `race` chooses, `memory` remembers what won, `proxy` is a way through. No
//! control frames, no retries.

mod memory;
mod proxy;
mod quic;
mod race;
mod tls;
mod verify;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use proto::budget::Budget;
use proto::code::Code;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::{Congestion, LinkChoice, Proxies};

pub(crate) use memory::Memory;

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
    pub(crate) route: Route,
}

/// Which way to an edge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub(crate) link: LinkChoice,
    pub(crate) proxies: Proxies,
    pub(crate) memory: Memory,
}

/// What a link is made of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Quic,
    Tls,
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
    Untrusted { addr: String, reason: String },
    /// QUIC was asked for, and only TCP gets there.
    #[error("UDP to {addrs} does not get through, though TCP does")]
    UdpBlocked { addrs: String },
    /// The proxy on the way gives none.
    #[error("{message}")]
    Proxy { code: Code, message: String },
    /// The pinned name or the roots cannot be used at all.
    #[error("the edge cannot be verified: {0}")]
    Unusable(String),
}

/// Why one address gave no link.
#[derive(Debug)]
enum AttemptError {
    Untrusted { addr: String, reason: String },
    Proxy(proxy::ProxyError),
    Failed(String),
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
    Tls(tls::TlsLink),
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
    Tls(tls::TlsReceive),
}

#[derive(Debug)]
enum SendHalf {
    Quic(quic::QuicSend),
    Tls(tls::TlsSend),
}

impl Route {
    /// What is dialled: a proxy that somebody named is the only way, and carries TLS.
    fn choice(&self) -> LinkChoice {
        match self.link {
            LinkChoice::Auto if self.proxies.is_explicit() => LinkChoice::Tls,
            link @ (LinkChoice::Auto | LinkChoice::Quic | LinkChoice::Tls) => link,
        }
    }
}

impl Link {
    /// Dials the target's addresses as its route says, and verifies whoever answers first.
    ///
    /// # Errors
    /// [`DialError::Untrusted`] when somebody answered who is not the edge, even where other
    /// addresses were silent: that is what a person must hear.
    pub(crate) async fn dial(target: &Target) -> Result<Self, DialError> {
        let transport = race::dial(target).await?;
        Ok(Self { transport })
    }

    /// Dials over QUIC only: whether it works where it did not.
    pub(crate) async fn dial_quic(target: &Target) -> Result<Self, DialError> {
        let transport = race::dial_quic(target).await?;
        Ok(Self { transport })
    }

    /// Dials one more link of a kind.
    pub(crate) async fn dial_as(kind: Kind, target: &Target) -> Result<Self, DialError> {
        let transport = race::dial_as(kind, target).await?;
        Ok(Self { transport })
    }

    /// Whether a better link is worth looking for: this one is what was left, not what was asked for.
    pub(crate) fn is_second_best(&self, target: &Target) -> bool {
        self.kind() == Kind::Tls && target.route.choice() == LinkChoice::Auto
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.transport.kind()
    }

    /// Opens a stream; the agent opens one, for control.
    pub(crate) async fn open(&self) -> Result<LinkStream, LinkEnded> {
        match &self.transport {
            Transport::Quic(link) => link.open().await.map(LinkStream::from),
            Transport::Tls(link) => link.open().await.map(LinkStream::from),
        }
    }

    /// Waits for the next data stream that the edge opens.
    pub(crate) async fn accept(&self) -> Result<LinkStream, LinkEnded> {
        match &self.transport {
            Transport::Quic(link) => link.accept().await.map(LinkStream::from),
            Transport::Tls(link) => link.accept().await.map(LinkStream::from),
        }
    }

    /// Resolves once the link has ended, for whatever reason.
    pub(crate) async fn closed(&self) -> LinkEnded {
        match &self.transport {
            Transport::Quic(link) => link.closed().await,
            Transport::Tls(link) => link.closed().await,
        }
    }

    /// Ends the link and every stream on it, and waits shortly for the goodbye to go out.
    pub(crate) async fn close(&self) {
        match &self.transport {
            Transport::Quic(link) => link.close().await,
            Transport::Tls(link) => link.close().await,
        }
    }

    /// A number that changes with everything that comes, acknowledgements included.
    pub(crate) fn received(&self) -> u64 {
        match &self.transport {
            Transport::Quic(link) => link.received(),
            Transport::Tls(link) => link.received(),
        }
    }

    /// Whether local apps that do not read hold so much of this link that it takes no more streams.
    pub(crate) fn is_over(&self) -> bool {
        match &self.transport {
            Transport::Quic(link) => link.is_over(),
            Transport::Tls(link) => link.is_over(),
        }
    }

    /// The transport's own estimate.
    pub(crate) fn round_trip(&self) -> Duration {
        match &self.transport {
            Transport::Quic(link) => link.round_trip(),
            Transport::Tls(link) => link.round_trip(),
        }
    }

    /// The edge's address, for people.
    pub(crate) fn peer(&self) -> String {
        match &self.transport {
            Transport::Quic(link) => link.peer(),
            Transport::Tls(link) => link.peer(),
        }
    }
}

impl Transport {
    const fn kind(&self) -> Kind {
        match self {
            Self::Quic(_) => Kind::Quic,
            Self::Tls(_) => Kind::Tls,
        }
    }
}

impl Kind {
    /// As it is shown and told.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
        }
    }
}

impl LinkReceive {
    /// Resolves when the edge has reset the stream or the link has ended, though nobody reads. Stays
    /// pending after a good end. Dropping the future loses nothing.
    pub(crate) async fn reset(&mut self) {
        match &mut self.half {
            ReceiveHalf::Quic(half) => half.reset().await,
            ReceiveHalf::Tls(half) => half.reset().await,
        }
    }
}

impl LinkSend {
    /// Resolves when nobody reads any more: the edge asked to stop, or the link ended. Stays pending
    /// after a good end that the edge has received.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        match &self.half {
            SendHalf::Quic(half) => Either::Left(half.stopped()),
            SendHalf::Tls(half) => Either::Right(half.stopped()),
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
            ReceiveHalf::Tls(half) => half.poll_read(cx, buffer),
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
            SendHalf::Tls(half) => half.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.half {
            // Both send by themselves.
            SendHalf::Quic(_) | SendHalf::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.half {
            SendHalf::Quic(half) => Poll::Ready(half.finish()),
            SendHalf::Tls(half) => half.poll_finish(cx),
        }
    }
}

impl From<(quic::QuicSend, quic::QuicReceive)> for LinkStream {
    fn from((send, receive): (quic::QuicSend, quic::QuicReceive)) -> Self {
        Self::new(SendHalf::Quic(send), ReceiveHalf::Quic(receive))
    }
}

impl From<(tls::TlsSend, tls::TlsReceive)> for LinkStream {
    fn from((send, receive): (tls::TlsSend, tls::TlsReceive)) -> Self {
        Self::new(SendHalf::Tls(send), ReceiveHalf::Tls(receive))
    }
}

impl LinkStream {
    const fn new(send: SendHalf, receive: ReceiveHalf) -> Self {
        Self {
            receive: LinkReceive { half: receive },
            send: LinkSend { half: send },
        }
    }
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

#[cfg(test)]
pub(crate) mod tests;
