//! TLS endpoints: told apart by the name in the hello, ended by the app, by the agent or by the edge.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tests::http::{Ask, Version};
use tests::raw::{Play, RawUpstream, read_to_end};
use tests::upstream::Ended;
use tests::wait;
use tests::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{agent, world};

/// A certificate of the app's own, and who trusts nothing else.
struct Own {
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
    client: Arc<ClientConfig>,
}

impl Own {
    fn new(name: &str) -> Self {
        tests::net::install_provider();
        let certificate = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.cert.der().clone()).unwrap();
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            certificate,
            client: Arc::new(client),
        }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.cert.der().clone()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivatePkcs8KeyDer::from(self.certificate.signing_key.serialize_der());
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.der()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"echo/1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    async fn connect(&self, world: &World, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = (*self.client).clone();
        config.alpn_protocols = vec![b"echo/1".to_vec()];
        let socket = TcpStream::connect(world.net.addr).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
    }
}

/// An app that speaks TLS with a certificate of its own, and echoes.
async fn tls_echo(own: &Own) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = own.acceptor();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let (mut from, mut to) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    (address, task)
}

async fn echo(stream: &mut TlsStream<TcpStream>, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = vec![0; text.len()];
    wait::within("the echo", stream.read_exact(&mut back))
        .await
        .unwrap();
    assert_eq!(back, text);
}

/// The app's own certificate is what the client sees, with its own ALPN: the edge passes bytes through.
/// Beside it, on the same port, HTTP endpoints are as they were.
#[tokio::test(flavor = "multi_thread")]
async fn passed_through() {
    let world = world(&[]).await;
    let host = world.net.host("secure");
    let own = Own::new(&host);
    let (address, _app) = tls_echo(&own).await;
    let arguments = ["tls", &address, "--url", "secure"].map(str::to_owned);
    let mut agent = world.start_agent(&arguments).await;
    agent.forwarding().await;
    assert_eq!(agent.url, format!("tls://{host}:{}", world.net.addr.port()));
    let mut client = own.connect(&world, &host).await.expect("a handshake");
    let (_, connection) = client.get_ref();
    assert_eq!(connection.peer_certificates(), Some(&[own.der()][..]));
    assert_eq!(connection.alpn_protocol(), Some(&b"echo/1"[..]));
    let exchange = connection.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(
        exchange,
        rustls::NamedGroup::X25519MLKEM768,
        "the hello is a post-quantum one"
    );
    echo(&mut client, &super::noise(300_000)).await;
    // The name is not a matter of case.
    let upper = own.connect(&world, &host.to_ascii_uppercase()).await;
    echo(&mut upper.expect("a handshake"), b"upper").await;
    // An end is an end.
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();

    let _web = world.agent("web", &[]).await;
    let reply = Ask::get(&world.net, "web", "/any")
        .send(&world.net, Version::H2)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// A hello may come byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_hello_in_many_packets() {
    let world = world(&[]).await;
    let host = world.net.host("secure");
    let own = Own::new(&host);
    let (address, _app) = tls_echo(&own).await;
    let arguments = ["tls", &address, "--url", "secure"].map(str::to_owned);
    let mut agent = world.start_agent(&arguments).await;
    agent.forwarding().await;
    let _web = world.agent("web", &[]).await;
    // A relay that sends what the client says one byte at a time, until the hello is through.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay_at = relay.local_addr().unwrap();
    let edge = world.net.addr;
    tokio::spawn(async move {
        while let Ok((client, _)) = relay.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(edge).await.unwrap();
                server.set_nodelay(true).unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_edge, mut to_edge) = server.into_split();
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_edge, &mut to_client).await;
                });
                let mut byte = [0; 1];
                while let Ok(1) = from_client.read(&mut byte).await {
                    to_edge.write_all(&byte).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let _ = to_edge.shutdown().await;
            });
        }
    });
    let socket = TcpStream::connect(relay_at).await.unwrap();
    let name = ServerName::try_from(host.clone()).unwrap();
    let mut config = (*own.client).clone();
    // A hello of several kilobytes.
    config.alpn_protocols = (0..30).map(|n| format!("{n:0>200}").into_bytes()).collect();
    config.alpn_protocols.push(b"echo/1".to_vec());
    let mut client = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .expect("a handshake");
    echo(&mut client, b"in small pieces").await;
}

/// TLS that the edge ends: its certificate, plain bytes at the app, half-closes as TLS says them.
#[tokio::test(flavor = "multi_thread")]
async fn ended_by_the_edge() {
    let world = world(&[]).await;
    let app = RawUpstream::start(Play::Collect).await;
    let _agent = agent(
        &world,
        "tls",
        &app,
        &["--url", "edge-tls", "--terminate-at", "edge"],
    )
    .await;
    let host = world.net.host("edge-tls");
    let mut client = world.net.connect_h1(&host).await.expect("a handshake");
    assert_eq!(
        client.get_ref().1.alpn_protocol(),
        None,
        "no HTTP is promised"
    );
    client.write_all(b"plain words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    wait::within("the answer", client.read_to_end(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer, b"11 bytes\n");
    let seen = app.newest().await;
    assert_eq!(seen.start(), b"plain words");
    assert_eq!(seen.wait_ended().await, Ended::Complete);
    // Cut short without TLS saying so is no end.
    let mut client = world.net.connect_h1(&host).await.expect("a handshake");
    client.write_all(b"torn").await.unwrap();
    let seen = wait::until("the second connection", || async {
        app.seen().into_iter().find(|seen| seen.start() == b"torn")
    })
    .await;
    drop(client.into_inner().0);
    assert_eq!(seen.wait_ended().await, Ended::Reset);
}

/// TLS that the agent ends, with the files that it was given; a file that is none is said at the start.
#[tokio::test(flavor = "multi_thread")]
async fn ended_by_the_agent() {
    let world = world(&[]).await;
    let host = world.net.host("agent-tls");
    let own = Own::new(&host);
    let app = RawUpstream::start(Play::Echo).await;
    let (cert, key) = (
        world.dir.path().join("own.pem"),
        world.dir.path().join("own.key"),
    );
    std::fs::write(&cert, own.certificate.cert.pem()).unwrap();
    std::fs::write(&key, own.certificate.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let files = ["--crt", &cert, "--key", &key];
    let arguments = [
        &["--url", "agent-tls", "--terminate-at", "agent"][..],
        &files,
    ]
    .concat();
    let _agent = agent(&world, "tls", &app, &arguments).await;
    let socket = TcpStream::connect(world.net.addr).await.unwrap();
    let name = ServerName::try_from(host.clone()).unwrap();
    let mut client = TlsConnector::from(Arc::clone(&own.client))
        .connect(name, socket)
        .await
        .expect("a handshake");
    assert_eq!(
        client.get_ref().1.peer_certificates(),
        Some(&[own.der()][..])
    );
    let noise = super::noise(300_000);
    let (mut from, mut to) = tokio::io::split(&mut client);
    let write = async {
        to.write_all(&noise).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let ((), read) = tokio::join!(write, from.read_to_end(&mut back));
    read.expect("a good end");
    assert!(back == noise);
    let seen = app.newest().await;
    assert_eq!(seen.bytes(), 300_000);
    assert_eq!(seen.wait_ended().await, Ended::Complete);

    // Who speaks no TLS gets nowhere near the app.
    let before = app.connections();
    let mut plain = TcpStream::connect(world.net.addr).await.unwrap();
    plain.write_all(b"not TLS").await.unwrap();
    read_to_end(&mut plain).await;
    assert_eq!(app.connections(), before);

    let env = [("SALLYPORT_AUTHTOKEN", world.authtoken.as_str())];
    let wrong: &[&[&str]] = &[
        &["tls", "8443", "--terminate-at", "agent"],
        &[
            "tls",
            "8443",
            "--crt",
            "/nowhere.pem",
            "--key",
            "/nowhere.key",
        ],
        &[
            "tls",
            "8443",
            "--terminate-at",
            "edge",
            "--crt",
            &cert,
            "--key",
            &key,
        ],
        &["tls", "8443", "--crt", &key, "--key", &cert],
    ];
    for arguments in wrong {
        let output = world.agent_cli(arguments, &env).await;
        assert_eq!(output.code, Some(3), "{arguments:?}: {}", output.all());
        assert!(output.all().contains("SP_4008"), "{}", output.all());
    }
}

/// A renewed certificate of an agent that ends TLS is used without a restart; a pair that does not match is
/// told of, and the old one stays.
#[tokio::test(flavor = "multi_thread")]
async fn agents_certificate_is_renewed() {
    let world = world(&[]).await;
    let host = world.net.host("renewed");
    let (old, new) = (Own::new(&host), Own::new(&host));
    let app = RawUpstream::start(Play::Echo).await;
    let (cert, key) = (
        world.dir.path().join("own.pem"),
        world.dir.path().join("own.key"),
    );
    let put = |own: &Own| {
        std::fs::write(&cert, own.certificate.cert.pem()).unwrap();
        std::fs::write(&key, own.certificate.signing_key.serialize_pem()).unwrap();
    };
    put(&old);
    let (cert_path, key_path) = (cert.display().to_string(), key.display().to_string());
    let arguments = ["--url", "renewed", "--crt", &cert_path, "--key", &key_path];
    let mut agent = agent(&world, "tls", &app, &arguments).await;
    old.connect(&world, &host).await.expect("the old one");
    put(&new);
    wait::until("the new certificate", || async {
        new.connect(&world, &host).await.ok().map(drop)
    })
    .await;
    old.connect(&world, &host)
        .await
        .expect_err("no more the old one");

    std::fs::write(&cert, old.certificate.cert.pem()).unwrap();
    let notice = agent
        .process
        .event("what is wrong", |event| event["event"] == "notice")
        .await;
    let message = notice["message"].as_str().unwrap();
    assert!(
        message.contains("own.pem") && message.contains("old one stays"),
        "{notice}"
    );
    new.connect(&world, &host).await.expect("as before");
}

/// A TLS endpoint whose agent or app is away is told by an alert, not by a connection that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_there() {
    let world = world(&[]).await;
    let host = world.net.host("secure");
    let own = Own::new(&host);
    let (address, app) = tls_echo(&own).await;
    let arguments = ["tls", &address, "--url", "secure"].map(str::to_owned);
    let mut agent = world.start_agent(&arguments).await;
    agent.forwarding().await;
    own.connect(&world, &host).await.expect("a handshake");
    app.abort();
    let _ = app.await;
    let error = own.connect(&world, &host).await.expect_err("no app");
    assert!(error.to_string().contains("InternalError"), "{error}");
    agent.process.terminate().await;
    let error = own.connect(&world, &host).await.expect_err("no agent");
    assert!(error.to_string().contains("InternalError"), "{error}");
}

/// Whatever comes instead of a hello ends with an alert or a close, never with a panic, and the edge goes on
/// serving; a hello that does not come whole is not waited for for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_hello() {
    let world = world(&["--metrics=127.0.0.1:0"]).await;
    let app = RawUpstream::start(Play::Echo).await;
    let _tls = agent(&world, "tls", &app, &["--url", "raw"]).await;
    let _web = world.agent("web", &[]).await;
    app.was_looked_at().await;
    let hello = hello_for(&world.net.host("raw"));
    let record = |length: usize| {
        [
            &[22, 3, 1][..],
            &u16::try_from(length).unwrap().to_be_bytes(),
        ]
        .concat()
    };
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("one byte", vec![22]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: raw\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        (
            "PROXY from nobody",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
        ),
        ("zeros", vec![0; 4096]),
        ("ones", vec![255; 4096]),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("application data", vec![23, 3, 3, 0, 1, 0]),
        ("an empty record", record(0)),
        ("endless empty records", record(0).repeat(4000)),
        (
            "a record of 64 KiB",
            [record(65_535), vec![0; 65_535]].concat(),
        ),
        (
            "a hello of 16 MiB",
            [record(16_384), vec![1, 255, 255, 255], vec![0; 16_380]].concat(),
        ),
        (
            "a hello of 60 KiB",
            [record(16_384), vec![1, 0, 240, 0], vec![0; 60_000]].concat(),
        ),
        (
            "a hello of length 0",
            [record(4), vec![1, 0, 0, 0]].concat(),
        ),
        ("a server's hello", [record(4), vec![2, 0, 0, 0]].concat()),
        ("two hellos", hello.repeat(2)),
        ("SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15]),
    ];
    for at in [6, 9, 11, 43, 44, 60, hello.len() - 40, hello.len() - 1] {
        let mut broken = hello.clone();
        broken[at] ^= 0xff;
        cases.push(("a hello with a wrong byte", broken));
        cases.push(("half a hello", hello[..at].to_vec()));
    }
    for (what, bytes) in cases {
        let mut client = TcpStream::connect(world.net.addr).await.unwrap();
        // The edge may have had enough before the last byte.
        let _ = client.write_all(&bytes).await;
        let _ = client.shutdown().await;
        let (said, _) = read_to_end(&mut client).await;
        assert!(
            said.is_empty() || said[0] == 21 || said[0] == 22,
            "{what}: {said:?}"
        );
    }
    // Begun and never finished.
    let begun = std::time::Instant::now();
    let mut slow = TcpStream::connect(world.net.addr).await.unwrap();
    slow.write_all(&hello[..100]).await.unwrap();
    read_to_end(&mut slow).await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let reply = Ask::get(&world.net, "web", "/any")
        .send(&world.net, Version::H1)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!world.edge.log().contains("panicked"));
    // Each was counted.
    let mut watch = TcpStream::connect(world.ready["metrics"].as_str().unwrap())
        .await
        .unwrap();
    watch
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: watch\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let (values, _) = read_to_end(&mut watch).await;
    let values = String::from_utf8(values).unwrap();
    let count = |reason: &str| -> u64 {
        let name = format!("sallyport_connections_not_served_total{{reason=\"{reason}\"}} ");
        let line = values.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("a count").parse().unwrap()
    };
    assert!(count("hello") > 20, "{values}");
    assert!(count("timed_out") > 0, "{values}");
}

/// Names that are nobody's, and none at all, end as they did before there were TLS endpoints.
#[tokio::test(flavor = "multi_thread")]
async fn other_names() {
    let world = world(&[]).await;
    let app = RawUpstream::start(Play::Echo).await;
    let _tls = agent(&world, "tls", &app, &["--url", "raw"]).await;
    let reply = Ask::get(&world.net, "nobody", "/")
        .send(&world.net, Version::H1)
        .await;
    assert_eq!((reply.status, reply.code()), (404, "SP_1001"));
    for foreign in ["example.com", "x.raw.example.com"] {
        let error = world.net.connect_h1(foreign).await;
        assert!(error.is_err(), "{foreign}");
    }
    let below = format!("x.{}", world.net.host("raw"));
    assert!(world.net.connect_h1(&below).await.is_err(), "a deeper name");
    app.was_looked_at().await;
    assert!(app.seen().is_empty());
}

/// The first flight of a client that wants this name.
fn hello_for(host: &str) -> Vec<u8> {
    tests::net::install_provider();
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}
