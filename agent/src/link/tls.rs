//! The TLS link: for networks that let no UDP through. One TCP connection to the edge's public port, or
//! through a proxy; the edge proves itself exactly as in QUIC; streams over it by crate `mux`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mux::{Connection, Ended, Side};
use proto::budget::Budget;
use rustls::AlertDescription;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{AttemptError, DialError, LinkEnded, Target, proxy, verify};
use crate::config::Proxy;

/// Dials addresses of one target.
pub(super) struct Dialler {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

/// A TLS connection and who is at its other end.
#[derive(Clone, Debug)]
pub(super) struct TlsLink {
    connection: Connection,
    peer: Arc<str>,
}

#[derive(Debug)]
pub(super) struct TlsReceive(mux::Receive);

#[derive(Debug)]
pub(super) struct TlsSend(mux::Send);

impl Dialler {
    pub(super) fn new(target: &Target) -> Result<Self, DialError> {
        let server_name = ServerName::try_from(target.server_name.clone())
            .map_err(|_| DialError::Unusable(format!("{:?} is no name", target.server_name)))?;
        let tls = verify::client_config(&target.trust).map_err(DialError::Unusable)?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(tls)),
            server_name,
        })
    }

    /// Shakes hands with whoever is at the address.
    pub(super) async fn dial(&self, addr: SocketAddr) -> Result<TlsLink, AttemptError> {
        let connected = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(addr)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(AttemptError::Failed(format!("{addr}: {error}"))),
            Err(_) => return Err(silent(&addr.to_string())),
        };
        prepare(&stream);
        self.secure(stream, addr.to_string()).await
    }

    /// The same through a proxy, with an address that the proxy resolves.
    pub(super) async fn dial_through(
        &self,
        proxy: &Proxy,
        edge: &str,
    ) -> Result<TlsLink, AttemptError> {
        let stream = proxy::connect(proxy, edge)
            .await
            .map_err(AttemptError::Proxy)?;
        let peer = format!("{edge} through the proxy {proxy}");
        self.secure(stream, peer).await
    }

    async fn secure(&self, stream: TcpStream, peer: String) -> Result<TlsLink, AttemptError> {
        let handshake = self.connector.connect(self.server_name.clone(), stream);
        let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(match untrusted(&error) {
                    Some(reason) => AttemptError::Untrusted { addr: peer, reason },
                    None => AttemptError::Failed(format!("{peer}: {error}")),
                });
            }
            Err(_) => return Err(silent(&peer)),
        };
        // A server may pass over what it was asked for.
        if stream.get_ref().1.alpn_protocol() != Some(proto::version::ALPN_AGENT) {
            let why = format!("{peer}: whoever answers takes no agents over TCP");
            return Err(AttemptError::Failed(why));
        }
        let unread = Budget::new(UNREAD_MAX, UNREAD_MAX).open();
        let (connection, driver) = mux::start(stream, Side::Agent, Some(unread));
        tokio::spawn(driver);
        Ok(TlsLink {
            connection,
            peer: peer.into(),
        })
    }
}

impl TlsLink {
    pub(super) async fn open(&self) -> Result<(TlsSend, TlsReceive), LinkEnded> {
        let opened = self.connection.open().await;
        opened.map(halves).map_err(|error| ended(&error))
    }

    pub(super) async fn accept(&self) -> Result<(TlsSend, TlsReceive), LinkEnded> {
        let accepted = self.connection.accept().await;
        accepted.map(halves).map_err(|error| ended(&error))
    }

    pub(super) async fn closed(&self) -> LinkEnded {
        ended(&self.connection.closed().await)
    }

    pub(super) async fn close(&self) {
        self.connection.close(0);
        // A lost goodbye costs the edge its idle time-out, nothing else.
        let _ = tokio::time::timeout(GOODBYE_WITHIN, self.connection.closed()).await;
    }

    pub(super) fn received(&self) -> u64 {
        self.connection.received()
    }

    pub(super) fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.connection.round_trip()
    }

    pub(super) fn peer(&self) -> String {
        self.peer.as_ref().to_owned()
    }
}

impl TlsReceive {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    /// See [`super::LinkReceive::reset`].
    pub(super) async fn reset(&mut self) {
        self.0.reset().await;
    }
}

impl TlsSend {
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    /// See [`super::LinkSend::stopped`].
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.stopped()
    }
}

fn halves(stream: mux::Stream) -> (TlsSend, TlsReceive) {
    (TlsSend(stream.send), TlsReceive(stream.receive))
}

/// Asks the kernel for what suits one connection that carries everything. It may refuse: slower is
/// better than nothing.
pub(super) fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER);
    let prepared = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keep_alive));
    if let Err(error) = prepared {
        tracing::debug!(%error, "socket not prepared");
    }
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
}

/// Why whoever answered is not the edge, when that is what ended the handshake.
fn untrusted(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are not about who it is"
    )]
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Some(error.to_string())
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnrecognisedName | AlertDescription::AccessDenied,
        ) => Some("it has no certificate for that name".to_owned()),
        _ => None,
    }
}

fn silent(peer: &str) -> AttemptError {
    AttemptError::Failed(format!(
        "{peer}: no answer within {} seconds",
        CONNECT_WITHIN.as_secs()
    ))
}

fn ended(error: &Ended) -> LinkEnded {
    let code = if let Ended::Closed(code) = error {
        u64::from(*code)
    } else {
        0
    };
    let why = match error {
        Ended::Silent => "the edge fell silent".to_owned(),
        Ended::Here => "the link was closed here".to_owned(),
        Ended::Closed(_) => "the edge closed the link".to_owned(),
        Ended::Lost(_) | Ended::Violation(_) => error.to_string(),
    };
    LinkEnded { why, code }
}

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Bytes that local apps may leave unread, beyond what a link holds at any time.
const UNREAD_MAX: u64 = 64 << 20;
const GOODBYE_WITHIN: Duration = Duration::from_millis(300);
const KEEP_ALIVE_AFTER: Duration = Duration::from_mins(1);
/// Bytes that wait in the kernel beyond what is under way: a reset or a small answer queues behind no
/// more than this.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_MAX: u32 = 256 * 1024;
