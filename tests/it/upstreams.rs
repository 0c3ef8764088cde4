//! Apps behind TLS, apps that speak HTTP/2, and the Host that they get.

use bytes::Bytes;
use tests::h2_app::{H2App, Options};
use tests::http::{Ask, Fault, Reply, Version};
use tests::https_app::{AppCa, AppCert, HttpsApp};
use tests::wait;
use tests::websocket::{Event, WebSocket};
use tests::world::{Agent, World};
use tests::{http1, http2};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

/// An agent in front of an app behind TLS, waited for though the app may be of no use.
async fn tls_agent(world: &World, label: &str, url: &str, more: &[&str]) -> Agent {
    world.agent_for(label, url, more).await
}

async fn get(world: &World, label: &str, target: &str, version: Version) -> Reply {
    Ask::get(&world.net, label, target)
        .send(&world.net, version)
        .await
}

/// An app whose certificate is under a CA that was named is served; its name is in the hello; connections
/// are reused under TLS as without.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_behind_tls_is_served() {
    let world = World::start().await;
    let ca = AppCa::new();
    let app = HttpsApp::start(&ca.issue(&["localhost"])).await;
    let file = ca.write(world.dir.path()).display().to_string();
    let mut agent = tls_agent(&world, "app", &app.url(), &["--upstream-ca", &file]).await;
    for version in Version::BOTH {
        let reply = get(&world, "app", "/", version).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    }
    assert!(
        app.names()
            .iter()
            .all(|name| name.as_deref() == Some("localhost"))
    );
    let heads = app.heads();
    assert!(heads[0].contains(&format!("host: app.{}", world.net.domain)));
    let forwarding = agent.process.event_named("forwarding").await;
    assert_eq!(forwarding["upstream"], app.url());
}

/// The https address of an app without TLS, which answers what it does not understand.
async fn plain_app() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    format!("https://localhost:{port}")
}

/// What cannot prove who it is, is not spoken to: each reason has its code, on the edge's page and beside
/// the agent, and the app does not see the request.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_proves_nothing_is_refused() {
    let world = World::start().await;
    let ca = AppCa::new();
    let other = AppCa::new();
    let folder = tempfile::tempdir().unwrap();
    let file = ca.write(world.dir.path()).display().to_string();
    let other_file = other.write(folder.path()).display().to_string();
    let good = HttpsApp::start(&ca.issue(&["localhost"])).await;
    let misnamed = HttpsApp::start(&ca.issue(&["elsewhere.test"])).await;
    let plain = plain_app().await;
    let table: [(&str, String, &[&str], &str); 4] = [
        // This machine's roots know nothing of it.
        ("strange", good.url(), &[], "SP_4009"),
        (
            "other",
            good.url(),
            &["--upstream-ca", &other_file],
            "SP_4009",
        ),
        (
            "misnamed",
            misnamed.url(),
            &["--upstream-ca", &file],
            "SP_4010",
        ),
        ("plain", plain, &["--upstream-ca", &file], "SP_4011"),
    ];
    for (label, url, more, code) in table {
        let mut agent = tls_agent(&world, label, &url, more).await;
        let reply = get(&world, label, "/", Version::H2).await;
        reply.assert_refused(502, code, label);
        let down = agent.process.event_named("notice").await;
        assert_eq!(
            (&down["code"], &down["upstream"]),
            (&code.into(), &url.into())
        );
        assert!(!down["next_step"].as_str().unwrap().is_empty(), "{down}");
    }
    assert_eq!(good.heads(), [""; 0]);
    assert_eq!(misnamed.heads(), [""; 0]);
}

/// Doing without the check works when somebody says so, and the agent says it loudly. A certificate that
/// signed itself can be named like a CA, and is believed for its own name.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_can_be_done_without_or_pinned() {
    let world = World::start().await;
    let own = AppCert::self_signed(&["localhost"]);
    let app = HttpsApp::start(&own).await;
    let mut open = tls_agent(&world, "open", &app.url(), &["--upstream-tls-verify=false"]).await;
    assert_eq!(get(&world, "open", "/", Version::H1).await.status, 200);
    let notice = open.process.event_named("notice").await;
    assert_eq!(notice["code"], "SP_4014", "{notice}");
    let file = own.write(world.dir.path()).display().to_string();
    let _pinned = tls_agent(&world, "pinned", &app.url(), &["--upstream-ca", &file]).await;
    assert_eq!(get(&world, "pinned", "/", Version::H1).await.status, 200);
    let by_address = app.url().replace("localhost", "127.0.0.1");
    let _ip = tls_agent(&world, "ip", &by_address, &["--upstream-ca", &file]).await;
    get(&world, "ip", "/", Version::H1)
        .await
        .assert_refused(502, "SP_4010", "another name");
    // The name that it is asked for by is the one that it proves.
    let more = ["--upstream-ca", &file, "--host-header", "localhost:1"];
    let _named = tls_agent(&world, "named", &by_address, &more).await;
    assert_eq!(get(&world, "named", "/", Version::H1).await.status, 200);
    let head = app.heads().pop().unwrap();
    assert!(head.contains("host: localhost:1\r\n"), "{head}");
    let output = world
        .agent_cli(&["http", "8080", "--upstream-tls-verify=false"], &[])
        .await;
    assert_eq!(output.code, Some(3), "{}", output.all());
    assert!(output.stderr.contains("SP_4007"), "{}", output.all());
}

/// Only a good end looks like one: a body that ends with its connection is complete after close_notify,
/// and broken without; one with a length is complete either way.
#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_cut_short_is_no_good_end() {
    let world = World::start().await;
    let ca = AppCa::new();
    let app = HttpsApp::start(&ca.issue(&["localhost"])).await;
    let file = ca.write(world.dir.path()).display().to_string();
    let _agent = tls_agent(&world, "app", &app.url(), &["--upstream-ca", &file]).await;
    for version in Version::BOTH {
        let reply = get(&world, "app", "/until-close", version).await;
        assert_eq!(reply.end, Ok(()), "{version:?}");
        assert_eq!(reply.text(), "until the end");
        let reply = get(&world, "app", "/sloppy", version).await;
        assert_eq!((reply.end, reply.body.len()), (Ok(()), 100_000));
        let reply = get(&world, "app", "/cut-short", version).await;
        assert_eq!(reply.end, Err(Fault::Reset), "{version:?}");
        assert_eq!(reply.text(), "until the end", "what came is passed on");
    }
}

/// A cut reaches an app behind TLS as a reset of its socket, never as a good end of TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_resets_the_socket_below_tls() {
    let world = World::start().await;
    let ca = AppCa::new();
    let app = HttpsApp::start(&ca.issue(&["localhost"])).await;
    let file = ca.write(world.dir.path()).display().to_string();
    let _agent = tls_agent(&world, "app", &app.url(), &["--upstream-ca", &file]).await;
    let mut response = Ask::get(&world.net, "app", "/endless")
        .open(&world.net, Version::H2)
        .await
        .unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    let ends = wait::until("the app's connection ends", || {
        let ends = app.ends();
        async move { (!ends.is_empty()).then_some(ends) }
    })
    .await;
    assert!(
        matches!(
            ends[0],
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        ),
        "{ends:?}"
    );
}

/// The Host header: kept, rewritten to the app's own address, or fixed; X-Forwarded-Host stays the public
/// name, and so do redirects and cookies stay as the app makes them.
#[tokio::test(flavor = "multi_thread")]
async fn host_headers() {
    let world = World::start().await;
    let address = world.upstream.address();
    let table: [(&[&str], Option<&str>); 4] = [
        (&[], None),
        (&["--host-header", "preserve"], None),
        (&["--host-header=rewrite"], Some(&address)),
        (
            &["--host-header", "app.internal:81"],
            Some("app.internal:81"),
        ),
    ];
    for (number, (more, host)) in table.into_iter().enumerate() {
        let label = format!("app{number}");
        let public = format!("{}:{}", world.net.host(&label), world.net.addr.port());
        let host = host.unwrap_or(&public);
        let _agent = world.agent(&label, more).await;
        for version in Version::BOTH {
            // Twice, so that a connection is reused.
            for _ in 0..2 {
                let reply = get(&world, &label, "/headers", version).await;
                assert_eq!(reply.status, 200);
                let seen = world.upstream.seen().pop().unwrap();
                assert_eq!(seen.folded("host"), [host], "{more:?}");
                assert_eq!(seen.header("x-forwarded-host"), Some(public.as_str()));
            }
        }
    }
}

/// An app that speaks HTTP/2 with prior knowledge: requests arrive as they were sent, bodies and trailers
/// pass both ways over both public versions, and one connection serves one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_speaks_http2_is_served() {
    let world = World::start().await;
    let app = H2App::start(Options::default()).await;
    let _agent = world
        .agent_for("app", &app.address(), &["--upstream-protocol=http2"])
        .await;
    let public = format!("app.{}:{}", world.net.domain, world.net.addr.port());
    for version in Version::BOTH {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
            let reply = Ask::get(&world.net, "app", "/any?a=1&b=%2f")
                .method(method)
                .header("x-custom", "a, b;c")
                .send(&world.net, version)
                .await;
            assert_eq!((reply.status, reply.end.clone()), (200, Ok(())), "{method}");
            let seen = app.last();
            assert_eq!(seen.method(), method);
            let url = format!("http://{public}/any?a=1&b=%2f");
            assert_eq!(seen.uri().to_string(), url);
            assert_eq!(seen.headers()["x-custom"], "a, b;c");
            assert_eq!(seen.headers()["x-forwarded-host"], public.as_str());
            assert!(!seen.headers().contains_key("host"));
        }
        let body: Bytes = vec![b'z'; 3_000_000].into();
        let reply = Ask::get(&world.net, "app", "/echo")
            .method("POST")
            .header("te", "trailers")
            .body(body.clone())
            .send(&world.net, version)
            .await;
        assert_eq!((reply.status, reply.end.clone()), (200, Ok(())));
        assert!(reply.body == body, "the body came back changed");
        if version == Version::H2 {
            assert_eq!(reply.header("trailer:x-sum"), Some("42"));
        }
        // A client that waits for a word before it sends its body gets it from the edge.
        let reply = Ask::get(&world.net, "app", "/echo")
            .method("POST")
            .header("expect", "100-continue")
            .body("at once")
            .send(&world.net, version)
            .await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "at once"));
        assert!(!app.last().headers().contains_key("expect"));
    }
    let mut connection = http1::Connection::open(&world.net, &world.net.host("app"))
        .await
        .unwrap();
    let ask = Ask::get(&world.net, "app", "*").method("OPTIONS");
    connection.send(&ask).await.unwrap();
    assert_eq!(connection.response("OPTIONS").await.unwrap().status, 200);
    assert_eq!(app.last().uri().path(), "*");
    // Each worker keeps its own, and one that was idle for long is not used for what cannot be repeated.
    assert!(
        app.connections() * 2 < app.count(),
        "{} connections for {} requests",
        app.connections(),
        app.count()
    );
}

/// HTTP/2 below TLS is agreed on by ALPN, and an app that does not agree is told apart.
#[tokio::test(flavor = "multi_thread")]
async fn http2_below_tls_is_agreed_on() {
    let world = World::start().await;
    let ca = AppCa::new();
    let file = ca.write(world.dir.path()).display().to_string();
    let app = H2App::start_tls(Options::default(), &ca.issue(&["localhost"])).await;
    let url = format!("https://localhost:{}", app.addr.port());
    let more = ["--upstream-ca", &file, "--upstream-protocol=http2"];
    let _agent = tls_agent(&world, "app", &url, &more).await;
    let reply = get(&world, "app", "/x", Version::H2).await;
    assert_eq!(reply.status, 200);
    assert_eq!(app.last().uri().scheme_str(), Some("https"));
    let old = HttpsApp::start(&ca.issue(&["localhost"])).await;
    let _old = tls_agent(&world, "old", &old.url(), &more).await;
    get(&world, "old", "/", Version::H2)
        .await
        .assert_refused(502, "SP_4012", "http/1.1 only");
    let _new = tls_agent(&world, "new", &url, &["--upstream-ca", &file]).await;
    get(&world, "new", "/", Version::H2)
        .await
        .assert_refused(502, "SP_4012", "h2 only");
}

/// An app that speaks the other version of HTTP is told as such.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_version_is_told() {
    let world = World::start().await;
    let app = H2App::start(Options::default()).await;
    let _new = world.agent_for("new", &app.address(), &[]).await;
    let _old = world.agent("old", &["--upstream-protocol=http2"]).await;
    for label in ["new", "old"] {
        for version in Version::BOTH {
            let reply = get(&world, label, "/", version).await;
            reply.assert_refused(502, "SP_4012", label);
        }
    }
}

/// What an app breaks off looks broken, what a client breaks off ends the app's connection, and neither is
/// reused.
#[tokio::test(flavor = "multi_thread")]
async fn http2_apps_and_their_clients_break_off() {
    let world = World::start().await;
    let app = H2App::start(Options::default()).await;
    let _agent = world
        .agent_for("app", &app.address(), &["--upstream-protocol=http2"])
        .await;
    for version in Version::BOTH {
        let mut response = Ask::get(&world.net, "app", "/reset")
            .open(&world.net, version)
            .await
            .unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "some");
        app.reset_one();
        assert_eq!(response.chunk().await, Err(Fault::Reset), "{version:?}");
        let mut response = Ask::get(&world.net, "app", "/endless")
            .open(&world.net, version)
            .await
            .unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        drop(response);
        wait::until("the app's connections end", || async {
            (app.open() == 0).then_some(())
        })
        .await;
        let reply = get(&world, "app", "/refuse", version).await;
        assert_eq!((reply.status, reply.end), (403, Ok(())));
        wait::until("an idle connection is let go", || async {
            (app.open() <= 2).then_some(())
        })
        .await;
    }
}

/// A cut of a download from an HTTP/2 app ends both sides.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_from_an_http2_app_is_cut() {
    let world = World::with_login().await;
    let app = H2App::start(Options::default()).await;
    let more = ["--upstream-protocol=http2", "--oauth=dev"];
    let agent = world.agent_for("app", &app.address(), &more).await;
    for version in Version::BOTH {
        let ada = world.signed_in("ada", &agent.url).await;
        let mut response = Ask::get(&world.net, "app", "/endless")
            .cookie(&ada.cookie(&agent.url))
            .open(&world.net, version)
            .await
            .unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        let id = world.api.newest_session_of("ada@example.test").await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let receipt = world.api.revoke(&format!("/app/sessions/{id}")).await;
        assert_eq!(receipt["connections_cut"], 1, "{receipt}");
        let fault = wait::within("the end", async {
            loop {
                match response.chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a good end"),
                    Err(fault) => return fault,
                }
            }
        })
        .await;
        assert_eq!(fault, Fault::Reset, "{version:?}");
        wait::until("the app's connection ends", || async {
            (app.open() <= 2).then_some(())
        })
        .await;
    }
}

/// A WebSocket reaches an HTTP/2 app by extended CONNECT, from either public version; one that does not
/// take it is told.
#[tokio::test(flavor = "multi_thread")]
async fn websockets_to_http2_apps() {
    let world = World::start().await;
    let takes = H2App::start(Options { websockets: true }).await;
    let more = ["--upstream-protocol=http2"];
    let _agent = world.agent_for("app", &takes.address(), &more).await;
    let mut socket = WebSocket::open(&world.net, "app", "/ws?x=1", None)
        .await
        .unwrap();
    // The app sends back frames as they are, masked: a client refuses those.
    socket.send(Message::text("hello")).await.unwrap();
    assert!(matches!(
        socket.next().await,
        Event::Lost(Fault::Garbage(_))
    ));
    let seen = takes.last();
    assert_eq!(seen.method(), "CONNECT");
    assert_eq!(seen.uri().path_and_query().unwrap(), "/ws?x=1");
    let protocol = seen.extensions().get::<h2::ext::Protocol>().unwrap();
    assert_eq!(protocol.as_str(), "websocket");
    for name in ["sec-websocket-key", "upgrade", "connection"] {
        assert!(!seen.headers().contains_key(name), "{name}");
    }
    let connection = http2::Connection::open(&world.net, &world.net.host("app"), None)
        .await
        .unwrap();
    let ask = Ask::get(&world.net, "app", "/ws");
    let (mut response, mut send) = connection.websocket(&ask).await.unwrap();
    assert_eq!(response.status, 200);
    http2::send_data(&mut send, Bytes::from_static(b"\x82\x03abc"), true)
        .await
        .unwrap();
    let echoed = wait::within("the echo", response.chunk()).await.unwrap();
    assert_eq!(echoed.unwrap(), &b"\x82\x03abc"[..]);
    let mut rest = Ok(Some(Bytes::new()));
    while rest.as_ref().is_ok_and(Option::is_some) {
        rest = response.chunk().await;
    }
    assert_eq!(rest, Ok(None), "a good end");

    // What the app breaks off is no good end, though it says CANCEL.
    let ask = Ask::get(&world.net, "app", "/ws-reset");
    let (mut response, _send) = connection.websocket(&ask).await.unwrap();
    assert_eq!(
        response.chunk().await.unwrap().unwrap(),
        &b"\x82\x03abc"[..]
    );
    takes.reset_one();
    let end = wait::within("the end", response.chunk()).await;
    assert_eq!(end, Err(Fault::Reset));
    let mut socket = WebSocket::open(&world.net, "app", "/ws-reset", None)
        .await
        .unwrap();
    assert!(matches!(socket.next().await, Event::Message(_)));
    takes.reset_one();
    let end = wait::within("the end", socket.next()).await;
    assert!(matches!(end, Event::Lost(Fault::Reset)), "{end:?}");

    let does_not = H2App::start(Options::default()).await;
    let _agent = world.agent_for("no", &does_not.address(), &more).await;
    let refused = WebSocket::open(&world.net, "no", "/ws", None).await;
    assert_eq!(refused.err(), Some(502));
    let ask = Ask::get(&world.net, "no", "/ws");
    let connection = http2::Connection::open(&world.net, &world.net.host("no"), None)
        .await
        .unwrap();
    let (reply, _) = connection.websocket(&ask).await.unwrap();
    let error = tests::http::find(&reply.headers, "sallyport-error");
    assert_eq!((reply.status, error), (502, Some("SP_4013")));
    let mut connection = http1::Connection::open(&world.net, &world.net.host("no"))
        .await
        .unwrap();
    let other = Ask::get(&world.net, "no", "/")
        .header("connection", "upgrade")
        .header("upgrade", "something");
    connection.send(&other).await.unwrap();
    assert_eq!(connection.response("GET").await.unwrap().status, 400);
}
