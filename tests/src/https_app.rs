//! Apps behind TLS: a certificate authority of the test's own, and an app that ends its connections as
//! it is told to, politely or not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Signs certificates for apps.
#[derive(Debug)]
pub struct AppCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct AppCert {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

/// A listening app; stops accepting when dropped.
#[derive(Debug)]
pub struct HttpsApp {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

/// What arrived.
#[derive(Debug, Default)]
struct Seen {
    heads: Vec<String>,
    names: Vec<Option<String>>,
    ends: Vec<std::io::ErrorKind>,
    handshakes_failed: usize,
}

impl AppCa {
    pub fn new() -> Self {
        crate::net::install_provider();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for these names.
    pub fn issue(&self, names: &[&str]) -> AppCert {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names).signed_by(&key, &self.issuer).unwrap();
        AppCert::of(&certificate, &key)
    }

    /// Its own certificate as a file.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let file = folder.join("app-ca.pem");
        std::fs::write(&file, &self.pem).unwrap();
        file
    }
}

impl Default for AppCa {
    fn default() -> Self {
        Self::new()
    }
}

impl AppCert {
    /// What `openssl req -x509` makes: signed by itself, and marked as a CA.
    pub fn self_signed(names: &[&str]) -> Self {
        crate::net::install_provider();
        let key = KeyPair::generate().unwrap();
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::of(&params.self_signed(&key).unwrap(), &key)
    }

    /// As a file.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let file = folder.join("app.pem");
        std::fs::write(&file, &self.pem).unwrap();
        file
    }

    /// A server that shows it.
    pub fn config(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            pem: certificate.pem(),
        }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap()
}

impl HttpsApp {
    /// Listens on a port that the system picks. By path: `/until-close` and `/cut-short` end their body
    /// with the connection, the second without close_notify; `/sloppy` has a length and ends without one,
    /// too; `/endless` goes on; everything else says `hello` and keeps the connection.
    pub async fn start(certificate: &AppCert) -> Self {
        let acceptor = TlsAcceptor::from(certificate.config(&[b"http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    match acceptor.accept(stream).await {
                        Ok(stream) => {
                            let name = stream.get_ref().1.server_name().map(str::to_owned);
                            seen.lock().unwrap().names.push(name);
                            serve(stream, &seen).await;
                        }
                        Err(_) => seen.lock().unwrap().handshakes_failed += 1,
                    }
                });
            }
        });
        Self { addr, seen, task }
    }

    /// `https://localhost:port`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().heads.clone()
    }

    /// The names in the hellos of all handshakes that succeeded.
    pub fn names(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().names.clone()
    }

    /// How `/endless` answers ended.
    pub fn ends(&self) -> Vec<std::io::ErrorKind> {
        self.seen.lock().unwrap().ends.clone()
    }
}

impl Drop for HttpsApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut io: TlsStream<TcpStream>, seen: &Mutex<Seen>) {
    while let Some(head) = head(&mut io).await {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.lock().unwrap().heads.push(head);
        let (answer, ending) = match path.as_str() {
            "/until-close" => (UNTIL_CLOSE.to_owned(), Ending::Polite),
            "/cut-short" => (UNTIL_CLOSE.to_owned(), Ending::Rude),
            "/sloppy" => (whole(&"x".repeat(100_000)), Ending::Rude),
            "/endless" => {
                let mut error = io.write_all(UNTIL_CLOSE.as_bytes()).await.err();
                while error.is_none() {
                    error = io.write_all(&[b'x'; 16 * 1024]).await.err();
                }
                let kind = error.expect("it ended").kind();
                seen.lock().unwrap().ends.push(kind);
                return;
            }
            _ => (whole("hello"), Ending::None),
        };
        if io.write_all(answer.as_bytes()).await.is_err() || io.flush().await.is_err() {
            return;
        }
        match ending {
            Ending::None => {}
            Ending::Polite => {
                let _ = io.shutdown().await;
                return;
            }
            Ending::Rude => {
                let _ = io.get_mut().0.shutdown().await;
                return;
            }
        }
    }
}

enum Ending {
    None,
    Polite,
    /// TCP alone is closed.
    Rude,
}

async fn head(io: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn whole(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end";
