//! A way between an agent and an edge that can be disturbed, and an HTTP proxy beside it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// One port for TCP and UDP in front of an edge. UDP gets through only while it is let.
#[derive(Debug)]
pub struct Detour {
    pub addr: SocketAddr,
    lets_udp: Arc<AtomicBool>,
    tcp_connections: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Detour {
    /// In front of an edge, with UDP swallowed.
    pub async fn without_udp(edge: SocketAddr) -> Self {
        let (tcp, udp) = bind_both().await;
        let addr = tcp.local_addr().expect("an address");
        let lets_udp = Arc::new(AtomicBool::new(false));
        let tcp_connections = Arc::new(AtomicUsize::new(0));
        let tasks = vec![
            tokio::spawn(forward_tcp(tcp, edge, Arc::clone(&tcp_connections))),
            tokio::spawn(forward_udp(Arc::new(udp), edge, Arc::clone(&lets_udp))),
        ];
        Self {
            addr,
            lets_udp,
            tcp_connections,
            tasks,
        }
    }

    /// From now on UDP gets through, or is swallowed.
    pub fn let_udp(&self, lets: bool) {
        self.lets_udp.store(lets, Ordering::Relaxed);
    }

    /// TCP connections so far.
    pub fn tcp_connections(&self) -> usize {
        self.tcp_connections.load(Ordering::Relaxed)
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A port that is free for both.
async fn bind_both() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a TCP port");
        let addr = tcp.local_addr().expect("an address");
        if let Ok(udp) = UdpSocket::bind(addr).await {
            return (tcp, udp);
        }
    }
}

async fn forward_tcp(listener: TcpListener, edge: SocketAddr, count: Arc<AtomicUsize>) {
    while let Ok((mut near, _)) = listener.accept().await {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(edge).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

async fn forward_udp(near: Arc<UdpSocket>, edge: SocketAddr, lets: Arc<AtomicBool>) {
    let mut far: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((len, agent)) = near.recv_from(&mut buffer).await {
        if !lets.load(Ordering::Relaxed) {
            continue;
        }
        let known = far.get(&agent).map(Arc::clone);
        let socket = if let Some(socket) = known {
            socket
        } else {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
            socket.connect(edge).await.expect("connected");
            let socket = Arc::new(socket);
            far.insert(agent, Arc::clone(&socket));
            let (near, lets, back) = (Arc::clone(&near), Arc::clone(&lets), Arc::clone(&socket));
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(len) = back.recv(&mut buffer).await {
                    if lets.load(Ordering::Relaxed) {
                        let _ = near.send_to(&buffer[..len], agent).await;
                    }
                }
            });
            socket
        };
        let _ = socket.send(&buffer[..len]).await;
    }
}

/// An HTTP proxy that takes CONNECT and leads to one edge, whatever host it is asked for.
#[derive(Debug)]
pub struct ConnectProxy {
    pub addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// How the proxy answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Lets everybody through who says this in `Proxy-Authorization`; 407 to all others.
    Login(&'static str),
    Anybody,
    /// This status line.
    Refuse(&'static str),
    /// Something without an end.
    Endless,
}

impl ConnectProxy {
    pub async fn start(edge: SocketAddr, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let _ = serve(near, edge, answer, &seen).await;
                });
            }
        });
        Self { addr, heads, task }
    }

    /// The requests' heads so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut near: TcpStream,
    edge: SocketAddr,
    answer: Answer,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    seen.lock().unwrap().push(head.clone());
    match answer {
        Answer::Login(login) if !head.contains(&format!("Proxy-Authorization: {login}\r\n")) => {
            near.write_all(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            )
            .await
        }
        Answer::Login(_) | Answer::Anybody => {
            let mut far = TcpStream::connect(edge).await?;
            near.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                .await?;
            copy_bidirectional(&mut near, &mut far).await?;
            Ok(())
        }
        Answer::Refuse(line) => near.write_all(format!("{line}\r\n\r\n").as_bytes()).await,
        Answer::Endless => loop {
            near.write_all(b"HTTP/1.1 200 OK, and so on, and so on")
                .await?;
        },
    }
}
