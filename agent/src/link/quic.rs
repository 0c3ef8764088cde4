//! The QUIC link. Its numbers come from measurements over distance and under loss: BBR, 4 MB a
//! stream, 16 MB a connection, fairness left on. `backlog` keeps apps that do not read from harming others.

mod backlog;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::budget::Budget;
use proto::limits::STREAMS_PER_TUNNEL_MAX;
use proto::turns::Turns;
use proto::window::{LINK_WINDOW, STREAM_WINDOW};
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout,
    RecvStream, SendStream, TokioRuntime, TransportConfig, TransportErrorCode, VarInt,
};
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::AbortHandle;

use super::{AttemptError, DialError, LinkEnded, Target, verify};
use crate::addrs;
use crate::config::Congestion;
use backlog::{Backlog, Inlet};

/// Dials addresses of one target.
#[derive(Debug)]
pub(super) struct Dialler {
    config: ClientConfig,
    server_name: String,
    unread: Budget,
}

/// A QUIC connection and the socket it lives on.
#[derive(Clone, Debug)]
pub(super) struct QuicLink {
    connection: Connection,
    endpoint: Endpoint,
    backlog: Arc<Backlog>,
    _keeper: Arc<Keeper>,
}

/// The task that looks after a link's window. It ends with the last handle of the link: an own handle of
/// the connection would keep that alive.
#[derive(Debug)]
struct Keeper(AbortHandle);

#[derive(Debug)]
pub(super) struct QuicReceive {
    stream: RecvStream,
    inlet: Arc<Inlet>,
    waker: Waker,
    ended: bool,
}

#[derive(Debug)]
pub(super) struct QuicSend {
    stream: SendStream,
    turns: Turns,
    finished: bool,
}

impl Dialler {
    pub(super) fn new(target: &Target) -> Result<Self, DialError> {
        ServerName::try_from(target.server_name.as_str())
            .map_err(|_| DialError::Unusable(format!("{:?} is no name", target.server_name)))?;
        let tls = verify::client_config(&target.trust).map_err(DialError::Unusable)?;
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| DialError::Unusable(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport(target.congestion)));
        Ok(Self {
            config,
            server_name: target.server_name.clone(),
            unread: target.unread.clone(),
        })
    }

    /// Shakes hands with whoever is at the address.
    ///
    /// Says hello several times: one hello is repeated ever more slowly, so that an edge that has just
    /// come up, or a path that lost a packet, would be met seconds late.
    pub(super) async fn dial(&self, addr: SocketAddr) -> Result<QuicLink, AttemptError> {
        let failed = |error: &dyn std::fmt::Display| AttemptError::Failed(error.to_string());
        let endpoint = endpoint(addr).map_err(|error| failed(&error))?;
        let hello = async |addr| {
            let connecting = endpoint
                .connect_with(self.config.clone(), addr, &self.server_name)
                .map_err(|error: ConnectError| failed(&error))?;
            connecting.await.map_err(|error| match untrusted(&error) {
                Some(reason) => AttemptError::Untrusted {
                    addr: addr.to_string(),
                    reason,
                },
                None => AttemptError::Failed(format!("{addr}: {error}")),
            })
        };
        // The first answer decides, whether it is yes or no.
        let hellos = [addr; HELLOS];
        let answer = addrs::race(&hellos, HELLO_EVERY, async |addr| {
            Ok::<_, Infallible>(hello(addr).await)
        });
        let answer = tokio::time::timeout(HANDSHAKE_WITHIN, answer).await;
        match answer {
            Ok(Ok(answer)) => {
                answer.map(|connection| QuicLink::new(connection, endpoint, &self.unread))
            }
            Ok(Err(_)) | Err(_) => Err(AttemptError::Failed(format!(
                "{addr}: no answer within {} seconds",
                HANDSHAKE_WITHIN.as_secs()
            ))),
        }
    }
}

impl QuicLink {
    fn new(connection: Connection, endpoint: Endpoint, unread: &Budget) -> Self {
        let backlog = Backlog::new(connection.clone(), unread.open());
        let keeper = tokio::spawn(Arc::clone(&backlog).keep());
        Self {
            connection,
            endpoint,
            backlog,
            _keeper: Arc::new(Keeper(keeper.abort_handle())),
        }
    }

    pub(super) async fn open(&self) -> Result<(QuicSend, QuicReceive), LinkEnded> {
        let opened = self.connection.open_bi().await;
        opened
            .map(|stream| self.halves(stream))
            .map_err(|error| ended(&error))
    }

    pub(super) async fn accept(&self) -> Result<(QuicSend, QuicReceive), LinkEnded> {
        let accepted = self.connection.accept_bi().await;
        accepted
            .map(|stream| self.halves(stream))
            .map_err(|error| ended(&error))
    }

    fn halves(&self, (send, receive): (SendStream, RecvStream)) -> (QuicSend, QuicReceive) {
        let inlet = self.backlog.watch(receive.id());
        let send = QuicSend {
            stream: send,
            turns: Turns::default(),
            finished: false,
        };
        let receive = QuicReceive {
            stream: receive,
            waker: Waker::from(Arc::clone(&inlet)),
            inlet,
            ended: false,
        };
        (send, receive)
    }

    /// Datagrams that came, acknowledgements among them.
    pub(super) fn received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// See [`super::Link::is_over`].
    pub(super) fn is_over(&self) -> bool {
        self.backlog.is_over()
    }

    pub(super) async fn closed(&self) -> LinkEnded {
        ended(&self.connection.closed().await)
    }

    pub(super) async fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
        // A lost goodbye costs the edge its idle time-out, nothing else.
        let _ = tokio::time::timeout(GOODBYE_WITHIN, self.endpoint.wait_idle()).await;
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    pub(super) fn peer(&self) -> String {
        self.connection.remote_address().to_string()
    }
}

impl QuicReceive {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            // Nothing is learned from a read that wants nothing.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        self.inlet.reading(cx);
        let mut ours = Context::from_waker(&self.waker);
        let polled = AsyncRead::poll_read(Pin::new(&mut self.stream), &mut ours, buffer);
        self.inlet.was_read(buffer.filled().len() - before);
        if let Poll::Ready(Ok(())) = polled
            && buffer.filled().len() == before
        {
            self.ended = true;
        }
        polled
    }
}

impl QuicReceive {
    /// See [`super::LinkReceive::reset`].
    pub(super) async fn reset(&mut self) {
        tokio::select! {
            reset = self.stream.received_reset() => {
                if let Ok(None) = reset {
                    self.inlet.given_up().await;
                }
            }
            () = self.inlet.given_up() => {}
        }
    }
}

impl QuicSend {
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.turns.must_wait() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
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
        // Fails only when the edge stopped the stream: then nobody saw a good end.
        self.stream
            .finish()
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        self.finished = true;
        Ok(())
    }

    /// See [`super::LinkSend::stopped`].
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            if let Ok(None) = stopped.await {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for QuicSend {
    /// quinn finishes a dropped stream cleanly; that would look like a complete body.
    fn drop(&mut self) {
        if !self.finished {
            // Fails only when it has ended already.
            let _ = self.stream.reset(VarInt::from_u32(GIVEN_UP));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for QuicReceive {
    fn drop(&mut self) {
        self.inlet.close();
        if !self.ended {
            // Fails only when it has ended already.
            let _ = self.stream.stop(VarInt::from_u32(GIVEN_UP));
        }
    }
}

/// How the agent's side of a link behaves.
fn transport(congestion: Congestion) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(controller(congestion))
        .stream_receive_window(var_int(STREAM_WINDOW))
        .receive_window(var_int(LINK_WINDOW))
        .send_window(LINK_WINDOW)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_PER_TUNNEL_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(quinn::MtuDiscoveryConfig::default()))
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    transport
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

/// A socket of the address's family, with buffers that do not halve the speed.
fn endpoint(towards: SocketAddr) -> io::Result<Endpoint> {
    let (domain, any) = match towards {
        SocketAddr::V4(_) => (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        SocketAddr::V6(_) => (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // Some systems refuse a large buffer instead of granting less: slow is better than nothing.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    if let Ok(granted) = socket.recv_buffer_size()
        && granted < UDP_BUFFER
    {
        tracing::debug!(granted, asked = UDP_BUFFER, "small UDP buffer");
    }
    socket.bind(&any.into())?;
    Endpoint::new(
        EndpointConfig::default(),
        None,
        socket.into(),
        Arc::new(TokioRuntime),
    )
}

/// Why whoever answered is not the edge, when that is what ended the handshake.
fn untrusted(error: &ConnectionError) -> Option<String> {
    // RFC 9001 §4.8: a TLS alert travels as 0x100 + its number (RFC 8446 §6).
    let alert = |code: TransportErrorCode| u64::from(code).checked_sub(0x100);
    match error {
        // Raised here: 42 to 51 are about certificates and signatures, as are 113 and 116.
        ConnectionError::TransportError(error) => {
            let alert = alert(error.code)?;
            let about_certificate = (42..=51).contains(&alert) || alert == 113 || alert == 116;
            about_certificate.then(|| error.reason.clone())
        }
        // Raised there: access_denied and unrecognized_name, of an edge without that name.
        ConnectionError::ConnectionClosed(close) => {
            let has_no_such_name = matches!(alert(close.error_code)?, 49 | 112);
            has_no_such_name.then(|| "it has no certificate for that name".to_owned())
        }
        ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => None,
    }
}

fn ended(error: &ConnectionError) -> LinkEnded {
    let code = if let ConnectionError::ApplicationClosed(close) = error {
        close.error_code.into_inner()
    } else {
        0
    };
    let why = match error {
        ConnectionError::TimedOut => "the edge fell silent".to_owned(),
        ConnectionError::LocallyClosed => "the link was closed here".to_owned(),
        ConnectionError::ApplicationClosed(_) => "the edge closed the link".to_owned(),
        ConnectionError::Reset => "the edge has restarted".to_owned(),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::CidsExhausted => error.to_string(),
    };
    LinkEnded { why, code }
}

/// Keeps addresses mapped in between. The control protocol's probes come as often, and find a dead edge
/// sooner than the transport does.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const IDLE_TIMEOUT_MS: u32 = 45_000;
/// The system's default halves bulk transfers (measured); the kernel may grant less.
const UDP_BUFFER: usize = 8 << 20;
const HELLOS: usize = 3;
const HELLO_EVERY: Duration = Duration::from_millis(1500);
/// A first packet is repeated after three times this. A slower path costs a packet more.
const INITIAL_RTT: Duration = Duration::from_millis(100);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const GOODBYE_WITHIN: Duration = Duration::from_millis(300);
/// A stream was given up by this side.
const GIVEN_UP: u32 = 1;
