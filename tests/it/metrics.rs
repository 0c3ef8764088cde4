//! What whatever watches the edge is told: metrics that move, alive and ready, and the access log in a
//! file of its own.

use std::collections::BTreeMap;

use tests::http::{Ask, Version};
use tests::http2;
use tests::traffic::{Kind, Session, Stream};
use tests::wait;
use tests::websocket::WebSocket;
use tests::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// GET over plain HTTP: status and body.
async fn get(address: &str, path: &str) -> (u16, String) {
    let what = format!("http://{address}{path}");
    wait::within(&what, async {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: watch\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    })
    .await
}

/// Every value, by name with labels.
async fn scrape(address: &str) -> BTreeMap<String, String> {
    let (status, body) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.ends_with("# EOF\n"), "{body}");
    body.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// A count; 0 where the name does not occur.
fn value(values: &BTreeMap<String, String>, name: &str) -> u64 {
    let value = values.get(name).map_or("0", String::as_str);
    value.parse().expect("a whole number")
}

/// The sum over all labels.
fn sum(values: &BTreeMap<String, String>, name: &str) -> u64 {
    let rows = values.keys().filter(|key| key.starts_with(name));
    rows.map(|key| value(values, key)).sum()
}

fn watched(world: &World) -> String {
    world.ready["metrics"]
        .as_str()
        .expect("an address")
        .to_owned()
}

/// Counters and gauges follow what happens; nothing names a person, a host or an endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn values_move() {
    let world = World::builder()
        .provider()
        .argument("--metrics=127.0.0.1:0")
        .start()
        .await;
    let address = watched(&world);
    let before = scrape(&address).await;
    assert_eq!(value(&before, "sallyport_tunnels"), 0);
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    for version in Version::BOTH {
        for target in ["/one", "/big?n=300000"] {
            let ask = Ask::get(&world.net, "app", target).cookie(&ada.cookie(&agent.url));
            assert_eq!(ask.send(&world.net, version).await.status, 200);
        }
        let unknown = Ask::get(&world.net, "nobody", "/").send(&world.net, version);
        assert_eq!(unknown.await.status, 404);
        let anonymous = Ask::get(&world.net, "app", "/").send(&world.net, version);
        assert_eq!(anonymous.await.code(), "SP_2001");
    }
    let session = Session {
        net: world.net.clone(),
        label: "app".to_owned(),
        cookie: ada.cookie(&agent.url),
    };
    let mut streams = Vec::new();
    for kind in [Kind::Download(Version::H2), Kind::Clock(Version::H1)] {
        let mut stream = Stream::begin(kind, &session, "metrics");
        stream.opened().await;
        streams.push(stream);
    }
    let during = scrape(&address).await;
    let at_least = |values: &BTreeMap<_, _>, name: &str, least: u64| {
        assert!(value(values, name) >= least, "{name}: {values:#?}");
    };
    at_least(&during, "sallyport_requests_total{code=\"2xx\"}", 4);
    at_least(&during, "sallyport_requests_total{code=\"1xx\"}", 1);
    at_least(&during, "sallyport_requests_total{code=\"SP_1001\"}", 2);
    at_least(&during, "sallyport_requests_total{code=\"SP_2001\"}", 2);
    at_least(&during, "sallyport_bytes_total{direction=\"out\"}", 600_000);
    at_least(&during, "sallyport_bytes_total{direction=\"in\"}", 1_000);
    at_least(&during, "sallyport_memory_resident_bytes", 1_000_000);
    let counted = sum(&during, "sallyport_requests_total{");
    assert_eq!(value(&during, "sallyport_request_seconds_count"), counted);
    assert_eq!(value(&during, "sallyport_tunnels"), 1);
    assert_eq!(value(&during, "sallyport_endpoints_online"), 1);
    assert_eq!(value(&during, "sallyport_sessions_live"), 1);
    assert_eq!(value(&during, "sallyport_streams_active"), 2);
    at_least(&during, "sallyport_connections", 2);
    let links = sum(&during, "sallyport_links{");
    assert_eq!(links, 1, "{during:#?}");

    let session = world.api.newest_session_of("ada@example.test").await;
    let id = session["id"].as_str().unwrap();
    world.api.revoke(&format!("/app/sessions/{id}")).await;
    for stream in streams {
        stream.ended().await;
    }
    let after = wait::until("both cuts are counted", || async {
        let values = scrape(&address).await;
        (value(&values, "sallyport_streams_active") == 0
            && value(&values, "sallyport_revoke_to_cut_seconds_count") >= 2)
            .then_some(values)
    })
    .await;
    at_least(
        &after,
        "sallyport_revoke_to_cut_seconds_bucket{le=\"5.0\"}",
        2,
    );
    let (_, text) = get(&address, "/metrics").await;
    for private in ["ada", "127.0.0.1", agent.endpoint_id.as_str(), "app."] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

/// Off unless asked for; on the public port its paths are an app's own, whatever host is named (E18).
#[tokio::test(flavor = "multi_thread")]
async fn the_public_port_has_no_metrics() {
    for is_on in [false, true] {
        let mut builder = World::builder();
        if is_on {
            builder = builder.argument("--metrics=127.0.0.1:0");
        }
        let world = builder.start().await;
        assert_eq!(world.ready["metrics"].is_string(), is_on, "{}", world.ready);
        let _agent = world.agent("app", &[]).await;
        for version in Version::BOTH {
            for path in ["/metrics", "/healthz", "/readyz"] {
                let reply = Ask::get(&world.net, "app", path)
                    .send(&world.net, version)
                    .await;
                assert_eq!(reply.status, 200);
                assert_eq!(reply.json()["target"], path, "the app answered");
                for reserved in ["auth", "api", "dashboard"] {
                    let reply = Ask::get(&world.net, reserved, path)
                        .send(&world.net, version)
                        .await;
                    assert!(
                        (300..500).contains(&reply.status) && !reply.text().contains("sallyport_"),
                        "{reserved}{path}: {}",
                        reply.text()
                    );
                }
            }
        }
    }
}

/// Alive while the process is; ready until the drain begins, and not while the store takes no writes. The
/// listener answers until the end.
#[tokio::test(flavor = "multi_thread")]
async fn ready_ends_with_the_drain() {
    let mut world = World::builder()
        .argument("--metrics=127.0.0.1:0")
        .start()
        .await;
    let address = watched(&world);
    let _agent = world.agent("app", &[]).await;
    assert_eq!(get(&address, "/healthz").await.0, 200);
    let (status, body) = get(&address, "/readyz").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(get(&address, "/").await.0, 404);
    // Held open: the drain waits for it.
    let ask = Ask::get(&world.net, "app", "/slow?every=5");
    let mut open = ask.open(&world.net, Version::H1).await.unwrap();
    assert!(open.chunk().await.unwrap().is_some());
    world.edge.process.signal("TERM").await;
    let body = wait::until("not ready while draining", || async {
        let (status, body) = get(&address, "/readyz").await;
        (status == 503).then_some(body)
    })
    .await;
    assert!(body.contains("draining: yes"), "{body}");
    assert_eq!(get(&address, "/healthz").await.0, 200);
    assert!(scrape(&address).await.contains_key("sallyport_connections"));
    world.edge.process.signal("TERM").await;
    world.edge.process.exited().await;
}

/// The access log in a file of its own, which may be moved away; the rest of the log knows no address.
#[tokio::test(flavor = "multi_thread")]
async fn an_access_log_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (file, moved) = (
        dir.path().join("access.log"),
        dir.path().join("access.log.1"),
    );
    let mut world = World::builder()
        .argument(&format!("--access-log={}", file.display()))
        .argument("--log")
        .argument("warn")
        .start()
        .await;
    let _agent = world.agent("app", &[]).await;
    let read = |file: &std::path::Path| std::fs::read_to_string(file).unwrap_or_default();
    let ask = async |path: &str| {
        let reply = Ask::get(&world.net, "app", path).send(&world.net, Version::H1);
        assert_eq!(reply.await.status, 200);
    };
    ask("/before").await;
    wait::until("the record", || async {
        read(&file).contains("/before").then_some(())
    })
    .await;
    std::fs::rename(&file, &moved).unwrap();
    world.edge.process.signal("HUP").await;
    // The signal and a request race: records go to the new file from some request on.
    wait::until("the file is opened anew", || async {
        ask("/after").await;
        read(&file).contains("/after").then_some(())
    })
    .await;
    ask("/last").await;
    world.edge.process.terminate().await;
    assert!(read(&file).contains("/last"), "written before the end");
    let record: serde_json::Value =
        serde_json::from_str(read(&moved).lines().next().unwrap()).expect("a JSON line");
    assert_eq!(record["target"], "access", "{record}");
    assert_eq!(record["http.status"], 200, "{record}");
    assert!(!world.edge.log().contains("/last"), "{}", world.edge.log());
}

/// An HTTP/2 connection and a WebSocket count as one connection each, and as none once closed.
#[tokio::test(flavor = "multi_thread")]
async fn connections_come_and_go() {
    let world = World::builder()
        .argument("--metrics=127.0.0.1:0")
        .start()
        .await;
    let address = watched(&world);
    let _agent = world.agent("app", &[]).await;
    let connections = async |count: u64| {
        wait::until("connections are counted", || async {
            let values = scrape(&address).await;
            (value(&values, "sallyport_connections") == count).then_some(())
        })
        .await;
    };
    connections(0).await;
    let socket = WebSocket::open(&world.net, "app", "/ws", None)
        .await
        .unwrap();
    let connection = http2::Connection::open(&world.net, &world.net.host("app"), None)
        .await
        .unwrap();
    connections(2).await;
    drop((socket, connection));
    connections(0).await;
}
