//! The QUIC link. Its numbers come from measurements over distance and under loss: BBR, 4 MB a
//! stream, 16 MB a connection, fairness left on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    RecvStream, SendStream, TokioRuntime, TransportConfig, VarInt,
};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Link, LinkEnded};
use crate::secret::{self, Secret};

/// An agent's QUIC connection.
#[derive(Clone, Debug)]
pub(crate) struct QuicLink {
    connection: Connection,
}

/// Random connection ids. quinn's own are bound to the process, and packets with another's are dropped
/// before they could be answered by a reset.
#[derive(Debug)]
struct RandomIds;

/// One bidirectional stream.
#[derive(Debug)]
pub(super) struct QuicStream {
    send: SendStream,
    receive: RecvStream,
    finished: bool,
}

/// The UDP side of the public port.
#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: Endpoint,
}

impl Listener {
    /// Listens on a bound socket with a TLS configuration that offers our ALPN only.
    ///
    /// `reset_key` must be the same after a restart: with it, agents whose link died with the process
    /// hear so at their next packet (a stateless reset, RFC 9000 §10.3) instead of half a minute later.
    pub(crate) fn new(
        socket: std::net::UdpSocket,
        tls: Arc<rustls::ServerConfig>,
        reset_key: &Secret<[u8; 32]>,
    ) -> io::Result<Self> {
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(server_transport())
            .max_incoming(INCOMING_MAX);
        let reset_key = hmac::Key::new(hmac::HMAC_SHA256, reset_key.expose());
        let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
        endpoint
            .cid_generator(|| Box::new(RandomIds))
            .min_reset_interval(RESET_INTERVAL);
        let endpoint = Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))?;
        Ok(Self { endpoint })
    }

    /// The next agent whose TLS handshake is under way; `None` once closed.
    pub(crate) async fn accept(&self) -> Option<Connecting> {
        loop {
            let incoming = self.endpoint.accept().await?;
            // An address that cannot be proven costs nothing: it is asked to come again.
            if self.endpoint.open_connections() > UNPROVEN_MAX && incoming.may_retry() {
                if let Err(error) = incoming.retry() {
                    tracing::debug!(%error, "retry not sent");
                }
                continue;
            }
            return Some(Connecting { incoming });
        }
    }

    /// Takes no more links; those that live go on.
    pub(crate) fn stop_accepting(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Ends every link.
    pub(crate) fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"edge stopped");
    }

    /// Waits until the last link's goodbye has gone out.
    pub(crate) async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct Connecting {
    incoming: quinn::Incoming,
}

impl Connecting {
    pub(crate) fn peer(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Turns the link away before anything is spent on it.
    pub(crate) fn refuse(self) {
        self.incoming.refuse();
    }

    /// Completes the handshake.
    pub(crate) async fn establish(self) -> Result<Link, LinkEnded> {
        let connection = self.incoming.await.map_err(ended)?;
        Ok(Link::Quic(QuicLink { connection }))
    }
}

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&secret::random::<ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
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

const ID_BYTES: usize = 8;
/// Between two stateless resets: a thousand agents are told within a second, and whoever sends rubbish
/// gets less back than that.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// An agent opens one stream, for control; data streams are the edge's to open.
const AGENT_STREAMS_MAX: u32 = 1;
/// 10,000 idle links at 4 s took a tenth of a core; at 10 s a dead one is found in half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// Handshakes that wait to be looked at.
const INCOMING_MAX: usize = 1024;
/// Above so many links an address must prove itself first.
const UNPROVEN_MAX: usize = 1024;
