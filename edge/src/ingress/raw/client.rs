//! The client's side of a raw connection: its socket, or TLS that this edge has ended.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A public connection that carries raw bytes.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per connection, and boxed on its way"
)]
pub(crate) enum ClientIo {
    Plain(TcpStream),
    Tls(TlsStream<TcpStream>),
}

impl ClientIo {
    /// From here on, whenever the socket closes, it closes with a reset: after a cut, an abort or a
    /// panic nothing can look complete. [`ClientIo::end_well`] takes it back.
    pub(crate) fn end_with_reset(&self) {
        // Where the system refuses, the peer is gone already.
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }

    /// The socket's close is an ordinary one.
    pub(crate) fn end_well(&self) {
        let _ = SockRef::from(self.socket()).set_linger(None);
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// Both halves of a socket by shared reference, so that its breaking can be waited for beside them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'s>(pub(super) &'s TcpStream);

impl Shared<'_> {
    /// Resolves once the socket has broken, though nobody reads or writes.
    pub(super) async fn broken(self) {
        // An error here is one of the socket, too.
        let _ = self.0.ready(Interest::ERROR).await;
    }
}

impl AsyncRead for Shared<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Shared<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.0).shutdown(Shutdown::Write))
    }
}
