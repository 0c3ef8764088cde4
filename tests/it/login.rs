//! Who gets in, who does not, and what the app is told about those who do.

use serde_json::json;
use tests::http::{Ask, HTML, Version, assert_keys};
use tests::jwt;
use tests::user::{SESSION_COOKIE, SIGN_IN_AGAIN};
use tests::wait;
use tests::world::World;
use tests::{form, http2};
use url::Url;

/// The whole way: endpoint, auth host, provider, auth host, endpoint; every redirect is kept out of caches
/// and referrers, the session's cookie has the attributes that keep it on its host, and the first target
/// is reached.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_way() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut ada = world.user("ada");
    let target = format!("{}/headers?first=target&x=%2F", agent.url);
    let page = ada.visit(&target).await;
    assert_eq!(
        page.url.as_str(),
        target,
        "the first target is reached: {:#?}",
        ada.trail
    );
    assert_eq!(page.reply.status, 200);
    assert_eq!(ada.forms_sent, 1);
    let hosts: Vec<_> = ada
        .trail
        .iter()
        .map(|url| Url::parse(url).unwrap().host_str().unwrap().to_owned())
        .collect();
    assert_eq!(hosts.first().unwrap(), &world.net.host("app"));
    assert!(hosts.contains(&world.net.host("auth")));

    let cookie = ada
        .jar
        .of(&world.net.host("app"))
        .into_iter()
        .find(|cookie| cookie.name == SESSION_COOKIE)
        .unwrap();
    let attributes: Vec<_> = cookie
        .raw
        .split(';')
        .skip(1)
        .map(|part| part.trim().to_ascii_lowercase())
        .collect();
    for wanted in ["secure", "httponly", "samesite=lax", "path=/"] {
        assert!(
            attributes.iter().any(|attribute| attribute == wanted),
            "{wanted}: {}",
            cookie.raw
        );
    }
    assert!(
        !attributes
            .iter()
            .any(|attribute| attribute.starts_with("domain")),
        "{}",
        cookie.raw
    );
    assert!(cookie.raw.len() < 4096);
    // The bindings of this login are gone from both hosts.
    for host in ["app", "auth"] {
        let left: Vec<_> = ada
            .jar
            .of(&world.net.host(host))
            .into_iter()
            .filter(|cookie| cookie.name != SESSION_COOKIE)
            .collect();
        assert!(left.is_empty(), "{host}: {left:?}");
    }

    let mut fresh = world.user("lin");
    let mut url = agent.url.clone();
    for _ in 0..4 {
        let page = fresh.walk_until(&url, |_| true).await;
        let Some(location) = page.reply.header("location").map(str::to_owned) else {
            break;
        };
        if !url.starts_with("http://") {
            assert_eq!(page.reply.status, 303, "{url}");
            assert!(
                page.reply
                    .header("cache-control")
                    .is_some_and(|value| value.contains("no-store")),
                "{url}"
            );
            assert_eq!(
                page.reply.header("referrer-policy"),
                Some("no-referrer"),
                "{url}"
            );
        }
        url = location;
    }
}

/// Only page loads by GET and HEAD are sent to log in; all else gets 401 with a code and the login URL.
#[tokio::test(flavor = "multi_thread")]
async fn only_page_loads_are_redirected() {
    let world = World::with_login().await;
    let _agent = world.login_agent("app").await;
    for version in Version::BOTH {
        for method in ["GET", "HEAD"] {
            let reply = Ask::get(&world.net, "app", "/x")
                .method(method)
                .navigation()
                .send(&world.net, version)
                .await;
            assert_eq!(reply.status, 303, "{method}: {}", reply.text());
            assert!(
                reply
                    .header("location")
                    .unwrap()
                    .starts_with(&format!("{}/login?", world.net.url("auth")))
            );
        }
        let asks = [
            Ask::get(&world.net, "app", "/x")
                .method("POST")
                .navigation()
                .body("a=1"),
            Ask::get(&world.net, "app", "/x").method("PUT").body("x"),
            Ask::get(&world.net, "app", "/x").method("OPTIONS"),
            Ask::get(&world.net, "app", "/x"),
            Ask::get(&world.net, "app", "/x").header("accept", "application/json"),
            Ask::get(&world.net, "app", "/x")
                .header("accept", HTML)
                .header("sec-fetch-mode", "cors")
                .header("sec-fetch-site", "same-origin"),
        ];
        for ask in asks {
            let what = format!("{ask:?}");
            let reply = ask.send(&world.net, version).await;
            reply.assert_refused(401, "SP_2001", &what);
            if reply
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("application/json"))
            {
                let url = reply.json()["login_url"].as_str().unwrap().to_owned();
                assert!(
                    url.starts_with(&format!("{}/.sallyport/login", world.net.url("app"))),
                    "{url}"
                );
            }
            assert_eq!(reply.header("set-cookie"), None, "{what}");
        }
    }
    assert_eq!(world.upstream.count(), 0, "the app was not asked");
}

/// Allow rules by address and by domain, for verified addresses only.
#[tokio::test(flavor = "multi_thread")]
async fn allow_rules() {
    let world = World::with_login().await;
    let by_domain = world
        .agent(
            "domain",
            &["--oauth=dev", "--oauth-allow-domain=example.test"],
        )
        .await;
    let by_email = world
        .agent(
            "email",
            &[
                "--oauth=dev",
                "--oauth-allow-email",
                "ADA@example.test,someone@else.test",
            ],
        )
        .await;
    for endpoint in [&by_domain, &by_email] {
        world.signed_in("ada", &endpoint.url).await;
        for (name, code) in [("lin", "SP_2004"), ("mal", "SP_2005")] {
            let mut person = world.user(name);
            let page = person.visit(&endpoint.url).await;
            page.reply
                .assert_refused(403, code, &format!("{name} at {}", endpoint.label));
            assert!(person.session(&endpoint.url).is_none());
        }
    }
    let by_unverified = world
        .agent(
            "mal",
            &["--oauth=dev", "--oauth-allow-email=mal@example.test"],
        )
        .await;
    world
        .user("mal")
        .visit(&by_unverified.url)
        .await
        .reply
        .assert_refused(403, "SP_2005", "an unverified address");
    // Nobody but ada became an App User.
    let users = world.api.users().await;
    assert!(
        users.iter().all(|user| user["email"] == "ada@example.test"),
        "{users:#?}"
    );
    assert_eq!(
        world
            .upstream
            .seen()
            .iter()
            .filter(|seen| seen.header("sallyport-user-email") != Some("ada@example.test"))
            .count(),
        0
    );
}

/// Without an allow rule everyone whom the provider knows gets in, also with an unverified address.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_rule() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    for name in ["ada", "lin", "mal"] {
        world.signed_in(name, &agent.url).await;
    }
    assert_eq!(world.api.users().await.len(), 3);
}

/// The app is told who it is, by header and by a signed assertion that its keys prove; no cookie of ours
/// reaches it, and the others do, byte for byte, joined where HTTP/2 sent crumbs.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_told_who_it_is() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let user = world.api.user("ada@example.test").await;
    for version in Version::BOTH {
        let cookie = format!("theme=dark; {}; x=\"a  b\"", ada.cookie(&agent.url));
        Ask::get(&world.net, "app", "/headers")
            .cookie(&cookie)
            .send(&world.net, version)
            .await;
        let seen = world.upstream.seen().pop().unwrap();
        for prefix in ["sallyport-user", "ngrok-auth-user"] {
            assert_eq!(
                seen.folded(&format!("{prefix}-email")),
                ["ada@example.test"]
            );
            assert_eq!(seen.folded(&format!("{prefix}-id")).len(), 1);
            assert_eq!(seen.folded(&format!("{prefix}-name")).len(), 1);
        }
        assert_eq!(
            seen.folded("sallyport-user-id"),
            [user["id"].as_str().unwrap()]
        );
        assert_eq!(
            seen.header("cookie"),
            Some("theme=dark; x=\"a  b\""),
            "{version:?}"
        );
        assert!(!String::from_utf8_lossy(&seen.head).contains(SESSION_COOKIE));

        let assertion = seen.folded("sallyport-assertion");
        assert_eq!(assertion.len(), 1);
        let jwks = Ask::get(&world.net, "app", "/.sallyport/jwks.json")
            .send(&world.net, version)
            .await
            .json();
        assert!(
            jwt::is_signed_by(assertion[0], &jwks),
            "{} by {jwks}",
            assertion[0]
        );
        for key in jwks["keys"].as_array().unwrap() {
            assert!(key["d"].is_null(), "a private key is published");
        }
        let (header, claims) = jwt::decode(assertion[0]);
        assert!(header["kid"].is_string());
        assert_eq!(claims["email"], "ada@example.test");
        assert_eq!(claims["sub"], user["id"]);
        assert!(
            claims["aud"].to_string().contains(&world.net.host("app")),
            "{claims}"
        );
        assert!(
            claims["exp"].as_i64().unwrap() > claims["iat"].as_i64().unwrap(),
            "{claims}"
        );
    }
    // Crumbs, as browsers send them over HTTP/2.
    let connection = http2::Connection::open(&world.net, &world.net.host("app"), None)
        .await
        .unwrap();
    let ask = Ask::get(&world.net, "app", "/headers")
        .cookie("a=1")
        .cookie(&ada.cookie(&agent.url))
        .cookie("b=2");
    assert_eq!(connection.request(&ask).await.unwrap().status, 200);
    assert_eq!(
        world.upstream.seen().pop().unwrap().header("cookie"),
        Some("a=1; b=2")
    );
}

/// Ten fresh tabs begin a login at once and finish in any order: all of them arrive.
#[tokio::test(flavor = "multi_thread")]
async fn ten_parallel_tabs() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut browser = world.user("ada");
    // Each tab goes as far as the provider before any other goes on.
    let mut tabs = Vec::new();
    let issuer = Url::parse(&world.dev.as_ref().unwrap().issuer).unwrap();
    for tab in 0..10 {
        let page = browser
            .walk_until(&format!("{}/tab/{tab}", agent.url), |url| {
                url.origin() == issuer.origin()
            })
            .await;
        tabs.push(page.url);
    }
    for tab in [3, 9, 0, 7, 1, 8, 2, 6, 4, 5] {
        let page = browser.visit(tabs[tab].as_str()).await;
        assert_eq!(
            (page.reply.status, page.url.path()),
            (200, format!("/tab/{tab}").as_str()),
            "{}",
            page.reply.text()
        );
    }
    assert_eq!(world.api.users().await.len(), 1);
}

/// Log-out shows a button on GET, ends the session on POST, everywhere it is open; the next login is
/// interactive although the provider would still know the person.
#[tokio::test(flavor = "multi_thread")]
async fn logging_out() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    let logout = format!("{}/.sallyport/logout", agent.url);
    let page = ada.open(&logout).await;
    assert_eq!(page.reply.status, 200);
    let button = form::Form::all(&page.reply.text())
        .into_iter()
        .next()
        .expect("a button");
    assert_eq!(button.method, "POST");
    assert_eq!(
        ada.fetch("GET", &agent.url).await.status,
        200,
        "looking at the button ends nothing"
    );

    let mut open = ada
        .stream(Version::H1, &format!("{}/events", agent.url))
        .await
        .unwrap();
    assert_eq!(open.status(), 200);
    let old = ada.cookie(&agent.url);
    assert_eq!(ada.fetch("POST", &logout).await.status, 200);
    assert!(ada.session(&agent.url).is_none(), "the cookie is cleared");
    let end = wait::within("the end of the stream", async {
        loop {
            if let Err(fault) = open.chunk().await {
                break fault;
            }
        }
    })
    .await;
    assert_eq!(end, tests::http::Fault::Reset);
    Ask::get(&world.net, "app", "/")
        .cookie(&old)
        .send(&world.net, Version::H2)
        .await
        .assert_refused(401, "SP_2002", "the old cookie");
    assert!(world.api.sessions().await.is_empty());

    // Nothing is silent now: the button first, then the provider's form, though its own session lives.
    ada.forms_sent = 0;
    let page = ada.open(&agent.url).await;
    assert!(
        form::link(&page.reply.text(), SIGN_IN_AGAIN).is_some(),
        "{} {}",
        page.reply.status,
        page.reply.text()
    );
    ada.sign_in(&agent.url).await;
    assert_eq!(
        (ada.forms_sent, ada.buttons_pressed),
        (1, 1),
        "{:#?}",
        ada.trail
    );
}

/// A second endpoint logs in again, silently where the provider still knows the person, with a session of
/// its own.
#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_has_its_session() {
    let world = World::with_login().await;
    let first = world.login_agent("one").await;
    let second = world.login_agent("two").await;
    let mut ada = world.signed_in("ada", &first.url).await;
    assert_eq!(ada.forms_sent, 1);
    ada.sign_in(&second.url).await;
    assert_eq!(ada.forms_sent, 1, "the second login was silent");
    let sessions = world.api.sessions().await;
    assert_eq!(sessions.len(), 2);
    assert_ne!(sessions[0]["public_url"], sessions[1]["public_url"]);
    assert_eq!(
        sessions[0]["application_user"]["id"],
        sessions[1]["application_user"]["id"]
    );
    // One endpoint's cookie is nothing at the other.
    let reply = Ask::get(&world.net, "two", "/")
        .cookie(&ada.cookie(&first.url))
        .send(&world.net, Version::H1)
        .await;
    reply.assert_refused(401, "SP_2001", "another endpoint's cookie");
}

/// After a revoke the next login is interactive, in the same browser and in another.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_revoke_the_login_is_interactive() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    let user = world.api.user("ada@example.test").await;
    world
        .api
        .revoke(&format!("/app/users/{}", user["id"].as_str().unwrap()))
        .await;
    ada.forms_sent = 0;
    ada.sign_in(&agent.url).await;
    assert_eq!(
        (ada.forms_sent, ada.buttons_pressed),
        (1, 1),
        "{:#?}",
        ada.trail
    );
    // The browser that lost its cookie is asked all the same.
    let session = world.api.newest_session_of("ada@example.test").await;
    world
        .api
        .revoke(&format!(
            "/app/sessions/{}",
            session["id"].as_str().unwrap()
        ))
        .await;
    ada.jar.clear(&world.net.host("app"));
    (ada.forms_sent, ada.buttons_pressed) = (0, 0);
    ada.sign_in(&agent.url).await;
    assert_eq!(
        (ada.forms_sent, ada.buttons_pressed),
        (1, 1),
        "{:#?}",
        ada.trail
    );
}

/// A session ends at its absolute end, whatever it did, and what it has open is cut.
#[tokio::test(flavor = "multi_thread")]
async fn the_absolute_end() {
    let world = World::builder()
        .provider()
        .config("session_life: 5s\nsession_idle: off\n")
        .start()
        .await;
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    let mut open = ada
        .stream(Version::H2, &format!("{}/events", agent.url))
        .await
        .unwrap();
    assert_eq!(open.status(), 200);
    let end = wait::within("the end of the stream", async {
        loop {
            if let Err(fault) = open.chunk().await {
                break fault;
            }
        }
    })
    .await;
    assert_eq!(end, tests::http::Fault::Reset);
    let reply = ada.fetch("GET", &agent.url).await;
    assert_eq!(reply.status, 401, "{}", reply.text());
    // Nobody was thrown out: the next login may be silent.
    (ada.forms_sent, ada.buttons_pressed) = (0, 0);
    ada.sign_in(&agent.url).await;
    assert_eq!(
        (ada.forms_sent, ada.buttons_pressed),
        (0, 0),
        "{:#?}",
        ada.trail
    );
}

/// A session that nobody uses ends at its idle limit; one that is used does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_idle_limit() {
    let world = World::builder()
        .provider()
        .config("session_life: 1h\nsession_idle: 3s\n")
        .start()
        .await;
    let agent = world.login_agent("app").await;
    let busy = world.signed_in("ada", &agent.url).await;
    let idle = world.signed_in("lin", &agent.url).await;
    let begun = std::time::Instant::now();
    // The busy one is used until the idle one is over; looking at `/.sallyport/session` is no use of it.
    wait::until("the idle session is over", || async {
        let reply = Ask::get(&world.net, "app", "/x")
            .cookie(&busy.cookie(&agent.url))
            .send(&world.net, Version::H1)
            .await;
        assert_eq!(
            reply.status,
            200,
            "the busy session ended: {}",
            reply.text()
        );
        let reply = Ask::get(&world.net, "app", "/.sallyport/session")
            .cookie(&idle.cookie(&agent.url))
            .send(&world.net, Version::H1)
            .await;
        (reply.status == 401).then_some(())
    })
    .await;
    assert!(begun.elapsed().as_secs() >= 2, "it ended too early");
}

/// `/.sallyport/session` says who is signed in, and nothing secret.
#[tokio::test(flavor = "multi_thread")]
async fn who_am_i() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    let reply = ada
        .fetch("GET", &format!("{}/.sallyport/session", agent.url))
        .await;
    assert_eq!(reply.status, 200);
    let who = reply.json();
    assert_keys(&who, &["user", "session", "provider", "endpoint"]);
    assert_eq!(
        (&who["user"]["email"], &who["provider"], &who["endpoint"]),
        (&json!("ada@example.test"), &json!("dev"), &json!(agent.url))
    );
    assert!(
        reply
            .header("cache-control")
            .is_some_and(|value| value.contains("no-store"))
    );
}

/// Requests of sibling endpoints and other sites do not count as signed in where they could do harm.
#[tokio::test(flavor = "multi_thread")]
async fn other_sites_are_not_signed_in() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let ada = world.signed_in("ada", &agent.url).await;
    let cookie = ada.cookie(&agent.url);
    world.upstream.clear();
    for version in Version::BOTH {
        for site in ["cross-site", "same-site"] {
            let reply = Ask::get(&world.net, "app", "/x")
                .method("POST")
                .cookie(&cookie)
                .header("sec-fetch-site", site)
                .body("x")
                .send(&world.net, version)
                .await;
            reply.assert_refused(401, "SP_2018", site);
        }
        let reply = Ask::get(&world.net, "app", "/x")
            .method("POST")
            .cookie(&cookie)
            .header("origin", "https://evil.test")
            .body("x")
            .send(&world.net, version)
            .await;
        reply.assert_refused(401, "SP_2018", "another origin");
        // Its own page, also where the page hides its origin; and a link from elsewhere.
        for (name, value) in [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("origin", agent.url.as_str()),
        ] {
            let reply = Ask::get(&world.net, "app", "/x")
                .method("POST")
                .cookie(&cookie)
                .header(name, value)
                .body("x")
                .send(&world.net, version)
                .await;
            assert_eq!(reply.status, 200, "{name}: {value}");
        }
        let reply = Ask::get(&world.net, "app", "/x")
            .cookie(&cookie)
            .header("accept", HTML)
            .header("sec-fetch-site", "cross-site")
            .header("sec-fetch-mode", "navigate")
            .send(&world.net, version)
            .await;
        assert_eq!(reply.status, 200, "a link from elsewhere");
    }
    let from_sibling = tests::websocket::WebSocket::open_with(
        &world.net,
        "app",
        "/ws",
        &[
            ("cookie", &cookie),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.test"),
        ],
    )
    .await;
    assert_eq!(from_sibling.err(), Some(401), "an upgrade from a sibling");
}

/// An endpoint whose rule became stricter cuts those whom it does not let in any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_rule_cuts() {
    let world = World::with_login().await;
    let mut agent = world.login_agent("app").await;
    let lin = world.signed_in("lin", &agent.url).await;
    agent.process.terminate().await;
    let stricter = world
        .agent_with_home_of(
            &agent,
            &["--oauth=dev", "--oauth-allow-domain=example.test"],
        )
        .await;
    let reply = Ask::get(&world.net, "app", "/")
        .cookie(&lin.cookie(&stricter.url))
        .send(&world.net, Version::H1)
        .await;
    reply.assert_refused(403, "SP_2004", "lin under the stricter rule");
}
