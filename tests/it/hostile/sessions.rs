//! Group E as far as one edge goes: cookies, ids and streams.

use std::time::Instant;

use serde_json::json;
use tests::clock;
use tests::http::{Ask, Fault, Version};
use tests::http1::Connection;
use tests::traffic::{self, Answer, Kind, Session, Stream};
use tests::user::SESSION_COOKIE;

use super::{Bench, Case, cases};

pub(super) const CASES: &[Case] = cases![
    e01_fixation,
    e02_broken_cookie,
    e03_chunk_counter,
    e04_two_session_cookies,
    e05_subdomain_tossing,
    e06_forged_id_flood,
    e07_revoke_against_write_back,
    e10_revoke_with_open_streams,
    e11_the_id_alone,
    e12_forged_sign_out,
    e15_empty_post,
    e16_token_leak_to_the_page,
    e17_credential_type_confusion,
    e18_debug_endpoints,
    e20_counter_split_by_alias,
];

async fn e01_fixation(bench: &Bench) {
    let world = &bench.world;
    // The victim's browser is loaded with the attacker's cookie, and then logs in.
    let attacker = world.signed_in("mal", &bench.app.url).await;
    let planted = attacker
        .jar
        .value(&world.net.host("app"), SESSION_COOKIE)
        .unwrap();
    let mut victim = world.user("lin");
    victim
        .jar
        .set(&world.net.host("app"), SESSION_COOKIE, &planted);
    // Being signed in as the attacker is what the planted cookie does; a login of one's own replaces it.
    let page = victim
        .visit(&format!(
            "{}/.sallyport/login?again=1&return_to=/x",
            bench.app.url
        ))
        .await;
    assert_eq!(
        (page.reply.status, page.url.path()),
        (200, "/x"),
        "{}",
        page.reply.text()
    );
    let fresh = victim
        .jar
        .value(&world.net.host("app"), SESSION_COOKIE)
        .unwrap();
    assert_ne!(fresh, planted);
    let who = victim
        .fetch("GET", &format!("{}/.sallyport/session", bench.app.url))
        .await
        .json();
    assert_eq!(who["user"]["email"], "lin@elsewhere.test");
    // The old id is dead: the attacker gained nothing, and lost what was planted.
    let reply = Ask::get(&world.net, "app", "/x")
        .cookie(&format!("{SESSION_COOKIE}={planted}"))
        .send(&world.net, Version::H1)
        .await;
    assert_eq!(reply.status, 401, "{}", reply.text());
    // Every login has an id of its own.
    let again = world.signed_in("lin", &bench.app.url).await;
    assert_ne!(
        again
            .jar
            .value(&world.net.host("app"), SESSION_COOKIE)
            .unwrap(),
        fresh
    );
}

async fn e02_broken_cookie(bench: &Bench) {
    let good = bench
        .ada
        .jar
        .value(&bench.world.net.host("app"), SESSION_COOKIE)
        .unwrap();
    let mut broken = vec![
        String::new(),
        "x".to_owned(),
        "....".to_owned(),
        "a.b.c.d.e".to_owned(),
        "\u{1F600}".to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("{good}x"),
        format!("{good}."),
        good.to_ascii_uppercase(),
        good.repeat(20),
        format!("%20{good}"),
    ];
    // Every part changed alone: version, key id, id, secret, MAC.
    let parts: Vec<&str> = good.split('.').collect();
    for at in 0..parts.len() {
        let mut changed: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        let first = changed[at].remove(0);
        changed[at].insert(0, if first == 'A' { 'B' } else { 'A' });
        broken.push(changed.join("."));
        let mut missing = parts.clone();
        missing.remove(at);
        broken.push(missing.join("."));
    }
    for value in broken.into_iter().filter(|value| *value != good) {
        bench
            .assert_anonymous(
                bench
                    .ask("app", "/x")
                    .cookie(&format!("{SESSION_COOKIE}={value}")),
                &value,
            )
            .await;
    }
    assert_eq!(
        bench.send(bench.signed("/x"), Version::H1).await.status,
        200
    );
}

async fn e03_chunk_counter(bench: &Bench) {
    for cookie in [
        "__Host-sallyport_chunks=99999999",
        "__Host-sallyport_0=x; __Host-sallyport_1=y",
        "__Host-sallyport-chunks=99999999",
    ] {
        bench
            .assert_anonymous(bench.ask("app", "/x").cookie(cookie), cookie)
            .await;
    }
    let before = bench.world.upstream.count();
    let mut connection = Connection::open(&bench.world.net, &bench.world.net.host("app"))
        .await
        .unwrap();
    let _ = connection
        .send(
            &bench
                .ask("app", "/x")
                .cookie(&format!("a={}", "x".repeat(200_000))),
        )
        .await;
    match connection.response("GET").await {
        Ok(response) => assert_eq!(response.status, 431),
        Err(fault) => assert_eq!(fault, Fault::Reset, "refused while it was being sent"),
    }
    assert_eq!(bench.world.upstream.count(), before);
}

async fn e04_two_session_cookies(bench: &Bench) {
    let good = bench.ada.cookie(&bench.app.url);
    for cookie in [
        format!("{good}; {good}"),
        format!("{good}; {SESSION_COOKIE}=x"),
        format!("{SESSION_COOKIE}=x; {good}"),
        format!("{good}; a=1; {SESSION_COOKIE}="),
    ] {
        bench
            .assert_anonymous(bench.ask("app", "/x").cookie(&cookie), &cookie)
            .await;
    }
    bench
        .assert_anonymous(
            bench.ask("app", "/x").cookie(&good).cookie(&good),
            "in two headers",
        )
        .await;
}

async fn e05_subdomain_tossing(bench: &Bench) {
    let good = bench
        .ada
        .jar
        .value(&bench.world.net.host("app"), SESSION_COOKIE)
        .unwrap();
    for name in [
        "sallyport",
        "__Secure-sallyport",
        "__host-sallyport",
        "__HOST-SALLYPORT",
        "Host-sallyport",
    ] {
        bench
            .assert_anonymous(
                bench.ask("app", "/x").cookie(&format!("{name}={good}")),
                name,
            )
            .await;
    }
    // A tossed twin beside the real one changes nothing.
    let reply = bench
        .send(
            bench.signed("/x").cookie(&format!("sallyport={good}")),
            Version::H2,
        )
        .await;
    assert_eq!(reply.status, 200);
    let cookies = bench.ada.jar.of(&bench.world.net.host("app"));
    assert!(
        cookies
            .iter()
            .all(|cookie| cookie.name.starts_with("__Host-")
                && !cookie.raw.to_ascii_lowercase().contains("domain=")),
        "{cookies:?}"
    );
}

async fn e06_forged_id_flood(bench: &Bench) {
    // Forged ids with the shape of real ones: each is refused in process, and quickly. That none gets as far
    // as the store is the edge's own test of this name.
    let good = bench
        .ada
        .jar
        .value(&bench.world.net.host("app"), SESSION_COOKIE)
        .unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let connection =
        tests::http2::Connection::open(&bench.world.net, &bench.world.net.host("app"), None)
            .await
            .unwrap();
    let begun = Instant::now();
    for batch in 0..20 {
        let replies = futures_util::future::join_all((0..50).map(|at| {
            let mut forged: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            let last = forged.len() - 1;
            forged[last] = format!("{batch:04}{at:04}{}", &forged[last][8..]);
            let ask = bench
                .ask("app", "/x")
                .cookie(&format!("{SESSION_COOKIE}={}", forged.join(".")));
            let connection = connection.clone();
            async move { connection.request(&ask).await.map(|reply| reply.status) }
        }))
        .await;
        assert!(
            replies.iter().all(|status| *status == Ok(401)),
            "{replies:?}"
        );
    }
    assert!(
        begun.elapsed().as_secs() < 20,
        "1,000 forged cookies took {:?}",
        begun.elapsed()
    );
    assert_eq!(bench.world.upstream.count(), 0);
}

async fn e07_revoke_against_write_back(bench: &Bench) {
    // Requests, and with them write-backs of activity, race with the revoke; it stays dead beyond the next
    // flush of activity, and over a restart (see `restart`).
    let world = &bench.world;
    for _ in 0..5 {
        let mut lin = world.signed_in("lin", &bench.app.url).await;
        let who = lin
            .fetch("GET", &format!("{}/.sallyport/session", bench.app.url))
            .await
            .json();
        let id = who["session"]["id"].as_str().unwrap().to_owned();
        let cookie = lin.cookie(&bench.app.url);
        let hits = futures_util::future::join_all((0..20).map(|_| {
            Ask::get(&world.net, "app", "/x")
                .cookie(&cookie)
                .send(&world.net, Version::H1)
        }));
        let path = format!("/app/sessions/{id}");
        let (_, reply) = tokio::join!(hits, world.api.delete(&path));
        assert_eq!(reply.status, 204);
        assert_eq!(world.api.get(&path).await.status, 404);
        let reply = Ask::get(&world.net, "app", "/x")
            .cookie(&cookie)
            .send(&world.net, Version::H2)
            .await;
        reply.assert_refused(401, "SP_2002", "after the race");
    }
}

async fn e10_revoke_with_open_streams(bench: &Bench) {
    let world = &bench.world;
    let lin = world.signed_in("lin", &bench.app.url).await;
    let session = Session {
        net: world.net.clone(),
        label: "app".to_owned(),
        cookie: lin.cookie(&bench.app.url),
    };
    let mut streams: Vec<_> = Kind::ALL
        .into_iter()
        .enumerate()
        .map(|(at, kind)| Stream::begin(kind, &session, &format!("e10-{at}")))
        .collect();
    for stream in &mut streams {
        stream.opened().await;
    }
    let user = world.api.user("lin@elsewhere.test").await;
    let reply = world
        .api
        .delete(&format!("/app/users/{}", user["id"].as_str().unwrap()))
        .await;
    let answer = Answer {
        at_ns: clock::now_ns(),
    };
    assert_eq!(reply.status, 204);
    let sent: Vec<_> = streams.iter().map(Stream::sent).collect();
    let mut wrong = Vec::new();
    for (stream, sent) in streams.into_iter().zip(sent) {
        wrong.extend(traffic::judge(stream, answer, sent, &world.upstream).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn e11_the_id_alone(bench: &Bench) {
    let good = bench
        .ada
        .jar
        .value(&bench.world.net.host("app"), SESSION_COOKIE)
        .unwrap();
    let session = bench
        .world
        .api
        .sessions()
        .await
        .into_iter()
        .find(|session| session["public_url"] == bench.app.url.as_str())
        .unwrap();
    let id = session["id"].as_str().unwrap();
    let bare = id.rsplit('_').next().unwrap();
    for value in [
        id.to_owned(),
        bare.to_owned(),
        format!("1.1.{bare}"),
        format!("1.1.{bare}.."),
    ] {
        bench
            .assert_anonymous(
                bench
                    .ask("app", "/x")
                    .cookie(&format!("{SESSION_COOKIE}={value}")),
                &value,
            )
            .await;
    }
    let log = bench.world.edge.log();
    let secret = good.split('.').max_by_key(|part| part.len()).unwrap();
    assert!(
        !log.contains(&good) && !log.contains(secret),
        "a cookie stands in the log"
    );
}

async fn e12_forged_sign_out(bench: &Bench) {
    let world = &bench.world;
    let sessions = world.api.sessions().await.len();
    let ids: Vec<String> = world
        .api
        .sessions()
        .await
        .iter()
        .map(|session| session["id"].as_str().unwrap().to_owned())
        .collect();
    for cookie in [
        format!("{SESSION_COOKIE}={}", ids.join(",")),
        format!("{SESSION_COOKIE}-sessions={}", ids.join(",")),
        format!("sallyport-logout={}", ids.join(",")),
    ] {
        let reply = Ask::get(&world.net, "app", "/.sallyport/logout")
            .method("POST")
            .cookie(&cookie)
            .header("sec-fetch-site", "same-origin")
            .send(&world.net, Version::H1)
            .await;
        assert!(reply.status < 500, "{}", reply.text());
    }
    // From another site with the real cookie.
    for site in ["cross-site", "same-site"] {
        let reply = bench
            .send(
                bench
                    .signed("/.sallyport/logout")
                    .method("POST")
                    .header("sec-fetch-site", site),
                Version::H1,
            )
            .await;
        reply.assert_refused(401, "SP_2018", site);
    }
    assert_eq!(
        world.api.sessions().await.len(),
        sessions,
        "a session was ended"
    );
    // With one's own cookie: that one session.
    let mut lin = world.signed_in("lin", &bench.app.url).await;
    assert_eq!(world.api.sessions().await.len(), sessions + 1);
    assert_eq!(
        lin.fetch("POST", &format!("{}/.sallyport/logout", bench.app.url))
            .await
            .status,
        200
    );
    assert_eq!(world.api.sessions().await.len(), sessions);
}

async fn e15_empty_post(bench: &Bench) {
    let host = bench.world.net.host("app");
    let mut connection = Connection::open(&bench.world.net, &host).await.unwrap();
    for path in [
        "/x",
        "/.sallyport/login",
        "/.sallyport/callback",
        "/.sallyport/session",
        "/.sallyport/nothing",
        "/.sallyport/logout",
    ] {
        connection
            .send(
                &bench
                    .ask("app", path)
                    .method("POST")
                    .header("content-length", "0"),
            )
            .await
            .unwrap();
        let mut response = connection.response("POST").await.unwrap();
        assert!(
            matches!(response.status, 200 | 401 | 404 | 405),
            "{path}: {}",
            response.status
        );
        while response.chunk().await.unwrap().is_some() {}
        connection = response.connection;
    }
    connection
        .send(&bench.ask("app", "/x").method("POST"))
        .await
        .unwrap();
    assert_eq!(
        connection.response("POST").await.unwrap().status,
        401,
        "the connection is usable"
    );
}

async fn e16_token_leak_to_the_page(bench: &Bench) {
    for version in Version::BOTH {
        for path in [
            "/.sallyport/session",
            "/.sallyport/logout",
            "/.sallyport/jwks.json",
            "/headers",
        ] {
            let reply = bench.send(bench.signed(path), version).await;
            let text = reply.text();
            for word in ["access_token", "refresh_token", "id_token", "client_secret"] {
                assert!(!text.contains(word), "{path}: {word}");
            }
            let cookie = bench.ada.cookie(&bench.app.url);
            assert!(
                !text.contains(cookie.split_once('=').unwrap().1),
                "{path} shows the cookie"
            );
        }
    }
}

async fn e17_credential_type_confusion(bench: &Bench) {
    let world = &bench.world;
    bench.send(bench.signed("/headers"), Version::H1).await;
    let assertion = world
        .upstream
        .seen()
        .pop()
        .unwrap()
        .folded("sallyport-assertion")[0]
        .to_owned();
    let cookie = bench.ada.cookie(&bench.app.url);
    let cookie = cookie.split_once('=').unwrap().1;
    for (token, code) in [
        (world.authtoken.as_str(), "SP_2105"),
        (&assertion, "SP_2104"),
        (cookie, "SP_2104"),
        ("", "SP_2103"),
    ] {
        let reply = Ask::get(&world.net, "api", "/app/users")
            .header("authorization", &format!("Bearer {token}"))
            .header("ngrok-version", "2")
            .send(&world.net, Version::H2)
            .await;
        assert_eq!(reply.status, 401);
        assert_eq!(reply.json()["error_code"], code, "{}", reply.text());
    }
    // The reverse: an API key or an authtoken at an endpoint is nobody.
    for token in [world.api.key.as_str(), &world.authtoken, &assertion] {
        bench
            .assert_anonymous(
                bench
                    .ask("app", "/x")
                    .header("authorization", &format!("Bearer {token}")),
                "a bearer at an endpoint",
            )
            .await;
        bench
            .assert_anonymous(
                bench
                    .ask("app", "/x")
                    .cookie(&format!("{SESSION_COOKIE}={token}")),
                "another secret as a cookie",
            )
            .await;
    }
    // And an operator's cookie is none of an endpoint's.
    bench
        .assert_anonymous(
            bench
                .ask("app", "/x")
                .cookie(&format!("__Host-sallyport-operator={cookie}")),
            "the operator's name",
        )
        .await;
}

async fn e18_debug_endpoints(bench: &Bench) {
    for path in [
        "/metrics",
        "/debug/pprof/",
        "/debug/vars",
        "/healthz",
        "/status",
        "/_status",
        "/.well-known/jwks.json",
    ] {
        bench.assert_anonymous(bench.ask("app", path), path).await;
        for version in Version::BOTH {
            bench.world.upstream.clear();
            assert_eq!(
                bench.send(bench.ask("open", path), version).await.status,
                200
            );
            assert_eq!(
                bench.world.upstream.seen()[0].target,
                path,
                "an ordinary path of the app"
            );
        }
        for host in ["auth", "api", "dashboard"] {
            let status = bench.send(bench.ask(host, path), Version::H1).await.status;
            assert!(matches!(status, 401 | 404), "{host}{path}: {status}");
        }
    }
}

async fn e20_counter_split_by_alias(bench: &Bench) {
    // Operator links are tried under many spellings: one counter per address, whatever is sent.
    let world = &bench.world;
    let mut statuses = Vec::new();
    for at in 0..90 {
        let body = format!("code={}", json!(format!("guess-{at}")).as_str().unwrap());
        let reply = Ask::get(&world.net, "dashboard", "/sign-in")
            .method("POST")
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send(
                &world.net,
                if at % 2 == 0 {
                    Version::H1
                } else {
                    Version::H2
                },
            )
            .await;
        statuses.push(reply.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| matches!(status, 403 | 429)),
        "{statuses:?}"
    );
}
