//! Agents that share a name, that come and go, and an edge that ends politely, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::http::{Ask, Fault, Version};
use tests::net::Net;
use tests::upstream::Upstream;
use tests::wait;
use tests::websocket::{Event, WebSocket};
use tests::world::World;
use tests::{http1, http2};
use tokio::task::JoinHandle;

/// Two agents of one name, each with an app of its own: requests in turn when both are idle, and where
/// it is quieter when not.
#[tokio::test(flavor = "multi_thread")]
async fn load_spreads() {
    let world = World::start().await;
    let other = Upstream::start().await;
    let _first = world.agent("pool", &["--pooling"]).await;
    let _second = world
        .agent_for("pool", &other.address(), &["--pooling"])
        .await;
    for _ in 0..20 {
        let reply = Ask::get(&world.net, "pool", "/").send(&world.net, Version::H1);
        assert_eq!(reply.await.status, 200);
    }
    let counts = [world.upstream.count(), other.count()];
    // Each worker of the edge takes turns for itself.
    assert!(counts.iter().all(|count| *count >= 4), "{counts:?}");

    world.upstream.clear();
    other.clear();
    let mut open = Vec::new();
    for _ in 0..8 {
        let ask = Ask::get(&world.net, "pool", "/slow?every=20");
        let mut response = ask.open(&world.net, Version::H1).await.unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        open.push(response);
    }
    let counts = [world.upstream.count(), other.count()];
    assert_eq!(counts, [4, 4], "the least loaded is picked");
    let status = world.edge.cli(&["status", "--json"]).await.json();
    let streams: Vec<_> = status["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| link["streams"].as_u64().unwrap())
        .collect();
    assert_eq!(streams, [4, 4], "{status:#}");
}

/// Where visitors come in on several workers, a tunnel gets a link for each of them, and what is open stays
/// open. It is still one tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_tunnel_gets_more_links() {
    for link in ["quic", "tls"] {
        let world = World::builder().config("workers: 2\n").start().await;
        let agent = world.agent("busy", &["--link", link]).await;
        let mut open = Vec::new();
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < wait::DEADLINE, "no second link");
            for _ in 0..8 {
                let ask = Ask::get(&world.net, "busy", "/slow?every=20");
                let mut response = ask.open(&world.net, Version::H1).await.unwrap();
                assert!(response.chunk().await.unwrap().is_some());
                open.push(response);
            }
            let status = world.edge.cli(&["status", "--json"]).await.json();
            assert_eq!(status["tunnels"], 1, "{status:#}");
            let first = &status["links"][0];
            assert_eq!(first["transport"], link);
            if first["lanes"] == 2 {
                break;
            }
        }
        for response in &mut open {
            assert!(response.chunk().await.unwrap().is_some());
        }
        for _ in 0..16 {
            let reply = Ask::get(&world.net, "busy", "/x").send(&world.net, Version::H1);
            assert_eq!(reply.await.status, 200);
        }
        let status = world.edge.cli(&["status"]).await;
        assert!(
            status.stdout.contains(&format!("{link} × 2")),
            "{}",
            status.stdout
        );
        // Both end with the tunnel.
        drop(agent);
        wait::until("no tunnel", || async {
            let status = world.edge.cli(&["status", "--json"]).await.json();
            (status["tunnels"] == 0).then_some(())
        })
        .await;
        for response in &mut open {
            let ended = async { while let Ok(Some(_)) = response.chunk().await {} };
            wait::within("every stream ends with its agent", ended).await;
        }
    }
}

/// An agent whose app is down is passed over before anything of a request is lost, bodies included.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_app_is_passed_over() {
    let world = World::start().await;
    let other = Upstream::start().await;
    let _first = world.agent("pool", &["--pooling"]).await;
    let _second = world
        .agent_for("pool", &other.address(), &["--pooling"])
        .await;
    drop(other);
    for version in Version::BOTH {
        for number in 0..10 {
            let ask = if number % 2 == 0 {
                Ask::get(&world.net, "pool", "/")
            } else {
                Ask::get(&world.net, "pool", "/echo")
                    .method("POST")
                    .body(vec![b'x'; 50_000])
            };
            let reply = ask.send(&world.net, version).await;
            assert_eq!(reply.status, 200, "{number}: {}", reply.text());
        }
    }
    assert_eq!(world.upstream.count(), 20);
}

/// One of two agents is killed under load: what may be asked again is, and every answer is a good one.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_is_passed_over() {
    let world = World::start().await;
    let _first = world.agent("pool", &["--pooling"]).await;
    let mut second = world.agent("pool", &["--pooling"]).await;
    let load = Load::begin(&world.net, "pool");
    load.go_on_for(100).await;
    second.process.kill().await;
    wait::until("the dead link is found", || async {
        let status = world.edge.cli(&["status", "--json"]).await.json();
        (status["tunnels"] == 1).then_some(())
    })
    .await;
    load.go_on_for(50).await;
    let outcome = load.end().await;
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
}

/// A killed agent that starts again answers at once: nothing waits for its dead link.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_takes_its_name_back() {
    let world = World::start().await;
    let mut agent = world.agent("app", &[]).await;
    let mut measured = Vec::new();
    for _ in 0..5 {
        agent.process.kill().await;
        agent.start_again().await;
        let begun = Instant::now();
        let reply = Ask::get(&world.net, "app", "/").send(&world.net, Version::H1);
        assert_eq!(reply.await.status, 200);
        measured.push(begun.elapsed());
    }
    eprintln!("from bound to answered: {measured:?}");
    let slowest = measured.iter().max().unwrap();
    assert!(*slowest < Duration::from_secs(3), "{measured:?}");
}

/// Where the same agent runs twice the newer serves, and the older ends with a code that says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_older_of_two_runs_ends() {
    let world = World::start().await;
    let mut older = world.agent("app", &[]).await;
    // Its lock goes with its folder: what is copied is the identity, as a restored backup would.
    let copy = world.dir.path().join("copied");
    copy_folder(older.home(), &copy);
    let newer = world.agent_at_home(&copy, "app").await;
    let event = older
        .process
        .event("why it ends", |event| event["code"] == "SP_3009")
        .await;
    assert!(event["next_step"].is_string(), "{event}");
    let status = older.process.exited().await;
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
    let reply = Ask::get(&world.net, "app", "/").send(&world.net, Version::H1);
    assert_eq!(reply.await.status, 200);
    drop(newer);
}

/// `edge drain`: a download that ends within the bound is whole, a WebSocket hears 1001 at its end, the
/// operator hears how far it is, and the edge ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_and_tells() {
    let mut world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let mut downloads = Vec::new();
    for version in Version::BOTH {
        let ask = Ask::get(&world.net, "app", "/big?n=3000000");
        let mut response = ask.open(&world.net, version).await.unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        downloads.push(response);
    }
    let mut socket = WebSocket::open(&world.net, "app", "/ws?every=20", None)
        .await
        .unwrap();
    let drain = world.edge.cli(&["drain", "--timeout", "2500ms", "--json"]);
    let watch = async {
        let status = wait::until("status while draining", || async {
            let status = world.edge.cli(&["status", "--json"]).await;
            (status.code == Some(0)).then(|| status.json())
        })
        .await;
        assert!(status["connections"].as_u64().unwrap() >= 1, "{status}");
        for download in downloads {
            let rest = wait::within("the rest", download.whole()).await;
            assert_eq!(rest.end, Ok(()), "a download under way is finished");
        }
        loop {
            match wait::within("the WebSocket's end", socket.next()).await {
                Event::Message(_) => {}
                end @ (Event::Closed(_) | Event::Lost(_)) => break end,
            }
        }
    };
    let (drained, end) = tokio::join!(drain, watch);
    let Event::Closed(Some((code, reason))) = end else {
        panic!("{end:?}");
    };
    assert_eq!((code, reason.as_str()), (1001, "shutdown"));
    assert_eq!(drained.code, Some(0), "{}", drained.all());
    let lines: Vec<Value> = drained
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line["event"] == "draining" && line["exchanges"].as_u64() >= Some(1)),
        "{lines:?}"
    );
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event"], &last["cut"]),
        (&"drained".into(), &1.into())
    );
    let status = world.edge.process.exited().await;
    assert_eq!(
        status.code(),
        Some(0),
        "{}",
        world.edge.process.stderr_tail()
    );
    let progress = world.edge.process.events.all();
    assert!(
        progress.iter().any(|line| line["event"] == "draining"),
        "{progress:?}"
    );
}

/// An edge with nothing open ends at once, and says that nothing was cut; without an edge there is
/// nothing to drain.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_nothing() {
    let mut world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let begun = Instant::now();
    let drained = world.edge.cli(&["drain", "--timeout=60s"]).await;
    assert_eq!(drained.code, Some(0), "{}", drained.all());
    assert_eq!(drained.stdout, "The edge has ended; nothing was cut.\n");
    assert!(begun.elapsed() < Duration::from_secs(20), "it did not wait");
    world.edge.process.exited().await;
    let nothing = world.edge.cli(&["drain"]).await;
    assert_eq!(nothing.code, Some(4), "{}", nothing.all());
}

/// A second signal ends a drain at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let mut world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let ask = Ask::get(&world.net, "app", "/slow?every=20");
    let mut open = ask.open(&world.net, Version::H1).await.unwrap();
    assert!(open.chunk().await.unwrap().is_some());
    world.edge.process.signal("TERM").await;
    world
        .edge
        .process
        .event("the drain", |event| event["event"] == "draining")
        .await;
    let begun = Instant::now();
    world.edge.process.terminate().await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let end = loop {
        match open.chunk().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(end.is_err(), "a body that was cut never looks whole");
}

/// One edge is restarted under load: no request that it accepted fails, and its agent is back with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_load() {
    let mut world = World::start().await;
    let agent = world.agent("app", &[]).await;
    let load = Load::begin(&world.net, "app");
    for _ in 0..2 {
        load.go_on_for(100).await;
        world.restart_edge().await;
        let begun = Instant::now();
        load.go_on_for(100).await;
        eprintln!("a hundred answers after {:?}", begun.elapsed());
    }
    let outcome = load.end().await;
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    drop(agent);
}

/// Over the bound of what may be open, a request is refused before its body is read, with a code; as soon
/// as something ends, the next is served. What needs no agent is answered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_bounded() {
    let world = World::builder()
        .config("workers: 1\nexchanges_max: 3\n")
        .start()
        .await;
    let _agent = world.agent("app", &[]).await;
    let mut open = Vec::new();
    for version in [Version::H1, Version::H2, Version::H1] {
        let ask = Ask::get(&world.net, "app", "/slow?every=20");
        let mut response = ask.open(&world.net, version).await.unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        open.push(response);
    }
    for version in Version::BOTH {
        let before = world.upstream.count();
        let refused = Ask::get(&world.net, "app", "/echo")
            .method("POST")
            .body(vec![b'x'; 10_000])
            .send(&world.net, version)
            .await;
        refused.assert_refused(503, "SP_5010", "over the bound");
        assert!(refused.header("retry-after").is_some());
        assert_eq!(world.upstream.count(), before);
    }
    assert_eq!(world.api.get("/app/users").await.status, 200);
    open.pop();
    wait::until("a place is free", || async {
        let reply = Ask::get(&world.net, "app", "/").send(&world.net, Version::H1);
        (reply.await.status == 200).then_some(())
    })
    .await;
}

/// Requests without a pause: on fresh connections, on one that is kept, and over HTTP/2.
struct Load {
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

struct Outcome {
    failed: Vec<String>,
}

impl Load {
    fn begin(net: &Net, label: &str) -> Self {
        let (answered, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut tasks = Vec::new();
        for how in [
            How::Fresh,
            How::Fresh,
            How::Kept,
            How::Kept,
            How::H2,
            How::H2,
        ] {
            let client = Client {
                ask: Ask::get(net, label, "/load"),
                net: net.clone(),
                answered: Arc::clone(&answered),
                stop: Arc::clone(&stop),
            };
            tasks.push(tokio::spawn(client.run(how)));
        }
        Self {
            answered,
            stop,
            tasks,
        }
    }

    /// Waits for so many more good answers.
    async fn go_on_for(&self, more: u64) {
        let until = self.answered.load(Ordering::Relaxed) + more;
        wait::until("answers", || async {
            (self.answered.load(Ordering::Relaxed) >= until).then_some(())
        })
        .await;
    }

    async fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for task in self.tasks {
            failed.extend(wait::within("the last answer", task).await.unwrap());
        }
        Outcome { failed }
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    Fresh,
    Kept,
    H2,
}

struct Client {
    ask: Ask,
    net: Net,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Client {
    /// Gives what failed of what was accepted: a connection that could not be opened was not.
    async fn run(self, how: How) -> Vec<String> {
        let mut failed = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let ended = match how {
                How::Fresh => self.h1(false).await,
                How::Kept => self.h1(true).await,
                How::H2 => self.h2().await,
            };
            if let Err(what) = ended {
                failed.push(format!("{how:?}: {what}"));
            }
            // An edge that is away is asked again in a moment.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        failed
    }

    async fn h1(&self, is_kept: bool) -> Result<(), String> {
        let Ok(mut connection) = http1::Connection::open(&self.net, &self.ask.sni).await else {
            return Ok(());
        };
        loop {
            let answer = async {
                connection.send(&self.ask).await?;
                let mut response = connection.response("GET").await?;
                while response.chunk().await?.is_some() {}
                Ok::<_, Fault>(response)
            }
            .await;
            let response = answer.map_err(|fault| format!("{fault:?}"))?;
            self.judge(response.status, &response.headers)?;
            let says_close = tests::http::find(&response.headers, "connection") == Some("close");
            if !is_kept || says_close || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            connection = response.connection;
        }
    }

    async fn h2(&self) -> Result<(), String> {
        let Ok(connection) = http2::Connection::open(&self.net, &self.ask.sni, None).await else {
            return Ok(());
        };
        while !self.stop.load(Ordering::Relaxed) {
            // What cannot be begun was not accepted: the edge has said that it takes no more.
            let Ok((answer, _)) = connection.begin(&self.ask).await else {
                return Ok(());
            };
            let answer = async {
                let mut response = connection.answer(answer).await?;
                while response.chunk().await?.is_some() {}
                Ok::<_, Fault>(response)
            }
            .await;
            let response = answer.map_err(|fault| format!("{fault:?}"))?;
            self.judge(response.status, &response.headers)?;
        }
        Ok(())
    }

    fn judge(&self, status: u16, headers: &[(String, String)]) -> Result<(), String> {
        if status == 200 {
            self.answered.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let code = tests::http::find(headers, "sallyport-error").unwrap_or("");
        Err(format!("{status} {code}"))
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
