//! The UDP side of the public port: a socket for each worker, and the agents that arrive there.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use proto::budget::Budget;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Runtime, ServerConfig, TokioRuntime, VarInt};

use super::handover::{Handover, WorkerSocket};
use super::ids::{self, WorkerIds};
use super::{QuicLink, ended, server_transport};
use crate::secret::Secret;
use crate::tunnel::link::{Congestion, Link, LinkEnded};

/// A worker's place at the public UDP port, before its runtime has it.
#[derive(Debug)]
pub(crate) struct Seat {
    socket: UdpSocket,
    worker: usize,
    handover: Arc<Handover>,
    server: ServerConfig,
    reset_key: Arc<hmac::Key>,
    budget: Budget,
}

/// One worker's UDP side of the public port. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    endpoint: Endpoint,
    handover: Arc<Handover>,
    /// Links of this worker above which an address must prove itself.
    unproven_max: usize,
    budget: Budget,
}

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct Connecting {
    incoming: quinn::Incoming,
    budget: Budget,
}

impl Seat {
    /// Makes places of the sockets, which are bound to one port, with a TLS configuration that offers
    /// our ALPN only.
    ///
    /// `reset_key` must be the same after a restart: with it, agents whose link died with the process
    /// hear so at their next packet (a stateless reset, RFC 9000 §10.3) instead of half a minute later,
    /// whatever number of workers there was and is.
    pub(crate) fn all(
        sockets: Vec<UdpSocket>,
        tls: Arc<rustls::ServerConfig>,
        reset_key: &Secret<[u8; 32]>,
        congestion: Congestion,
        budget: &Budget,
    ) -> io::Result<Vec<Self>> {
        let workers = sockets.len().clamp(1, ids::WORKERS_MAX);
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        // Bounds of the port: each worker has its part, since the kernel spreads agents evenly.
        server
            .transport_config(server_transport(congestion))
            .max_incoming(INCOMING_MAX.div_ceil(workers))
            .incoming_buffer_size(HELLO_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX / workers as u64);
        let reset_key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key.expose()));
        let handover = Handover::new(workers);
        let seats = sockets.into_iter().take(workers).enumerate();
        Ok(seats
            .map(|(worker, socket)| Self {
                socket,
                worker,
                handover: Arc::clone(&handover),
                server: server.clone(),
                reset_key: Arc::clone(&reset_key),
                budget: budget.clone(),
            })
            .collect())
    }

    /// Listens. Links live on the runtime that this is called on.
    pub(crate) fn open(self) -> io::Result<Listener> {
        let workers = self.handover.workers();
        let mut config = EndpointConfig::new(self.reset_key);
        let worker = self.worker;
        config
            .cid_generator(move || Box::new(WorkerIds { worker, workers }))
            .min_reset_interval(RESET_INTERVAL);
        let socket = TokioRuntime.wrap_udp_socket(self.socket)?;
        let endpoint = if workers == 1 {
            // Nobody to hand anything to.
            Endpoint::new_with_abstract_socket(
                config,
                Some(self.server),
                socket,
                Arc::new(TokioRuntime),
            )?
        } else {
            let socket = WorkerSocket::new(socket, worker, Arc::clone(&self.handover));
            Endpoint::new_with_abstract_socket(
                config,
                Some(self.server),
                Arc::new(socket),
                Arc::new(TokioRuntime),
            )?
        };
        Ok(Listener {
            endpoint,
            handover: self.handover,
            unproven_max: UNPROVEN_MAX / workers,
            budget: self.budget,
        })
    }
}

impl Listener {
    /// The next agent whose TLS handshake is under way; `None` once closed.
    pub(crate) async fn accept(&self) -> Option<Connecting> {
        loop {
            let incoming = self.endpoint.accept().await?;
            // An address that cannot be proven costs nothing: it is asked to come again.
            if self.endpoint.open_connections() > self.unproven_max && incoming.may_retry() {
                if let Err(error) = incoming.retry() {
                    tracing::debug!(%error, "retry not sent");
                }
                continue;
            }
            let budget = self.budget.clone();
            return Some(Connecting { incoming, budget });
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

    /// Datagrams that this port's workers handed each other, and those that were dropped on the way.
    pub(crate) fn handed_over(&self) -> (u64, u64) {
        self.handover.counts()
    }
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
        Ok(Link::Quic(QuicLink::new(connection, &self.budget)))
    }
}

/// Between two stateless resets of a worker: a thousand agents are told within a second, and whoever
/// sends rubbish gets less back than that.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// Handshakes that wait to be looked at.
const INCOMING_MAX: usize = 1024;
/// Bytes of a handshake that waits: a hello with large key shares takes three packets.
const HELLO_BYTES_MAX: u64 = 64 << 10;
/// The same of all that wait.
const INCOMING_BYTES_MAX: u64 = 16 << 20;
/// Above so many links an address must prove itself first.
const UNPROVEN_MAX: usize = 1024;
