//! Address rules: judged before the first byte, on every kind of endpoint.

use std::io::ErrorKind;

use tests::http::{Ask, HTML, Version};
use tests::raw::{Play, RawUpstream, read_exact, read_to_end};
use tests::upstream::Ended;
use tests::wait;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{agent, connect, port_of, world};

/// Whom a rule keeps out is reset, or told by an alert, and the app sees no connection at all.
#[tokio::test(flavor = "multi_thread")]
async fn denied_before_the_first_byte() {
    let world = world(&[]).await;
    let app = RawUpstream::start(Play::Echo).await;
    for rule in [
        &["--cidr-deny", "127.0.0.0/8"][..],
        &["--cidr-allow", "203.0.113.0/24"],
        &["--cidr-allow", "127.0.0.1", "--cidr-deny", "127.0.0.1"],
        &["--cidr-deny", "::ffff:127.0.0.0/104"],
    ] {
        let before = app.connections();
        let mut agent_tcp = agent(&world, "tcp", &app, rule).await;
        wait::until("the agent's look at its app", || async {
            (app.connections() > before).then_some(())
        })
        .await;
        let looked = app.connections();
        let status = world.edge.cli(&["status"]).await.stdout;
        assert!(status.contains("public, "), "the rule is shown: {status}");
        for _ in 0..3 {
            assert_eq!(turned_away(port_of(&agent_tcp)).await, b"", "{rule:?}");
        }
        assert_eq!(app.connections(), looked, "{rule:?}");
        agent_tcp.process.terminate().await;

        let arguments = [rule, &["--url", "raw"]].concat();
        let mut agent_tls = agent(&world, "tls", &app, &arguments).await;
        wait::until("the agent's look at its app", || async {
            (app.connections() > looked).then_some(())
        })
        .await;
        let looked = app.connections();
        let error = world.net.connect_h1(&world.net.host("raw")).await;
        let error = error.expect_err("a handshake").to_string();
        assert!(error.contains("AccessDenied"), "{rule:?}: {error}");
        assert_eq!(app.connections(), looked, "{rule:?}");
        agent_tls.process.terminate().await;
    }
    assert!(app.seen().is_empty());
    assert!(world.edge.log().contains("SP_2026"));
}

/// Over HTTP the refusal is a 403 with its code, also in front of a login and of the paths that belong to
/// it; the public keys stay readable. The app sees nothing.
#[tokio::test(flavor = "multi_thread")]
async fn http_is_refused_with_403() {
    let world = tests::world::World::with_login().await;
    let _open = world.agent("open", &["--cidr-deny", "127.0.0.1"]).await;
    let _login = world
        .agent("login", &["--oauth=dev", "--cidr-allow", "203.0.113.0/24"])
        .await;
    let _fine = world
        .agent(
            "fine",
            &["--cidr-allow", "127.0.0.0/8", "--cidr-deny", "::/0"],
        )
        .await;
    for version in Version::BOTH {
        for (label, path) in [
            ("open", "/any"),
            ("login", "/any"),
            ("login", "/.sallyport/login"),
            ("login", "/.sallyport/session"),
        ] {
            let reply = Ask::get(&world.net, label, path)
                .header("accept", HTML)
                .header("x-forwarded-for", "203.0.113.7")
                .send(&world.net, version)
                .await;
            assert_eq!(
                (reply.status, reply.code()),
                (403, "SP_2026"),
                "{label}{path}"
            );
        }
        let keys = Ask::get(&world.net, "login", "/.sallyport/jwks.json")
            .send(&world.net, version)
            .await;
        assert_eq!(keys.status, 200);
        assert_eq!(world.upstream.count(), 0);
        let reply = Ask::get(&world.net, "fine", "/any")
            .send(&world.net, version)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        world.upstream.clear();
    }
}

/// A rule that is none is refused, and named; so is a list of a hundred thousand.
#[tokio::test(flavor = "multi_thread")]
async fn rules_are_checked() {
    let world = world(&[]).await;
    let env = [("SALLYPORT_AUTHTOKEN", world.authtoken.as_str())];
    let many = vec!["203.0.113.7"; 251].join(",");
    for wrong in ["nonsense", "203.0.113.0/33", "203.0.113", &many] {
        for kind in ["http", "tcp", "tls"] {
            let output = world
                .agent_cli(&[kind, "5432", "--cidr-allow", wrong], &env)
                .await;
            assert_eq!(output.code, Some(5), "{}", output.all());
            assert!(output.all().contains("SP_2028"), "{}", output.all());
        }
    }
}

/// A new rule for an endpoint ends what the old one let in; who is still let in goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_rule_cuts() {
    let world = world(&[]).await;
    let app = RawUpstream::start(Play::Echo).await;
    let mut first = agent(&world, "tcp", &app, &[]).await;
    let port = port_of(&first).to_string();
    first.process.terminate().await;
    let open = ["--remote-addr", &port, "--pooling"];
    let first = agent(&world, "tcp", &app, &open).await;
    let mut client = connect(&first).await;
    client.write_all(b"here").await.unwrap();
    read_exact(&mut client, 4).await;
    // Another agent of the authtoken that shares the port must ask for the same networks.
    let env = [("SALLYPORT_AUTHTOKEN", world.authtoken.as_str())];
    let address = app.address();
    let narrower = [
        &["tcp", address.as_str()][..],
        &open,
        &["--cidr-deny", "127.0.0.1"],
    ]
    .concat();
    let output = world.agent_cli(&narrower, &env).await;
    assert_eq!(output.code, Some(5), "{}", output.all());
    client.write_all(b"still").await.unwrap();
    assert_eq!(read_exact(&mut client, 5).await, b"still");
    // The same instance changes its mind: the old run's connection is not let in any more.
    let again = world
        .agent_with_home_of(&first, &["--cidr-deny", "127.0.0.1"])
        .await;
    assert_eq!(read_to_end(&mut client).await.1, Ended::Reset);
    assert_eq!(turned_away(port_of(&again)).await, b"");
}

/// Connects to a port that resets: what came before that.
async fn turned_away(port: u16) -> Vec<u8> {
    // The reset may be there before the connection is.
    let mut client = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(client) => client,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let _ = client.write_all(b"x").await;
    let (said, ended) = read_to_end(&mut client).await;
    assert_eq!(ended, Ended::Reset);
    said
}
