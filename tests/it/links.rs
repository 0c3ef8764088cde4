//! Both links keep the same promises; which one is taken, what is remembered, and how it is left for a
//! better one; the way through a proxy; what else can come to the public TCP port in an agent's name.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tests::clock;
use tests::detour::{Answer as ProxyAnswer, ConnectProxy, Detour};
use tests::http::{Ask, Version};
use tests::traffic::{self, Answer, Kind, Session, Stream};
use tests::wait;
use tests::websocket::{Event, WebSocket};
use tests::world::{Agent, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread")]
async fn quic_keeps_the_promises() {
    keeps_the_promises("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_keeps_the_promises() {
    keeps_the_promises("tls").await;
}

/// Bodies are whole or visibly broken, WebSockets echo, a stalled reader holds up nobody, and a
/// revocation ends every kind of stream on both legs.
async fn keeps_the_promises(link: &str) {
    let world = World::with_login().await;
    let mut open = world.agent("open", &["--link", link]).await;
    open.is_over(link).await;
    for version in Version::BOTH {
        let body: Vec<u8> = (0..=u8::MAX).cycle().take(3_000_000).collect();
        let reply = Ask::get(&world.net, "open", "/echo")
            .method("POST")
            .body(body.clone())
            .send(&world.net, version)
            .await;
        assert_eq!((reply.status, &reply.end), (200, &Ok(())));
        assert!(reply.body == body, "{version:?}");
        let truncated = Ask::get(&world.net, "open", "/truncated");
        if let Ok(response) = truncated.open(&world.net, version).await {
            let reply = response.whole().await;
            // Broken off before the head was passed on, it is an error of its own.
            assert!(reply.end.is_err() || reply.status == 502, "{version:?}");
        }
        let reply = Ask::get(&world.net, "open", "/until-close")
            .send(&world.net, version)
            .await;
        assert_eq!(
            (reply.text().as_str(), &reply.end),
            ("until the end", &Ok(()))
        );
    }
    let mut socket = WebSocket::open(&world.net, "open", "/ws?every=60000", None)
        .await
        .unwrap();
    echoes(&mut socket).await;

    let mut agent = world.agent("app", &["--oauth=dev", "--link", link]).await;
    agent.is_over(link).await;
    let ada = world.signed_in("ada", &agent.url).await;
    let id = world.api.sessions().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let session = Session {
        net: world.net.clone(),
        label: agent.label.clone(),
        cookie: ada.cookie(&agent.url),
    };
    let mut streams = Vec::new();
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        let mut stream = Stream::begin(kind, &session, &format!("cut-{at}"));
        stream.opened().await;
        streams.push(stream);
    }
    let reply = world.api.delete(&format!("/app/sessions/{id}")).await;
    let answer = Answer {
        at_ns: clock::now_ns(),
    };
    let sent: Vec<_> = streams.iter().map(Stream::sent).collect();
    assert_eq!(reply.status, 204);
    let mut wrong = Vec::new();
    for (stream, sent) in streams.into_iter().zip(sent) {
        wrong.extend(traffic::judge(stream, answer, sent, &world.upstream).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Whoever is not meant goes on.
    echoes(&mut socket).await;
}

async fn echoes(socket: &mut WebSocket) {
    let message = Message::binary(vec![7; 100_000]);
    socket.send(message.clone()).await.unwrap();
    loop {
        match wait::within("an echo", socket.next()).await {
            Event::Message(echoed) if echoed == message => return,
            Event::Message(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn serves(world: &World, label: &str) {
    let reply = Ask::get(&world.net, label, "/any")
        .send(&world.net, Version::H1)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn connect_to(detour: &Detour) -> String {
    format!("--connect-url={}", detour.addr)
}

/// Where UDP is blocked TLS wins and is remembered for this network, in a file for its owner only; and
/// when QUIC is all that is allowed, the agent says what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn where_udp_is_blocked_tls_wins() {
    let world = World::start().await;
    let detour = Detour::without_udp(world.net.addr).await;
    let way = connect_to(&detour);
    let mut agent = world.agent("app", &["--link", "auto", &way]).await;
    agent.is_over("tls").await;
    serves(&world, "app").await;
    let file = agent.home().join(".config/sallyport/links.json");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        kept.contains("\"tls\"") && kept.contains("127.0.0.0/24"),
        "{kept}"
    );
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    agent.process.kill().await;
    agent.start_again().await;
    agent.is_over("tls").await;

    let code = ends_with(&world, &["--link", "quic", &way], &[]).await;
    assert_eq!(code, (Some(6), "SP_4024".to_owned()));
    agent.process.kill().await;
}

/// An agent that fails at once: its exit code and the code that it says.
async fn ends_with(world: &World, more: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut arguments = vec!["http", "1", "--fail-fast"];
    arguments.extend(more);
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let mut agent = world.start_agent_in(&arguments, env).await;
    let error = agent.process.event_named("error").await;
    for key in ["message", "next_step"] {
        assert!(error[key].as_str().is_some_and(|text| !text.is_empty()));
    }
    let status = agent.process.exited().await;
    let code = error["code"].as_str().unwrap_or_default().to_owned();
    (status.code(), code)
}

/// When UDP comes back the agent moves to QUIC. What was open goes on over the old link to its end, no
/// request fails on the way, and nothing stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn it_moves_to_quic_and_loses_no_stream() {
    let world = World::start().await;
    let detour = Detour::without_udp(world.net.addr).await;
    let env = [("SALLYPORT_QUIC_RETRY_MS", "300")];
    let mut agent = world
        .agent_in("app", &["--link", "auto", &connect_to(&detour)], &env)
        .await;
    agent.is_over("tls").await;
    let mut socket = WebSocket::open(&world.net, "app", "/ws?every=60000", None)
        .await
        .unwrap();
    echoes(&mut socket).await;
    let told = |value: &serde_json::Value| value["event"] == "notice" && value["code"] == "SP_4024";
    agent.process.event("that UDP is blocked", told).await;

    detour.let_udp(true);
    let requests = async {
        let mut count = 0;
        loop {
            serves(&world, "app").await;
            count += 1;
            if count % 8 == 0 && is_quic(&agent) {
                return;
            }
        }
    };
    wait::within("moved to QUIC", requests).await;
    agent.is_over("quic").await;
    serves(&world, "app").await;
    echoes(&mut socket).await;
    let status = agent
        .process
        .events
        .all()
        .into_iter()
        .filter(|line| line["event"] == "status");
    assert!(
        status
            .into_iter()
            .all(|line| line["status"] != "reconnecting"),
        "nobody was told of a gap"
    );

    socket.send(Message::Close(None)).await.unwrap();
    assert!(matches!(
        wait::within("close", socket.next()).await,
        Event::Closed(_)
    ));
    drop(socket);
    wait::until("the old tunnel is gone", || async {
        let status = world.edge.cli(&["status", "--json"]).await.json();
        (status["tunnels"] == 1).then_some(())
    })
    .await;
    serves(&world, "app").await;
    assert!(detour.tcp_connections() >= 1);
}

fn is_quic(agent: &Agent) -> bool {
    let events = agent.process.events.all();
    events.iter().any(|line| line["link"] == "quic")
}

/// A configuration file of its own, with a proxy.
fn with_proxy(world: &World, name: &str, url: &str) -> String {
    let file = world.dir.path().join(name);
    let text = format!(
        "version: 3\nagent:\n  authtoken: {}\n  proxy_url: {url}\n",
        world.authtoken
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// A proxy that the configuration names is taken, with its name and password, even towards this machine;
/// it sees no more than the edge's address; and nobody else sees the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_proxy_is_the_only_way() {
    let world = World::start().await;
    // ada:p@ss
    let proxy = ConnectProxy::start(world.net.addr, ProxyAnswer::Login("Basic YWRhOnBAc3M=")).await;
    let url = format!("http://ada:p%40ss@{}", proxy.addr);
    let file = with_proxy(&world, "proxy.yml", &url);
    let mut agent = world
        .agent("app", &["--link", "auto", "--config", &file])
        .await;
    agent.is_over("tls").await;
    serves(&world, "app").await;
    let mut socket = WebSocket::open(&world.net, "app", "/ws?every=60000", None)
        .await
        .unwrap();
    echoes(&mut socket).await;
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    let line = format!("CONNECT {} HTTP/1.1\r\n", world.net.addr);
    assert!(heads[0].starts_with(&line), "{heads:?}");
    let said = format!(
        "{:?}{}",
        agent.process.events.all(),
        agent.process.stderr_text()
    );
    assert!(said.contains(&proxy.addr.to_string()));
    for secret in ["p@ss", "p%40ss", "YWRhOnBAc3M="] {
        assert!(!said.contains(secret), "{secret}");
    }
}

/// What a proxy refuses is told with its own code and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_gives_no_way_is_told() {
    let world = World::start().await;
    let edge = world.net.addr;
    let wanted = || ProxyAnswer::Login("Basic YWRhOnBAc3M=");
    let table = [
        (wanted(), "ada:wrong@", "SP_4022"),
        (wanted(), "", "SP_4022"),
        (ProxyAnswer::Refuse("HTTP/1.1 403 Forbidden"), "", "SP_4023"),
        (ProxyAnswer::Refuse("SSH-2.0-OpenSSH_9"), "", "SP_4023"),
        (ProxyAnswer::Endless, "", "SP_4023"),
    ];
    for (number, (answer, login, code)) in table.into_iter().enumerate() {
        let proxy = ConnectProxy::start(edge, answer).await;
        let url = format!("http://{login}{}", proxy.addr);
        let file = with_proxy(&world, &format!("proxy-{number}.yml"), &url);
        let ended = ends_with(&world, &["--config", &file], &[]).await;
        assert_eq!(ended, (Some(6), code.to_owned()), "{url}");
    }
    let file = with_proxy(&world, "nobody.yml", "http://127.0.0.1:1");
    let ended = ends_with(&world, &["--config", &file], &[]).await;
    assert_eq!(ended, (Some(6), "SP_4021".to_owned()));
    // A proxy carries no QUIC.
    let output = world
        .agent_cli(
            &["http", "1", "--json", "--config", &file, "--link", "quic"],
            &[],
        )
        .await;
    assert_eq!(output.code, Some(3), "{}", output.all());
    assert!(output.all().contains("SP_4008"), "{}", output.all());
}

/// The environment's proxy is for other machines, and not for those that `NO_PROXY` names. It resolves
/// names that this machine cannot.
#[tokio::test(flavor = "multi_thread")]
async fn the_environments_proxy_is_for_other_machines() {
    let world = World::start().await;
    let proxy = ConnectProxy::start(world.net.addr, ProxyAnswer::Anybody).await;
    let url = format!("http://{}", proxy.addr);
    let mut here = world
        .agent_in("here", &["--link", "tls"], &[("HTTPS_PROXY", &url)])
        .await;
    here.is_over("tls").await;
    assert!(proxy.heads().is_empty());

    let far = "--connect-url=edge.example.test:443";
    let mut away = world
        .agent_in("away", &["--link", "auto", far], &[("https_proxy", &url)])
        .await;
    away.is_over("tls").await;
    serves(&world, "away").await;
    assert!(proxy.heads()[0].starts_with("CONNECT edge.example.test:443 HTTP/1.1\r\n"));

    let env = [("HTTPS_PROXY", &*url), ("NO_PROXY", ".test")];
    let before = proxy.heads().len();
    let ended = ends_with(&world, &["--link", "tls", far], &env).await;
    assert_eq!(ended, (Some(6), "SP_4005".to_owned()));
    assert_eq!(proxy.heads().len(), before);
}

/// A TLS connection that says it is an agent's, to this name.
async fn as_agent(
    world: &World,
    name: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for file in ["link-ca.pem", "dev-ca.pem"] {
        let ca = CertificateDer::from_pem_file(world.edge.data_dir.join(file)).unwrap();
        roots.add(ca).unwrap();
    }
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![proto::version::ALPN_AGENT.to_vec()];
    let stream = TcpStream::connect(world.net.addr).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// The agents' protocol is spoken under the link's name only; what is no frame ends the connection; who
/// has not said who they are are bounded; and the edge serves on.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_the_public_port_are_bounded() {
    let world = World::start().await;
    let mut agent = world.agent("app", &["--link", "tls"]).await;
    agent.is_over("tls").await;
    for name in [world.net.host("app"), world.net.host("dashboard")] {
        as_agent(&world, &name).await.unwrap_err();
    }
    let link_name = world.net.host("connect");
    let mut garbage = as_agent(&world, &link_name).await.unwrap();
    garbage.write_all(&[9; 4096]).await.unwrap();
    assert_ended(&mut garbage).await;

    let mut strangers = Vec::new();
    for _ in 0..70 {
        strangers.push(as_agent(&world, &link_name).await.unwrap());
    }
    // Sixty-four from one address.
    let mut turned_away = 0;
    for stranger in strangers.iter_mut().skip(64) {
        assert_ended(stranger).await;
        turned_away += 1;
    }
    assert_eq!(turned_away, 6);
    serves(&world, "app").await;
    drop(strangers);
    wait::until("places are free again", || async {
        let mut one = as_agent(&world, &link_name).await.ok()?;
        let mut byte = [0];
        let read = tokio::time::timeout(std::time::Duration::from_millis(200), one.read(&mut byte));
        match read.await {
            Ok(Ok(0) | Err(_)) => None,
            Ok(Ok(_)) | Err(_) => Some(()),
        }
    })
    .await;
}

/// Reads until the edge has ended it.
async fn assert_ended(stream: &mut tokio_rustls::client::TlsStream<TcpStream>) {
    let mut rest = Vec::new();
    match wait::within("the end", stream.read_to_end(&mut rest)).await {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ),
            "{error}"
        ),
    }
}
