//! Requests inside requests. Whatever a client writes, the upstream sees exactly the requests that the
//! edge judged, with exactly their bodies: judged by what arrived at an app of our own, which keeps every
//! byte, and at nginx, node and Python. After each attack an innocent client gets its own answer.

mod http1;
mod http2;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tests::exact::{self, Io, Message, Wire};
use tests::http::{Ask, Version};
use tests::judge::{Judge, Kind};
use tests::scripted::{Scripted, Step};
use tests::wait;
use tests::world::{Agent, World};

/// What an attack must come to.
#[derive(Clone, Debug)]
enum Comes {
    /// Nothing arrived, and the client was told so or cut off.
    Refused,
    /// Exactly these requests, `METHOD TARGET BODY-BYTES`, in this order, each with its answer.
    To(Vec<String>),
    /// No whole request arrived.
    ToNothingWhole,
}

/// The upstream.
enum App {
    Ours(Scripted),
    Theirs(Judge),
}

struct Lab {
    world: World,
    app: App,
    agent: Agent,
}

impl Lab {
    /// With our own app, which keeps every byte.
    async fn ours() -> Self {
        let world = World::start().await;
        let app = Scripted::start().await;
        app.script(vec![Step::Body, Step::Target]);
        let agent = world.agent_for("app", &app.address(), &[]).await;
        Self {
            world,
            app: App::Ours(app),
            agent,
        }
    }

    /// With somebody else's.
    async fn theirs(kind: Kind, test: &str) -> Option<Self> {
        let world = World::start().await;
        let judge = Judge::start(kind, world.dir.path(), test).await?;
        let agent = world.agent_for("app", &judge.address, &[]).await;
        Some(Self {
            world,
            app: App::Theirs(judge),
            agent,
        })
    }

    fn authority(&self) -> String {
        let net = &self.world.net;
        format!("{}:{}", net.host(&self.agent.label), net.addr.port())
    }

    async fn connect(&self) -> Wire {
        let net = &self.world.net;
        let io = net
            .connect_h1(&net.host("app"))
            .await
            .expect("a connection");
        Wire::new(Box::new(io) as Box<dyn Io>)
    }

    /// Whole requests at the app: `METHOD TARGET BODY-BYTES FORWARDED-FOR`.
    fn seen(&self) -> Vec<String> {
        match &self.app {
            App::Theirs(judge) => judge.seen(),
            App::Ours(app) => app
                .arrived()
                .iter()
                .filter(|message| message.fault.is_none())
                .map(|message| {
                    let bytes = match message.body.len() {
                        0 => "-".to_owned(),
                        bytes => bytes.to_string(),
                    };
                    let from = message.all("x-forwarded-for").join("+");
                    format!("{} {} {bytes} {from}", message.method(), message.target())
                })
                .collect(),
        }
    }

    /// Sees to it that what is under way has arrived, and that nobody got somebody else's answer.
    async fn innocent(&self) -> Vec<String> {
        for at in 0..3 {
            for version in Version::BOTH {
                let target = format!("/innocent/{at}");
                let reply = Ask::get(&self.world.net, "app", &target)
                    .send(&self.world.net, version)
                    .await;
                assert_eq!((reply.status, reply.text()), (200, target), "{version:?}");
            }
        }
        let mut seen = self.seen();
        let innocent = seen.len();
        seen.retain(|request| !request.contains(" /innocent/"));
        assert_eq!(innocent - seen.len(), 6, "innocent requests at the app");
        let heads = match &self.app {
            App::Ours(app) => {
                let heads = app.begun();
                app.clear();
                heads
            }
            App::Theirs(judge) => {
                judge.clear();
                Vec::new()
            }
        };
        // Heads of what did not become a whole request, too.
        let forged = |head: &Message| {
            head.all("x-forwarded-for") != ["127.0.0.1"]
                || head.header("content_length").is_some()
                || head.header("transfer_encoding").is_some()
        };
        assert!(!heads.iter().any(forged), "an unjudged head: {heads:?}");
        seen
    }

    /// Runs attacks and reports every one that came to something else.
    async fn run(&self, attacks: &[(String, Vec<u8>, Comes)]) {
        let mut failed = Vec::new();
        for (what, bytes, comes) in attacks {
            let attack = AssertUnwindSafe(self.attack(what, bytes, comes)).catch_unwind();
            if attack.await.is_err() {
                failed.push(what.as_str());
            }
        }
        let log = self.world.edge.log();
        assert!(!log.contains("panicked"), "the edge panicked: {log}");
        assert!(
            failed.is_empty(),
            "{} got through: {failed:#?}",
            failed.len()
        );
    }

    async fn attack(&self, what: &str, bytes: &[u8], comes: &Comes) {
        let mut wire = self.connect().await;
        // The edge may refuse and close while this is being written.
        let _ = wire.write(bytes).await;
        match comes {
            Comes::Refused => {
                let answer = wait::within(what, wire.answer("GET")).await;
                if let Ok(answer) = answer {
                    assert!(matches!(answer.status(), 400..=599), "{what}: {answer:?}");
                }
                let (rest, _) = wait::within(what, wire.rest()).await;
                let rest = exact::latin1(&rest);
                assert!(!rest.contains(" 200 "), "{what}: {rest}");
            }
            Comes::To(requests) => {
                for request in requests {
                    let mut words = request.split(' ');
                    let method = words.next().unwrap();
                    let target = words.next().unwrap();
                    let answer = wait::within(what, wire.answer(method)).await;
                    let answer = answer.unwrap_or_else(|fault| panic!("{what}: {fault:?}"));
                    assert_eq!(answer.status(), 200, "{what}: {answer:?}");
                    if method != "HEAD" {
                        assert_eq!(exact::latin1(&answer.body), target, "{what}");
                    }
                }
            }
            Comes::ToNothingWhole => {
                let _ = wire.shutdown().await;
                let (rest, _) = wait::within(what, wire.rest()).await;
                let rest = exact::latin1(&rest);
                assert!(!rest.contains(" 200 "), "{what}: {rest}");
            }
        }
        drop(wire);
        let wanted: Vec<String> = match comes {
            Comes::To(requests) => requests
                .iter()
                .map(|request| format!("{request} 127.0.0.1"))
                .collect(),
            Comes::Refused | Comes::ToNothingWhole => Vec::new(),
        };
        assert_eq!(self.innocent().await, wanted, "{what}");
    }
}

/// Every attack over HTTP/1, judged at our own app.
#[tokio::test(flavor = "multi_thread")]
async fn at_our_own_app() {
    let lab = Lab::ours().await;
    lab.run(&http1::attacks(&lab.authority())).await;
}

/// The same, judged by servers that nobody here wrote.
#[tokio::test(flavor = "multi_thread")]
async fn at_others() {
    for kind in Kind::ALL {
        if let Some(lab) = Lab::theirs(kind, "smuggling::at_others").await {
            let attacks = http1::attacks(&lab.authority());
            // What nobody but us notes: the trailers; what Python does not serve: odd methods.
            lab.run(&attacks).await;
        }
    }
}
