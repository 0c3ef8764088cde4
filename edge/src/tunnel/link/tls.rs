//! The TLS link: an agent on the public TCP port, told from browsers by ALPN, with its streams over one
//! connection (crate `mux`).

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use mux::{Connection, Driver, Side};
use proto::budget::Budget;
use proto::window::LINK_WINDOW;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream as Secured;

use super::{Link, LinkEnded};

/// An agent's TLS connection.
#[derive(Clone, Debug)]
pub(crate) struct TlsLink {
    connection: Connection,
    peer: SocketAddr,
}

/// One bidirectional stream.
#[derive(Debug)]
pub(super) struct TlsStream(mux::Stream);

/// Makes a link of a connection whose handshake is complete. Nothing moves unless the driver runs; it
/// ends with the link.
pub(crate) fn over_tls(
    stream: Secured<TcpStream>,
    peer: SocketAddr,
    budget: &Budget,
) -> (Link, Driver<Secured<TcpStream>>) {
    prepare(&SockRef::from(stream.get_ref().0));
    let (connection, driver) = mux::start(stream, Side::Edge, Some(budget.open()));
    (Link::Tls(TlsLink { connection, peer }), driver)
}

impl TlsLink {
    pub(super) async fn open(&self) -> Result<TlsStream, LinkEnded> {
        self.connection.open().await.map(TlsStream).map_err(ended)
    }

    pub(super) async fn accept(&self) -> Result<TlsStream, LinkEnded> {
        self.connection.accept().await.map(TlsStream).map_err(ended)
    }

    pub(super) fn close(&self, code: u32) {
        self.connection.close(code);
    }

    pub(super) async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Bytes that came. TCP's own acknowledgements are not among them, so somebody who waits for a
    /// sign of life asks for one.
    pub(super) fn received(&self) -> u64 {
        self.connection.received()
    }

    pub(super) fn ask(&self) {
        self.connection.ask();
    }

    /// Whether readers that do not read hold so much that no more streams are taken.
    pub(super) fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// Bytes that readers have not read, beyond what all streams share.
    pub(super) fn held(&self) -> u64 {
        self.connection.unread().saturating_sub(LINK_WINDOW)
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.connection.round_trip()
    }
}

impl TlsStream {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0.receive).poll_read(cx, buffer)
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0.send).poll_write(cx, bytes)
    }

    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0.send).poll_shutdown(cx)
    }

    /// The drop resets what was not finished and stops what was not read to its end.
    pub(super) fn set_reset_code(&mut self, code: u32) {
        self.0.set_reset_code(code);
    }
}

/// Asks the kernel for what suits one connection that carries everything. It may refuse: slower is
/// better than nothing.
fn prepare(socket: &SockRef<'_>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // Loss-based control collapses on a home line that loses a packet in a thousand (measured).
        if let Err(error) = socket.set_tcp_congestion(b"bbr") {
            tracing::trace!(%error, "no BBR here");
        }
        if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_MAX) {
            tracing::debug!(%error, "socket not prepared");
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
}

fn ended(error: mux::Ended) -> LinkEnded {
    LinkEnded(Box::new(error))
}

/// Bytes that wait in the kernel beyond what is under way: a reset or a small request queues behind no
/// more than this.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_MAX: u32 = 256 * 1024;
