//! TCP endpoints: a listener for each port that is bound, opened when its endpoint is first served and
//! closed when that is removed. Address rules are judged before the first byte is read.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::BytesMut;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::ingress::Ingress;
use crate::ingress::connection;
use crate::ingress::listener::{self, Admission, Place};
use crate::ingress::proxied::Ends;
use crate::ingress::raw::{self, ClientIo, Record};
use crate::metrics::NotServed;
use crate::model::endpoint::{Endpoint, Kind};

/// The ports of TCP endpoints. Shared.
#[derive(Debug)]
pub(crate) struct TcpPorts {
    address: IpAddr,
    /// Set once; the other way round it holds agents, who hold these ports.
    ingress: OnceLock<Weak<Ingress>>,
    admission: Arc<Admission>,
    /// Where listeners and connections live, whoever asks for them.
    runtime: Handle,
    ports: Mutex<HashMap<u16, Port>>,
}

#[derive(Debug)]
enum Port {
    /// Taken from the system; nobody is heard yet.
    Held(Socket),
    Serving,
}

impl TcpPorts {
    /// Listens on this address, on the current runtime, once it is told whom to serve for.
    pub(crate) fn new(address: IpAddr, admission: Arc<Admission>) -> Arc<Self> {
        Arc::new(Self {
            address,
            ingress: OnceLock::new(),
            admission,
            runtime: Handle::current(),
            ports: Mutex::default(),
        })
    }

    /// Says whom to serve for. The first word counts.
    pub(crate) fn serve_for(&self, ingress: &Arc<Ingress>) {
        let _ = self.ingress.set(Arc::downgrade(ingress));
    }

    /// Takes a port from the system, unless it is here already.
    pub(crate) fn hold(&self, port: u16) -> io::Result<()> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let std::collections::hash_map::Entry::Vacant(vacant) = ports.entry(port) {
            vacant.insert(Port::Held(bind(SocketAddr::new(self.address, port))?));
        }
        Ok(())
    }

    /// Accepts connections for a TCP endpoint that is routed by now, until it is routed no more.
    pub(crate) fn serve(self: &Arc<Self>, endpoint: &Endpoint) {
        let Kind::Tcp { port, .. } = endpoint.kind else {
            return;
        };
        // None before the edge serves, and after.
        let Some(ingress) = self.ingress.get().and_then(Weak::upgrade) else {
            return;
        };
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match ports.remove(&port) {
            Some(Port::Serving) => {
                ports.insert(port, Port::Serving);
                return;
            }
            Some(Port::Held(socket)) => listen(socket),
            None => bind(SocketAddr::new(self.address, port)).and_then(listen),
        };
        match listener {
            Ok(listener) => {
                ports.insert(port, Port::Serving);
                let (this, host) = (Arc::clone(self), endpoint.host.clone());
                let shutdown = ingress.shutdown.clone();
                let _on = self.runtime.enter();
                shutdown.spawn(async move { this.run(ingress, listener, port, &host).await });
            }
            Err(error) => tracing::error!(%error, port, "TCP endpoint not listened for"),
        }
    }

    async fn run(&self, ingress: Arc<Ingress>, listener: TcpListener, port: u16, host: &str) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, port, "TCP endpoint not listened for");
                self.ports
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&port);
                return;
            }
        };
        tracing::info!(port, "TCP endpoint opened");
        let shutdown = &ingress.shutdown;
        let serve_one = |stream, peer, place| {
            let (ingress, host) = (Arc::clone(&ingress), host.to_owned());
            shutdown.spawn(async move { serve(&ingress, stream, peer, place, &host).await });
        };
        let accept = listener::accept(
            listener,
            Arc::clone(&self.admission),
            shutdown.clone(),
            serve_one,
        );
        tokio::select! {
            () = accept => {}
            () = self.unrouted(&ingress, port, host) => {}
        }
        tracing::info!(port, "TCP endpoint closed");
    }

    /// Resolves once the port has no endpoint, and is forgotten then.
    async fn unrouted(&self, ingress: &Ingress, port: u16, host: &str) {
        loop {
            if let Some(mut route) = ingress.routes.find_tcp(host) {
                // Gone, or changed: looked up again.
                let _ = route.watch.changed().await;
                continue;
            }
            // Whoever binds the port anew routes it first and asks for a listener then: it is found here,
            // or it finds the port free.
            let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
            if ingress.routes.find_tcp(host).is_none() {
                ports.remove(&port);
                return;
            }
        }
    }
}

/// Serves one connection to a TCP endpoint, or resets it.
async fn serve(
    ingress: &Ingress,
    mut stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    host: &str,
) {
    connection::prepare(&stream);
    let Ok(edge) = stream.local_addr() else {
        return;
    };
    let ends = Ends { client: peer, edge };
    let mut early = BytesMut::new();
    let identified = ingress
        .proxies
        .identify(&mut stream, &mut early, ends, place)
        .await;
    let client = ClientIo::Plain(stream);
    client.end_with_reset();
    let (ends, _place) = match identified {
        Ok(Some(identified)) => identified,
        Ok(None) => {
            ingress.metrics.not_served(NotServed::TooMany);
            return;
        }
        Err(error) => {
            ingress.metrics.not_served(NotServed::ProxyHeader);
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                client.address = %peer.ip(),
                "connection refused"
            );
            return;
        }
    };
    let Some(route) = ingress.routes.find_tcp(host) else {
        return;
    };
    let record = Record::begin(ingress.clock, ends, route.endpoint.id, "tcp");
    match ingress.auth.authorize_connection(&route, ends.client.ip()) {
        // Without a stream the client is dropped, and so reset.
        Ok(permit) => drop(raw::serve(ingress, permit, client, early, record).await),
        Err(code) => record.refused(ingress, code),
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections to time out. It does not let two listen.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

const BACKLOG: i32 = 1024;
