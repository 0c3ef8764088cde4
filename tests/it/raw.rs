//! TCP and TLS endpoints: bytes as they are, ends as they are, address rules before the first byte.

mod drain;
mod networks;
mod ports;
mod proxied;
mod tls;

use tests::http::Ask;
use tests::raw::{Play, RawUpstream, free_ports, read_exact, read_to_end};
use tests::upstream::Ended;
use tests::wait;
use tests::world::{Agent, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Both carry raw bytes, and their ends, alike.
const LINKS: [&str; 2] = ["--link=quic", "--link=tls"];

/// A world whose edge has some ports for TCP endpoints.
async fn world(more: &[&str]) -> World {
    let (first, last) = free_ports(6);
    let mut builder = World::builder()
        .argument("--tcp-ports")
        .argument(&format!("{first}-{last}"));
    for argument in more {
        builder = builder.argument(argument);
    }
    builder.start().await
}

/// An agent in front of a raw app, serving.
async fn agent(world: &World, kind: &str, app: &RawUpstream, more: &[&str]) -> Agent {
    let mut arguments = vec![kind.to_owned(), app.address()];
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    let mut agent = world.start_agent(&arguments).await;
    agent.forwarding().await;
    agent
}

fn port_of(agent: &Agent) -> u16 {
    let url = url::Url::parse(&agent.url).unwrap();
    assert_eq!(url.scheme(), "tcp", "{url}");
    url.port().expect("a port")
}

async fn connect(agent: &Agent) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port_of(agent)))
        .await
        .expect("the port is open");
    stream.set_nodelay(true).unwrap();
    stream
}

fn noise(count: u32) -> Vec<u8> {
    (0..count)
        .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1] ^ at.to_le_bytes()[2])
        .collect()
}

/// A TCP endpoint carries bytes as they are, megabytes both ways at once, whoever speaks first; `edge
/// status` and the agent's event name its address.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways() {
    let world = world(&[]).await;
    let echo = RawUpstream::start(Play::Echo).await;
    let agent_echo = agent(&world, "tcp", &echo, &[]).await;
    let sent = noise(3_000_000);
    let (mut from, mut to) = connect(&agent_echo).await.into_split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), (echoed, ended)) = tokio::join!(write, read_to_end(&mut from));
    assert!(echoed == sent, "{} of {} bytes", echoed.len(), sent.len());
    assert_eq!(ended, Ended::Fin);

    let lines = RawUpstream::start(Play::Lines).await;
    let agent_lines = agent(&world, "tcp", &lines, &[]).await;
    let mut client = connect(&agent_lines).await;
    assert_eq!(read_exact(&mut client, 6).await, b"ready\n");
    client.write_all(b"one\n").await.unwrap();
    assert_eq!(read_exact(&mut client, 8).await, b"got one\n");

    let status = world.edge.cli(&["status", "--json"]).await.json();
    let endpoints = status["endpoints"].as_array().unwrap();
    let shown = endpoints
        .iter()
        .find(|one| one["id"] == agent_echo.endpoint_id.as_str())
        .unwrap_or_else(|| panic!("{status}"));
    assert_eq!(shown["proto"], "tcp");
    assert_eq!(shown["public_url"], agent_echo.url.as_str());
    assert_eq!(shown["upstream"], format!("tcp://{}", echo.address()));
    let record = ["bytes_up", "3000000", "complete"];
    wait::until("the record of the first connection", || async {
        let log = world.edge.log();
        log.lines()
            .any(|line| record.iter().all(|word| line.contains(word)))
            .then_some(())
    })
    .await;
}

/// Each side may end its own and hear the other out.
#[tokio::test(flavor = "multi_thread")]
async fn half_closes_are_passed_on() {
    for link in LINKS {
        let world = world(&[]).await;
        // The client ends first; the app answers after that.
        let collect = RawUpstream::start(Play::Collect).await;
        let agent_collect = agent(&world, "tcp", &collect, &[link]).await;
        let mut client = connect(&agent_collect).await;
        client.write_all(&noise(100_000)).await.unwrap();
        client.shutdown().await.unwrap();
        let (answer, ended) = read_to_end(&mut client).await;
        assert_eq!(String::from_utf8_lossy(&answer), "100000 bytes\n");
        assert_eq!(ended, Ended::Fin);
        assert_eq!(collect.newest().await.wait_ended().await, Ended::Complete);

        // The app ends first; the client goes on.
        let lines = RawUpstream::start(Play::Lines).await;
        let agent_lines = agent(&world, "tcp", &lines, &[link]).await;
        let mut client = connect(&agent_lines).await;
        client.write_all(b"quit\n").await.unwrap();
        let (said, ended) = read_to_end(&mut client).await;
        assert_eq!((said.as_slice(), ended), (&b"ready\n"[..], Ended::Fin));
        client.write_all(b"and this\n").await.unwrap();
        let seen = lines.newest().await;
        seen.wait_start("what the client said later", |start| {
            start == b"quit\nand this\n"
        })
        .await;
        client.shutdown().await.unwrap();
        assert_eq!(seen.wait_ended().await, Ended::Complete);
    }
}

/// What breaks on one leg breaks the other: no reset looks like an end, even where nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn resets_are_passed_on() {
    for link in LINKS {
        let world = world(&[]).await;
        let reset = RawUpstream::start(Play::Reset).await;
        let agent_reset = agent(&world, "tcp", &reset, &[link]).await;
        let mut client = connect(&agent_reset).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(read_to_end(&mut client).await.1, Ended::Reset);

        // The client resets; the app is sending, or reads nothing while much is under way.
        for play in [Play::Echo, Play::Pour, Play::Hang] {
            let app = RawUpstream::start(play).await;
            let agent = agent(&world, "tcp", &app, &[link]).await;
            app.was_looked_at().await;
            let before = app.connections();
            let mut client = connect(&agent).await;
            let chunk = vec![7; 64 * 1024];
            let fill = async {
                loop {
                    if client.write_all(&chunk).await.is_err() {
                        return;
                    }
                }
            };
            if play == Play::Hang {
                // Until nothing moves any more.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(2), fill).await;
            } else {
                client.write_all(b"x").await.unwrap();
            }
            wait::until("the app's connection", || async {
                (app.connections() > before).then_some(())
            })
            .await;
            let ended = app.last_ended();
            client.set_zero_linger().unwrap();
            drop(client);
            assert_eq!(ended.await, Ended::Reset, "{play:?}");
        }
    }
}

/// An app that reads nothing is felt by the client, and delays nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_app_is_felt() {
    for link in LINKS {
        let world = world(&[]).await;
        let hang = RawUpstream::start(Play::Hang).await;
        let echo = RawUpstream::start(Play::Echo).await;
        let agent_hang = agent(&world, "tcp", &hang, &[link]).await;
        let agent_echo = agent(&world, "tcp", &echo, &[link]).await;
        let mut stalled = connect(&agent_hang).await;
        let mut written = 0_usize;
        let chunk = vec![7; 64 * 1024];
        let pour = async {
            while written < 200 << 20 {
                written += stalled.write(&chunk).await.unwrap();
            }
        };
        let poured = tokio::time::timeout(std::time::Duration::from_secs(5), pour).await;
        assert!(poured.is_err(), "200 MiB went into nowhere");
        let mut client = connect(&agent_echo).await;
        client.write_all(b"quick").await.unwrap();
        assert_eq!(read_exact(&mut client, 5).await, b"quick");
    }
}

/// A revoked authtoken ends what is open with a reset on both legs, whether or not anybody reads, and
/// closes the port.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_authtoken_cuts() {
    for link in LINKS {
        let world = world(&[]).await;
        let echo = RawUpstream::start(Play::Echo).await;
        let pour = RawUpstream::start(Play::Pour).await;
        let agent_echo = agent(&world, "tcp", &echo, &[link]).await;
        let agent_pour = agent(&world, "tcp", &pour, &[link]).await;
        let mut idle = connect(&agent_echo).await;
        idle.write_all(b"here").await.unwrap();
        read_exact(&mut idle, 4).await;
        let reading = tokio::spawn({
            let mut client = connect(&agent_pour).await;
            async move { read_to_end(&mut client).await.1 }
        });
        let stalled = connect(&agent_pour).await;
        stalled.readable().await.unwrap();
        let revoked = world
            .edge
            .cli(&["authtoken", "revoke", &world.authtoken_id])
            .await;
        assert_eq!(revoked.code, Some(0), "{}", revoked.all());
        assert_eq!(read_to_end(&mut idle).await.1, Ended::Reset);
        assert_eq!(reading.await.unwrap(), Ended::Reset);
        wait::within("the reset of who does not read", async {
            let _ = stalled.ready(tokio::io::Interest::ERROR).await;
        })
        .await;
        assert_eq!(echo.newest().await.wait_ended().await, Ended::Reset);
        let port = port_of(&agent_echo);
        wait::until("the port is closed", || async {
            TcpStream::connect(("127.0.0.1", port)).await.err()
        })
        .await;
    }
}

/// A login cannot be asked for over raw bytes: said before anything is dialled, by flag and by file.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_needs_http() {
    let world = world(&[]).await;
    let env = [("SALLYPORT_AUTHTOKEN", world.authtoken.as_str())];
    for kind in ["tcp", "tls"] {
        let output = world.agent_cli(&[kind, "5432", "--oauth=dev"], &env).await;
        assert_eq!(output.code, Some(5), "{}", output.all());
        assert!(output.all().contains("SP_2027"), "{}", output.all());
        assert!(
            output.all().contains("login cannot be asked"),
            "{}",
            output.all()
        );
    }
    let file = world.dir.path().join("login.yml");
    std::fs::write(
        &file,
        "version: 3\nendpoints:\n  - name: db\n    url: tcp://\n    oauth: {provider: dev}\n    upstream: {url: 5432}\n",
    )
    .unwrap();
    let file = file.display().to_string();
    let output = world
        .agent_cli(&["start", "db", "--config", &file], &env)
        .await;
    assert_eq!(output.code, Some(5), "{}", output.all());
    assert!(output.all().contains("SP_2027"), "{}", output.all());
}

/// ngrok's keys of versions 2 and 3 start TCP and TLS endpoints beside each other.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_both_versions() {
    let world = world(&[]).await;
    let echo = RawUpstream::start(Play::Echo).await;
    let files = [
        format!(
            "version: 2\nauthtoken: {}\ntunnels:\n  a:\n    proto: tcp\n    addr: {}\n  b:\n    proto: tls\n    addr: {}\n    hostname: two\n    terminate_at: edge\n",
            world.authtoken,
            echo.address(),
            echo.address()
        ),
        format!(
            "version: 3\nagent:\n  authtoken: {}\nendpoints:\n  - name: a\n    url: tcp://\n    upstream:\n      url: {}\n  - name: b\n    url: tls://three\n    terminate_at: edge\n    cidr_allow: [127.0.0.1/32]\n    upstream:\n      url: tcp://{}\n",
            world.authtoken,
            echo.address(),
            echo.address()
        ),
    ];
    for (number, text) in files.iter().enumerate() {
        let file = world.dir.path().join(format!("file-{number}.yml"));
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let arguments = ["start", "--all", "--config", &file].map(str::to_owned);
        let mut agent = world.start_agent(&arguments).await;
        let tcp = agent
            .process
            .event("the TCP endpoint", |event| event["proto"] == "tcp")
            .await;
        let tls = agent
            .process
            .event("the TLS endpoint", |event| event["proto"] == "tls")
            .await;
        let url = url::Url::parse(tcp["url"].as_str().unwrap()).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", url.port().unwrap()))
            .await
            .unwrap();
        client.write_all(b"tcp").await.unwrap();
        assert_eq!(read_exact(&mut client, 3).await, b"tcp");
        let url = url::Url::parse(tls["url"].as_str().unwrap()).unwrap();
        let mut client = world.net.connect_h1(url.host_str().unwrap()).await.unwrap();
        client.write_all(b"tls").await.unwrap();
        let mut back = [0; 3];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"tls");
    }
}

/// A port's connections are bounded by address, as the public port's are.
#[tokio::test(flavor = "multi_thread")]
async fn connections_per_address_are_bounded() {
    let (first, last) = free_ports(2);
    let world = World::builder()
        .config(&format!(
            "connections_per_address: 4\ntcp_ports: {first}-{last}\n"
        ))
        .start()
        .await;
    let echo = RawUpstream::start(Play::Echo).await;
    let agent = agent(&world, "tcp", &echo, &[]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = connect(&agent).await;
        client.write_all(b"x").await.unwrap();
        read_exact(&mut client, 1).await;
        held.push(client);
    }
    let mut fifth = connect(&agent).await;
    let _ = fifth.write_all(b"x").await;
    assert_eq!(read_to_end(&mut fifth).await.0, b"", "one too many");
    held.pop();
    wait::until("a place is free again", || async {
        let mut client = connect(&agent).await;
        let mut back = [0];
        client.write_all(b"x").await.ok()?;
        client.read_exact(&mut back).await.ok()
    })
    .await;
}

/// HTTP endpoints beside raw ones are as they were: a name is one or the other.
#[tokio::test(flavor = "multi_thread")]
async fn kinds_do_not_mix() {
    let world = world(&[]).await;
    let _http = world.agent("web", &[]).await;
    let echo = RawUpstream::start(Play::Echo).await;
    let _tls = agent(
        &world,
        "tls",
        &echo,
        &["--url", "raw", "--terminate-at", "edge"],
    )
    .await;
    let reply = Ask::get(&world.net, "web", "/any")
        .send(&world.net, tests::http::Version::H2)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    // Asked for by Host over a connection without that name, a TLS endpoint is no HTTP endpoint.
    let mut ask = Ask::get(&world.net, "raw", "/any");
    ask.sni = world.net.host("web");
    let reply = ask.send(&world.net, tests::http::Version::H1).await;
    assert_eq!(reply.status, 421, "{}", reply.text());
    // A URL of another kind is refused by its scheme, not by what follows from it.
    let address = echo.address();
    let env = [("SALLYPORT_AUTHTOKEN", world.authtoken.as_str())];
    let url = format!("https://{}", world.net.host("raw"));
    let refused = world
        .agent_cli(&["tls", &address, "--url", &url], &env)
        .await;
    assert_eq!(refused.code, Some(5), "{}", refused.all());
    let words = refused.all();
    assert!(
        words.contains("no tls:// address") && words.contains("SP_3008"),
        "{words}"
    );
}
