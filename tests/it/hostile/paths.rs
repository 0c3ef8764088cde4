//! B01 to B08: one path and one host for every decision and for the upstream.

use tests::http::{Ask, Version};
use tests::http1::Connection;
use tests::http2;

use super::{Bench, Case, cases};

pub(super) const CASES: &[Case] = cases![
    b01_query_satisfies_a_path_rule,
    b02_dot_segments,
    b03_encoded_slash_and_backslash,
    b04_absolute_form_target,
    b05_host_variants,
    b06_sni_and_authority_differ,
    b07_method_override,
    b08_trailing_slash_and_case,
];

async fn b01_query_satisfies_a_path_rule(bench: &Bench) {
    for target in [
        "/api/private?x=/status",
        "/admin?/.sallyport/login",
        "/admin?x=/../.sallyport/jwks.json",
        "/x?next=/healthz",
    ] {
        bench
            .assert_anonymous(bench.ask("app", target), target)
            .await;
    }
    // A path that only looks like one of ours is the app's.
    for target in ["/.sallyportx", "/x/.sallyport/login", "/.sallyport%2flogin"] {
        bench
            .assert_anonymous(bench.ask("app", target), target)
            .await;
    }
}

async fn b02_dot_segments(bench: &Bench) {
    for target in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/public/..;/admin",
        "/..",
        "/./admin",
        "/public/..;x=1/admin",
        "/%2e/admin",
        "/.sallyport/../admin",
        "/admin/..",
    ] {
        for version in Version::BOTH {
            let before = bench.world.upstream.count();
            let reply = match bench.signed(target).open(&bench.world.net, version).await {
                Ok(reply) => reply.whole().await,
                Err(fault) => panic!("{target} over {version:?}: {fault:?}"),
            };
            reply.assert_refused(400, "SP_1003", &format!("{target} over {version:?}"));
            assert_eq!(bench.world.upstream.count(), before, "{target}");
        }
    }
    for target in ["/...", "/a..b", "/.well-known/x", "/..a", "/a?x=../y"] {
        for version in Version::BOTH {
            assert_eq!(
                bench.send(bench.signed(target), version).await.status,
                200,
                "{target}"
            );
            assert_eq!(
                bench.world.upstream.seen().pop().unwrap().target,
                target,
                "byte for byte"
            );
        }
    }
}

async fn b03_encoded_slash_and_backslash(bench: &Bench) {
    for target in [
        "/public%2fadmin",
        "/public%2Fadmin",
        "/a%5cb",
        "/a%255cb",
        "/a%00b",
        "//admin",
        "/a//b",
    ] {
        for version in Version::BOTH {
            bench.world.upstream.clear();
            let reply = bench.send(bench.signed(target), version).await;
            let seen = bench.world.upstream.seen();
            // Served as it was sent, or refused: never served as something else.
            match reply.status {
                200 => assert_eq!(seen[0].target, target, "{version:?}"),
                400 => assert!(seen.is_empty() && reply.code() == "SP_1003", "{target}"),
                other => panic!("{target} over {version:?}: {other}"),
            }
        }
    }
    let before = bench.world.upstream.count();
    for target in ["/a\\b", "/public\\..\\admin", "\\admin"] {
        let mut connection = Connection::open(&bench.world.net, &bench.world.net.host("app"))
            .await
            .unwrap();
        connection.send(&bench.signed(target)).await.unwrap();
        if let Ok(response) = connection.response("GET").await {
            assert_eq!(response.status, 400, "{target}");
        }
    }
    assert_eq!(bench.world.upstream.count(), before);
}

async fn b04_absolute_form_target(bench: &Bench) {
    let (app, open) = (bench.ask("app", "/x"), bench.ask("open", "/x"));
    let send = async |target: &str, host: &str| {
        let mut ask = bench.signed(target).authority(host);
        ask.sni = app.sni.clone();
        bench.send(ask, Version::H1).await
    };
    let before = bench.world.upstream.count();
    for (target, host) in [
        (
            format!("http://{}/x", open.authority),
            app.authority.clone(),
        ),
        (
            format!("https://{}/x", open.authority),
            app.authority.clone(),
        ),
        ("http://b.example/x".to_owned(), app.authority.clone()),
        (
            format!("https://{}/x", app.authority),
            open.authority.clone(),
        ),
    ] {
        send(&target, &host)
            .await
            .assert_refused(400, "SP_1004", &target);
    }
    send(
        &format!("https://{}@evil.test/x", app.authority),
        &app.authority,
    )
    .await
    .assert_refused(400, "SP_1003", "userinfo");
    assert_eq!(bench.world.upstream.count(), before);
    let reply = send(&format!("https://{}/x?y", app.authority), &app.authority).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        bench.world.upstream.seen().pop().unwrap().target,
        "/x?y",
        "the upstream gets origin form"
    );
    // Over HTTP/2: two authorities.
    let connection = http2::Connection::open(&bench.world.net, &app.sni, None)
        .await
        .unwrap();
    let before = bench.world.upstream.count();
    match connection
        .request(&bench.signed("/x").header("host", &open.authority))
        .await
    {
        Ok(reply) => assert_eq!(reply.status, 400),
        Err(fault) => assert_eq!(fault, tests::http::Fault::Reset),
    }
    assert_eq!(bench.world.upstream.count(), before);
}

async fn b05_host_variants(bench: &Bench) {
    let net = &bench.world.net;
    let host = net.host("app");
    let port = net.addr.port();
    for variant in [
        format!("{}:{port}", host.to_ascii_uppercase()),
        format!("{host}.:{port}"),
        format!("{}.:{port}", host.to_ascii_uppercase()),
        host.clone(),
        format!("{host}."),
    ] {
        for version in Version::BOTH {
            let reply = bench
                .send(bench.signed("/x").authority(&variant), version)
                .await;
            assert_eq!(
                reply.status,
                200,
                "{variant} over {version:?}: {}",
                reply.text()
            );
        }
    }
    for version in Version::BOTH {
        for unknown in ["nobody", "xapp", "app-x"] {
            let host = format!("{unknown}.{}", net.domain);
            Ask::get(net, &host, "/")
                .send(net, version)
                .await
                .assert_refused(404, "SP_1001", unknown);
        }
    }
    let before = bench.world.upstream.count();
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.test\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}, evil.test\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: user@{host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}/x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}:x\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: [::1]:443\r\n\r\n".to_owned(),
    ] {
        let mut connection = Connection::open(net, &host).await.unwrap();
        connection.write(bytes.as_bytes()).await.unwrap();
        let status = connection
            .response("GET")
            .await
            .map(|response| response.status);
        assert!(matches!(status, Ok(400 | 421)), "{bytes:?}: {status:?}");
    }
    assert_eq!(bench.world.upstream.count(), before);
}

async fn b06_sni_and_authority_differ(bench: &Bench) {
    let before = bench.world.upstream.count();
    for version in Version::BOTH {
        let other = bench.ask("app", "/x").authority;
        let mut ask = bench.signed("/x").authority(&other);
        ask.sni = bench.world.net.host("open");
        bench.send(ask, version).await.assert_refused(
            421,
            "SP_1005",
            "another endpoint's connection",
        );
        for reserved in ["api", "auth", "dashboard"] {
            let mut ask = bench.ask(reserved, "/");
            ask.sni = bench.world.net.host("open");
            bench
                .send(ask, version)
                .await
                .assert_refused(421, "SP_1005", reserved);
        }
    }
    assert_eq!(bench.world.upstream.count(), before);
}

async fn b07_method_override(bench: &Bench) {
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X_HTTP_Method_Override",
    ] {
        for version in Version::BOTH {
            let reply = bench
                .send(
                    bench
                        .ask("open", "/x")
                        .method("POST")
                        .header(name, "DELETE")
                        .body("x"),
                    version,
                )
                .await;
            assert_eq!(reply.status, 200);
            let seen = bench.world.upstream.seen().pop().unwrap();
            assert_eq!(seen.method, "POST");
            assert!(
                !String::from_utf8_lossy(&seen.head).contains("DELETE"),
                "{name}"
            );
        }
    }
}

/// The edge's own paths match byte for byte, and every other path is the app's, behind its login.
async fn b08_trailing_slash_and_case(bench: &Bench) {
    for target in [
        "/Admin",
        "/admin/",
        "/ADMIN//",
        "/.Sallyport/login",
        "/.sallyport/login/",
        "/.sallyport/LOGIN",
        "/.sallyport/login;x",
        "/.sallyport/login%20",
        "/.sallyport%2Flogin",
        "/%2Esallyport/login",
        "//.sallyport/login",
        "/.sallyport/jwks.json/",
        "/.sallyport/jwks%2ejson",
    ] {
        let before = bench.world.upstream.count();
        for version in Version::BOTH {
            let reply = bench.send(bench.ask("app", target), version).await;
            // Under our prefix it is nobody's; elsewhere it is the app's.
            match reply.status {
                404 => assert_eq!(reply.code(), "SP_1012", "{target}"),
                _ => reply.assert_refused(401, "SP_2001", target),
            }
            assert_eq!(reply.header("set-cookie"), None, "{target}");
        }
        assert_eq!(bench.world.upstream.count(), before, "{target}");
        let reply = bench.send(bench.signed(target), Version::H1).await;
        if reply.status == 404 {
            assert_eq!(reply.code(), "SP_1012", "{target}");
        } else {
            assert_eq!(reply.status, 200, "{target}");
            let seen = bench.world.upstream.seen().pop().unwrap();
            assert_eq!(seen.target, target, "byte for byte");
        }
    }
}
