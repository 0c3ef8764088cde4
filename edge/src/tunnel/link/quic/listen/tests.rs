//! Real sockets on loopback: links outlive a change of their address, whichever worker holds them.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::thread::JoinHandle;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, RecvStream, SendStream};
use rustls::pki_types::PrivatePkcs8KeyDer;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::tunnel::link::LinkStream;

const NAME: &str = "connect.quay.localhost";
/// Ten times what a slow, shared computer needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// An edge's workers, which send back what comes on control streams.
struct Port {
    address: SocketAddr,
    listeners: Vec<Listener>,
    threads: Vec<JoinHandle<()>>,
    halt: CancellationToken,
    /// How many links each worker took.
    taken: Arc<Mutex<Vec<usize>>>,
}

struct Certificate {
    server: Arc<rustls::ServerConfig>,
    client: ClientConfig,
}

/// An agent's link: a socket of its own, and its control stream.
struct Agent {
    endpoint: Endpoint,
    connection: Connection,
    to: SendStream,
    from: RecvStream,
}

impl Certificate {
    fn new() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
        let chain = vec![made.cert.der().clone()];
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let versions: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.into())
            .unwrap();
        server.alpn_protocols = vec![proto::version::ALPN_AGENT.to_vec()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![proto::version::ALPN_AGENT.to_vec()];
        let crypto = QuicClientConfig::try_from(client).unwrap();
        Self {
            server: Arc::new(server),
            client: ClientConfig::new(Arc::new(crypto)),
        }
    }
}

impl Port {
    fn open(certificate: &Certificate, address: SocketAddr, workers: usize) -> Self {
        let sockets = bind(address, workers);
        let address = sockets[0].local_addr().unwrap();
        let key = Secret::new([7; 32]);
        let seats = Seat::all(sockets, Arc::clone(&certificate.server), &key).unwrap();
        let halt = CancellationToken::new();
        let taken = Arc::new(Mutex::new(vec![0; workers]));
        let mut port = Self {
            address,
            listeners: Vec::new(),
            threads: Vec::new(),
            halt,
            taken,
        };
        for (worker, seat) in seats.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let listener = {
                let _within = runtime.enter();
                seat.open().unwrap()
            };
            port.listeners.push(listener.clone());
            let (taken, halt) = (Arc::clone(&port.taken), port.halt.clone());
            port.threads.push(std::thread::spawn(move || {
                runtime.block_on(async move {
                    let accept = async {
                        while let Some(connecting) = listener.accept().await {
                            taken.lock().unwrap()[worker] += 1;
                            tokio::spawn(async move {
                                let link = connecting.establish().await?;
                                echo(link.accept().await?).await;
                                Ok::<_, LinkEnded>(())
                            });
                        }
                    };
                    halt.run_until_cancelled(accept).await;
                });
            }));
        }
        port
    }

    /// Ends without a word, as a killed process does.
    fn kill(self) {
        self.halt.cancel();
        drop(self.listeners);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// As `server::bound` does.
fn bind(address: SocketAddr, count: usize) -> Vec<UdpSocket> {
    let mut address = address;
    (0..count)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.bind(&address.into()).unwrap();
            address = socket.local_addr().unwrap().as_socket().unwrap();
            socket.into()
        })
        .collect()
}

async fn echo(mut stream: LinkStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() {
        if stream.write_all(&byte).await.is_err() {
            return;
        }
    }
}

impl Agent {
    async fn dial(port: &Port, certificate: &Certificate) -> Self {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = endpoint.connect_with(certificate.client.clone(), port.address, NAME);
        let connection = connecting.unwrap().await.unwrap();
        let (to, from) = connection.open_bi().await.unwrap();
        let mut agent = Self {
            endpoint,
            connection,
            to,
            from,
        };
        assert!(agent.is_live(0).await);
        agent
    }

    async fn is_live(&mut self, byte: u8) -> bool {
        let mut back = [0];
        let there_and_back = async {
            self.to.write_all(&[byte]).await.unwrap();
            self.from.read_exact(&mut back).await.unwrap();
        };
        let live = tokio::time::timeout(DEADLINE, there_and_back).await;
        live.is_ok() && back == [byte]
    }

    fn rebind(&self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        self.endpoint.rebind(socket).unwrap();
    }
}

async fn agents(port: &Port, certificate: &Certificate, count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(Agent::dial(port, certificate).await);
    }
    agents
}

/// Roaming keeps a link, at any number of workers: a hundred of a hundred live, three addresses later.
#[tokio::test]
async fn links_outlive_a_change_of_address() {
    let certificate = Certificate::new();
    for workers in [1, 2, 4] {
        let port = Port::open(&certificate, (Ipv4Addr::LOCALHOST, 0).into(), workers);
        let mut agents = agents(&port, &certificate, 100).await;
        assert!(
            port.taken.lock().unwrap().iter().all(|taken| *taken > 0),
            "the kernel spreads them"
        );
        for round in 1..=3 {
            let mut tried = JoinSet::new();
            for mut agent in agents.drain(..) {
                agent.rebind();
                tried.spawn(async move { (agent.is_live(round).await, agent) });
            }
            let mut live = 0;
            while let Some(tried) = tried.join_next().await {
                let (is_live, agent) = tried.unwrap();
                live += usize::from(is_live);
                agents.push(agent);
            }
            assert_eq!(live, 100, "{workers} workers, round {round}");
        }
        let (handed, dropped) = port.listeners[0].handed_over();
        assert_eq!(handed > 0, workers > 1, "{workers} workers");
        assert_eq!(dropped, 0);
        port.kill();
    }
}

/// Several links on one socket may belong to several workers once it has another address.
#[tokio::test]
async fn links_on_one_socket_outlive_it_too() {
    let certificate = Certificate::new();
    let port = Port::open(&certificate, (Ipv4Addr::LOCALHOST, 0).into(), 4);
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut streams = Vec::new();
    for round in 0..20 {
        let connecting = endpoint.connect_with(certificate.client.clone(), port.address, NAME);
        let connection = connecting.unwrap().await.unwrap();
        let (to, from) = connection.open_bi().await.unwrap();
        streams.push(Agent {
            endpoint: endpoint.clone(),
            connection,
            to,
            from,
        });
        for agent in &mut streams {
            assert!(agent.is_live(round).await, "after {round} changes");
        }
        streams[0].rebind();
    }
    assert!(port.listeners[0].handed_over().0 > 0);
    port.kill();
}

/// Agents of an edge that died hear so at their next packet, whatever number of workers comes after it.
#[tokio::test]
async fn a_restart_is_heard_with_any_number_of_workers() {
    let certificate = Certificate::new();
    for (before, after) in [(4, 3), (3, 1), (1, 2), (2, 4)] {
        let port = Port::open(&certificate, (Ipv4Addr::LOCALHOST, 0).into(), before);
        let mut agents = agents(&port, &certificate, 12).await;
        let address = port.address;
        port.kill();
        let port = Port::open(&certificate, address, after);
        for agent in &mut agents {
            let heard = async {
                loop {
                    // Resets are rare by design: what is too soon for one is sent again.
                    let _ = agent.to.write_all(&[1]).await;
                    tokio::select! {
                        ended = agent.connection.closed() => break ended,
                        () = tokio::time::sleep(Duration::from_millis(20)) => {}
                    }
                }
            };
            let ended = tokio::time::timeout(DEADLINE, heard).await;
            assert_eq!(ended, Ok(ConnectionError::Reset), "{before} then {after}");
        }
        port.kill();
    }
}
