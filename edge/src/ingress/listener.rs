//! Accepts public connections: bounded per address, bounded in all, and pausing, not spinning, when
//! the system has no more sockets to give.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shutdown::Shutdown;

/// Counts connections, by client network and in all. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Admission {
    per_address_max: usize,
    held: Arc<AtomicUsize>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    total: Arc<Semaphore>,
}

/// A connection's place; freed when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    _total: OwnedSemaphorePermit,
    _held: Held,
}

/// Counts a place while it is held.
#[derive(Debug)]
struct Held(Arc<AtomicUsize>);

impl Admission {
    /// `total_max` connections in all, `per_address_max` from one address (IPv6: one /64).
    pub(crate) fn new(total_max: usize, per_address_max: usize) -> Arc<Self> {
        let total = Arc::new(Semaphore::new(total_max.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            per_address_max,
            held: Arc::default(),
            by_address: Mutex::default(),
            total,
        })
    }

    /// How many places are held: connections that are open.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A place now, unless all are taken or the client's network has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let total = Arc::clone(&self.total).try_acquire_owned().ok()?;
        self.admit(address, total)
    }

    /// A place, unless the client's network has as many as it may.
    fn admit(self: &Arc<Self>, address: IpAddr, total: OwnedSemaphorePermit) -> Option<Place> {
        let address = network_of(address);
        let mut by_address = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        drop(by_address);
        Some(Place {
            admission: Arc::clone(self),
            address,
            _total: total,
            _held: Held::new(&self.held),
        })
    }
}

impl Held {
    fn new(held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(held))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self
            .admission
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts until shutdown begins, and hands each connection to `serve`, which must not block.
pub(crate) async fn accept(
    listener: TcpListener,
    admission: Arc<Admission>,
    shutdown: Shutdown,
    serve: impl Fn(TcpStream, SocketAddr, Place),
) {
    loop {
        let total = tokio::select! {
            () = shutdown.begun() => break,
            permit = Arc::clone(&admission.total).acquire_owned() => permit,
        };
        // The semaphore is never closed.
        let Ok(total) = total else { break };
        let accepted = tokio::select! {
            () = shutdown.begun() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match admission.admit(peer.ip(), total) {
                Some(place) => serve(stream, peer, place),
                None => {
                    tracing::debug!(client.address = %peer.ip(), "too many connections from one address");
                }
            },
            // A client that went away before it was accepted: nothing of ours.
            Err(error) if is_of_client(&error) => {
                tracing::debug!(%error, "connection lost before accept");
            }
            Err(error) => {
                tracing::warn!(%error, "accepting is paused");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    if let Err(error) = accept_waiting(listener, &admission, serve) {
        tracing::debug!(%error, "connections that waited are not served");
    }
}

/// Serves the connections that the system has accepted for us: to their clients they are open, and
/// closing the listener would reset them.
fn accept_waiting(
    listener: TcpListener,
    admission: &Arc<Admission>,
    serve: impl Fn(TcpStream, SocketAddr, Place),
) -> std::io::Result<()> {
    let listener = listener.into_std()?;
    for _ in 0..WAITING_MAX {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if is_of_client(&error) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        if let Some(place) = admission.enter(peer.ip()) {
            stream.set_nonblocking(true)?;
            serve(TcpStream::from_std(stream)?, peer, place);
        }
    }
    Ok(())
}

fn is_of_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// An IPv6 client holds a /64 at least; counting single addresses would count nothing.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

/// As many as the system keeps for a listener.
const WAITING_MAX: usize = 1024;
/// Out of sockets or memory: others must close some first.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// One address cannot take every connection, and what it closes it may open again.
    #[tokio::test]
    async fn bounded_per_address() {
        let admission = Admission::new(10, 2);
        let admit = |text: &str| {
            let total = Arc::clone(&admission.total).try_acquire_owned().unwrap();
            admission.admit(text.parse().unwrap(), total)
        };
        let first = admit("2001:db8::1");
        let second = admit("2001:db8::ffff");
        assert!(first.is_some() && second.is_some());
        assert!(admit("2001:db8::2").is_none(), "the same /64");
        assert!(admit("203.0.113.7").is_some());
        drop(first);
        assert!(admit("2001:db8::3").is_some());
        assert!(admission.by_address.lock().unwrap().len() <= 2);
    }

    /// Who does not wait gets a place or none, by address and in all.
    #[test]
    fn entering_never_waits() {
        let admission = Admission::new(3, 2);
        let enter = |text: &str| admission.enter(text.parse().unwrap());
        let held = [
            enter("203.0.113.7"),
            enter("203.0.113.7"),
            enter("203.0.113.8"),
        ];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("203.0.113.9").is_none(), "all are taken");
        drop(held);
        let held = [enter("203.0.113.7"), enter("203.0.113.7")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("203.0.113.7").is_none(), "the address has its share");
    }
}
