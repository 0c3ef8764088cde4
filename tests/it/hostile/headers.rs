//! Group A: what a client sends under our names, or about itself, is believed nowhere.

use serde_json::json;
use tests::http::{Ask, Version};
use tests::jwt;
use tests::process;
use tests::world::edge_command;

use super::{Bench, Case, cases};

pub(super) const CASES: &[Case] = cases![
    a01_underscore_identity_header,
    a02_repeated_identity_header,
    a03_path_taken_from_a_header,
    a04_trust_list_open_by_default,
    a05_health_check_user_agent,
    a06_our_header_named_as_hop_by_hop,
    a07_rfc_7239,
    a08_source_address_spoof,
    a09_early_data,
    a10_identity_header_on_a_public_path,
    a11_forged_assertion,
    a12_our_cookie_leaks_upstream,
];

const IDENTITY: [&str; 7] = [
    "sallyport-user-id",
    "sallyport-user-email",
    "sallyport-user-name",
    "sallyport-assertion",
    "ngrok-auth-user-id",
    "ngrok-auth-user-email",
    "ngrok-auth-user-name",
];

/// Every spelling of an identity header that an upstream might fold.
fn spellings(name: &str) -> Vec<String> {
    let upper = name.to_ascii_uppercase();
    let title: String = name
        .split('-')
        .map(|part| part[..1].to_ascii_uppercase() + &part[1..])
        .collect::<Vec<_>>()
        .join("-");
    vec![
        name.to_owned(),
        upper.clone(),
        title.clone(),
        name.replace('-', "_"),
        upper.replace('-', "_"),
        title.replacen('-', "_", 1),
        name.replacen('-', "_", 2),
    ]
}

/// Sends an ask, and gives the one request that reached the upstream.
async fn arrives(
    bench: &Bench,
    ask: Ask,
    version: Version,
) -> std::sync::Arc<tests::upstream::Seen> {
    bench.world.upstream.clear();
    let reply = bench.send(ask, version).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = bench.world.upstream.seen();
    assert_eq!(seen.len(), 1);
    seen[0].clone()
}

async fn a01_underscore_identity_header(bench: &Bench) {
    for version in Version::BOTH {
        for name in IDENTITY {
            for spelling in spellings(name) {
                let seen = arrives(
                    bench,
                    bench.signed("/headers").header(&spelling, "admin@x"),
                    version,
                )
                .await;
                assert!(
                    !String::from_utf8_lossy(&seen.head).contains("admin@x"),
                    "{spelling} over {version:?}"
                );
                assert_eq!(seen.folded(name).len(), 1, "{spelling}: ours once");
            }
        }
        let mixed = bench
            .signed("/headers")
            .header("Ngrok-Auth_User-Email", "admin@x")
            .header("Sallyport_User_Email", "admin@x");
        let seen = arrives(bench, mixed, version).await;
        assert_eq!(seen.folded("ngrok-auth-user-email"), ["ada@example.test"]);
        assert_eq!(seen.folded("sallyport-user-email"), ["ada@example.test"]);
    }
}

async fn a02_repeated_identity_header(bench: &Bench) {
    for version in Version::BOTH {
        let ask = bench
            .signed("/headers")
            .header("sallyport-user-email", "")
            .header("sallyport-user-email", "admin@x")
            .header("ngrok-auth-user-email", "")
            .header("ngrok-auth-user-email", "admin@x")
            .header("ngrok-auth-user-email", "root@x");
        let seen = arrives(bench, ask, version).await;
        for name in ["sallyport-user-email", "ngrok-auth-user-email"] {
            assert_eq!(seen.folded(name), ["ada@example.test"]);
        }
    }
}

async fn a03_path_taken_from_a_header(bench: &Bench) {
    let names = [
        "X-Forwarded-Uri",
        "X-Original-Url",
        "X-Original-URI",
        "X-Rewrite-Url",
        "X-Forwarded-Path",
        "X_Original_Url",
    ];
    for name in names {
        bench
            .assert_anonymous(bench.ask("app", "/admin").header(name, "/healthz"), name)
            .await;
        for version in Version::BOTH {
            let seen = arrives(
                bench,
                bench.signed("/admin").header(name, "/healthz"),
                version,
            )
            .await;
            assert_eq!(seen.target, "/admin");
            assert!(
                !String::from_utf8_lossy(&seen.head).contains("healthz"),
                "{name}"
            );
        }
    }
}

async fn a04_trust_list_open_by_default(bench: &Bench) {
    for version in Version::BOTH {
        let ask = bench
            .ask("open", "/headers")
            .header("X-Forwarded-For", "203.0.113.9")
            .header("X-Forwarded-Host", "evil.test")
            .header("X-Forwarded-Proto", "http")
            .header("X-Forwarded-Port", "80")
            .header("X-Forwarded-Server", "evil.test")
            .header("X-Real-Ip", "203.0.113.9")
            .header("X_Forwarded_For", "203.0.113.9");
        let seen = arrives(bench, ask, version).await;
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        assert!(
            !head.contains("203.0.113.9") && !head.contains("evil.test"),
            "{head}"
        );
        assert_eq!(seen.folded("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen.folded("x-forwarded-proto"), ["https"]);
    }
    // A trust list that is open to all is no configuration.
    for list in ["['0.0.0.0/0']", "['::/0']"] {
        let file = bench.world.dir.path().join("open-trust.yml");
        std::fs::write(
            &file,
            format!("listen: 127.0.0.1:0\ntrusted_proxies: {list}\n"),
        )
        .unwrap();
        let mut edge = edge_command(bench.world.dir.path());
        edge.args(["config", "check", "--config"]).arg(&file);
        assert_eq!(process::run(edge, b"").await.code, Some(3), "{list}");
    }
}

async fn a05_health_check_user_agent(bench: &Bench) {
    for agent in [
        "GoogleHC/1.0",
        "ELB-HealthChecker/2.0",
        "kube-probe/1.30",
        "Googlebot/2.1",
        "",
    ] {
        bench
            .assert_anonymous(
                bench.ask("app", "/admin").header("user-agent", agent),
                agent,
            )
            .await;
    }
}

async fn a06_our_header_named_as_hop_by_hop(bench: &Bench) {
    // `Connection` is HTTP/1.1's own: over HTTP/2 it is a malformed request.
    for named in [
        "close, Sallyport-User-Email, Ngrok-Auth-User-Email, Sallyport-Assertion",
        "Sallyport-User-Email",
        "keep-alive, x-forwarded-for, x-forwarded-proto, host, cookie",
    ] {
        let ask = bench
            .signed("/headers")
            .header("connection", named)
            .header("x-kept", "1")
            .header("cookie-note", "1");
        let seen = arrives(bench, ask, Version::H1).await;
        assert_eq!(
            seen.folded("sallyport-user-email"),
            ["ada@example.test"],
            "{named}"
        );
        assert_eq!(
            seen.folded("ngrok-auth-user-email"),
            ["ada@example.test"],
            "{named}"
        );
        assert_eq!(seen.folded("sallyport-assertion").len(), 1, "{named}");
        assert_eq!(seen.folded("x-forwarded-for"), ["127.0.0.1"], "{named}");
        assert_eq!(seen.folded("host").len(), 1, "{named}");
    }
    let seen = arrives(
        bench,
        bench
            .signed("/headers")
            .header("connection", "x-gone")
            .header("x-gone", "1"),
        Version::H1,
    )
    .await;
    assert_eq!(
        seen.header("x-gone"),
        None,
        "what is really hop-by-hop goes"
    );
    let before = bench.world.upstream.count();
    match bench
        .signed("/headers")
        .header("connection", "sallyport-user-email")
        .open(&bench.world.net, Version::H2)
        .await
    {
        Err(_) => assert_eq!(bench.world.upstream.count(), before),
        Ok(reply) if reply.status() == 200 => {
            assert_eq!(
                bench
                    .world
                    .upstream
                    .seen()
                    .pop()
                    .unwrap()
                    .folded("sallyport-user-email"),
                ["ada@example.test"]
            );
        }
        Ok(reply) => assert_eq!(reply.status(), 400),
    }
}

async fn a07_rfc_7239(bench: &Bench) {
    for version in Version::BOTH {
        let seen = arrives(
            bench,
            bench
                .signed("/headers")
                .header("Forwarded", "for=10.0.0.1;host=admin;proto=http"),
            version,
        )
        .await;
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        assert!(
            !head.contains("10.0.0.1") && !head.contains("host=admin"),
            "{head}"
        );
    }
    bench
        .assert_anonymous(
            bench
                .ask("app", "/")
                .header("Forwarded", "for=127.0.0.1;host=open"),
            "Forwarded",
        )
        .await;
}

async fn a08_source_address_spoof(bench: &Bench) {
    for name in [
        "X-Forwarded-For",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Cluster-Client-IP",
    ] {
        for version in Version::BOTH {
            let seen = arrives(
                bench,
                bench.signed("/headers").header(name, "203.0.113.77"),
                version,
            )
            .await;
            assert_eq!(seen.folded("x-forwarded-for"), ["127.0.0.1"], "{name}");
        }
    }
    // What a session remembers of its address is the socket's peer.
    let sessions = bench.world.api.sessions().await;
    assert!(
        sessions
            .iter()
            .all(|session| session["browser_session"]["ip_address"] == "127.0.0.1"),
        "{sessions:#?}"
    );
}

async fn a09_early_data(bench: &Bench) {
    // The client asks for early data and has a ticket; the edge never grants any.
    let host = bench.world.net.host("open");
    for _ in 0..3 {
        let mut connection = tests::http1::Connection::open(&bench.world.net, &host)
            .await
            .unwrap();
        connection.send(&bench.ask("open", "/x")).await.unwrap();
        let mut response = connection.response("GET").await.unwrap();
        while response.chunk().await.unwrap().is_some() {}
        let tests::http1::Io::Tls(mut io) = response.connection.io else {
            panic!("TLS")
        };
        let (_, session) = io.get_mut();
        assert!(!session.is_early_data_accepted());
    }
    let mut io = bench.world.net.connect_h1(&host).await.unwrap();
    let (_, session) = io.get_mut();
    assert!(
        session.early_data().is_none(),
        "the edge's tickets promise early data"
    );
}

async fn a10_identity_header_on_a_public_path(bench: &Bench) {
    for version in Version::BOTH {
        for method in ["GET", "OPTIONS", "POST", "HEAD"] {
            let mut ask = bench.ask("open", "/headers").method(method);
            for name in IDENTITY {
                ask = ask
                    .header(name, "admin@x")
                    .header(&name.replace('-', "_"), "admin@x");
            }
            let seen = arrives(bench, ask, version).await;
            for name in IDENTITY {
                assert!(
                    seen.folded(name).is_empty(),
                    "{method} {name} over {version:?}"
                );
            }
        }
    }
    bench.assert_anonymous_method("OPTIONS").await;
}

async fn a11_forged_assertion(bench: &Bench) {
    let forged = jwt::unsigned(&json!({ "sub": "admin", "email": "admin@x" }));
    for version in Version::BOTH {
        let seen = arrives(
            bench,
            bench
                .signed("/headers")
                .header("Sallyport-Assertion", &forged),
            version,
        )
        .await;
        let ours = seen.folded("sallyport-assertion");
        assert_eq!(ours.len(), 1);
        assert_ne!(ours[0], forged);
        let jwks = bench
            .send(bench.ask("app", "/.sallyport/jwks.json"), version)
            .await
            .json();
        assert!(jwt::is_signed_by(ours[0], &jwks));
        let (header, claims) = jwt::decode(ours[0]);
        assert!(
            header["kid"].is_string() && !claims["aud"].is_null(),
            "{header} {claims}"
        );
        let seen = arrives(
            bench,
            bench
                .ask("open", "/headers")
                .header("Sallyport-Assertion", &forged),
            version,
        )
        .await;
        assert!(seen.folded("sallyport-assertion").is_empty());
    }
}

async fn a12_our_cookie_leaks_upstream(bench: &Bench) {
    let ours = bench.ada.cookie(&bench.app.url);
    for version in Version::BOTH {
        for (sent, left) in [
            (
                format!("a=1; {ours}; b=\"x y\"; c=é%20"),
                Some("a=1; b=\"x y\"; c=é%20"),
            ),
            (format!("{ours}; a=1"), Some("a=1")),
            (format!("a=1;{ours}"), Some("a=1")),
            (ours.clone(), None),
            (
                format!("a=1; {ours}; __Host-sallyport-login-x=1; sallyport=2"),
                Some("a=1; sallyport=2"),
            ),
        ] {
            let ask = bench.ask("app", "/headers").cookie(&sent);
            let seen = arrives(bench, ask, version).await;
            assert_eq!(seen.header("cookie"), left, "{sent} over {version:?}");
            assert!(
                !String::from_utf8_lossy(&seen.head)
                    .to_ascii_lowercase()
                    .contains("__host-sallyport")
            );
        }
    }
}

impl Bench {
    /// A method that is no page load gets 401, and the upstream does not hear of it.
    async fn assert_anonymous_method(&self, method: &str) {
        for version in Version::BOTH {
            let before = self.world.upstream.count();
            let ask = self
                .ask("app", "/x")
                .method(method)
                .header("origin", "https://elsewhere.test")
                .header("access-control-request-method", "DELETE");
            self.send(ask, version)
                .await
                .assert_refused(401, "SP_2001", method);
            self.send(self.ask("app", "/x").method(method), version)
                .await
                .assert_refused(401, "SP_2001", method);
            assert_eq!(self.world.upstream.count(), before);
        }
    }
}
