//! Which port a TCP endpoint gets, and that it stays.

use tests::process::Output;
use tests::raw::{Play, RawUpstream, free_ports, read_exact};
use tests::world::World;
use tokio::io::AsyncWriteExt;

use super::{agent, connect, port_of, world};

fn refused(output: &Output, code: &str) {
    assert_eq!(output.code, Some(5), "{}", output.all());
    assert!(output.all().contains(code), "{code}: {}", output.all());
}

/// The port that the edge chose stays with instance and upstream: over a killed agent, a killed edge, and
/// beside another agent of the same authtoken.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_stays() {
    let mut world = world(&[]).await;
    let (one, two) = (
        RawUpstream::start(Play::Echo).await,
        RawUpstream::start(Play::Echo).await,
    );
    let mut first = agent(&world, "tcp", &one, &[]).await;
    let mut second = agent(&world, "tcp", &two, &[]).await;
    assert_ne!(port_of(&first), port_of(&second));
    first.process.kill().await;
    first.start_again().await;
    second.process.terminate().await;
    second.start_again().await;
    world.kill_edge().await;
    world.online(&first).await;
    world.online(&second).await;
    for (agent, app) in [(&first, &one), (&second, &two)] {
        let mut client = connect(agent).await;
        client.write_all(b"still").await.unwrap();
        assert_eq!(read_exact(&mut client, 5).await, b"still");
        assert_eq!(app.newest().await.bytes(), 5);
    }
}

/// A wanted port is given, or refused with the reason: outside the range, another authtoken's, in use by
/// something else, no range at all, an address that leads elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_wanted_port_is_given_or_refused() {
    let (first, last) = free_ports(4);
    let world = World::builder()
        .argument("--tcp-ports")
        .argument(&format!("{first}-{last}"))
        .start()
        .await;
    let app = RawUpstream::start(Play::Echo).await;
    let port = first.to_string();
    let mine = agent(&world, "tcp", &app, &["--remote-addr", &port]).await;
    assert_eq!(port_of(&mine), first);
    let named = format!("localhost:{}", first + 1);
    let second = agent(&world, "tcp", &app, &["--remote-addr", &named]).await;
    assert_eq!(port_of(&second), first + 1);
    // On loopback its address is as good as its name.
    let by_address = format!("127.0.0.1:{}", first + 2);
    let third = agent(&world, "tcp", &app, &["--remote-addr", &by_address]).await;
    assert_eq!(port_of(&third), first + 2);
    let status = world.edge.cli(&["status", "--json"]).await.json();
    assert_eq!(status["tcp_ports"], format!("{first}-{last}"));
    let status = world.edge.cli(&["status"]).await.stdout;
    assert!(status.contains(&format!("{first}-{last}")), "{status}");

    let other = world
        .edge
        .cli(&["authtoken", "create", "--json"])
        .await
        .json();
    let other = other["token"].as_str().unwrap();
    let address = app.address();
    let ask = async |token: &str, wish: &str| {
        let arguments = ["tcp", &address, "--remote-addr", wish, "--fail-fast"];
        world
            .agent_cli(&arguments, &[("SALLYPORT_AUTHTOKEN", token)])
            .await
    };
    let mine_token = world.authtoken.as_str();
    refused(&ask(other, &port).await, "SP_3033");
    refused(&ask(mine_token, &port).await, "SP_3005");
    refused(&ask(mine_token, &(last + 1).to_string()).await, "SP_3032");
    refused(
        &ask(mine_token, &format!("1.tcp.example.com:{last}")).await,
        "SP_3008",
    );
    let taken = std::net::TcpListener::bind(("127.0.0.1", last)).unwrap();
    refused(&ask(mine_token, &last.to_string()).await, "SP_3033");
    drop(taken);

    let without = World::start().await;
    let env = [("SALLYPORT_AUTHTOKEN", without.authtoken.as_str())];
    let output = without
        .agent_cli(&["tcp", &address, "--fail-fast"], &env)
        .await;
    refused(&output, "SP_3031");
    assert!(output.all().contains("--tcp-ports"), "{}", output.all());
}

/// With every port taken an agent is refused, and one of the same authtoken takes over a chosen port that
/// nobody serves any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_exhausted() {
    let (first, last) = free_ports(2);
    let world = World::builder()
        .argument("--tcp-ports")
        .argument(&format!("{first}-{last}"))
        .start()
        .await;
    let app = RawUpstream::start(Play::Echo).await;
    let mut one = agent(&world, "tcp", &app, &[]).await;
    let _two = agent(&world, "tcp", &app, &[]).await;
    let address = app.address();
    let env = [("SALLYPORT_AUTHTOKEN", world.authtoken.as_str())];
    let arguments = ["tcp", &address, "--fail-fast"];
    refused(&world.agent_cli(&arguments, &env).await, "SP_3034");
    one.process.terminate().await;
    let three = agent(&world, "tcp", &app, &[]).await;
    assert_eq!(port_of(&three), port_of(&one));
    let mut client = connect(&three).await;
    client.write_all(b"three").await.unwrap();
    assert_eq!(read_exact(&mut client, 5).await, b"three");
}

/// A range that cannot be is refused at the start, with what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    for (range, words) in [
        ("0-10", "no range"),
        ("20-10", "no range"),
        ("x", "no range"),
        ("1-65535", "at most"),
    ] {
        let mut edge = tests::world::edge_command(dir.path());
        edge.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--tcp-ports",
            range,
            "--data-dir",
        ])
        .arg(dir.path().join("data"));
        let output = tests::process::run(edge, b"").await;
        assert_eq!(output.code, Some(3), "{range}: {}", output.all());
        assert!(output.all().contains(words), "{range}: {}", output.all());
        assert!(output.all().contains("--tcp-ports"), "{}", output.all());
    }
}
