//! A path for UDP that a test can disturb: it changes its address, as a home router does, and it falls
//! silent, as a train in a tunnel does.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Stands between agents and an edge; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where agents connect.
    pub addr: SocketAddr,
    path: Arc<Path>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Path {
    edge: SocketAddr,
    inside: UdpSocket,
    is_silent: AtomicBool,
    /// Raised with every change of address.
    age: AtomicU64,
}

/// One agent's port towards the edge. What still comes to an old one is lost.
struct Port {
    age: u64,
    outside: Arc<UdpSocket>,
    back: JoinHandle<()>,
}

impl Relay {
    pub async fn start(edge: SocketAddr) -> Self {
        let inside = bind().await;
        let addr = inside.local_addr().expect("bound");
        let path = Arc::new(Path {
            edge,
            inside,
            is_silent: AtomicBool::new(false),
            age: AtomicU64::new(0),
        });
        let task = tokio::spawn(Arc::clone(&path).forward());
        Self { addr, path, task }
    }

    /// From the next datagram on, the edge sees other ports.
    pub fn change_address(&self) {
        self.path.age.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether everything is lost, both ways.
    pub fn set_silent(&self, is_silent: bool) {
        self.path.is_silent.store(is_silent, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Path {
    async fn forward(self: Arc<Self>) {
        let mut ports: HashMap<SocketAddr, Port> = HashMap::new();
        let mut datagram = vec![0; DATAGRAM_MAX];
        while let Ok((len, agent)) = self.inside.recv_from(&mut datagram).await {
            if self.is_silent.load(Ordering::SeqCst) {
                continue;
            }
            let age = self.age.load(Ordering::SeqCst);
            if ports.get(&agent).is_none_or(|port| port.age != age) {
                let outside = Arc::new(bind().await);
                let back = tokio::spawn(Arc::clone(&self).back(agent, Arc::clone(&outside)));
                ports.insert(agent, Port { age, outside, back });
            }
            // A full buffer loses datagrams, as it does anywhere.
            let _ = ports[&agent]
                .outside
                .send_to(&datagram[..len], self.edge)
                .await;
        }
    }

    async fn back(self: Arc<Self>, agent: SocketAddr, outside: Arc<UdpSocket>) {
        let mut datagram = vec![0; DATAGRAM_MAX];
        while let Ok((len, _)) = outside.recv_from(&mut datagram).await {
            if !self.is_silent.load(Ordering::SeqCst) {
                let _ = self.inside.send_to(&datagram[..len], agent).await;
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.back.abort();
    }
}

async fn bind() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port")
}

const DATAGRAM_MAX: usize = 65_535;
