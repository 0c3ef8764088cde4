//! gRPC by a client and a server that nobody here wrote: every kind of call, deadlines, metadata,
//! failures, and what is cut.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tests::process::Process;
use tests::world::{Agent, World};
use tests::{python, require};
use tokio::process::{ChildStdin, Command};

/// The app and whoever calls it.
struct Grpc {
    world: World,
    server: Process,
    /// The server ends when this does.
    _stdin: ChildStdin,
    agent: Agent,
    python: PathBuf,
}

impl Grpc {
    /// `None` after saying why `test` is skipped.
    async fn start(test: &str, more: &[&str]) -> Option<Self> {
        let python = python::interpreter(test)?;
        let world = World::with_login().await;
        let mut command = Command::new(&python);
        command.arg(script("server.py"));
        let (mut server, stdin) = Process::start_with_stdin(command, "grpc-server", &world.logs());
        let port = server.event_named("ready").await["port"].as_u64().unwrap();
        let mut arguments = vec!["--upstream-protocol=http2"];
        arguments.extend(more);
        let agent = world
            .agent_for("app", &format!("127.0.0.1:{port}"), &arguments)
            .await;
        Some(Self {
            world,
            server,
            _stdin: stdin,
            agent,
            python,
        })
    }

    /// Starts a client on a case.
    fn client(&self, name: &str, case: &str, cookie: Option<&str>) -> Process {
        let net = &self.world.net;
        let mut command = Command::new(&self.python);
        command
            .arg(script("client.py"))
            .arg(net.addr.to_string())
            .arg(format!("{}:{}", net.host("app"), net.addr.port()))
            .arg(self.world.ready["ca_file"].as_str().unwrap())
            .arg(case)
            .args(cookie)
            .stdin(Stdio::null());
        Process::start(command, name, &self.world.logs())
    }

    /// Everything that a client says about a case.
    async fn calls(&self, name: &str, case: &str, cookie: Option<&str>) -> Vec<Value> {
        let mut client = self.client(name, case, cookie);
        client.event_named("done").await;
        client.events.all()
    }
}

fn script(name: &str) -> PathBuf {
    require::package_dir().join("grpc").join(name)
}

#[track_caller]
fn call<'a>(said: &'a [Value], name: &str) -> &'a Value {
    said.iter()
        .find(|line| line["call"] == name)
        .unwrap_or_else(|| panic!("no {name} in {said:#?}"))
}

/// Unary calls, both streams and both at once, with metadata before and after, empty and large messages.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call() {
    for link in ["--link=quic", "--link=tls"] {
        let Some(grpc) = Grpc::start("every_kind_of_call", &[link]).await else {
            return;
        };
        all_kinds(&grpc).await;
    }
}

async fn all_kinds(grpc: &Grpc) {
    let said = grpc.calls("grpc-client", "all", None).await;
    let unary = call(&said, "unary");
    assert_eq!(unary["reply"], "hello");
    assert_eq!(unary["initial"]["x-initial"], "first please");
    assert_eq!(unary["trailing"]["x-trailing"], "last please");
    assert_eq!(unary["trailing"]["x-bytes-bin"], "00ff");
    let stream = call(&said, "server_stream");
    assert_eq!(
        (&stream["count"], &stream["last"]),
        (&json!(100), &json!("message 99"))
    );
    assert_eq!(call(&said, "empty_stream")["count"], 0);
    assert_eq!(call(&said, "client_stream")["reply"], "500000");
    assert_eq!(call(&said, "bidi")["in_order"], true);
    assert_eq!(call(&said, "large_reply")["bytes"], 8_000_000);
    assert_eq!(call(&said, "large_request")["bytes"], 3_900_000);
    call(&said, "many");
}

/// An app's status and its trailers arrive as it sent them; deadlines are the caller's and the app's, and
/// what a caller cancels ends at the app.
#[tokio::test(flavor = "multi_thread")]
async fn failures_deadlines_and_cancelled_calls() {
    let Some(mut grpc) = Grpc::start("failures_deadlines_and_cancelled_calls", &[]).await else {
        return;
    };
    let said = grpc.calls("grpc-client", "failures", None).await;
    let fail = call(&said, "fail");
    assert_eq!(
        (
            &fail["code"],
            &fail["details"],
            &fail["trailing"]["x-reason"]
        ),
        (
            &json!("FAILED_PRECONDITION"),
            &json!("no such luck: ä%"),
            &json!("none")
        )
    );
    let later = call(&said, "fail_later");
    assert_eq!(
        (&later["code"], &later["details"]),
        (&json!("DATA_LOSS"), &json!("half of it"))
    );
    assert_eq!(call(&said, "unknown")["code"], "UNIMPLEMENTED");
    assert_eq!(call(&said, "deadline")["code"], "DEADLINE_EXCEEDED");
    let left: u64 = call(&said, "passes_deadline")["reply"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=31_000).contains(&left), "{left} ms left");
    assert_eq!(call(&said, "no_deadline")["reply"], "none");
    for name in ["deadline", "cancelled by its client"] {
        grpc.server
            .event(&format!("the end of {name}"), |line| {
                line["event"] == "cancelled" && line["call"] == name
            })
            .await;
    }
}

/// An app that is killed leaves its callers UNAVAILABLE, not cancelled and not complete.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_dies_is_unavailable() {
    let Some(mut grpc) = Grpc::start("an_app_that_dies_is_unavailable", &[]).await else {
        return;
    };
    let mut client = grpc.client("grpc-client", "open", None);
    for name in ["forever", "bidi"] {
        client
            .event(&format!("{name} begun"), |line| line["begun"] == name)
            .await;
    }
    grpc.server
        .event("the slow call at the app", |line| {
            line["event"] == "begun" && line["call"] == "slow"
        })
        .await;
    grpc.server.kill().await;
    client.event_named("done").await;
    for name in ["forever", "bidi", "slow"] {
        let ended = client
            .event(&format!("{name} ended"), |line| line["ended"] == name)
            .await;
        assert_eq!(ended["code"], "UNAVAILABLE", "{ended}");
    }
}

/// Without a session a call is UNAUTHENTICATED; with one it is served; when that is revoked, every open
/// call ends with status 16 and at the app, and the next one is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_call_is_unauthenticated() {
    for link in ["--link=quic", "--link=tls"] {
        let more = ["--oauth=dev", link];
        let Some(grpc) = Grpc::start("a_cut_call_is_unauthenticated", &more).await else {
            return;
        };
        cut_calls(grpc).await;
    }
}

async fn cut_calls(mut grpc: Grpc) {
    let said = grpc.calls("grpc-stranger", "refused", None).await;
    assert_eq!(
        call(&said, "refused")["code"],
        "UNAUTHENTICATED",
        "{said:#?}"
    );
    // No page comes back from this app.
    let mut ada = grpc.world.user("ada");
    ada.sign_in_only(&grpc.agent.url).await;
    let cookie = ada.cookie(&grpc.agent.url);
    let mut client = grpc.client("grpc-ada", "open", Some(&cookie));
    for name in ["forever", "bidi", "slow"] {
        client
            .event(&format!("{name} begun"), |line| line["begun"] == name)
            .await;
    }
    // It says nothing to its client before its end.
    grpc.server
        .event("the slow call at the app", |line| {
            line["event"] == "begun" && line["call"] == "slow"
        })
        .await;
    let id = grpc.world.api.newest_session_of("ada@example.test").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let receipt = grpc.world.api.revoke(&format!("/app/sessions/{id}")).await;
    assert_eq!(receipt["sessions_ended"], 1, "{receipt}");
    client.event_named("done").await;
    for name in ["forever", "bidi", "slow"] {
        let ended = client
            .event(&format!("{name} ended"), |line| line["ended"] == name)
            .await;
        assert_eq!(ended["code"], "UNAUTHENTICATED", "{ended}");
        if name != "slow" {
            assert_eq!(ended["details"], "revoked", "{ended}");
        }
    }
    for name in ["forever", "bidi"] {
        grpc.server
            .event(&format!("the end of {name}"), |line| {
                line["event"] == "cancelled" && line["call"] == name
            })
            .await;
    }
    let said = grpc.calls("grpc-again", "refused", Some(&cookie)).await;
    assert_eq!(
        call(&said, "refused")["code"],
        "UNAUTHENTICATED",
        "{said:#?}"
    );
}
