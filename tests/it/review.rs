//! What a revocation must also reach: bytes that left the edge's hands but not yet its machine, a
//! second order for the same thing, and messages whose framing says two things.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tests::http::{Ask, Fault, Version};
use tests::http1;
use tests::upstream::Ended;
use tests::wait;
use tests::world::{Agent, World};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A client's socket that is read slowly, and says how much was read.
struct Slow {
    inner: TcpStream,
    read: Arc<AtomicU64>,
    /// Milliseconds between two reads.
    every: Arc<AtomicU64>,
    rest: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(rest) = &mut self.rest {
            std::task::ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        // In pieces, so that there is something to slow down.
        let room = buffer.remaining().min(4096);
        let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(room));
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        buffer.advance(read);
        self.read.fetch_add(read as u64, Ordering::SeqCst);
        let every = self.every.load(Ordering::SeqCst);
        if every > 0 {
            self.rest = Some(Box::pin(tokio::time::sleep(Duration::from_millis(every))));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What a slow client's test holds.
struct Pace {
    read: Arc<AtomicU64>,
    every: Arc<AtomicU64>,
}

impl Pace {
    fn set(&self, every_ms: u64) {
        self.every.store(every_ms, Ordering::SeqCst);
    }

    fn read(&self) -> u64 {
        self.read.load(Ordering::SeqCst)
    }
}

/// A connection with a small receive buffer, so that what is not read stays with the edge.
async fn slow(world: &World, label: &str, alpn: &[u8]) -> (TlsStream<Slow>, Pace) {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(world.ready["ca_file"].as_str().unwrap()).unwrap()
    {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let inner = socket.connect(world.net.addr).await.unwrap();
    let pace = Pace {
        read: Arc::default(),
        every: Arc::default(),
    };
    let io = Slow {
        inner,
        read: Arc::clone(&pace.read),
        every: Arc::clone(&pace.every),
        rest: None,
    };
    let name = ServerName::try_from(world.net.host(label)).unwrap();
    let io = TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await
        .unwrap();
    (io, pace)
}

/// An HTTP/2 connection whose windows are never what holds a response back.
async fn slow_h2(world: &World, label: &str) -> (h2::client::SendRequest<Bytes>, Pace) {
    let (io, pace) = slow(world, label, b"h2").await;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(64 << 20)
        .initial_connection_window_size(128 << 20)
        .enable_push(false)
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender.ready().await.unwrap(), pace)
}

fn get(world: &World, label: &str, target: &str, cookie: &str, mark: &str) -> http::Request<()> {
    http::Request::builder()
        .uri(format!("{}{target}", world.net.url(label)))
        .header("cookie", cookie)
        .header("x-mark", mark)
        .body(())
        .unwrap()
}

async fn session_id(world: &World) -> String {
    let session = world.api.newest_session_of("ada@example.test").await;
    session["id"].as_str().unwrap().to_owned()
}

/// Waits until the app has sent something and sends no more.
async fn stalled(seen: &tests::upstream::Seen) {
    let mut last = (0, 0);
    wait::until("the app cannot send on", || {
        let now = seen.sent();
        last = if now == last.0 && now > 0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        let is_still = last.1 > 10;
        async move { is_still.then_some(()) }
    })
    .await;
}

/// What may still reach a client after an answer: what its own kernel holds, and one record on its way.
const IN_CLIENT_MAX: u64 = 256 * 1024;

/// An HTTP/2 client that reads slowly has wide windows and megabytes coming: after the DELETE has
/// answered it gets what is in its own buffers, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_http2_reader_gets_no_more() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let (mut sender, pace) = slow_h2(&world, "app").await;
    let request = get(
        &world,
        "app",
        "/slow?size=16384",
        &ada.cookie(&agent.url),
        "slow",
    );
    let (response, _) = sender.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    body.data().await.unwrap().unwrap();
    pace.set(10);
    let reader = tokio::spawn(async move {
        while let Some(data) = body.data().await {
            match data {
                Ok(data) => drop(body.flow_control().release_capacity(data.len())),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    let seen = world.upstream.wait_marked("slow").await;
    wait::until("megabytes are under way", || async {
        (seen.sent() > 8 << 20).then_some(())
    })
    .await;
    world
        .api
        .revoke(&format!("/app/sessions/{}", session_id(&world).await))
        .await;
    let before = pace.read();
    pace.set(0);
    let end = wait::within("the end", reader).await.unwrap();
    assert!(end.is_err(), "it looked complete");
    let more = pace.read() - before;
    assert!(more < IN_CLIENT_MAX, "{more} bytes came after the answer");
}

/// A response that the app has finished but the client has not read is cut like one under way, with a
/// known length and without; the keep-alive connection that the login left is not counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_response_is_cut_while_unread() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for size in [140_000, 1_000_000] {
        let ada = world.signed_in("ada", &agent.url).await;
        let (mut sender, pace) = slow_h2(&world, "app").await;
        let mark = format!("h2-{size}");
        let request = get(
            &world,
            "app",
            &format!("/big?n={size}"),
            &ada.cookie(&agent.url),
            &mark,
        );
        let (response, _) = sender.send_request(request, true).unwrap();
        pace.set(60_000);
        stalled(world.upstream.wait_marked(&mark).await.as_ref()).await;
        let id = session_id(&world).await;
        let receipt = world.api.revoke(&format!("/app/sessions/{id}")).await;
        assert_eq!(receipt["connections_cut"], 1, "{size}: {receipt}");
        drop((response, sender));

        let ada = world.signed_in("ada", &agent.url).await;
        let (mut io, pace) = slow(&world, "app", b"http/1.1").await;
        let mark = format!("h1-{size}");
        pace.set(60_000);
        let head = format!(
            "GET /big?n={size} HTTP/1.1\r\nhost: {}:{}\r\ncookie: {}\r\nx-mark: {mark}\r\n\r\n",
            world.net.host("app"),
            world.net.addr.port(),
            ada.cookie(&agent.url)
        );
        io.write_all(head.as_bytes()).await.unwrap();
        stalled(world.upstream.wait_marked(&mark).await.as_ref()).await;
        let id = session_id(&world).await;
        let receipt = world.api.revoke(&format!("/app/sessions/{id}")).await;
        assert_eq!(receipt["connections_cut"], 1, "{size}: {receipt}");
        let before = pace.read();
        pace.set(0);
        let (mut io, _) = io.into_inner();
        io.rest = None;
        let mut buffer = vec![0; 64 * 1024];
        let end = wait::within("the end", async {
            loop {
                match io.read(&mut buffer).await {
                    Ok(1..) => {}
                    Ok(0) => return Ok(()),
                    Err(error) => return Err(error.kind()),
                }
            }
        })
        .await;
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{size}");
        let more = pace.read() - before;
        assert!(
            more < IN_CLIENT_MAX,
            "{size}: {more} bytes came after the answer"
        );
    }
}

/// A WebSocket whose client reads slowly gets no more messages after the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_websocket_gets_no_more() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let (mut io, pace) = slow(&world, "app", b"http/1.1").await;
    let host = world.net.host("app");
    let head = format!(
        "GET /ws?every=1&size=20000 HTTP/1.1\r\nhost: {host}:{}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\ncookie: {}\r\nx-mark: ws\r\n\r\n",
        world.net.addr.port(),
        ada.cookie(&agent.url)
    );
    io.write_all(head.as_bytes()).await.unwrap();
    pace.set(10);
    let seen = world.upstream.wait_marked("ws").await;
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while matches!(io.read(&mut buffer).await, Ok(1..)) {}
    });
    wait::until("megabytes are under way", || async {
        (seen.sent() > 4 << 20).then_some(())
    })
    .await;
    world
        .api
        .revoke(&format!("/app/sessions/{}", session_id(&world).await))
        .await;
    let before = pace.read();
    pace.set(0);
    wait::within("the end", reader).await.unwrap();
    let more = pace.read() - before;
    assert!(more < IN_CLIENT_MAX, "{more} bytes came after the answer");
}

/// Two orders for one session at once: whichever answers, the session's connections are cut by then,
/// and both name the same, complete receipt.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_order_waits_for_the_cut() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for round in 0..5 {
        let ada = world.signed_in("ada", &agent.url).await;
        // A full window: its cut takes a quarter of a second.
        let connection = tests::http2::Connection::open(&world.net, "app", Some(1)).await;
        drop(connection);
        let mark = format!("twice-{round}");
        let ask = Ask::get(&world.net, "app", "/slow?size=16384")
            .cookie(&ada.cookie(&agent.url))
            .header("x-mark", &mark);
        let connection = tests::http2::Connection::open(&world.net, &ask.sni, Some(16_384))
            .await
            .unwrap();
        let mut response = connection.request(&ask).await.unwrap();
        response.releases = false;
        let seen = world.upstream.wait_marked(&mark).await;
        stalled(&seen).await;
        let id = session_id(&world).await;
        let target = format!("/app/sessions/{id}");
        let (first, second) = tokio::join!(world.api.revoke(&target), world.api.revoke(&target));
        assert_eq!(first["id"], second["id"]);
        for receipt in [&first, &second] {
            assert_eq!(receipt["edges"]["acknowledged"], 1, "{receipt}");
            assert_eq!(receipt["connections_cut"], 1, "{receipt}");
        }
    }
}

async fn raw(world: &World, agent: &Agent, message: &str) -> http1::Connection {
    let host = world.net.host(&agent.label);
    let mut connection = http1::Connection::open(&world.net, &host).await.unwrap();
    let message = message.replace("{host}", &format!("{host}:{}", world.net.addr.port()));
    connection.write(message.as_bytes()).await.unwrap();
    connection
}

/// A request with two framings reaches the app with one (RFC 9112 §6.1), or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn one_framing_for_a_request() {
    let world = World::start().await;
    let agent = world.agent("app", &[]).await;
    let lengths = [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
    ];
    for (at, framing) in lengths.iter().enumerate() {
        let message = format!(
            "POST /echo HTTP/1.1\r\nhost: {{host}}\r\nx-mark: two-{at}\r\n{framing}\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"
        );
        let connection = raw(&world, &agent, &message).await;
        let response = wait::within("the answer", connection.response("POST"))
            .await
            .unwrap();
        if response.status == 200 {
            let seen = world.upstream.wait_marked(&format!("two-{at}")).await;
            assert_eq!(seen.header("content-length"), None, "{framing}");
            assert_eq!(seen.bytes(), 6, "{framing}");
        } else {
            assert_eq!(response.status, 400);
        }
    }
    let message = "POST /echo HTTP/1.1\r\nhost: {host}\r\nx-mark: coded\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let response = raw(&world, &agent, message)
        .await
        .response("POST")
        .await
        .unwrap();
    assert!(matches!(response.status, 400 | 501), "{}", response.status);
    assert!(world.upstream.marked("coded").is_empty());
}

/// a01, a02: identity headers in a request's trailers are as forged as in its head.
#[tokio::test(flavor = "multi_thread")]
async fn forged_trailers_are_removed() {
    let world = World::start().await;
    let agent = world.agent("app", &[]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let raw_agent = world
        .agent_for("raw", &listener.local_addr().unwrap().to_string(), &[])
        .await;
    drop(agent);
    let message = "POST / HTTP/1.1\r\nhost: {host}\r\nte: trailers\r\ntrailer: sallyport-user-email, x_forwarded_for, x-fine\r\n\
                   transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nSallyport-User-Email: admin@x\r\nX_Forwarded_For: 127.0.0.1\r\nx-fine: yes\r\n\r\n";
    let asks = async {
        let connection = raw(&world, &raw_agent, message).await;
        connection.response("POST").await.unwrap().status
    };
    let app = async {
        let mut got = Vec::new();
        // The agent looks whether the app is there, by connecting.
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            while !got.ends_with(b"\r\n\r\n")
                || !String::from_utf8_lossy(&got).contains("\r\n0\r\n")
            {
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer).await {
                    Ok(read @ 1..) => got.extend_from_slice(&buffer[..read]),
                    Ok(0) | Err(_) => break,
                }
            }
            if !got.is_empty() {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                return String::from_utf8(got).unwrap().to_ascii_lowercase();
            }
        }
    };
    let (status, got) = wait::within("the exchange", async { tokio::join!(asks, app) }).await;
    assert_eq!(status, 200);
    assert!(got.contains("x-fine: yes"), "{got}");
    assert!(
        !got.contains("admin@x") && !got.contains("127.0.0.1\r\nx-fine"),
        "{got}"
    );
    let (_, trailers) = got.split_once("\r\n0\r\n").unwrap();
    assert!(!trailers.contains("forwarded"), "{got}");
}

/// A body without length to an HTTP/1.0 client ends where the connection ends: when the edge stops in
/// the middle of it, that end must not look like a good one.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_is_a_reset() {
    let mut world = World::start().await;
    let agent = world.agent("app", &[]).await;
    let message = "GET /slow?size=1000&every=5 HTTP/1.0\r\nhost: {host}\r\nx-mark: old\r\n\r\n";
    let mut connection = raw(&world, &agent, message).await;
    let reads = tokio::spawn(async move { connection.drain().await });
    let seen = world.upstream.wait_marked("old").await;
    wait::until("a body under way", || async {
        (seen.sent() > 5000).then_some(())
    })
    .await;
    world.restart_edge().await;
    let (got, fault) = wait::within("the end", reads).await.unwrap();
    let got = String::from_utf8_lossy(&got).to_ascii_lowercase();
    assert!(got.starts_with("http/1.0 200"), "{got}");
    let (head, _) = got.split_once("\r\n\r\n").unwrap();
    assert!(
        !head.contains("content-length") && !head.contains("chunked"),
        "{head}"
    );
    assert_eq!(fault, Fault::Reset);
}

/// A finished exchange is a finished one for the app too: no reset follows its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_end_is_no_reset() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        let ask = Ask::get(&world.net, "app", "/headers").header("x-mark", "good");
        assert_eq!(ask.send(&world.net, version).await.status, 200);
    }
    for seen in world.upstream.marked("good") {
        assert_eq!(seen.wait_ended().await, Ended::Complete);
    }
}

/// A tunnel that is full of quiet streams takes no more requests, and loses none of those it has: that no
/// stream can be opened says nothing about its agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_tunnel_stays() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let mut open = Vec::new();
    let ask = Ask::get(&world.net, "app", "/events?every=600000");
    for _ in 0..18 {
        let connection = tests::http2::Connection::open(&world.net, &ask.sni, None)
            .await
            .unwrap();
        for _ in 0..120 {
            open.push((connection.clone(), connection.begin(&ask).await.unwrap()));
        }
    }
    // As many as a tunnel carries are there; the others are refused at once.
    wait::until("a full tunnel", || async {
        (world.upstream.count() >= 2000).then_some(())
    })
    .await;
    let quick = Ask::get(&world.net, "app", "/")
        .send(&world.net, Version::H1)
        .await;
    assert_eq!(quick.status, 503, "{}", quick.text());
    assert!(quick.text().contains("SP_3004"), "{}", quick.text());
    let ended: Vec<_> = world
        .upstream
        .seen()
        .iter()
        .filter_map(|seen| seen.ended())
        .collect();
    assert!(ended.is_empty(), "{} streams were lost", ended.len());
}
