//! Handshakes in memory: who is believed, by what name, with what.

mod dev_ca;
mod files;
mod link_ca;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::*;

const DOMAIN: &str = "quay.localhost";
const LINK_NAME: &str = "connect.quay.localhost";

/// An edge's certificates in a folder of their own.
struct World {
    dir: tempfile::TempDir,
    link_ca: LinkCa,
    dev_ca: Arc<DevCa>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let link_ca = LinkCa::new(&[7; 32]).unwrap();
        let dev_ca = Arc::new(DevCa::open(dir.path(), DOMAIN).unwrap());
        Self {
            dir,
            link_ca,
            dev_ca,
        }
    }

    fn resolver(&self, web: Web) -> Arc<Resolver> {
        Arc::new(Resolver::new(
            LINK_NAME,
            self.link_ca.issue(LINK_NAME).unwrap(),
            web,
        ))
    }

    fn server(&self, web: Web) -> Arc<ServerConfig> {
        tls::tcp_config(self.resolver(web), &[b"h2", b"http/1.1"]).unwrap()
    }

    fn dev_server(&self) -> Arc<ServerConfig> {
        self.server(Web::Dev(Arc::clone(&self.dev_ca)))
    }

    /// A browser that trusts the development CA.
    fn browser(&self) -> ClientConfig {
        trusting(dev_root(self.dir.path()))
    }
}

fn dev_root(dir: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(dir.join("dev-ca.pem")).unwrap())
        .unwrap();
    roots
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Shakes hands until both sides are content; gives the chain that the client saw.
fn shake(
    server: &Arc<ServerConfig>,
    client: ClientConfig,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    let io = |error: std::io::Error| rustls::Error::General(error.to_string());
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).map_err(io)?;
        }
        let mut read = wire.as_slice();
        while !read.is_empty() {
            server.read_tls(&mut read).map_err(io)?;
        }
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).map_err(io)?;
        }
        let mut read = wire.as_slice();
        while !read.is_empty() {
            client.read_tls(&mut read).map_err(io)?;
        }
        client.process_new_packets()?;
    }
    Ok(client
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|cert| cert.clone().into_owned())
        .collect())
}
