//! One public connection: its facts, its kill switch, and the socket wrapper that makes a kill a RST.
//!
//! A cut must not wait for hyper: an HTTP/1.1 client would go on reading megabytes from kernel
//! buffers and then see a clean end. So whoever serves the connection races hyper against
//! [`Shared::killed`], and the socket's last act after a kill is a reset (linger 0).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::ingress::listener::Place;
use crate::ingress::pool::Own;
use crate::ingress::tail::Tail;
use crate::metrics::{Direction, Metrics};

/// What the exchanges of a connection share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Shared>);

/// A connection's facts and signals.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) peer: SocketAddr,
    /// The name in the ClientHello, lower case.
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) version: Version,
    kill: CancellationToken,
    gone: CancellationToken,
    /// Requests begun so far: tells when an HTTP/1.1 client has moved on from a response.
    begun: AtomicU64,
    /// Requests that are open.
    open: AtomicU64,
    /// How often everything written has gone to the kernel.
    flushes: AtomicU64,
    flushed: Notify,
    /// A body is under way, so that the connection's end must not look like the body's.
    in_body: AtomicBool,
    /// Has become something other than HTTP: its end is somebody else's affair.
    upgraded: AtomicBool,
    /// What is left of the last response over HTTP/1.1.
    pub(crate) tail: Tail,
    /// An upstream connection that is this client's alone.
    pub(crate) own: Own,
}

/// What ALPN chose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Counts one request as open until dropped.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    connection: Connection,
    /// Its number on this connection, from 1.
    pub(crate) number: u64,
}

impl std::ops::Deref for Connection {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, server_name: Option<Arc<str>>, version: Version) -> Self {
        Self(Arc::new(Shared {
            peer,
            server_name,
            version,
            kill: CancellationToken::new(),
            gone: CancellationToken::new(),
            begun: AtomicU64::new(0),
            open: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            flushed: Notify::new(),
            in_body: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            tail: Tail::default(),
            own: Own::default(),
        }))
    }

    pub(crate) fn begin_request(&self) -> OpenRequest {
        self.open.fetch_add(1, Ordering::AcqRel);
        OpenRequest {
            connection: self.clone(),
            number: self.begun.fetch_add(1, Ordering::AcqRel) + 1,
        }
    }
}

impl Shared {
    /// Ends the connection now, with a reset. Returns once its socket is closed: from then on no
    /// byte can enter the client's buffer.
    pub(crate) async fn kill(&self) {
        self.order_kill();
        self.gone.cancelled().await;
    }

    /// As [`Shared::kill`] without waiting.
    pub(crate) fn order_kill(&self) {
        self.kill.cancel();
    }

    /// Resolves once a kill was ordered.
    pub(crate) async fn killed(&self) {
        self.kill.cancelled().await;
    }

    /// Resolves once the socket is closed.
    pub(crate) async fn is_gone(&self) {
        self.gone.cancelled().await;
    }

    /// How many requests were begun until now.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// How many requests are open.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// How often everything written had gone to the kernel until now.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Resolves once everything written went to the kernel again since `flushes` was read: of it, one
    /// record or two are not yet on their way to the client.
    pub(crate) async fn flushed_since(&self, flushes: u64) {
        loop {
            let flushed = self.flushed.notified();
            let mut flushed = std::pin::pin!(flushed);
            // Registered before looking, so that no flush falls between.
            flushed.as_mut().enable();
            if self.flushes() > flushes {
                return;
            }
            flushed.await;
        }
    }

    /// Notes whether a body is under way whose end is the connection's. While it is, a connection
    /// that goes, for whatever reason, goes with a reset.
    pub(crate) fn set_in_body(&self, in_body: bool) {
        self.in_body.store(in_body, Ordering::Release);
    }

    /// Notes that the connection no longer carries HTTP.
    pub(crate) fn set_upgraded(&self) {
        self.upgraded.store(true, Ordering::Release);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.connection.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Prepares a socket that was accepted: what is written goes out at once, little waits in the kernel,
/// and a client that vanished without a word is found.
pub(crate) fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_EVERY);
    let prepared = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keep_alive));
    if let Err(error) = prepared.and_then(|()| hold_little(&socket)) {
        tracing::debug!(%error, "socket not prepared");
    }
}

/// The kernel takes megabytes for a client that reads slowly, and goes on sending them after a stream
/// was reset or a WebSocket closed.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn hold_little(socket: &SockRef<'_>) -> std::io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT_MAX)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn hold_little(_: &SockRef<'_>) -> std::io::Result<()> {
    Ok(())
}

/// The public socket under TLS.
#[derive(Debug)]
pub(crate) struct PublicIo {
    stream: TlsStream<TcpStream>,
    connection: Connection,
    /// Begins when our side has ended.
    linger: Option<Linger>,
    /// Dropped after `stream`: says that the socket is closed.
    _gone: Gone,
    /// What counts the socket as open, also after an upgrade.
    _place: Place,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Gone(Connection);

impl PublicIo {
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        connection: Connection,
        place: Place,
        metrics: Arc<Metrics>,
    ) -> Self {
        let gone = Gone(connection.clone());
        Self {
            stream,
            connection,
            linger: None,
            _gone: gone,
            _place: place,
            metrics,
        }
    }
}

impl PublicIo {
    fn count_out(&self, written: &Poll<std::io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.metrics.bytes(Direction::Out, *bytes);
        }
    }
}

impl Drop for PublicIo {
    fn drop(&mut self) {
        let is_cut_off = self.connection.in_body.load(Ordering::Acquire);
        if (self.connection.kill.is_cancelled() || is_cut_off)
            && let Err(error) = self.stream.get_ref().0.set_zero_linger()
        {
            // The peer is gone already, most likely: the socket is closed either way.
            tracing::debug!(%error, "reset not set");
        }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.cancel();
        self.0.tail.clear();
        self.0.own.clear();
    }
}

impl AsyncRead for PublicIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.metrics.bytes(Direction::In, bytes);
        }
        read
    }
}

impl AsyncWrite for PublicIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count_out(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count_out(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.connection.flushes.fetch_add(1, Ordering::AcqRel);
            self.connection.flushed.notify_waiters();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            let ended = std::task::ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
            if ended.is_err() || this.connection.upgraded.load(Ordering::Acquire) {
                return Poll::Ready(ended);
            }
        }
        let linger = this.linger.get_or_insert_with(Linger::new);
        linger.poll(&mut this.stream, cx).map(Ok)
    }
}

/// What follows our side's end: closing a socket with unread bytes in it sends a reset, and that would
/// take an answer with it which the client has not read yet, such as a 431 to a head that is still
/// coming. So a little is read and forgotten first.
#[derive(Debug)]
struct Linger {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl Linger {
    fn new() -> Self {
        Self {
            until: Box::pin(tokio::time::sleep(LINGER_WITHIN)),
            bytes_left: LINGER_BYTES_MAX,
        }
    }

    /// Ready when the client has ended its side, or has had enough time or bytes.
    fn poll(&mut self, stream: &mut TlsStream<TcpStream>, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        while self.bytes_left > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.bytes_left = self.bytes_left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.until.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

/// Bytes that the kernel holds before it takes no more: one TLS record.
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    expect(dead_code, reason = "set where it can be")
)]
const UNSENT_MAX: u32 = 16 * 1024;
const LINGER_WITHIN: Duration = Duration::from_secs(1);
/// What a client may have sent before it hears the answer; more is cut off.
const LINGER_BYTES_MAX: usize = 1 << 20;
const KEEP_ALIVE_AFTER: Duration = Duration::from_mins(1);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
