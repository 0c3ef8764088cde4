//! The link: how bytes travel between edge and agent. Nothing outside this module knows which
//! transport it is; a further one is one more file and one more arm.

mod quic;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use quic::{Connecting, Listener, Seat};
pub(crate) use tls::over_tls;

/// One authenticated-by-TLS connection from an agent. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Quic(quic::QuicLink),
    Tls(tls::TlsLink),
}

/// A bidirectional stream of a link. Dropped, it resets; only [`AsyncWrite::poll_shutdown`] ends it
/// well, so a cut, an abort or a panic never looks like a complete body.
#[derive(Debug)]
pub(crate) struct LinkStream {
    inner: Inner,
    reset_code: Arc<AtomicU32>,
}

#[derive(Debug)]
enum Inner {
    Quic(quic::QuicStream),
    Tls(tls::TlsStream),
}

/// Why a stream was reset, as the agent is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum ResetCode {
    /// The exchange was given up: the client went away, or something failed.
    Cancelled = 1,
    /// The right to it ended.
    Cut = 2,
    /// Nobody read it, and the memory for that was full.
    Stalled = 3,
}

/// How a link chooses its speed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Congestion {
    Bbr,
    Cubic,
}

/// Sets the code that a stream's drop will reset with.
#[derive(Clone, Debug)]
pub(crate) struct ResetHandle(Arc<AtomicU32>);

/// The link has ended, or takes no more streams.
#[derive(Debug, thiserror::Error)]
#[error("the link to the agent has ended")]
pub(crate) struct LinkEnded(#[source] pub(crate) Box<dyn std::error::Error + Send + Sync>);

impl Link {
    /// Opens a stream; waits while the agent allows no more.
    pub(crate) async fn open(&self) -> Result<LinkStream, LinkEnded> {
        match self {
            Self::Quic(link) => Ok(LinkStream::new(Inner::Quic(link.open().await?))),
            Self::Tls(link) => Ok(LinkStream::new(Inner::Tls(link.open().await?))),
        }
    }

    /// Accepts the stream that the agent opens: its control stream.
    pub(crate) async fn accept(&self) -> Result<LinkStream, LinkEnded> {
        match self {
            Self::Quic(link) => Ok(LinkStream::new(Inner::Quic(link.accept().await?))),
            Self::Tls(link) => Ok(LinkStream::new(Inner::Tls(link.accept().await?))),
        }
    }

    /// Ends the link and every stream on it.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        match self {
            Self::Quic(link) => link.close(code, reason),
            Self::Tls(link) => link.close(code),
        }
    }

    /// Resolves once the link has ended, for whatever reason.
    pub(crate) async fn closed(&self) {
        match self {
            Self::Quic(link) => link.closed().await,
            Self::Tls(link) => link.closed().await,
        }
    }

    /// Resolves when nothing whatever has come within [`SILENT`], for somebody who has just sent
    /// something and waits: a live agent's transport acknowledges at once, whatever its app does. Once
    /// it has, there is nothing more to acknowledge: a longer silence says nothing, and this waits on.
    pub(crate) async fn fell_silent(&self) {
        let seen = self.received();
        if let Self::Tls(link) = self {
            link.ask();
        }
        tokio::time::sleep(SILENT).await;
        if self.received() != seen {
            std::future::pending::<()>().await;
        }
    }

    /// A number that changes with everything that comes, acknowledgements included.
    pub(crate) fn received(&self) -> u64 {
        match self {
            Self::Quic(link) => link.received(),
            Self::Tls(link) => link.received(),
        }
    }

    /// Whether readers that do not read hold so much of this link that it takes no more streams.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Quic(link) => link.is_over(),
            Self::Tls(link) => link.is_over(),
        }
    }

    /// Bytes that this link may hold for readers that do not empty their streams, beyond what all of its
    /// streams share.
    pub(crate) fn held(&self) -> u64 {
        match self {
            Self::Quic(link) => link.held(),
            Self::Tls(link) => link.held(),
        }
    }

    /// The agent's address as seen here.
    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Self::Quic(link) => link.peer(),
            Self::Tls(link) => link.peer(),
        }
    }

    /// The transport's own estimate.
    pub(crate) fn round_trip(&self) -> Duration {
        match self {
            Self::Quic(link) => link.round_trip(),
            Self::Tls(link) => link.round_trip(),
        }
    }

    /// For people: `quic` or `tls`.
    pub(crate) const fn transport(&self) -> &'static str {
        match self {
            Self::Quic(_) => "quic",
            Self::Tls(_) => "tls",
        }
    }
}

impl LinkStream {
    fn new(inner: Inner) -> Self {
        Self {
            inner,
            reset_code: Arc::new(AtomicU32::new(ResetCode::Cancelled as u32)),
        }
    }

    pub(crate) fn reset_handle(&self) -> ResetHandle {
        ResetHandle(Arc::clone(&self.reset_code))
    }
}

impl ResetHandle {
    /// The drop will say that the right ended.
    pub(crate) fn set_cut(&self) {
        self.0.store(ResetCode::Cut as u32, Ordering::Release);
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        let code = self.reset_code.load(Ordering::Acquire);
        match &mut self.inner {
            Inner::Quic(stream) => stream.reset_unless_finished(code),
            Inner::Tls(stream) => stream.set_reset_code(code),
        }
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Quic(stream) => stream.poll_read(cx, buffer),
            Inner::Tls(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Quic(stream) => stream.poll_write(cx, bytes),
            Inner::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.inner {
            // Both send by themselves.
            Inner::Quic(_) | Inner::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Quic(stream) => Poll::Ready(stream.finish()),
            Inner::Tls(stream) => stream.poll_finish(cx),
        }
    }
}

/// An agent that was killed says no goodbye; its link would time out much later. Longer than what a
/// path loses in a bad moment.
const SILENT: Duration = Duration::from_secs(3);
