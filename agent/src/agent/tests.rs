//! The whole agent against an edge made of `proto`'s own machine and a real QUIC listener.

mod edge;
mod forward;

use std::sync::mpsc::Receiver;
use std::time::Duration;

use proto::control::edge::Event as Seen;
use quinn::{ReadError, RecvStream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::words::describe_login;
use super::*;
use crate::config::{Environment, Given, SecretText, SpeakConfig, Wanted};
use crate::link::tests::LinkCa;
use crate::status::Message;
use edge::{Edge, Order};

/// An agent that runs, and what it says.
struct Running {
    stop: CancellationToken,
    agent: JoinHandle<Result<(), Trouble>>,
    said: Receiver<Message>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(edge: &Edge, upstream: &str, is_fail_fast: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yml");
        std::fs::write(&path, "version: 3\n").unwrap();
        let endpoint = EndpointConfig {
            name: None,
            upstream: upstream.to_owned(),
            place: None,
            url: None,
            pooling: false,
            login: None,
            speak: SpeakConfig::default(),
        };
        let given = Given {
            file: Some(path),
            wanted: Wanted::This(Box::new(endpoint)),
            connect_urls: Vec::new(),
            ca: None,
            link: None,
            is_fail_fast,
        };
        let environment = Environment {
            authtoken: Some(SecretText::new(edge.authtoken().to_text())),
            ..Environment::default()
        };
        let config = Config::load(given, &environment).unwrap();
        let (status, said) = Status::told();
        let stop = CancellationToken::new();
        let agent = Agent::new(&config, status).unwrap();
        let agent = tokio::spawn(agent.run(stop.clone()));
        Self {
            stop,
            agent,
            said,
            _folder: folder,
        }
    }

    /// The next event that `pick` wants.
    async fn hears<T>(&self, pick: impl Fn(Event) -> Option<T>) -> T {
        within(async {
            loop {
                while let Ok(message) = self.said.try_recv() {
                    if let Message::Event(event) = message
                        && let Some(found) = pick(event)
                    {
                        return found;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    async fn hears_trouble(&self) -> Trouble {
        self.hears(|event| {
            if let Event::Status { trouble, .. } = event {
                trouble
            } else {
                None
            }
        })
        .await
    }

    async fn is_online(&self) {
        self.is(Phase::Online).await;
    }

    async fn is(&self, wanted: Phase) {
        self.hears(|event| {
            matches!(event, Event::Status { phase, .. } if phase == wanted).then_some(())
        })
        .await;
    }

    async fn ends(self) -> Result<(), Trouble> {
        within(self.agent).await.unwrap()
    }

    async fn fails_with(self) -> (Code, Exit) {
        let trouble = self.ends().await.unwrap_err();
        assert!(!trouble.message.is_empty() && !trouble.next_step.is_empty());
        (trouble.code, Exit::from(trouble.code))
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(15), future)
        .await
        .expect("in time")
}

async fn reset_of(receive: &mut RecvStream) -> u64 {
    loop {
        match receive.read_chunk(usize::MAX, true).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a good end"),
            Err(ReadError::Reset(code)) => return code.into_inner(),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn app() -> (TcpListener, String) {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = app.local_addr().unwrap().to_string();
    (app, address)
}

#[tokio::test]
async fn it_serves_and_says_good_bye() {
    let (_app, address) = app().await;
    let mut edge = Edge::start();
    let agent = Running::start(&edge, &address, false);
    let tunnel = edge.tunnel().await;
    agent.is_online().await;
    agent
        .hears(|event| {
            matches!(event, Event::Forwarding { url, .. } if url == edge::URL).then_some(())
        })
        .await;
    agent
        .hears(|event| {
            matches!(event, Event::Notice(trouble) if trouble.code == Code::AnyoneMaySignIn)
                .then_some(())
        })
        .await;

    let asked = std::time::Instant::now();
    agent.stop.cancel();
    assert_eq!(agent.ends().await, Ok(()));
    assert!(asked.elapsed() < Duration::from_secs(2));
    let closed = tunnel.sees_close().await;
    assert!(
        matches!(
            closed,
            Seen::Closed {
                code: Code::AgentGone,
                by_peer: true,
                ..
            }
        ),
        "{closed:?}"
    );
}

#[tokio::test]
async fn it_comes_back_with_the_same_instance_and_a_higher_generation() {
    let (_app, address) = app().await;
    let mut edge = Edge::start();
    let agent = Running::start(&edge, &address, false);
    let first = edge.tunnel().await;
    agent.is_online().await;
    let (instance, generation) = first.bound().await;
    first.kill();
    agent.is(Phase::Reconnecting).await;
    let second = edge.tunnel().await;
    agent.is_online().await;
    let (again, later) = second.bound().await;
    assert_eq!(instance, again);
    assert!(later > generation);
}

#[tokio::test]
async fn a_refused_authtoken_ends_it() {
    for code in [Code::AuthtokenUnknown, Code::AuthtokenRevoked] {
        let edge = Edge::start();
        edge.refuse_authtoken(code);
        let agent = Running::start(&edge, "1", false);
        assert_eq!(agent.fails_with().await, (code, Exit::Authtoken));
    }
}

#[tokio::test]
async fn a_refused_endpoint_ends_it() {
    for code in [
        Code::NameTaken,
        Code::NameReserved,
        Code::UnknownProvider,
        Code::AllowRuleInvalid,
    ] {
        let edge = Edge::start();
        edge.refuse_bind(Some(code));
        let agent = Running::start(&edge, "1", false);
        assert_eq!(agent.fails_with().await, (code, Exit::Endpoint));
    }
}

#[tokio::test]
async fn trouble_that_may_pass_is_retried() {
    let mut edge = Edge::start();
    edge.refuse_bind(Some(Code::StoreUnavailable));
    let agent = Running::start(&edge, "1", false);
    let trouble = agent.hears_trouble().await;
    assert_eq!(trouble.code, Code::StoreUnavailable);
    edge.refuse_bind(None);
    edge.tunnel().await;
    agent.is_online().await;
}

#[tokio::test]
async fn an_untrusted_edge_ends_it() {
    let mut edge = Edge::start();
    edge.pin(&LinkCa::new());
    let agent = Running::start(&edge, "1", false);
    assert_eq!(
        agent.fails_with().await,
        (Code::EdgeUntrusted, Exit::EdgeUntrusted)
    );
}

#[tokio::test]
async fn an_unreachable_edge_ends_only_a_fail_fast_agent() {
    let edge = Edge::that_is_none();
    let agent = Running::start(&edge, "1", true);
    assert_eq!(
        agent.fails_with().await,
        (Code::EdgeUnreachable, Exit::EdgeUnreachable)
    );
    let agent = Running::start(&edge, "1", false);
    for _ in 0..3 {
        agent.is(Phase::Connecting).await;
    }
    agent.stop.cancel();
    assert_eq!(
        agent.fails_with().await,
        (Code::EdgeUnreachable, Exit::EdgeUnreachable)
    );
}

#[tokio::test]
async fn a_newer_run_ends_it() {
    let (_app, address) = app().await;
    let mut edge = Edge::start();
    let agent = Running::start(&edge, &address, false);
    let tunnel = edge.tunnel().await;
    agent.is_online().await;
    tunnel.order(Order::Unbind(Code::GenerationSuperseded));
    assert_eq!(
        agent.fails_with().await,
        (Code::GenerationSuperseded, Exit::Endpoint)
    );
}

#[tokio::test]
async fn a_revoked_authtoken_ends_a_running_agent() {
    let (_app, address) = app().await;
    let mut edge = Edge::start();
    let agent = Running::start(&edge, &address, false);
    let tunnel = edge.tunnel().await;
    agent.is_online().await;
    tunnel.order(Order::Close(Code::AuthtokenRevoked));
    assert_eq!(
        agent.fails_with().await,
        (Code::AuthtokenRevoked, Exit::Authtoken)
    );
}

#[tokio::test]
async fn a_close_frame_that_is_lost_still_counts() {
    let (_app, address) = app().await;
    let mut edge = Edge::start();
    let agent = Running::start(&edge, &address, false);
    let tunnel = edge.tunnel().await;
    agent.is_online().await;
    tunnel.close_link(u32::from(Code::AuthtokenRevoked.number()));
    assert_eq!(
        agent.fails_with().await,
        (Code::AuthtokenRevoked, Exit::Authtoken)
    );
}

#[tokio::test]
async fn a_draining_edge_is_left_without_a_gap() {
    let (app, address) = app().await;
    let mut edge = Edge::start();
    let mut other = edge.twin();
    let agent = Running::start(&edge, &address, false);
    let old = edge.tunnel().await;
    agent.is_online().await;
    let (mut send, mut receive) = old.open().await;
    let (mut upstream, _) = loop {
        // The agent's own look at the app comes and goes.
        let accepted = within(app.accept()).await.unwrap();
        if accepted.0.readable().await.is_ok()
            && accepted.0.peek(&mut [0]).await.is_ok_and(|read| read > 0)
        {
            break accepted;
        }
    };

    old.order(Order::Drain(vec![other.addr()]));
    other.tunnel().await;
    agent.is_online().await;
    // The old edge tells of the take-over; the agent knows.
    old.order(Order::Unbind(Code::GenerationSuperseded));

    use tokio::io::AsyncWriteExt as _;
    upstream.write_all(b"to the end").await.unwrap();
    upstream.shutdown().await.unwrap();
    send.finish().unwrap();
    let body = within(receive.read_to_end(100)).await.unwrap();
    assert!(body.ends_with(b"to the end"));
    old.sees_close().await;
    assert!(!agent.agent.is_finished());
}

#[tokio::test]
async fn an_upstream_that_goes_and_comes_is_told_once_each() {
    let (first, address) = app().await;
    drop(first);
    let mut edge = Edge::start();
    let agent = Running::start(&edge, &address, false);
    let tunnel = edge.tunnel().await;
    agent
        .hears(|event| matches!(event, Event::UpstreamDown { .. }).then_some(()))
        .await;
    for _ in 0..3 {
        let (_send, mut receive) = tunnel.open().await;
        within(receive.read_to_end(1000)).await.unwrap();
    }
    let _app = TcpListener::bind(&address).await.unwrap();
    let downs_before_up = std::cell::Cell::new(0);
    agent
        .hears(|event| {
            if matches!(event, Event::UpstreamDown { .. }) {
                downs_before_up.set(downs_before_up.get() + 1);
            }
            matches!(event, Event::UpstreamUp { .. }).then_some(())
        })
        .await;
    assert_eq!(downs_before_up.get(), 0);
}

#[tokio::test]
async fn an_upstream_that_is_down_ends_a_fail_fast_agent() {
    let (app, address) = app().await;
    drop(app);
    let edge = Edge::start();
    let agent = Running::start(&edge, &address, true);
    assert_eq!(
        agent.fails_with().await,
        (Code::UpstreamUnreachable, Exit::UpstreamDown)
    );
}

#[tokio::test]
async fn what_is_wrong_with_the_endpoint_is_told_before_the_authtoken() {
    let endpoint = EndpointConfig {
        name: None,
        upstream: "ftp://localhost".to_owned(),
        place: None,
        url: None,
        pooling: false,
        login: None,
        speak: SpeakConfig::default(),
    };
    let given = Given {
        file: None,
        wanted: Wanted::This(Box::new(endpoint)),
        connect_urls: Vec::new(),
        ca: None,
        link: None,
        is_fail_fast: false,
    };
    let config = Config::load(given, &Environment::default()).unwrap();
    let error = Agent::new(&config, Status::told().0).unwrap_err();
    assert_eq!(error.code, Code::UpstreamInvalid);
    assert_eq!(Exit::from(error.code), Exit::Configuration);
}

#[test]
fn logins_are_described() {
    let login = |emails: &[&str], domains: &[&str]| proto::bind::LoginOptions {
        provider: "google".to_owned(),
        allow_emails: emails.iter().map(|&text| text.to_owned()).collect(),
        allow_domains: domains.iter().map(|&text| text.to_owned()).collect(),
    };
    let table = [
        (login(&[], &[]), "google: anyone with an account there"),
        (
            login(&["ada@a.test"], &["b.test"]),
            "google: ada@a.test, *@b.test",
        ),
        (
            login(&[], &["a.test", "b.test", "c.test", "d.test"]),
            "google: *@a.test, *@b.test and 2 more",
        ),
    ];
    for (login, expected) in table {
        assert_eq!(describe_login(&login), expected);
    }
}
