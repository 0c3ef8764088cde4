//! How to reach a world's public port: always by address, since names under `.localhost` do not resolve
//! everywhere; the name goes into the TLS hello.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The public port of an edge, and whom to trust there. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Net {
    pub addr: SocketAddr,
    pub domain: String,
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
}

impl Net {
    /// Trusts the CA in `ca_file` and nothing else.
    pub fn new(addr: SocketAddr, domain: &str, ca_file: &Path) -> Self {
        install_provider();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file).expect("CA file") {
            roots.add(certificate.expect("PEM")).expect("a usable CA");
        }
        let config = |alpn: &[u8]| {
            let mut config = ClientConfig::builder()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            config.enable_early_data = true;
            Arc::new(config)
        };
        Self {
            addr,
            domain: domain.to_owned(),
            h1: config(b"http/1.1"),
            h2: config(b"h2"),
        }
    }

    /// `label.domain`.
    pub fn host(&self, label: &str) -> String {
        format!("{label}.{}", self.domain)
    }

    /// `https://label.domain:port`.
    pub fn url(&self, label: &str) -> String {
        format!("https://{}:{}", self.host(label), self.addr.port())
    }

    /// A TLS connection that speaks HTTP/1.1, with `name` in its hello.
    pub async fn connect_h1(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect(name, &self.h1, None).await
    }

    /// As [`Net::connect_h1`], with a small receive buffer in the kernel.
    pub async fn connect_h1_small(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect(name, &self.h1, Some(SMALL_BUFFER)).await
    }

    /// A TLS connection that speaks HTTP/2.
    pub async fn connect_h2(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect(name, &self.h2, None).await
    }

    /// TLS that speaks HTTP/1.1 over a connection that the caller made, with `name` in its hello.
    pub async fn tls_over(
        &self,
        stream: TcpStream,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.h1))
            .connect(name, stream)
            .await
    }

    async fn connect(
        &self,
        name: &str,
        config: &Arc<ClientConfig>,
        buffer: Option<u32>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        if let Some(buffer) = buffer {
            socket.set_recv_buffer_size(buffer)?;
        }
        let stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::clone(config))
            .connect(name, stream)
            .await
    }
}

/// One cryptography provider for the whole test process.
pub fn install_provider() {
    // The second caller finds it installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

const SMALL_BUFFER: u32 = 16 * 1024;
