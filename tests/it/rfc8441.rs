//! WebSockets over HTTP/2 (RFC 8441), from the browser's side: opened, carried, judged and cut as over
//! HTTP/1.1, and without harm to the streams beside them.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use tests::http::{Ask, Fault, Version};
use tests::http2::{Connection, H2Response, send_data};
use tests::upstream::Ended;
use tests::wait;
use tests::world::{Agent, World};

/// One open WebSocket: frames by hand, so that the way its stream ends is seen.
struct Socket {
    response: H2Response,
    send: SendStream<Bytes>,
    buffer: BytesMut,
}

impl Socket {
    async fn open(connection: &Connection, ask: &Ask) -> Self {
        let (response, send) = wait::within("a WebSocket", connection.websocket(ask))
            .await
            .unwrap();
        assert_eq!(response.status, 200);
        Self {
            response,
            send,
            buffer: BytesMut::new(),
        }
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
        let mask = [7, 99, 250, 1];
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .enumerate()
                .map(|(at, byte)| byte ^ mask[at % 4]),
        );
        send_data(&mut self.send, frame.into(), false)
            .await
            .unwrap();
    }

    /// The next short frame: its opcode and payload. The stream's end otherwise.
    async fn frame(&mut self) -> Result<(u8, Bytes), Option<Fault>> {
        loop {
            if let [first, length, rest @ ..] = &self.buffer[..] {
                let length = usize::from(*length);
                assert!(length < 126, "a short frame");
                if rest.len() >= length {
                    let opcode = first & 0x0f;
                    let frame = self.buffer.split_to(2 + length).freeze();
                    return Ok((opcode, frame.slice(2..)));
                }
            }
            match self.response.chunk().await {
                Ok(Some(data)) => self.buffer.extend_from_slice(&data),
                Ok(None) => return Err(None),
                Err(fault) => return Err(Some(fault)),
            }
        }
    }

    /// The next frame that is no tick of the app's clock.
    async fn reply(&mut self) -> Result<(u8, Bytes), Option<Fault>> {
        loop {
            match self.frame().await {
                Ok((TEXT, text)) if text.starts_with(b"tick") => {}
                other => return other,
            }
        }
    }
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

fn ask(world: &World, target: &str) -> Ask {
    Ask::get(&world.net, "app", target)
}

async fn connect(world: &World, window: Option<u32>) -> Connection {
    Connection::open(&world.net, &world.net.host("app"), window)
        .await
        .unwrap()
}

async fn revoke_newest(world: &World, email: &str) -> serde_json::Value {
    let id = world.api.newest_session_of(email).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    world.api.revoke(&format!("/app/sessions/{id}")).await
}

/// The app sees the upgrade that it knows, with a key of the edge's own; the client sees a 200 without
/// any of it; both may end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_opened_and_carried() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let connection = connect(&world, None).await;
    let ask = ask(&world, "/ws?every=60000")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "the client's own")
        .header("x-mark", "ws");
    let mut socket = Socket::open(&connection, &ask).await;
    for name in ["connection", "upgrade", "sec-websocket-accept"] {
        assert_eq!(
            tests::http::find(&socket.response.headers, name),
            None,
            "{name}"
        );
    }
    let seen = world.upstream.wait_marked("ws").await;
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("sec-websocket-version"), Some("13"));
    let key = seen.header("sec-websocket-key").unwrap();
    assert_eq!(key.len(), 24, "16 bytes of our own: {key}");
    for _ in 0..3 {
        socket.send(TEXT, b"hello").await;
        assert_eq!(
            socket.reply().await,
            Ok((TEXT, Bytes::from_static(b"hello")))
        );
    }
    // The client's own close: answered by the app, and then both directions end well.
    socket.send(CLOSE, &1000_u16.to_be_bytes()).await;
    let (opcode, payload) = socket.reply().await.unwrap();
    assert_eq!((opcode, &payload[..2]), (CLOSE, &[0x03, 0xe8][..]));
    assert_eq!(socket.reply().await, Err(None), "a good end");
    assert_eq!(seen.wait_ended().await, Ended::Complete);
    // The connection goes on.
    let reply = connection.request(&self::ask(&world, "/")).await.unwrap();
    assert_eq!(reply.status, 200);
}

/// Other protocols, plain CONNECT and answers that are no 101 open nothing: to a CONNECT each 2xx would
/// look like an open WebSocket.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_opened() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let connection = connect(&world, None).await;
    let (reply, _) = connection
        .websocket(&ask(&world, "/not-a-websocket"))
        .await
        .unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(
        tests::http::find(&reply.headers, "sallyport-error"),
        Some("SP_1010")
    );
    let (reply, _) = connection
        .websocket(&ask(&world, "/garbage"))
        .await
        .unwrap();
    assert_eq!(reply.status, 502);
    let (response, _send) = connection
        .begin_as(&ask(&world, "/ws"), Some("connect-udp"))
        .await
        .unwrap();
    let reply = connection.answer(response).await.unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(
        tests::http::find(&reply.headers, "sallyport-error"),
        Some("SP_1010")
    );
}

/// A cookie decides as over HTTP/1.1; a WebSocket that another site opens counts as not signed in, and
/// nobody is redirected to a login from one.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_other_sites_are_refused() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let cookie = ada.cookie(&agent.url);
    let connection = connect(&world, None).await;
    let own = agent.url.clone();
    let refused: [(&str, &[(&str, &str)]); 5] = [
        ("SP_2001", &[]),
        ("SP_2001", &[("accept", "text/html")]),
        (
            "SP_2018",
            &[("cookie", &cookie), ("sec-fetch-site", "cross-site")],
        ),
        (
            "SP_2018",
            &[("cookie", &cookie), ("sec-fetch-site", "same-site")],
        ),
        (
            "SP_2018",
            &[("cookie", &cookie), ("origin", "https://evil.tld")],
        ),
    ];
    let before = world.upstream.count();
    for (code, headers) in refused {
        let mut ask = ask(&world, "/ws");
        for (name, value) in headers {
            ask = ask.header(name, value);
        }
        let (reply, _) = connection.websocket(&ask).await.unwrap();
        let error = tests::http::find(&reply.headers, "sallyport-error");
        assert_eq!((reply.status, error), (401, Some(code)), "{headers:?}");
    }
    assert_eq!(world.upstream.count(), before);
    for headers in [
        [("sec-fetch-site", "same-origin")],
        [("origin", own.as_str())],
    ] {
        let mut ask = ask(&world, "/ws?every=60000").cookie(&cookie);
        for (name, value) in headers {
            ask = ask.header(name, value);
        }
        let mut socket = Socket::open(&connection, &ask).await;
        socket.send(TEXT, b"in").await;
        assert_eq!(socket.reply().await, Ok((TEXT, Bytes::from_static(b"in"))));
    }
}

/// A cut is Close 1008 between frames, then RST_STREAM; the app's side ends too, and the other streams of
/// the connection notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_1008_and_a_reset() {
    for link in ["--link=quic", "--link=tls"] {
        let world = World::with_login().await;
        let agent = world.agent("app", &["--oauth=dev", link]).await;
        cut_sockets(&world, &agent).await;
    }
}

async fn cut_sockets(world: &World, agent: &Agent) {
    let lin = world.signed_in("lin", &agent.url).await;
    for target in ["/ws?every=60000", "/ws?every=5", "/ws?every=3&size=100"] {
        let ada = world.signed_in("ada", &agent.url).await;
        let connection = connect(world, None).await;
        let ask = |agent: &Agent, user: &tests::user::User, mark: &str| {
            ask(world, target)
                .cookie(&user.cookie(&agent.url))
                .header("sec-fetch-site", "same-origin")
                .header("x-mark", mark)
        };
        let mut cut = Socket::open(&connection, &ask(agent, &ada, "cut")).await;
        let mut stays = Socket::open(&connection, &ask(agent, &lin, "stays")).await;
        cut.frame().await.unwrap();
        let seen = world.upstream.wait_marked("cut").await;
        let begun = Instant::now();
        let receipt = revoke_newest(world, "ada@example.test").await;
        assert_eq!(receipt["connections_cut"], 1, "{receipt}");
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        let (last, end) = wait::within("the end", async {
            let mut last = None;
            loop {
                match cut.frame().await {
                    Ok(frame) => last = Some(frame),
                    Err(end) => return (last, end),
                }
            }
        })
        .await;
        let (opcode, payload) = last.expect("a frame before the end");
        assert_eq!(
            (opcode, &payload[..2]),
            (CLOSE, &1008_u16.to_be_bytes()[..]),
            "{target}"
        );
        assert_eq!(end, Some(Fault::Reset), "{target}");
        assert_ne!(seen.wait_ended().await, Ended::Complete, "{target}");
        if target.contains("60000") {
            stays.send(TEXT, b"still here").await;
            assert_eq!(
                stays.reply().await,
                Ok((TEXT, Bytes::from_static(b"still here")))
            );
        } else {
            stays.frame().await.unwrap();
        }
        world.upstream.clear();
    }
}

/// A client whose window is full, or that reads nothing at all, is cut all the same: the DELETE answers,
/// and what the edge still held does not follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    // The window of the stream fills; the connection goes on.
    let connection = connect(&world, Some(1000)).await;
    let ask = ask(&world, "/ws?every=1&size=16384")
        .cookie(&ada.cookie(&agent.url))
        .header("sec-fetch-site", "same-origin")
        .header("x-mark", "stalled");
    let mut socket = Socket::open(&connection, &ask).await;
    socket.response.releases = false;
    let seen = world.upstream.wait_marked("stalled").await;
    let mut last = 0;
    wait::until("the stream is stalled", || {
        let now = seen.sent();
        let is_still = now == last && now > 100_000;
        last = now;
        async move { is_still.then_some(()) }
    })
    .await;
    let begun = Instant::now();
    let receipt = revoke_newest(&world, "ada@example.test").await;
    assert_eq!(receipt["connections_cut"], 1, "{receipt}");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_ne!(seen.wait_ended().await, Ended::Complete);
    let mut read = 0;
    let fault = wait::within("the end", async {
        loop {
            match socket.response.chunk().await {
                Ok(Some(data)) => read += data.len(),
                Ok(None) => panic!("a good end"),
                Err(fault) => return fault,
            }
        }
    })
    .await;
    assert_eq!(fault, Fault::Reset);
    assert!(read <= 1000, "{read} bytes in a window of 1000");
    // It was one stream's affair.
    let reply = connection.request(&self::ask(&world, "/")).await.unwrap();
    assert_eq!(reply.status, 401);
}

/// A client that has stopped reading its socket altogether loses its connection, within the time that the
/// DELETE promises.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_loses_its_connection() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let io = world.net.connect_h2(&world.net.host("app")).await.unwrap();
    let mut builder = h2::client::Builder::new();
    // The windows never fill; the kernel's buffers do.
    builder
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30);
    let (sender, mut connection) = builder.handshake::<_, Bytes>(io).await.unwrap();
    let ask = ask(&world, "/ws?every=1&size=65536");
    let opened = async {
        let mut sender = sender.ready().await.unwrap();
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let uri = format!("https://{}{}", ask.authority, ask.target);
        let request = http::Request::builder()
            .method("CONNECT")
            .uri(uri)
            .version(http::Version::HTTP_2)
            .header("cookie", ada.cookie(&agent.url))
            .header("sec-fetch-site", "same-origin")
            .header("x-mark", "deaf")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .body(())
            .unwrap();
        let (response, send) = sender.send_request(request, false).unwrap();
        (response.await.unwrap(), send, sender)
    };
    let (response, _send, _sender) = tokio::select! {
        opened = opened => opened,
        ended = &mut connection => panic!("{ended:?}"),
    };
    assert_eq!(response.status(), 200);
    // From here on nobody polls the connection.
    let seen = world.upstream.wait_marked("deaf").await;
    let (mut last, mut still) = (0, 0);
    wait::until("the stream is stalled", || {
        let now = seen.sent();
        // A busy computer pauses, too.
        still = if now == last && now > 100_000 {
            still + 1
        } else {
            0
        };
        last = now;
        let is_stalled = still >= 20;
        async move { is_stalled.then_some(()) }
    })
    .await;
    let begun = Instant::now();
    let receipt = revoke_newest(&world, "ada@example.test").await;
    assert_eq!(receipt["connections_cut"], 1, "{receipt}");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_ne!(seen.wait_ended().await, Ended::Complete);
    let ended = wait::within("the connection's end", connection).await;
    assert!(ended.is_err(), "a good end");
}

/// When the app's side breaks, the stream is reset, whatever the client does; when the client resets, the
/// app's connection is.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_side_breaks_the_other() {
    let world = World::start().await;
    let agent = world.agent("app", &[]).await;
    let connection = connect(&world, None).await;
    let ask = ask(&world, "/ws?every=60000").header("x-mark", "reset");
    let mut socket = Socket::open(&connection, &ask).await;
    socket.send(TEXT, b"hello").await;
    socket.reply().await.unwrap();
    let seen = world.upstream.wait_marked("reset").await;
    socket.send.send_reset(h2::Reason::CANCEL);
    assert_eq!(seen.wait_ended().await, Ended::Reset, "no good end");
    // The agent stops: its streams end with it, and not well.
    let mut socket = Socket::open(&connection, &ask).await;
    let mut agent = agent;
    agent.process.terminate().await;
    let end = wait::within("the end", async {
        loop {
            if let Err(end) = socket.frame().await {
                return end;
            }
        }
    })
    .await;
    assert_eq!(end, Some(Fault::Reset));
    let reply = Ask::get(&world.net, "app", "/")
        .send(&world.net, Version::H2)
        .await;
    assert_eq!(reply.status, 503);
}
