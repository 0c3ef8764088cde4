//! Bytes go both ways as they are, with back-pressure, upgrades and errors that explain themselves.

use std::time::Duration;

use bytes::Bytes;
use tests::http::{Ask, Fault, HTML, Version};
use tests::upstream::{Ended, Upstream};
use tests::wait;
use tests::websocket::{Event, WebSocket};
use tests::world::World;
use tests::{http1, http2};
use tokio_tungstenite::tungstenite::Message;

/// A public endpoint serves plain requests over both versions: method, path, query and headers arrive as
/// they were sent.
#[tokio::test(flavor = "multi_thread")]
async fn requests_arrive_as_sent() {
    let world = World::start().await;
    let agent = world.agent("app", &[]).await;
    assert_eq!(agent.url, world.net.url("app"));
    for version in Version::BOTH {
        let reply = Ask::get(&world.net, "app", "/headers?a=1&b=%2f%20x")
            .header("X-Custom", "a, b;c")
            .header("accept-language", "de")
            .send(&world.net, version)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["target"], "/headers?a=1&b=%2f%20x");
        let seen = world.upstream.seen().pop().unwrap();
        assert_eq!(seen.header("x-custom"), Some("a, b;c"));
        assert_eq!(seen.header("accept-language"), Some("de"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
        assert!(
            seen.header("x-forwarded-host")
                .unwrap()
                .starts_with(&world.net.host("app"))
        );
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let reply = Ask::get(&world.net, "app", "/any")
                .method(method)
                .send(&world.net, version)
                .await;
            assert_eq!(reply.status, 200, "{method}");
            assert_eq!(world.upstream.seen().pop().unwrap().method, method);
        }
        let head = Ask::get(&world.net, "app", "/any")
            .method("HEAD")
            .send(&world.net, version)
            .await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert!(head.header("content-length").is_some());
    }
}

/// Bodies go both ways whole: with a length, chunked, megabytes of them.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_both_ways() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let body: Bytes = (0..3_000_000_u32)
        .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
        .collect::<Vec<_>>()
        .into();
    for version in Version::BOTH {
        let reply = Ask::get(&world.net, "app", "/echo")
            .method("POST")
            .body(body.clone())
            .send(&world.net, version)
            .await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.end, Ok(()));
        assert!(reply.body == body, "the body came back changed");
    }
    // Chunked over HTTP/1.1, piece by piece.
    let mut connection = http1::Connection::open(&world.net, &world.net.host("app"))
        .await
        .unwrap();
    connection
        .send(
            &Ask::get(&world.net, "app", "/echo")
                .method("POST")
                .streamed(),
        )
        .await
        .unwrap();
    for piece in body.chunks(100_000) {
        connection.write_chunk(piece).await.unwrap();
    }
    connection.write_chunk(b"").await.unwrap();
    let mut response = connection.response("POST").await.unwrap();
    let mut echoed = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        echoed.extend_from_slice(&chunk);
    }
    assert!(echoed == body);
    assert!(world.upstream.seen().iter().all(|seen| seen.is_complete()));
}

/// A client that does not read is felt by the upstream: megabytes do not pile up in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_felt_upstream() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        world.upstream.clear();
        let ask = Ask::get(&world.net, "app", "/big?n=200000000");
        let stalled: Box<dyn Send> = match version {
            Version::H1 => {
                let mut connection =
                    http1::Connection::over(world.net.connect_h1_small(&ask.sni).await.unwrap());
                connection.send(&ask).await.unwrap();
                Box::new(connection.response("GET").await.unwrap())
            }
            Version::H2 => {
                let connection = http2::Connection::open(&world.net, &ask.sni, Some(65_535))
                    .await
                    .unwrap();
                let mut response = connection.request(&ask).await.unwrap();
                response.releases = false;
                Box::new(response)
            }
        };
        let seen = world.upstream.seen().pop().unwrap();
        // It stops when every buffer on the way is full; what is in them is bounded.
        let mut last = u64::MAX;
        let mut still = 0;
        let sent = wait::until("the upstream is held back", || {
            let now = seen.sent();
            still = if now == last { still + 1 } else { 0 };
            last = now;
            async move { (still >= 25).then_some(now) }
        })
        .await;
        assert!(
            sent < IN_FLIGHT_MAX,
            "{version:?}: {sent} bytes were taken from the upstream for a reader that reads nothing"
        );
        // Another request is not held up by it.
        let reply = Ask::get(&world.net, "app", "/any")
            .send(&world.net, Version::H1)
            .await;
        assert_eq!(reply.status, 200);
        // When the client goes away, so does the upstream's connection.
        drop(stalled);
        assert_ne!(seen.wait_ended().await, Ended::Complete);
    }
}

/// An upload that the app does not read is felt by the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_app_is_felt_by_the_client() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let mut connection = http1::Connection::open(&world.net, &world.net.host("app"))
        .await
        .unwrap();
    connection
        .send(
            &Ask::get(&world.net, "app", "/unread")
                .method("POST")
                .streamed(),
        )
        .await
        .unwrap();
    let piece = vec![b'u'; 64 * 1024];
    let mut sent = 0_usize;
    loop {
        // A write that waits this long is one that is held back.
        match tokio::time::timeout(Duration::from_secs(2), connection.write_chunk(&piece)).await {
            Ok(done) => done.expect("the connection stays"),
            Err(_) => break,
        }
        sent += piece.len();
        assert!(
            sent < usize::try_from(IN_FLIGHT_MAX).unwrap(),
            "{sent} bytes were taken for an app that reads nothing"
        );
    }
}

/// Events of a stream arrive one by one, while it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_not_buffered() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        let mut response = Ask::get(&world.net, "app", "/events?every=50")
            .open(&world.net, version)
            .await
            .unwrap();
        assert_eq!(
            tests::http::find(response.headers(), "content-type"),
            Some("text/event-stream")
        );
        for _ in 0..5 {
            let chunk = wait::within("an event", response.chunk())
                .await
                .unwrap()
                .expect("it goes on");
            assert!(chunk.starts_with(b"data: "), "{chunk:?}");
            assert!(
                chunk.len() < 100,
                "events were held back and came together: {} bytes",
                chunk.len()
            );
        }
    }
}

/// WebSockets pass: upgrade, text and binary of any size both ways, the client's close.
#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let mut socket = WebSocket::open(&world.net, "app", "/ws?every=60000", None)
        .await
        .unwrap();
    let Event::Message(Message::Text(first)) = socket.next().await else {
        panic!("the clock ticks once")
    };
    assert!(first.starts_with("tick "));
    for message in [
        Message::text("hello"),
        Message::binary(vec![7; 300_000]),
        Message::text("ä".repeat(70_000)),
    ] {
        socket.send(message.clone()).await.unwrap();
        let Event::Message(echoed) = wait::within("echo", socket.next()).await else {
            panic!("an echo")
        };
        assert!(echoed == message);
    }
    socket.send(Message::Close(None)).await.unwrap();
    assert!(matches!(
        wait::within("close", socket.next()).await,
        Event::Closed(_)
    ));
    assert_eq!(world.upstream.seen()[0].wait_ended().await, Ended::Complete);
}

/// An app that is no WebSocket refuses the upgrade in its own words.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_passes() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    assert_eq!(
        WebSocket::open(&world.net, "app", "/any", None).await.err(),
        Some(200)
    );
}

/// `Expect: 100-continue` gets its interim answer before the body is sent.
#[tokio::test(flavor = "multi_thread")]
async fn continue_is_answered() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let mut connection = http1::Connection::open(&world.net, &world.net.host("app"))
        .await
        .unwrap();
    let ask = Ask::get(&world.net, "app", "/echo")
        .method("POST")
        .header("expect", "100-continue")
        .header("content-length", "5");
    connection.send(&ask).await.unwrap();
    let (status, _) = wait::within("100 Continue", connection.head())
        .await
        .unwrap();
    assert_eq!(status, 100);
    connection.write(b"hello").await.unwrap();
    let mut response = connection.response("POST").await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(
        response.chunk().await.unwrap().as_deref(),
        Some(&b"hello"[..])
    );
}

/// Trailers of a response reach the client.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_reach_the_client() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        let mut response = Ask::get(&world.net, "app", "/trailers")
            .header("te", "trailers")
            .open(&world.net, version)
            .await
            .unwrap();
        while response.chunk().await.unwrap().is_some() {}
        assert_eq!(
            tests::http::find(response.headers(), "trailer:x-sum"),
            Some("42"),
            "{version:?}"
        );
    }
}

/// A body that the app broke off never looks complete to the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_stays_broken() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        // A reset may overtake the head that went before it.
        let truncated = Ask::get(&world.net, "app", "/truncated");
        if let Ok(response) = truncated.open(&world.net, version).await {
            let reply = response.whole().await;
            // Broken off before the head was passed on, it is an error of its own.
            if reply.status != 502 {
                assert_eq!(reply.status, 200);
                assert!(reply.end.is_err(), "{version:?}: {:?}", reply.text());
            }
        }
        let reply = Ask::get(&world.net, "app", "/until-close")
            .send(&world.net, version)
            .await;
        assert_eq!(
            (reply.text().as_str(), &reply.end),
            ("until the end", &Ok(())),
            "{version:?}"
        );
    }
}

/// A client that breaks off its upload never leaves a complete one at the app.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_stays_broken() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let mut connection = http1::Connection::open(&world.net, &world.net.host("app"))
        .await
        .unwrap();
    connection
        .send(
            &Ask::get(&world.net, "app", "/upload")
                .method("POST")
                .streamed(),
        )
        .await
        .unwrap();
    connection.write_chunk(b"part of it").await.unwrap();
    let seen = wait::until("the part", || async {
        world.upstream.seen().pop().filter(|seen| seen.bytes() > 0)
    })
    .await;
    drop(connection);
    assert_ne!(seen.wait_ended().await, Ended::Complete);
    assert!(!seen.is_complete());
}

/// What goes wrong in front of or behind the tunnel is said with its code, as a page for browsers and as
/// JSON for the rest, with a request id that differs each time.
#[tokio::test(flavor = "multi_thread")]
async fn errors_explain_themselves() {
    let world = World::start().await;
    let mut agent = world.agent("app", &[]).await;
    let dead = Upstream::start().await;
    let dead_address = dead.address();
    drop(dead);
    let _agent = world.agent_for("dead", &dead_address, &[]).await;
    let mut ids = std::collections::HashSet::new();
    let mut check = |reply: &tests::http::Reply, status, code, is_page: bool, what: &str| {
        reply.assert_refused(status, code, what);
        assert!(
            ids.insert(reply.header("sallyport-request-id").unwrap().to_owned()),
            "{what}: a request id came twice"
        );
        let kind = reply.header("content-type").unwrap_or_default();
        if is_page {
            assert!(kind.starts_with("text/html"), "{what}: {kind}");
            assert!(
                reply
                    .text()
                    .contains(reply.header("sallyport-request-id").unwrap()),
                "{what}: the page names no request id"
            );
        } else {
            assert!(kind.starts_with("application/json"), "{what}: {kind}");
            let body = reply.json();
            assert_eq!(
                (&body["error_code"], &body["status_code"]),
                (&code.into(), &status.into()),
                "{what}"
            );
            assert!(
                body["msg"].as_str().is_some_and(|text| text.ends_with('.')),
                "{what}: {body}"
            );
            assert!(
                body["next_step"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{what}: {body}"
            );
            assert_eq!(
                body["details"]["operation_id"],
                reply.header("sallyport-request-id").unwrap(),
                "{what}"
            );
        }
    };
    for version in Version::BOTH {
        for is_page in [false, true] {
            let ask = |label: &str, target: &str| {
                let ask = Ask::get(&world.net, label, target);
                if is_page {
                    ask.header("accept", HTML)
                } else {
                    ask
                }
            };
            check(
                &ask("nobody", "/").send(&world.net, version).await,
                404,
                "SP_1001",
                is_page,
                "unknown host",
            );
            check(
                &ask("dead", "/").send(&world.net, version).await,
                502,
                "SP_4001",
                is_page,
                "upstream down",
            );
            check(
                &ask("app", "/close").send(&world.net, version).await,
                502,
                "SP_4003",
                is_page,
                "closed without an answer",
            );
            check(
                &ask("app", "/garbage").send(&world.net, version).await,
                502,
                "SP_4004",
                is_page,
                "not HTTP",
            );
        }
    }
    agent.process.terminate().await;
    for version in Version::BOTH {
        let reply = wait::until("offline", || async {
            let reply = Ask::get(&world.net, "app", "/")
                .send(&world.net, version)
                .await;
            (reply.status == 503).then_some(reply)
        })
        .await;
        check(&reply, 503, "SP_3001", false, "offline");
        let reply = Ask::get(&world.net, "app", "/")
            .header("accept", HTML)
            .send(&world.net, version)
            .await;
        check(&reply, 503, "SP_3001", true, "offline page");
        let head = Ask::get(&world.net, "app", "/")
            .method("HEAD")
            .send(&world.net, version)
            .await;
        assert_eq!((head.status, head.body.len()), (503, 0));
    }
}

/// What an upstream says under names that are ours does not reach the client.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_cannot_speak_for_the_edge() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        let reply = Ask::get(&world.net, "app", "/set-cookie")
            .send(&world.net, version)
            .await;
        assert_eq!(
            reply.all("set-cookie").collect::<Vec<_>>(),
            ["app=1; Path=/"],
            "{version:?}"
        );
        assert_eq!(reply.code(), "", "{version:?}");
    }
}

/// The connection stays usable for the next request, and many run at once over one HTTP/2 connection.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_shared() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let ask = Ask::get(&world.net, "app", "/any");
    let mut connection = http1::Connection::open(&world.net, &ask.sni).await.unwrap();
    for _ in 0..20 {
        connection.send(&ask).await.unwrap();
        let mut response = connection.response("GET").await.unwrap();
        while response.chunk().await.unwrap().is_some() {}
        assert_eq!(response.status, 200);
        connection = response.connection;
    }
    let shared = http2::Connection::open(&world.net, &ask.sni, None)
        .await
        .unwrap();
    let all = futures_util::future::join_all((0..60).map(|_| async {
        let mut response = shared.request(&ask).await?;
        while response.chunk().await?.is_some() {}
        Ok::<_, Fault>(response.status)
    }))
    .await;
    assert!(all.iter().all(|status| *status == Ok(200)), "{all:?}");
}

/// A request head beyond the limit is refused, and slow heads do not hold a connection for ever.
#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let world = World::builder()
        .config("header_timeout: 1s\n")
        .start()
        .await;
    let _agent = world.agent("app", &[]).await;
    for version in Version::BOTH {
        let ask = Ask::get(&world.net, "app", "/any").header("x-large", &"x".repeat(200_000));
        // Over HTTP/2 the peer is told the limit, and the stream or connection may end instead.
        match ask.open(&world.net, version).await {
            Ok(response) => assert_eq!(response.status(), 431, "{version:?}"),
            Err(fault) => assert_eq!(version, Version::H2, "{fault:?}"),
        }
    }
    assert_eq!(world.upstream.count(), 0);
    let mut slow = http1::Connection::open(&world.net, &world.net.host("app"))
        .await
        .unwrap();
    slow.write(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    wait::within("the end of a slow head", slow.drain()).await;
}

/// A connection that asks for nothing is ended, and a body that stops arriving is answered 408.
#[tokio::test(flavor = "multi_thread")]
async fn the_idle_and_the_stalled_are_ended() {
    let world = World::builder()
        .config("idle_timeout: 1s\nbody_timeout: 1s\n")
        .start()
        .await;
    let _agent = world.agent("app", &[]).await;
    let name = world.net.host("app");
    let mut idle = http1::Connection::open(&world.net, &name).await.unwrap();
    wait::within("the end of an idle connection", idle.drain()).await;
    let mut stalled = http1::Connection::open(&world.net, &name).await.unwrap();
    let head =
        format!("POST /upload HTTP/1.1\r\nHost: {name}\r\nContent-Length: 100\r\n\r\nten bytes.");
    stalled.write(head.as_bytes()).await.unwrap();
    let (status, headers) = wait::within("an answer to a stalled body", stalled.head())
        .await
        .unwrap();
    assert_eq!(status, 408);
    assert!(
        headers
            .iter()
            .any(|(name, value)| name == "sallyport-error" && value == "SP_1013")
    );
    wait::within("the end of the stalled connection", stalled.drain()).await;
}

/// More connections than an address may have are not served; when some close, others get in.
#[tokio::test(flavor = "multi_thread")]
async fn connections_per_address_are_bounded() {
    let world = World::builder()
        .config("connections_per_address: 8\n")
        .start()
        .await;
    let _agent = world.agent("app", &[]).await;
    let mut held = Vec::new();
    while let Ok(Ok(connection)) = tokio::time::timeout(
        Duration::from_secs(5),
        http1::Connection::open(&world.net, &world.net.host("app")),
    )
    .await
    {
        held.push(connection);
        assert!(held.len() <= 8, "more than the limit were let in");
    }
    assert!(held.len() >= 6, "only {} were let in", held.len());
    held.clear();
    wait::until("a place", || async {
        let connection = http1::Connection::open(&world.net, &world.net.host("app"))
            .await
            .ok()?;
        drop(connection);
        Some(())
    })
    .await;
}

/// What the buffers between a reader and an app may hold together: kernel sockets, TLS, windows.
const IN_FLIGHT_MAX: u64 = 24 << 20;
