//! Connections to the app are used again: by whom they may be, until when, and what happens when one had
//! died meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::exact::{Message, Wire};
use tests::http::{Ask, Version};
use tests::http1;
use tests::scripted::{Scripted, Step};
use tests::wait;
use tests::world::{Agent, World};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An edge with one worker, for idle connections belong to a worker; an agent; and its app.
struct Lab {
    world: World,
    agent: Agent,
    app: Scripted,
}

/// One connection to the edge that speaks HTTP/1.1.
struct Client {
    wire: Wire<TlsStream<TcpStream>>,
    authority: String,
}

impl Lab {
    async fn new() -> Self {
        let world = World::builder()
            .config("workers: 1\n")
            .argument("--metrics=127.0.0.1:0")
            .start()
            .await;
        let app = Scripted::start().await;
        app.answer(OK);
        let agent = world.agent_for("app", &app.address(), &[]).await;
        Self { world, agent, app }
    }

    async fn client(&self) -> Client {
        let net = &self.world.net;
        let host = net.host("app");
        Client {
            wire: Wire::new(net.connect_h1(&host).await.unwrap()),
            authority: format!("{host}:{}", net.addr.port()),
        }
    }

    /// A request on a client connection of its own.
    async fn ask(&self, method: &str, target: &str) -> Message {
        self.client().await.ask(method, target, &[]).await
    }

    /// The numbers of the app's connections that carried this target, once for each time.
    fn carriers(&self, target: &str) -> Vec<usize> {
        let all = self.app.targets().into_iter().enumerate();
        all.flat_map(|(number, targets)| {
            let is_it = move |found: &String| found == target;
            targets.into_iter().filter(is_it).map(move |_| number)
        })
        .collect()
    }

    /// Waits until the app's connection of this number has ended.
    async fn ended(&self, number: usize) {
        wait::until("the app's connection ends", || async {
            self.app.connections()[number].is_over.then_some(())
        })
        .await;
    }

    /// Waits until an exchange is under way.
    async fn is_under_way(&self) {
        let address = self.world.ready["metrics"].as_str().unwrap().to_owned();
        wait::until("an exchange under way", || async {
            let ask = Ask::get(&self.world.net, "watch.test", "/metrics");
            let mut connection = http1::Connection::plain(&address).await.ok()?;
            connection.send(&ask).await.ok()?;
            let mut response = connection.response("GET").await.ok()?;
            let mut body = Vec::new();
            while let Some(piece) = response.chunk().await.ok()? {
                body.extend_from_slice(&piece);
            }
            let body = String::from_utf8_lossy(&body).into_owned();
            body.lines()
                .any(|line| line == "sallyport_streams_active 1")
                .then_some(())
        })
        .await;
    }
}

impl Client {
    async fn ask(&mut self, method: &str, target: &str, more: &[(&str, &str)]) -> Message {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.authority);
        for (name, value) in more {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if method == "POST" || method == "PUT" {
            text.push_str("Content-Length: 4\r\n\r\nbody");
        } else {
            text.push_str("\r\n");
        }
        let answer = async {
            self.wire.write(text.as_bytes()).await.unwrap();
            self.wire.answer(method).await.unwrap()
        };
        wait::within(&format!("{method} {target}"), answer).await
    }
}

/// Who logs in to the app by NTLM or Negotiate authenticates the connection, not the request: it stays
/// with the client's own connection, for every request of it, and ends with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_logged_in_is_one_clients() {
    let table: [(&[(&str, &str)], &str); 5] = [
        (&[("Authorization", "NTLM TlRMTVNTUAAB")], ""),
        (&[("Authorization", "nEgOtIaTe YII=")], ""),
        (&[], "WWW-Authenticate: NTLM TlRMTVNTUAAC\r\n"),
        (&[], "WWW-Authenticate: negotiate\r\n"),
        (
            &[],
            "WWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: NTLM\r\n",
        ),
    ];
    for (login, asked) in table {
        let what = &format!("{login:?} {asked:?}");
        let lab = Lab::new().await;
        let text = format!("HTTP/1.1 401 Unauthorized\r\n{asked}Content-Length: 2\r\n\r\nno");
        lab.app
            .script_once(vec![Step::Body, Step::Write(text.into_bytes())]);
        let mut ada = lab.client().await;
        assert_eq!(ada.ask("GET", "/ada-1", login).await.status(), 401);
        // Others come meanwhile, over both versions.
        for version in Version::BOTH {
            let ask = Ask::get(&lab.world.net, "app", "/other");
            assert_eq!(ask.send(&lab.world.net, version).await.status, 200);
        }
        // Whether it can be repeated or not: the login is on that connection.
        assert_eq!(ada.ask("POST", "/ada-2", &[]).await.status(), 200);
        assert_eq!(ada.ask("GET", "/ada-3", &[]).await.status(), 200);
        assert_eq!(lab.ask("GET", "/other").await.status(), 200);
        let carried = [["/ada-1", "/ada-2", "/ada-3"], ["/other"; 3]];
        assert_eq!(lab.app.targets(), carried, "{what}");
        drop(ada);
        lab.ended(0).await;
        assert!(!lab.app.connections()[1].is_over, "{what}");
        // The same client on a new connection is nobody yet.
        assert_eq!(lab.ask("GET", "/ada-4").await.status(), 200);
        assert_eq!(lab.app.targets()[1].len(), 4, "{what}");
    }
}

/// HTTP/2 has no order of requests that a login could rely on: a connection that logged in is used for
/// nothing else. What is asked of each request, such as Basic, leaves a connection as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_over_http2_ends_its_connection() {
    let lab = Lab::new().await;
    let ask = |target, login: &str| {
        let ask = Ask::get(&lab.world.net, "app", target).header("authorization", login);
        ask.send(&lab.world.net, Version::H2)
    };
    assert_eq!(ask("/basic", "Basic YTpi").await.status, 200);
    assert_eq!(ask("/bearer", "Bearer NTLM").await.status, 200);
    assert_eq!(ask("/login", "Negotiate YII=").await.status, 200);
    assert_eq!(ask("/basic", "Basic YTpi").await.status, 200);
    assert_eq!(lab.carriers("/basic"), [0, 1]);
    assert_eq!(lab.carriers("/bearer"), lab.carriers("/login"));
    lab.ended(0).await;
}

/// An idle connection that the app closed before anybody knew is replaced by a fresh one, and the app sees
/// the request exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_closed_unseen_is_replaced() {
    let lab = Lab::new().await;
    for (step, first, second) in [(Step::Close, "/1", "/2"), (Step::Reset, "/3", "/4")] {
        let gate = Arc::new(Notify::new());
        let later = Step::Gate(Arc::clone(&gate));
        lab.app
            .script_once(vec![Step::Body, Step::Write(OK.to_vec()), later, step]);
        assert_eq!(lab.ask("GET", first).await.status(), 200);
        let used = lab.carriers(first)[0];
        let count = lab.app.connections().len();
        // An agent that is stopped tells nobody, as a slow path would not.
        lab.agent.process.signal("STOP").await;
        gate.notify_one();
        lab.ended(used).await;
        let (answer, ()) = tokio::join!(lab.ask("GET", second), async {
            lab.is_under_way().await;
            lab.agent.process.signal("CONT").await;
        });
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"ok"[..]));
        assert_eq!(lab.carriers(second), [count], "{:?}", lab.app.targets());
    }
}

/// A connection that dies under a request before a byte of an answer came: the request is sent once more
/// where it does the same twice and has no body, else the client is told. Never more often than that,
/// and never after a part of an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_is_replaced_once() {
    let lab = Lab::new().await;
    let dies = [Step::Body, Step::Close].to_vec();
    let is_reset = [Step::Body, Step::Reset].to_vec();
    let half = Step::Write(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec());
    let half = [Step::Body, half, Step::Close].to_vec();
    let repeated = ["GET", "HEAD", "OPTIONS", "DELETE"];
    // The first comes without a body, the others with one.
    let once = ["PATCH", "POST", "PUT"];
    for dies in [dies, is_reset] {
        for method in repeated {
            lab.meets(std::slice::from_ref(&dies), method, 2, 200).await;
            lab.meets(&[dies.clone(), dies.clone()], method, 2, 502)
                .await;
        }
        for method in once {
            lab.meets(std::slice::from_ref(&dies), method, 1, 502).await;
        }
    }
    lab.meets(&[half], "GET", 1, 502).await;
}

impl Lab {
    /// A request on a connection that has served before: what it and those after it do, how often the app
    /// is asked, and the answer.
    async fn meets(&self, scripts: &[Vec<Step>], method: &str, times: usize, status: u16) {
        let what = &format!("{method} meets {scripts:?}");
        let (first, second) = (unique("/first"), unique("/second"));
        assert_eq!(self.ask("GET", &first).await.status(), 200, "{what}");
        let used = self.carriers(&first)[0];
        let fresh = self.app.connections().len();
        for script in scripts {
            self.app.script_once(script.clone());
        }
        let answer = self.ask(method, &second).await;
        assert_eq!(answer.status(), status, "{what}: {answer:?}");
        assert_eq!(
            self.carriers(&second),
            [used, fresh][..times],
            "{what}: {:?}",
            self.app.targets()
        );
        if status == 502 {
            assert!(answer.header("sallyport-error").is_some(), "{what}");
        }
    }
}

/// A path that no request had before.
fn unique(path: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("{path}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A connection that dies with its first request was alive when it was opened: that is told, not tried
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_connection_is_not_replaced() {
    let lab = Lab::new().await;
    lab.app.script_once(vec![Step::Body, Step::Close]);
    let answer = lab.ask("GET", "/first").await;
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(lab.app.targets(), [["/first"]]);
}

/// Apps close idle connections after two seconds at the earliest: what cannot be sent twice gets none that
/// was idle for almost as long. Everything else does, for ten seconds; then it is closed.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_used_for_a_while() {
    let lab = Lab::new().await;
    // Soon after, anything may have it. How soon that was is measured: a busy computer tries again.
    wait::until("a POST soon after a GET", || async {
        let begun = Instant::now();
        assert_eq!(lab.ask("GET", "/get").await.status(), 200);
        let count = lab.app.connections().len();
        assert_eq!(lab.ask("POST", "/post").await.status(), 200);
        let is_soon = begun.elapsed() < ONCE_IDLE_MAX;
        assert!(!is_soon || lab.app.connections().len() == count);
        is_soon.then_some(())
    })
    .await;
    let fresh = lab.app.connections().len();
    // Nothing outside tells how long a connection has been idle: only time does, here and below.
    tokio::time::sleep(ONCE_IDLE_MAX + Duration::from_millis(100)).await;
    assert_eq!(lab.ask("POST", "/late-post").await.status(), 200);
    assert_eq!(lab.carriers("/late-post"), [fresh]);
    let posted = Instant::now();
    tokio::time::sleep(ONCE_IDLE_MAX * 2).await;
    assert_eq!(lab.ask("GET", "/late-get").await.status(), 200);
    let got = Instant::now();
    assert!(got - posted < IDLE_MAX, "this computer slept");
    assert_eq!(lab.carriers("/late-get"), [fresh]);
    lab.ended(fresh).await;
    let idle = got.elapsed();
    // The answer was here a moment before the connection was idle for everybody to see.
    assert!(idle + Duration::from_millis(200) > IDLE_MAX, "{idle:?}");
}

/// What is promised to requests that cannot be sent twice.
const ONCE_IDLE_MAX: Duration = Duration::from_millis(1500);
/// How long a connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(10);
