//! A real QUIC edge with a link CA made by rcgen: who is trusted, and how streams end.

mod over_tls;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use proto::version::{ALPN_AGENT, LINK_CA_COMMON_NAME};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    PKCS_ED25519,
};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A link CA, as an edge makes it from its cluster key.
pub(crate) struct LinkCa(CertifiedIssuer<'static, KeyPair>);

impl LinkCa {
    pub(crate) fn new() -> Self {
        Self::named(LINK_CA_COMMON_NAME)
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::LinkCa(self.0.key().public_key_raw().try_into().unwrap())
    }

    fn roots(&self) -> Trust {
        Trust::Roots(vec![self.0.der().clone()])
    }

    pub(super) fn leaf(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        (leaf.der().clone(), PrivateKeyDer::from(key))
    }
}

/// An edge's QUIC listener that does nothing by itself.
pub(crate) fn listen(ca: &LinkCa, name: &str, alpn: &[u8]) -> quinn::Endpoint {
    let (certificate, key) = ca.leaf(name);
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    listen_with(tls, alpn)
}

fn listen_with(mut tls: rustls::ServerConfig, alpn: &[u8]) -> quinn::Endpoint {
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

pub(crate) fn target(edge: &quinn::Endpoint, trust: Trust) -> Target {
    Target {
        addrs: vec![edge.local_addr().unwrap().to_string()],
        server_name: NAME.to_owned(),
        trust,
        congestion: Congestion::default(),
        unread: Budget::new(1 << 30, 1 << 30),
        route: Route::default(),
    }
}

/// A link and the edge's side of it.
pub(crate) async fn linked() -> (Link, quinn::Connection, quinn::Endpoint) {
    let ca = LinkCa::new();
    let edge = listen(&ca, NAME, ALPN_AGENT);
    let target = target(&edge, ca.trust());
    let accept = async { edge.accept().await.unwrap().await.unwrap() };
    let (link, connection) = tokio::join!(Link::dial(&target), accept);
    (link.unwrap(), connection, edge)
}

async fn accept_and_hold(edge: quinn::Endpoint) {
    while let Some(incoming) = edge.accept().await {
        if let Ok(connection) = incoming.await {
            connection.closed().await;
        }
    }
}

async fn dial(edge: &quinn::Endpoint, trust: Trust) -> Result<Link, DialError> {
    let target = target(edge, trust);
    tokio::select! {
        dialled = Link::dial(&target) => dialled,
        () = accept_and_hold(edge.clone()) => unreachable!(),
    }
}

pub(crate) const NAME: &str = "connect.lumen.localhost";

#[tokio::test]
async fn the_pinned_link_ca_is_trusted() {
    let ca = LinkCa::new();
    let edge = listen(&ca, NAME, ALPN_AGENT);
    let link = dial(&edge, ca.trust()).await.unwrap();
    assert_eq!(link.peer(), edge.local_addr().unwrap().to_string());
    let link = dial(&edge, ca.roots()).await.unwrap();
    link.close().await;
}

#[tokio::test]
async fn whoever_else_answers_is_untrusted() {
    let (ca, other) = (LinkCa::new(), LinkCa::new());
    let misnamed_ca = LinkCa::named("Another CA");
    let table = [
        (
            "signed by another CA of the same name",
            &other,
            NAME,
            ca.trust(),
        ),
        ("signed by another given root", &other, NAME, ca.roots()),
        ("of another name", &ca, "connect.else.localhost", ca.trust()),
        (
            "right key, another CA name",
            &misnamed_ca,
            NAME,
            misnamed_ca.trust(),
        ),
    ];
    for (what, signer, name, trust) in table {
        let edge = listen(signer, name, ALPN_AGENT);
        let error = dial(&edge, trust).await.unwrap_err();
        assert!(
            matches!(error, DialError::Untrusted { .. }),
            "{what}: {error:?}"
        );
    }
}

/// Has a certificate for nobody.
#[derive(Debug)]
struct Nameless;

impl rustls::server::ResolvesServerCert for Nameless {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

#[tokio::test]
async fn an_edge_without_the_name_is_untrusted() {
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nameless));
    let edge = listen_with(tls, ALPN_AGENT);
    let error = dial(&edge, LinkCa::new().trust()).await.unwrap_err();
    assert!(matches!(error, DialError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_edge_is_unreachable() {
    let ca = LinkCa::new();
    let web = listen(&ca, NAME, b"h3");
    let error = dial(&web, ca.trust()).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");

    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = Target {
        addrs: vec!["no port".to_owned(), "name.invalid:1".to_owned()],
        ..target(&web, ca.trust())
    };
    drop(nobody);
    let error = Link::dial(&target).await.unwrap_err().to_string();
    assert!(error.contains("name.invalid:1"), "{error}");
}

#[tokio::test]
async fn a_silent_address_does_not_hide_a_good_one() {
    let ca = LinkCa::new();
    let edge = listen(&ca, NAME, ALPN_AGENT);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut target = target(&edge, ca.trust());
    target
        .addrs
        .insert(0, silent.local_addr().unwrap().to_string());
    let link = tokio::select! {
        dialled = Link::dial(&target) => dialled.unwrap(),
        () = accept_and_hold(edge.clone()) => unreachable!(),
    };
    assert_eq!(link.peer(), edge.local_addr().unwrap().to_string());
}

#[tokio::test]
async fn a_dropped_stream_resets_and_a_finished_one_ends_well() {
    let (link, edge, _endpoint) = linked().await;
    for finish in [false, true] {
        let mut stream = link.open().await.unwrap();
        stream.send.write_all(b"half a body").await.unwrap();
        let (_edge_send, mut edge_receive) = edge.accept_bi().await.unwrap();
        let mut got = [0; 11];
        edge_receive.read_exact(&mut got).await.unwrap();
        if finish {
            stream.send.shutdown().await.unwrap();
        }
        drop(stream);
        let end = edge_receive.read(&mut got).await;
        if finish {
            assert_eq!(end.unwrap(), None);
        } else {
            assert!(
                matches!(end, Err(quinn::ReadError::Reset(code)) if code.into_inner() == 1),
                "{end:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_dropped_stream_tells_the_edge_to_stop() {
    let (link, edge, _endpoint) = linked().await;
    let (mut edge_send, _edge_receive) = edge.open_bi().await.unwrap();
    edge_send.write_all(b"x").await.unwrap();
    let mut stream = link.accept().await.unwrap();
    let mut one = [0];
    stream.receive.read_exact(&mut one).await.unwrap();
    drop(stream);
    let stopped = within(edge_send.stopped()).await.unwrap();
    assert_eq!(stopped.map(quinn::VarInt::into_inner), Some(1));
}

#[tokio::test]
async fn resets_are_heard_without_reading_or_writing() {
    let (link, edge, _endpoint) = linked().await;
    let (mut edge_send, mut edge_receive) = edge.open_bi().await.unwrap();
    edge_send.write_all(b"x").await.unwrap();
    let mut stream = link.accept().await.unwrap();
    let stopped = stream.send.stopped();
    edge_send.reset(2u32.into()).unwrap();
    edge_receive.stop(2u32.into()).unwrap();
    within(stream.receive.reset()).await;
    within(stopped).await;
}

#[tokio::test]
async fn the_end_of_a_link_is_told() {
    let (link, edge, _endpoint) = linked().await;
    edge.close(7u32.into(), b"done");
    let ended = within(link.closed()).await;
    assert_eq!(ended.to_string(), "the edge closed the link");
    assert!(link.open().await.is_err());
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("in time")
}
