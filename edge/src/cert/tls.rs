//! The edge's TLS configurations, and what making certificates has in common.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proto::version::ALPN_AGENT;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::{CertError, Resolver};

/// TLS over TCP: 1.2 and 1.3, no early data.
pub(super) fn tcp_config(
    resolver: Arc<Resolver>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, CertError> {
    let mut config = config(resolver, alpn, &[&TLS13, &TLS12])?;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// The configurations of the public TCP port. Agents are told from everybody else by ALPN, which is
/// offered with the link certificate only: a web certificate never stands for a link.
#[derive(Clone, Debug)]
pub(crate) struct Public {
    web: Arc<ServerConfig>,
    link: Arc<ServerConfig>,
    link_name: Arc<str>,
}

impl Public {
    pub(crate) fn new(resolver: &Arc<Resolver>, link_name: &str) -> Result<Self, CertError> {
        let mut link = config(Arc::clone(resolver), &[ALPN_AGENT], &[&TLS13])?;
        // Every link verifies anew.
        link.send_tls13_tickets = 0;
        Ok(Self {
            web: tcp_config(Arc::clone(resolver), &PUBLIC_ALPN)?,
            link: Arc::new(link),
            link_name: Arc::from(link_name),
        })
    }

    /// The one for this hello.
    pub(crate) fn choose(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let is_named = hello
            .server_name()
            .is_some_and(|name| name.eq_ignore_ascii_case(&self.link_name));
        let is_agent = is_named
            && hello
                .alpn()
                .is_some_and(|mut offered| offered.any(|name| name == ALPN_AGENT));
        Arc::clone(if is_agent { &self.link } else { &self.web })
    }
}

/// TLS in QUIC: 1.3 only, no early data.
pub(crate) fn quic_config(
    resolver: Arc<Resolver>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, CertError> {
    Ok(Arc::new(config(resolver, alpn, &[&TLS13])?))
}

fn config(
    resolver: Arc<Resolver>,
    alpn: &[&[u8]],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<ServerConfig, CertError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // A replayed request must not pass for a new one.
    config.max_early_data_size = 0;
    Ok(config)
}

/// Named rather than taken from the process, so that no other can slip in.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A chain with the key that was made for it.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Result<Arc<CertifiedKey>, CertError> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
}

/// Good from a day ago, because clocks differ, until `life` from now.
pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now.saturating_add(life);
}

const BACKDATE: Duration = Duration::from_hours(24);

/// Public protocols, preferred first. A client that is told to speak HTTP/1.0 offers nothing else.
const PUBLIC_ALPN: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
