//! PROXY protocol: told to apps that want it, believed from proxies that are listed.

use std::net::SocketAddr;

use tests::http::{Ask, Version};
use tests::process;
use tests::raw::{Play, RawUpstream, read_to_end};
use tests::upstream::Ended;
use tests::wait;
use tests::world::{World, edge_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{agent, connect, port_of, world};

/// The app gets a header of the wanted version with the client's address and the edge's, before the first
/// byte, on every kind of endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_the_app() {
    let world = world(&[]).await;
    for version in ["1", "2"] {
        let proxied = ["--proxy-proto", version];
        let app = RawUpstream::start(Play::Echo).await;
        let mut agent_tcp = agent(&world, "tcp", &app, &proxied).await;
        let mut client = connect(&agent_tcp).await;
        let ends = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        client.write_all(b"first").await.unwrap();
        let header = header(version, ends.0, ends.1);
        let whole = [header.as_slice(), b"first"].concat();
        newest(&app, &whole).await;
        agent_tcp.process.terminate().await;

        let app = RawUpstream::start(Play::Echo).await;
        let arguments = [&proxied[..], &["--url", "raw", "--terminate-at", "edge"]].concat();
        let mut agent_tls = agent(&world, "tls", &app, &arguments).await;
        let mut client = world.net.connect_h1(&world.net.host("raw")).await.unwrap();
        let socket = client.get_ref().0;
        let ends = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
        client.write_all(b"within TLS").await.unwrap();
        let header_tls = self::header(version, ends.0, ends.1);
        newest(&app, &[header_tls.as_slice(), b"within TLS"].concat()).await;
        agent_tls.process.terminate().await;

        // Every request's connection begins with its own client's header.
        // It says nothing by itself, as HTTP has it.
        let app = RawUpstream::start(Play::Collect).await;
        let mut agent_http = world.agent_for("web", &app.address(), &proxied).await;
        for _ in 0..2 {
            let mut client = world.net.connect_h1(&world.net.host("web")).await.unwrap();
            let socket = client.get_ref().0;
            let ends = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
            let text = tests::http1::Connection::text(&Ask::get(&world.net, "web", "/"));
            client.write_all(&text).await.unwrap();
            let header = self::header(version, ends.0, ends.1);
            let whole = [header.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
            newest(&app, &whole).await;
        }
        agent_http.process.terminate().await;
    }
}

async fn newest(app: &RawUpstream, start: &[u8]) {
    let begun = std::time::Instant::now();
    loop {
        let all: Vec<_> = app.seen().iter().map(|seen| seen.start()).collect();
        if all.iter().any(|seen| seen.starts_with(start)) {
            return;
        }
        assert!(
            begun.elapsed() < wait::DEADLINE,
            "{:?} is not among {:?}",
            String::from_utf8_lossy(start),
            all.iter()
                .map(|seen| String::from_utf8_lossy(seen).into_owned())
                .collect::<Vec<_>>()
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Written by hand from the specification.
fn header(version: &str, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
        panic!("IPv4");
    };
    if version == "1" {
        let (from_ip, to_ip) = (from.ip(), to.ip());
        let (from, to) = (from.port(), to.port());
        return format!("PROXY TCP4 {from_ip} {to_ip} {from} {to}\r\n").into_bytes();
    }
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x21, 0x11, 0, 12]);
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes
}

/// A listed proxy's header says who connected: to rules, to the app, to records. Without one it is not
/// served; what cannot be understood is not served either.
#[tokio::test(flavor = "multi_thread")]
async fn believed_from_listed_proxies() {
    let world = world(&["--trusted-proxies", "127.0.0.1/32"]).await;
    // Over TCP they would come from a listed proxy without its header.
    let quic = "--link=quic";
    let _open = world.agent("open", &[quic]).await;
    let narrow = [quic, "--cidr-allow", "203.0.113.7"];
    let _narrow = world.agent("narrow", &narrow).await;
    let echo = RawUpstream::start(Play::Echo).await;
    let wide = [quic, "--cidr-allow", "203.0.113.0/24"];
    let tcp = agent(&world, "tcp", &echo, &wide).await;
    let from = |ip: &str| format!("{ip}:1000").parse().unwrap();
    let to = "198.51.100.2:443".parse().unwrap();
    for version in ["1", "2"] {
        let told = header(version, from("203.0.113.7"), to);
        let reply = ask_behind(&world, &told, "open").await;
        assert_eq!(reply.0, 200, "{}", reply.1);
        let seen = world.upstream.seen().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7"));
        assert_eq!(ask_behind(&world, &told, "narrow").await.0, 200);
        let other = header(version, from("203.0.113.8"), to);
        let refused = ask_behind(&world, &other, "narrow").await;
        assert_eq!(refused.0, 403, "{}", refused.1);

        let mut client = TcpStream::connect(("127.0.0.1", port_of(&tcp)))
            .await
            .unwrap();
        // Header and first bytes in one packet.
        client
            .write_all(&[told.as_slice(), b"at once"].concat())
            .await
            .unwrap();
        let mut back = [0; 7];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"at once");
        let mut client = TcpStream::connect(("127.0.0.1", port_of(&tcp)))
            .await
            .unwrap();
        let outside = header(version, from("198.51.100.9"), to);
        client.write_all(&outside).await.unwrap();
        assert_eq!(read_to_end(&mut client).await.1, Ended::Reset);
    }
    // IPv6, and a proxy that asks for itself.
    let told = b"PROXY TCP6 2001:db8::7 2001:db8::2 1000 443\r\n";
    assert_eq!(ask_behind(&world, told, "open").await.0, 200);
    let seen = world.upstream.seen().pop().unwrap();
    assert_eq!(seen.header("x-forwarded-for"), Some("2001:db8::7"));
    for own in [
        &b"PROXY UNKNOWN\r\n"[..],
        &b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..],
    ] {
        assert_eq!(ask_behind(&world, own, "open").await.0, 200);
        let seen = world.upstream.seen().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    let v2 = b"\r\n\r\n\0\r\nQUIT\n";
    let long = [v2.as_slice(), &[0x21, 0x11, 2, 9], &[0; 521]].concat();
    let line = [b"PROXY TCP4 203.0.113.7 ".as_slice(), &[b'1'; 200]].concat();
    let mut zeros = vec![0; 600];
    zeros[0] = b'P';
    for wrong in [
        &b""[..],
        b"PROXY TCP4 203.0.113.7 198.51.100.2 1000\r\n",
        b"PROXY TCP4 203.0.113.700 198.51.100.2 1000 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::2 1000 443\r\n",
        b"PROXY  TCP4 203.0.113.7 198.51.100.2 1000 443\r\n",
        b"PROXY UDP4 203.0.113.7 198.51.100.2 1000 443\r\n",
        b"proxy TCP4 203.0.113.7 198.51.100.2 1000 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.2 1000 443\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\0\0\0\0",
        &long,
        &line,
        &zeros,
    ] {
        let before = world.upstream.count();
        let mut client = TcpStream::connect(world.net.addr).await.unwrap();
        client.write_all(wrong).await.unwrap();
        client.write_all(b"\x16\x03\x01").await.ok();
        let _ = client.shutdown().await;
        let (said, _) = read_to_end(&mut client).await;
        assert!(
            said.is_empty(),
            "{}: {said:?}",
            String::from_utf8_lossy(wrong)
        );
        assert_eq!(world.upstream.count(), before);
    }
    // One that says nothing is not waited for.
    let mut silent = TcpStream::connect(world.net.addr).await.unwrap();
    assert_eq!(read_to_end(&mut silent).await.0, b"");
    assert!(!world.edge.log().contains("panicked"));
}

/// Who is not listed is not believed: its header is no hello.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_believed_by_default() {
    let world = world(&["--trusted-proxies", "192.0.2.0/24"]).await;
    let _open = world.agent("open", &[]).await;
    let told = header(
        "1",
        "203.0.113.7:1000".parse().unwrap(),
        "198.51.100.2:443".parse().unwrap(),
    );
    let mut client = TcpStream::connect(world.net.addr).await.unwrap();
    client.write_all(&told).await.unwrap();
    let (said, _) = read_to_end(&mut client).await;
    assert!(said.first().is_none_or(|kind| *kind == 21), "{said:?}");
    let reply = Ask::get(&world.net, "open", "/")
        .send(&world.net, Version::H1)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Believing everybody is refused, unless that was asked for by its name.
#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edge.yml");
    for (network, is_dangerous, expected) in [
        ("0.0.0.0/0", false, 3),
        ("::/0", false, 3),
        ("nonsense", true, 3),
        ("0.0.0.0/0", true, 0),
        ("192.0.2.0/24", false, 0),
    ] {
        let text =
            format!("trusted_proxies: ['{network}']\ndanger_trust_any_proxy: {is_dangerous}\n");
        std::fs::write(&file, text).unwrap();
        let mut edge = edge_command(dir.path());
        edge.args(["config", "check", "--config"]).arg(&file);
        let output = process::run(edge, b"").await;
        assert_eq!(output.code, Some(expected), "{network}: {}", output.all());
    }
}

/// GET over TLS, behind a header.
async fn ask_behind(world: &World, told: &[u8], label: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(world.net.addr).await.unwrap();
    socket.write_all(told).await.unwrap();
    let host = world.net.host(label);
    let mut client = world
        .net
        .tls_over(socket, &host)
        .await
        .expect("a handshake");
    let text = tests::http1::Connection::text(&Ask::get(&world.net, label, "/any"));
    client.write_all(&text).await.unwrap();
    let mut connection = tests::http1::Connection::over(client);
    let (status, headers) = connection.head().await.unwrap();
    (status, format!("{headers:?}"))
}
