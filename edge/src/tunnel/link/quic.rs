//! The QUIC link. Its numbers come from measurements over distance and under loss: BBR, 4 MB a
//! stream, 16 MB a connection, fairness left on.
//!
//! `listen` is the public UDP port, one socket for each worker; `ids` and `handover` keep a link on its
//! worker when the agent's address changes.

mod handover;
mod ids;
mod listen;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::congestion::BbrConfig;
use quinn::{Connection, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::io::{AsyncRead, ReadBuf};

use super::LinkEnded;

pub(crate) use listen::{Connecting, Listener, Seat};

/// An agent's QUIC connection.
#[derive(Clone, Debug)]
pub(crate) struct QuicLink {
    connection: Connection,
}

/// One bidirectional stream.
#[derive(Debug)]
pub(super) struct QuicStream {
    send: SendStream,
    receive: RecvStream,
    finished: bool,
}

impl QuicLink {
    pub(super) async fn open(&self) -> Result<QuicStream, LinkEnded> {
        let (send, receive) = self.connection.open_bi().await.map_err(ended)?;
        Ok(QuicStream {
            send,
            receive,
            finished: false,
        })
    }

    pub(super) async fn accept(&self) -> Result<QuicStream, LinkEnded> {
        let (send, receive) = self.connection.accept_bi().await.map_err(ended)?;
        Ok(QuicStream {
            send,
            receive,
            finished: false,
        })
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

impl QuicStream {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send)
            .poll_write(cx, bytes)
            .map_err(io::Error::from)
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
        // Already read to its end: nothing to stop.
        let _ = self.receive.stop(code);
    }
}

/// How the edge's side of every link behaves.
fn server_transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(BbrConfig::default()))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(AGENT_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    Arc::new(transport)
}

fn ended(error: impl std::error::Error + Send + Sync + 'static) -> LinkEnded {
    LinkEnded(Box::new(error))
}

const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// An agent opens one stream, for control; data streams are the edge's to open.
const AGENT_STREAMS_MAX: u32 = 1;
/// 10,000 idle links at 4 s took a tenth of a core; at 10 s a dead one is found in half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT_MS: u32 = 30_000;
