//! Every failure of the agent is one sentence with its next step, and its exit code says which class.

use std::os::unix::fs::PermissionsExt as _;

use proto::authtoken::Authtoken;
use serde_json::Value;
use tests::http::{Ask, Version};
use tests::net::install_provider;
use tests::process::Output;
use tests::wait;
use tests::world::World;

/// The one error line of `agent --json`.
#[track_caller]
fn error(output: &Output) -> Value {
    output
        .stdout
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|value| value["event"] == "error")
        .unwrap_or_else(|| panic!("no error line: {output:?}"))
}

#[track_caller]
fn assert_failure(output: &Output, exit: i32, code: &str, what: &str) {
    assert_eq!(output.code, Some(exit), "{what}: {}", output.all());
    let error = error(output);
    assert_eq!(error["code"], code, "{what}: {error}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{what}: {error}"
    );
    assert!(
        error["next_step"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{what}: {error}"
    );
}

/// No authtoken, a malformed one, an API key, an unknown one, a revoked one: each is said, exit 4.
#[tokio::test(flavor = "multi_thread")]
async fn authtoken_classes() {
    let world = World::start().await;
    let port = world.upstream.addr.port().to_string();
    let http = ["http", port.as_str(), "--json", "--fail-fast"];
    assert_failure(&world.agent_cli(&http, &[]).await, 4, "SP_3010", "none");
    assert_failure(
        &world
            .agent_cli(&http, &[("SALLYPORT_AUTHTOKEN", "nonsense")])
            .await,
        4,
        "SP_3011",
        "malformed",
    );
    assert_failure(
        &world
            .agent_cli(&http, &[("SALLYPORT_AUTHTOKEN", &world.api.key)])
            .await,
        4,
        "SP_3014",
        "an API key",
    );
    assert_failure(
        &world
            .agent_cli(&http, &[("NGROK_AUTHTOKEN", "nonsense")])
            .await,
        4,
        "SP_3011",
        "the other variable",
    );

    let created = world
        .edge
        .cli(&[
            "authtoken",
            "create",
            "--description",
            "to be revoked",
            "--json",
        ])
        .await
        .json();
    let (id, token) = (
        created["id"].as_str().unwrap(),
        created["token"].as_str().unwrap().to_owned(),
    );
    // One that this edge never gave out: same edge and pin, another secret.
    let unknown = {
        let other = World::start().await;
        spliced(&token, &other.authtoken)
    };
    assert_failure(
        &world
            .agent_cli(&http, &[("SALLYPORT_AUTHTOKEN", &unknown)])
            .await,
        4,
        "SP_3012",
        "unknown",
    );
    assert_eq!(
        world.edge.cli(&["authtoken", "revoke", id]).await.code,
        Some(0)
    );
    assert_failure(
        &world
            .agent_cli(&http, &[("SALLYPORT_AUTHTOKEN", &token)])
            .await,
        4,
        "SP_3013",
        "revoked",
    );
    let list = world
        .edge
        .cli(&["authtoken", "list", "--json"])
        .await
        .json();
    let row = list
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == id)
        .unwrap();
    assert!(
        row["revoked_at"].is_string() && row["description"] == "to be revoked",
        "{row}"
    );
}

/// The addresses and pin of one token with id and secret of another.
fn spliced(token: &str, other: &str) -> String {
    let mut token = Authtoken::parse(token).unwrap();
    let other = Authtoken::parse(other).unwrap();
    token.id = other.id;
    token.secret = other.secret;
    token.to_text()
}

/// A running agent whose authtoken is revoked stops at once, with exit 4, and its endpoint is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_authtoken_ends_its_agent() {
    let world = World::start().await;
    let mut agent = world.agent("app", &[]).await;
    assert_eq!(
        world
            .edge
            .cli(&["authtoken", "revoke", &world.authtoken_id])
            .await
            .code,
        Some(0)
    );
    assert_eq!(
        agent.process.exited().await.code(),
        Some(4),
        "{}",
        agent.process.stderr_tail()
    );
    agent
        .process
        .event("the reason", |event| {
            event["event"] == "error" && event["code"] == "SP_3013"
        })
        .await;
    let reply = Ask::get(&world.net, "app", "/")
        .send(&world.net, Version::H1)
        .await;
    assert_ne!(reply.status, 200);
}

/// A name that is taken, reserved or no name; a provider that the edge does not know; a rule that is no
/// rule: each is said, exit 5.
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_classes() {
    let world = World::with_login().await;
    let _agent = world.agent("app", &[]).await;
    let other = world
        .edge
        .cli(&["authtoken", "create", "--json"])
        .await
        .json();
    let other = other["token"].as_str().unwrap();
    let port = world.upstream.addr.port().to_string();
    let run = async |token: &str, more: &[&str]| {
        let mut arguments = vec!["http", port.as_str(), "--json"];
        arguments.extend(more);
        world
            .agent_cli(&arguments, &[("SALLYPORT_AUTHTOKEN", token)])
            .await
    };
    let mine = world.authtoken.as_str();
    assert_failure(
        &run(other, &["--url", "app"]).await,
        5,
        "SP_3005",
        "another authtoken's name",
    );
    assert_failure(
        &run(mine, &["--url", "app"]).await,
        5,
        "SP_3005",
        "another instance's name",
    );
    for name in ["auth", "api", "dashboard", "connect"] {
        assert_failure(&run(mine, &["--url", name]).await, 5, "SP_3006", name);
    }
    assert_failure(&run(mine, &["--url=-no-"]).await, 5, "SP_3007", "no label");
    assert_failure(
        &run(mine, &["--url", "https://app.example.com"]).await,
        5,
        "SP_3008",
        "another domain",
    );
    let unknown = run(mine, &["--oauth=nobody"]).await;
    assert_failure(&unknown, 5, "SP_2020", "unknown provider");
    assert!(
        error(&unknown)["message"].as_str().unwrap().contains("dev"),
        "it says which are known: {unknown:?}"
    );
    assert_failure(
        &run(
            mine,
            &["--oauth=dev", "--oauth-allow-email", "not-an-address"],
        )
        .await,
        5,
        "SP_2022",
        "no address",
    );
    assert_failure(
        &run(mine, &["--oauth=dev", "--oauth-allow-domain", "x@y.z"]).await,
        5,
        "SP_2022",
        "no domain",
    );
}

/// Two instances of one authtoken share a name when both ask to.
#[tokio::test(flavor = "multi_thread")]
async fn pooling_shares_a_name() {
    let world = World::start().await;
    let mut first = world.agent("pool", &["--pooling"]).await;
    let _second = world.agent("pool", &["--pooling"]).await;
    first.process.kill().await;
    wait::until("the other serves alone", || async {
        let reply = Ask::get(&world.net, "pool", "/")
            .send(&world.net, Version::H1)
            .await;
        (reply.status == 200).then_some(())
    })
    .await;
}

/// An edge that cannot be reached is said with exit 6 under `--fail-fast`, and retried for ever without.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_edge() {
    let mut world = World::start().await;
    let port = world.upstream.addr.port().to_string();
    world.edge.process.kill().await;
    let token = world.authtoken.clone();
    let output = world
        .agent_cli(
            &["http", &port, "--json", "--fail-fast"],
            &[("SALLYPORT_AUTHTOKEN", &token)],
        )
        .await;
    assert_failure(&output, 6, "SP_4005", "unreachable");

    let mut agent = world
        .start_agent(&[
            "http".to_owned(),
            port,
            "--url".to_owned(),
            "app".to_owned(),
        ])
        .await;
    let event = agent
        .process
        .event("a word about it", |event| {
            event["event"] == "status" && event["code"] == "SP_4005"
        })
        .await;
    assert!(
        event["message"].is_string() && event["next_step"].is_string(),
        "{event}"
    );
    assert!(agent.process.is_running());
    // Once the edge is there, the agent finds it by itself.
    world.start_edge_again().await;
    agent.forwarding().await;
    assert_eq!(agent.process.terminate().await.code(), Some(0));
}

/// An edge that was interrupted before it was ever reached ends with 6, not with success.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_before_connected() {
    let mut world = World::start().await;
    world.edge.process.kill().await;
    let mut agent = world
        .start_agent(&["http".to_owned(), world.upstream.address()])
        .await;
    agent
        .process
        .event("a word about it", |event| event["code"] == "SP_4005")
        .await;
    assert_eq!(agent.process.terminate().await.code(), Some(6));
}

/// An edge whose link certificate is not the one that the authtoken pins is not spoken to: exit 7.
#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_edge() {
    let world = World::start().await;
    let other = World::start().await;
    let port = world.upstream.addr.port().to_string();
    let address = other.net.addr.to_string();
    let arguments = [
        "http",
        port.as_str(),
        "--json",
        "--connect-url",
        address.as_str(),
    ];
    let output = world
        .agent_cli(&arguments, &[("SALLYPORT_AUTHTOKEN", &world.authtoken)])
        .await;
    assert_failure(&output, 7, "SP_4006", "untrusted");
    let log = other.edge.log();
    assert!(
        !log.contains("authenticate"),
        "nothing of the token went there"
    );
}

/// `--connect-url` and `--ca` override what the authtoken says.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_can_be_overridden() {
    let world = World::start().await;
    let address = world.net.addr.to_string();
    // The first one leads nowhere: the next is tried.
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let agent = world
        .agent(
            "app",
            &["--connect-url", &nowhere, "--connect-url", &address],
        )
        .await;
    assert_eq!(
        Ask::get(&world.net, &agent.label, "/")
            .send(&world.net, Version::H1)
            .await
            .status,
        200
    );
    // A CA that did not sign the link certificate is no CA for it.
    install_provider();
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger.test".to_owned()]).unwrap();
    let file = world.dir.path().join("stranger.pem");
    std::fs::write(&file, stranger.cert.pem()).unwrap();
    let port = world.upstream.addr.port().to_string();
    let arguments = [
        "http",
        port.as_str(),
        "--json",
        "--ca",
        file.to_str().unwrap(),
    ];
    let output = world
        .agent_cli(&arguments, &[("SALLYPORT_AUTHTOKEN", &world.authtoken)])
        .await;
    assert_failure(&output, 7, "SP_4006", "another CA");
}

/// An upstream that is down is said at the agent (exit 8 under `--fail-fast`) and to whoever asks.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down() {
    let world = World::start().await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let output = world
        .agent_cli(
            &["http", &dead, "--json", "--fail-fast"],
            &[("SALLYPORT_AUTHTOKEN", &world.authtoken)],
        )
        .await;
    assert_failure(&output, 8, "SP_4001", "upstream down");
    let agent = world.agent_for("dead", &dead, &[]).await;
    let reply = Ask::get(&world.net, "dead", "/")
        .send(&world.net, Version::H1)
        .await;
    reply.assert_refused(502, "SP_4001", "upstream down");
    drop(agent);
}

/// What cannot be understood is refused before anything is dialled: exit 2 for usage, 3 for configuration.
#[tokio::test(flavor = "multi_thread")]
async fn usage_and_configuration() {
    let world = World::start().await;
    let token = [("SALLYPORT_AUTHTOKEN", world.authtoken.as_str())];
    assert_eq!(
        world.agent_cli(&["http", "--nonsense"], &token).await.code,
        Some(2)
    );
    assert_eq!(
        world.agent_cli(&["nonsense", "x"], &token).await.code,
        Some(2)
    );
    for wrong in ["99999", "ftp://x", "http://", "a b", "host:"] {
        let output = world.agent_cli(&["http", wrong, "--json"], &token).await;
        assert!(matches!(output.code, Some(2 | 3)), "{wrong}: {output:?}");
    }
    let file = world.dir.path().join("broken.yml");
    std::fs::write(&file, "version: 3\nagent: [not, a, map\n").unwrap();
    let path = file.to_str().unwrap();
    let output = world
        .agent_cli(&["http", "8080", "--json", "--config", path], &[])
        .await;
    assert_failure(&output, 3, "SP_4008", "a broken file");
    assert!(output.all().contains("broken.yml"), "{}", output.all());
    let output = world
        .agent_cli(&["config", "check", "--config", path], &[])
        .await;
    assert_eq!(output.code, Some(3), "{}", output.all());
    let output = world
        .agent_cli(
            &["http", "8080", "--json", "--config", "/nowhere/agent.yml"],
            &[],
        )
        .await;
    assert_failure(&output, 3, "SP_4008", "no such file");
    let version = world.agent_cli(&["version"], &[]).await;
    assert!(
        version.code == Some(0) && version.stdout.contains("0."),
        "{version:?}"
    );
}

/// One paste of the authtoken sets a machine up; the file is nobody else's to read, and the token is
/// neither in the process list nor in a log.
#[tokio::test(flavor = "multi_thread")]
async fn one_paste_sets_up() {
    let world = World::start().await;
    let agent = world.agent("app", &[]).await;
    let file = agent.home().join(".config/sallyport/agent.yml");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains(&world.authtoken)
    );
    let checked = world
        .agent_cli_in(agent.home(), &["config", "check"], &[])
        .await;
    assert_eq!(checked.code, Some(0), "{}", checked.all());
    assert!(!checked.all().contains(&world.authtoken));
    let command_line = std::fs::read(format!("/proc/{}/cmdline", agent.process.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&command_line).contains(&world.authtoken));
    assert!(!agent.process.stderr_text().contains(&world.authtoken));
    assert!(
        agent
            .process
            .events
            .all()
            .iter()
            .all(|event| !event.to_string().contains(&world.authtoken))
    );
    // A second paste replaces the first, and keeps what else is in the file.
    let other = world
        .edge
        .cli(&["authtoken", "create", "--json"])
        .await
        .json();
    let other = other["token"].as_str().unwrap();
    assert_eq!(
        world
            .agent_cli_in(agent.home(), &["config", "add-authtoken", other], &[])
            .await
            .code,
        Some(0)
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(other) && !text.contains(&world.authtoken));
    let malformed = world
        .agent_cli_in(agent.home(), &["config", "add-authtoken", "nonsense"], &[])
        .await;
    assert_eq!(malformed.code, Some(4), "{}", malformed.all());
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        text,
        "a refused paste changes nothing"
    );
}

/// A public provider without an allow rule is said loudly, and a provider of one's own is not. Where the
/// public one cannot be reached from here, it is refused with a sentence that says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_door_is_said() {
    let world = World::with_login().await;
    let closed = world.login_agent("closed").await;
    let is_notice = |event: &Value| event["event"] == "notice";
    assert!(!closed.process.events.all().iter().any(is_notice));
    let arguments = [
        "provider",
        "add",
        "google",
        "--client-id",
        "x",
        "--client-secret-file",
        "-",
        "--json",
    ];
    let added = world.edge.cli_with(&arguments, b"s").await;
    if added.code != Some(0) {
        assert_eq!(added.code, Some(5), "{}", added.all());
        assert!(added.all().contains("cannot be reached"), "{}", added.all());
        return;
    }
    let mut open = world.agent("open", &["--oauth=google"]).await;
    let notice = open.process.event("a notice", is_notice).await;
    assert_eq!(notice["code"], "SP_2021", "{notice}");
    let next_step = notice["next_step"].as_str().unwrap();
    assert!(next_step.contains("--oauth-allow"), "{notice}");
    let arguments = ["--oauth=google", "--oauth-allow-domain=example.test"];
    let ruled = world.agent("ruled", &arguments).await;
    assert!(!ruled.process.events.all().iter().any(is_notice));
}

/// Without `--json` and without a terminal the agent writes the lines that tools look for.
#[tokio::test(flavor = "multi_thread")]
async fn plain_lines_for_tools() {
    let world = World::start().await;
    let home = world.dir.path().join("plain");
    std::fs::create_dir_all(&home).unwrap();
    let mut command = tests::world::agent_command(&home);
    command
        .args(["http", &world.upstream.address(), "--url", "plain"])
        .env("SALLYPORT_AUTHTOKEN", &world.authtoken);
    let mut process = tests::process::Process::start(command, "plain", &world.logs());
    let line = process
        .event("a started tunnel", |line| {
            line.as_str()
                .is_some_and(|line| line.contains("msg=\"started tunnel\""))
        })
        .await;
    assert!(
        line.as_str()
            .unwrap()
            .contains(&format!("url={}", world.net.url("plain"))),
        "{line}"
    );
    assert!(line.as_str().unwrap().contains("addr="), "{line}");
}
