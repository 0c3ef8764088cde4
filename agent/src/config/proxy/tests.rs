//! Which proxy is taken, and that nothing of it is shown.

use super::*;

fn proxy(text: &str) -> Proxy {
    Proxy::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

#[test]
fn urls_are_read_and_logins_hidden() {
    let full = proxy("http://ada:p%40ss%3Aword@proxy.example.com:3128/");
    assert_eq!((full.host.as_str(), full.port), ("proxy.example.com", 3128));
    // ada:p@ss:word
    assert_eq!(full.authorization(), Some("Basic YWRhOnBAc3M6d29yZA=="));
    assert_eq!(
        format!("{full:?} {full}"),
        "Proxy(proxy.example.com:3128) proxy.example.com:3128"
    );
    let table = [
        ("proxy:8080", "proxy:8080"),
        ("http://proxy", "proxy:80"),
        ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"),
        ("  http://10.0.0.1:3128 ", "10.0.0.1:3128"),
    ];
    for (text, shown) in table {
        assert_eq!(proxy(text).to_string(), shown);
        assert_eq!(proxy(text).authorization(), None);
    }
    let secret = "s3cret";
    for text in [
        "https://ada:s3cret@proxy:3128",
        "socks5://ada:s3cret@proxy:1080",
        "http://ada:s3cret@proxy:3128/path",
        "http://ada:s3cret@:3128",
        "http://ada:s3cret@proxy:99999",
        "",
    ] {
        let why = Proxy::parse(text).unwrap_err();
        assert!(!why.contains(secret), "{why}");
    }
}

#[test]
fn exceptions_are_heeded() {
    let except =
        "internal.test, .corp.test,*.wild.test,10.0.0.0/8,192.0.2.7,2001:db8::/32,edge.test:8443";
    let proxies = Proxies::new(None, Some(proxy("http://p:1")), Some(except));
    let table = [
        ("edge.example.com", 443, true),
        ("internal.test", 443, false),
        ("a.internal.test", 443, false),
        ("notinternal.test", 443, true),
        ("a.corp.test.", 443, false),
        ("A.WILD.test", 443, false),
        ("10.1.2.3", 443, false),
        ("11.1.2.3", 443, true),
        ("192.0.2.7", 443, false),
        ("192.0.2.8", 443, true),
        ("2001:db8::9", 443, false),
        ("2001:db9::9", 443, true),
        ("edge.test", 8443, false),
        ("edge.test", 443, true),
        // This machine is never reached through another.
        ("localhost", 443, false),
        ("connect.lumen.localhost", 443, false),
        ("127.0.0.1", 443, false),
        ("::1", 443, false),
    ];
    for (host, port, is_proxied) in table {
        assert_eq!(
            proxies.towards(host, port).is_some(),
            is_proxied,
            "{host}:{port}"
        );
    }
    let all = Proxies::new(None, Some(proxy("http://p:1")), Some("*"));
    assert_eq!(all.towards("edge.example.com", 443), None);
}

#[test]
fn a_proxy_that_was_named_is_for_everything() {
    let (named, other) = (proxy("http://named:1"), proxy("http://other:2"));
    let proxies = Proxies::new(Some(named.clone()), Some(other), Some("*"));
    for host in ["edge.example.com", "127.0.0.1", "localhost"] {
        assert_eq!(proxies.towards(host, 443), Some(&named));
    }
    assert!(proxies.is_explicit());
    assert!(!Proxies::default().is_explicit());
    assert_eq!(Proxies::default().towards("edge.example.com", 443), None);
}
