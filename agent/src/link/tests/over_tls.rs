//! The same over TLS, with an edge that is a listener and the other end of `mux`; and which link wins.

use mux::Side;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An edge's TCP port.
struct Port {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Port {
    async fn open(ca: &LinkCa, name: &str, alpn: &[u8]) -> Self {
        let (certificate, key) = ca.leaf(name);
        let mut tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
        tls.alpn_protocols = vec![alpn.to_vec()];
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(tls)),
        }
    }

    fn target(&self, trust: Trust, link: LinkChoice) -> Target {
        Target {
            addrs: vec![self.listener.local_addr().unwrap().to_string()],
            server_name: NAME.to_owned(),
            trust,
            congestion: Congestion::default(),
            unread: Budget::new(1 << 30, 1 << 30),
            route: Route {
                link,
                ..Route::default()
            },
        }
    }

    async fn accept(&self) -> io::Result<mux::Connection> {
        let (stream, _) = self.listener.accept().await?;
        let stream = self.acceptor.accept(stream).await?;
        let (connection, driver) = mux::start(stream, Side::Edge, None);
        tokio::spawn(driver);
        Ok(connection)
    }

    async fn dial(&self, target: &Target) -> Result<(Link, mux::Connection), DialError> {
        let accept = async { self.accept().await.ok() };
        let (link, edge) = within(async { tokio::join!(Link::dial(target), accept) }).await;
        Ok((link?, edge.unwrap()))
    }
}

#[tokio::test]
async fn the_pinned_link_ca_is_trusted_and_nobody_else() {
    let (ca, other) = (LinkCa::new(), LinkCa::new());
    let port = Port::open(&ca, NAME, ALPN_AGENT).await;
    for trust in [ca.trust(), ca.roots()] {
        let (link, _) = port
            .dial(&port.target(trust, LinkChoice::Tls))
            .await
            .unwrap();
        assert_eq!(link.kind(), Kind::Tls);
        assert_eq!(link.peer(), port.listener.local_addr().unwrap().to_string());
    }
    let stranger = Port::open(&ca, "connect.else.localhost", ALPN_AGENT).await;
    for (port, trust) in [
        (&port, other.trust()),
        (&port, other.roots()),
        (&stranger, ca.trust()),
    ] {
        let target = port.target(trust, LinkChoice::Tls);
        let error = port.dial(&target).await.unwrap_err();
        assert!(matches!(error, DialError::Untrusted { .. }), "{error:?}");
    }
    let web = Port::open(&ca, NAME, b"h2").await;
    let error = web
        .dial(&web.target(ca.trust(), LinkChoice::Tls))
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn streams_end_as_they_do_over_quic() {
    let ca = LinkCa::new();
    let port = Port::open(&ca, NAME, ALPN_AGENT).await;
    let target = port.target(ca.trust(), LinkChoice::Tls);
    let (link, edge) = port.dial(&target).await.unwrap();
    for finish in [false, true] {
        let mut opened = within(edge.open()).await.unwrap();
        opened.send.write_all(b"x").await.unwrap();
        let mut stream = within(link.accept()).await.unwrap();
        let mut one = [0];
        within(stream.receive.read_exact(&mut one)).await.unwrap();
        stream.send.write_all(b"half a body").await.unwrap();
        if finish {
            stream.send.shutdown().await.unwrap();
        }
        drop(stream);
        let mut got = Vec::new();
        let end = within(opened.receive.read_to_end(&mut got)).await;
        assert_eq!(end.is_ok(), finish);
        within(opened.send.stopped()).await;
    }
    let mut opened = within(edge.open()).await.unwrap();
    opened.send.write_all(b"x").await.unwrap();
    let mut stream = within(link.accept()).await.unwrap();
    let stopped = stream.send.stopped();
    drop(opened);
    within(stream.receive.reset()).await;
    within(stopped).await;

    edge.close(3013);
    let ended = within(link.closed()).await;
    assert_eq!(
        (ended.code, ended.why.as_str()),
        (3013, "the edge closed the link")
    );
    assert!(link.open().await.is_err());
}

/// Nothing answers over UDP on this port: TLS wins, and is remembered where that can be kept.
#[tokio::test]
async fn without_udp_tls_wins_and_is_remembered() {
    let ca = LinkCa::new();
    let port = Port::open(&ca, NAME, ALPN_AGENT).await;
    let folder = tempfile::tempdir().unwrap();
    let mut target = port.target(ca.trust(), LinkChoice::Auto);
    target.route.memory = Memory::kept(folder.path());
    let _silent = std::net::UdpSocket::bind(port.listener.local_addr().unwrap());
    let (link, _) = port.dial(&target).await.unwrap();
    assert_eq!(link.kind(), Kind::Tls);
    assert!(link.is_second_best(&target));
    let kept = std::fs::read_to_string(folder.path().join("links.json")).unwrap();
    assert!(kept.contains("\"tls\""), "{kept}");
    // This time nobody waits for UDP.
    let began = std::time::Instant::now();
    let (link, _) = port.dial(&target).await.unwrap();
    assert_eq!(link.kind(), Kind::Tls);
    assert!(
        began.elapsed() < Duration::from_millis(240),
        "{:?}",
        began.elapsed()
    );

    target.route.link = LinkChoice::Quic;
    let dialled = tokio::select! {
        dialled = Link::dial(&target) => dialled,
        () = async {
            while port.accept().await.is_err() {}
            std::future::pending::<()>().await;
        } => unreachable!(),
    };
    let error = dialled.unwrap_err();
    assert!(matches!(error, DialError::UdpBlocked { .. }), "{error:?}");
}

#[tokio::test]
async fn quic_wins_where_it_works() {
    let ca = LinkCa::new();
    let edge = listen(&ca, NAME, ALPN_AGENT);
    let target = target(&edge, ca.trust());
    let link = tokio::select! {
        dialled = Link::dial(&target) => dialled.unwrap(),
        () = accept_and_hold(edge.clone()) => unreachable!(),
    };
    assert_eq!(link.kind(), Kind::Quic);
    assert!(!link.is_second_best(&target));
}
