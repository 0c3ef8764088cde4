//! Addresses as people write them, and dialling.

use tokio::net::TcpListener;

use super::*;

#[test]
fn what_people_write_is_read() {
    let table = [
        ("8080", "http://localhost:8080"),
        (" 8080 ", "http://localhost:8080"),
        ("localhost:3000", "http://localhost:3000"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("HTTP://LocalHost:3000", "http://localhost:3000"),
        ("http://192.0.2.7:3000", "http://192.0.2.7:3000"),
        ("192.0.2.7:80", "http://192.0.2.7:80"),
        ("http://app.internal", "http://app.internal:80"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("http://[2001:db8::1]", "http://[2001:db8::1]:80"),
        ("https://localhost:8443", "https://localhost:8443"),
        ("HTTPS://App.Internal", "https://app.internal:443"),
    ];
    for (text, expected) in table {
        let upstream = Upstream::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(upstream.to_string(), expected, "{text}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_a_sentence() {
    let table = [
        ("", "missing"),
        ("0", "1 to 65535"),
        ("65536", "1 to 65535"),
        ("123456789012345678901234567890", "1 to 65535"),
        ("8o80", "names no port"),
        ("localhost", "names no port"),
        ("::1", "no address"),
        ("localhost:", "names no port"),
        ("localhost:0", "1 to 65535"),
        ("localhost:99999", "no address"),
        ("http://localhost:0", "1 to 65535"),
        ("tcp://localhost:22", "only http://"),
        ("file:///etc", "only http://"),
        ("http://", "no address"),
        ("http://localhost:3000/app", "after the port"),
        ("http://localhost:3000?x", "after the port"),
        ("localhost:3000/app", "after the port"),
        ("http://ada:secret@localhost:3000", "user name or password"),
        ("a b:80", "no address"),
    ];
    for (text, part) in table {
        let error = Upstream::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn localhost_is_found_on_either_family() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(bind).await else {
            continue; // a machine without IPv6
        };
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "app.localhost"] {
            let upstream = Upstream::parse(&format!("{host}:{port}")).unwrap();
            let (dialled, accepted) = tokio::join!(upstream.dial(None), listener.accept());
            dialled.unwrap();
            accepted.unwrap();
        }
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = Upstream::parse(&format!("127.0.0.1:{port}"))
        .unwrap()
        .dial(None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::UpstreamUnreachable);
    assert_eq!(
        error.to_string(),
        format!("http://127.0.0.1:{port} does not accept connections")
    );
    assert!(error.next_step().starts_with("start the app"));
}

#[test]
fn a_host_header_leaves_the_schemes_port_out() {
    let table = [
        ("8080", "localhost:8080"),
        ("http://app.internal", "app.internal"),
        ("http://app.internal:443", "app.internal:443"),
        ("https://app.internal", "app.internal"),
        ("https://[::1]:8443", "[::1]:8443"),
    ];
    for (text, expected) in table {
        assert_eq!(Upstream::parse(text).unwrap().authority(), expected);
    }
}
