//! One certificate for everybody who is measured: ECDSA P-256, from a CA that only this run knows. And the
//! client's side of TLS, pinned so that every subject does the same work.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::{ClientConfig, RootCertStore};

/// Files for servers, settings for clients.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
    pub(super) http1: Arc<ClientConfig>,
    pub(super) http2: Arc<ClientConfig>,
}

impl Certificates {
    /// Makes them in a folder, for all names of these domains.
    pub(super) fn make(folder: &Path, domains: &[&str]) -> anyhow::Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "Sallyport bench CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate()?;
        let names: Vec<String> = domains
            .iter()
            .flat_map(|domain| [(*domain).to_owned(), format!("*.{domain}")])
            .collect();
        let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;

        let files = ["chain.pem", "key.pem", "ca.pem"].map(|name| folder.join(name));
        let [chain_file, key_file, ca_file] = files;
        let chain = format!("{}{}", leaf.pem(), ca_certificate.pem());
        fs::write(&chain_file, chain)?;
        fs::write(&key_file, key.serialize_pem())?;
        fs::write(&ca_file, ca_certificate.pem())?;

        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone())?;
        Ok(Self {
            chain: chain_file,
            key: key_file,
            ca: ca_file,
            http1: client(roots.clone(), b"http/1.1")?,
            http2: client(roots, b"h2")?,
        })
    }
}

/// TLS 1.3 with what browsers put first and nginx's OpenSSL knows as well; no resumption, so that a new
/// connection is a full handshake.
fn client(roots: RootCertStore, alpn: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}
