//! The QUIC link. Its numbers come from measurements over distance and under loss: BBR, 4 MB a
//! stream, 16 MB a connection, fairness left on.
//!
//! `listen` is the public UDP port, one socket for each worker; `ids` and `handover` keep a link on its
//! worker when the agent's address changes. `backlog` keeps readers that do not read from harming others.

mod backlog;
mod handover;
mod ids;
mod listen;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::budget::Budget;
use proto::turns::Turns;
use proto::window::{LINK_WINDOW, STREAM_WINDOW};
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn::{Connection, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::io::ReadBuf;
use tokio::task::AbortHandle;

use super::{Congestion, LinkEnded};
use backlog::{Backlog, Watched};

pub(crate) use listen::{Connecting, Listener, Seat};

/// An agent's QUIC connection.
#[derive(Clone, Debug)]
pub(crate) struct QuicLink {
    connection: Connection,
    backlog: Arc<Backlog>,
    _keeper: Arc<Keeper>,
}

/// The task that looks after a link's window. It ends with the last handle of the link: an own handle of
/// the connection would keep that alive.
#[derive(Debug)]
struct Keeper(AbortHandle);

/// One bidirectional stream.
#[derive(Debug)]
pub(super) struct QuicStream {
    send: SendStream,
    receive: Watched,
    connection: Connection,
    turns: Turns,
    finished: bool,
}

impl QuicLink {
    /// Keeps its window on the runtime that this is called on.
    fn new(connection: Connection, budget: &Budget) -> Self {
        let backlog = Backlog::new(budget.open());
        let keeper = tokio::spawn(Arc::clone(&backlog).keep(connection.clone()));
        Self {
            connection,
            backlog,
            _keeper: Arc::new(Keeper(keeper.abort_handle())),
        }
    }

    pub(super) async fn open(&self) -> Result<QuicStream, LinkEnded> {
        let opened = self.connection.open_bi().await;
        opened.map(|halves| self.stream(halves)).map_err(ended)
    }

    pub(super) async fn accept(&self) -> Result<QuicStream, LinkEnded> {
        let accepted = self.connection.accept_bi().await;
        accepted.map(|halves| self.stream(halves)).map_err(ended)
    }

    fn stream(&self, (send, receive): (SendStream, RecvStream)) -> QuicStream {
        QuicStream {
            send,
            receive: self.backlog.watch(receive),
            connection: self.connection.clone(),
            turns: Turns::default(),
            finished: false,
        }
    }

    /// See [`super::Link::is_over`].
    pub(super) fn is_over(&self) -> bool {
        self.backlog.is_over()
    }

    /// See [`super::Link::held`].
    pub(super) fn held(&self) -> u64 {
        self.backlog.held()
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.connection
            .close(VarInt::from_u32(code), reason.as_bytes());
    }

    pub(super) async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Datagrams that came, acknowledgements among them.
    pub(super) fn received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl QuicStream {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.receive.poll_read(&self.connection, cx, buffer)
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.turns.must_wait() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.send).poll_write(cx, bytes);
        match &written {
            Poll::Pending => self.turns.blocked(),
            Poll::Ready(_) => self.turns.wrote(),
        }
        written.map_err(io::Error::from)
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        // Fails only when the stream was stopped or reset: then it has ended already.
        self.send
            .finish()
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }

    /// quinn finishes a dropped stream cleanly; that would look like a complete body.
    pub(super) fn reset_unless_finished(&mut self, code: u32) {
        let code = VarInt::from_u32(code);
        if !self.finished {
            // Already closed: nothing to reset.
            let _ = self.send.reset(code);
        }
        self.receive.stop(code);
    }
}

/// How the edge's side of every link behaves.
fn server_transport(congestion: Congestion) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(controller(congestion))
        .stream_receive_window(var_int(STREAM_WINDOW))
        .receive_window(var_int(LINK_WINDOW))
        .send_window(LINK_WINDOW)
        .max_concurrent_bidi_streams(VarInt::from_u32(AGENT_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    Arc::new(transport)
}

fn controller(congestion: Congestion) -> Arc<dyn ControllerFactory + Send + Sync> {
    match congestion {
        Congestion::Bbr => Arc::new(BbrConfig::default()),
        Congestion::Cubic => Arc::new(CubicConfig::default()),
    }
}

fn var_int(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

fn ended(error: impl std::error::Error + Send + Sync + 'static) -> LinkEnded {
    LinkEnded(Box::new(error))
}

/// An agent opens one stream, for control; data streams are the edge's to open.
const AGENT_STREAMS_MAX: u32 = 1;
/// 10,000 idle links at 4 s took a tenth of a core. The control protocol's probes come as often, and find a
/// dead link sooner than the transport does.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const IDLE_TIMEOUT_MS: u32 = 45_000;

#[cfg(test)]
mod tests;
