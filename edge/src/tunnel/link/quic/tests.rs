//! Real sockets on loopback. What the tests share: an edge's workers, and agents as bare as can be.

mod roaming;
mod stalled;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::thread::JoinHandle;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rustls::pki_types::PrivatePkcs8KeyDer;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::secret::Secret;
use crate::tunnel::link::{Link, LinkStream};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const NAME: &str = "connect.quay.localhost";
/// Ten times what a slow, shared computer needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// An edge's workers, which send back what comes on control streams.
struct Port {
    /// Those that are established.
    links: mpsc::UnboundedReceiver<Link>,
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
    fn open(
        certificate: &Certificate,
        address: SocketAddr,
        workers: usize,
        budget: &Budget,
    ) -> Self {
        let sockets = bind(address, workers);
        let address = sockets[0].local_addr().unwrap();
        let key = Secret::new([7; 32]);
        let seats = Seat::all(
            sockets,
            Arc::clone(&certificate.server),
            &key,
            Congestion::Bbr,
            budget,
        )
        .unwrap();
        let halt = CancellationToken::new();
        let taken = Arc::new(Mutex::new(vec![0; workers]));
        let (established, links) = mpsc::unbounded_channel();
        let mut port = Self {
            links,
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
            let established = established.clone();
            port.threads.push(std::thread::spawn(move || {
                runtime.block_on(async move {
                    let accept = async {
                        while let Some(connecting) = listener.accept().await {
                            taken.lock().unwrap()[worker] += 1;
                            let established = established.clone();
                            tokio::spawn(async move {
                                let link = connecting.establish().await?;
                                let _ = established.send(link.clone());
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
