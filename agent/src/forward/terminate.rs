//! TLS that the agent ends: what comes through a stream is TLS, what goes to the upstream is plain. The
//! halves behave as the stream's own: a leg that breaks, or ends without TLS saying so, is broken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{FromEdge, ToEdge};

/// Shakes hands with the client at the other end of the stream.
///
/// # Errors
/// When that fails or takes too long. The stream is reset then.
pub(super) async fn accept<R: FromEdge, S: ToEdge>(
    acceptor: &TlsAcceptor,
    receive: R,
    send: S,
    early: BytesMut,
) -> io::Result<(TlsFrom<R, S>, TlsTo<R, S>)> {
    let stopped = send.stopped().boxed().shared();
    let stream = Joined {
        early,
        receive,
        send,
    };
    let accepted = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await;
    let stream = accepted.map_err(|_| io::ErrorKind::TimedOut)??;
    let (from, to) = tokio::io::split(stream);
    Ok((TlsFrom(from), TlsTo { to, stopped }))
}

/// Both halves of a stream, beginning with what was read of it already.
struct Joined<R, S> {
    early: BytesMut,
    receive: R,
    send: S,
}

/// Plain bytes from the client.
pub(super) struct TlsFrom<R, S>(ReadHalf<TlsStream<Joined<R, S>>>);

/// Plain bytes towards the client. Only a shutdown ends them well.
pub(super) struct TlsTo<R, S> {
    to: WriteHalf<TlsStream<Joined<R, S>>>,
    stopped: Shared<BoxFuture<'static, ()>>,
}

impl<R: FromEdge, S: ToEdge> FromEdge for TlsFrom<R, S> {
    /// The edge gives up both directions at once, and [`TlsTo::stopped`] hears that.
    async fn reset(&mut self) {
        std::future::pending::<()>().await;
    }
}

impl<R: FromEdge, S: ToEdge> ToEdge for TlsTo<R, S> {
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopped.clone()
    }
}

impl<R: FromEdge, S: ToEdge> AsyncRead for TlsFrom<R, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<R: FromEdge, S: ToEdge> AsyncWrite for TlsTo<R, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.to).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(cx)
    }
}

impl<R: FromEdge, S: ToEdge> AsyncRead for Joined<R, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.early.len().min(buffer.remaining());
        if len > 0 {
            buffer.put_slice(self.early.get(..len).unwrap_or_default());
            self.early.advance(len);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.receive).poll_read(cx, buffer)
    }
}

impl<R: FromEdge, S: ToEdge> AsyncWrite for Joined<R, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
