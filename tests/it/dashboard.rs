//! What operators see, and who else does not: one-time links, the list and its panes, forms that only the
//! dashboard's own pages can send.

use tests::form::Form;
use tests::http::{Ask, Version};
use tests::operator::{Operator, link_code};
use tests::world::World;

/// A sign-in link works once, for whoever posts its code; its cookie stays on the dashboard's host.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_works_once() {
    let world = World::start().await;
    let code = link_code(&world).await;
    // Looking at the page spends nothing.
    let mut operator = Operator::stranger(&world.net);
    assert_eq!(operator.get("/sign-in").await.status, 200);
    assert_eq!(operator.get("/").await.status, 401);
    let reply = operator.spend(&code).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/")));
    let cookie = &operator.jar.of(&world.net.host("dashboard"))[0];
    assert_eq!(cookie.name, "__Host-sallyport-operator");
    let raw = cookie.raw.to_ascii_lowercase();
    for wanted in ["secure", "httponly", "samesite=strict", "path=/"] {
        assert!(raw.contains(wanted), "{wanted}: {raw}");
    }
    assert!(!raw.contains("domain"));
    assert_eq!(operator.get("/").await.status, 200);
    let mut second = Operator::stranger(&world.net);
    let reply = second.spend(&code).await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(second.get("/").await.status, 401);
    for code in ["", "nonsense", &"x".repeat(500)] {
        assert_eq!(second.spend(code).await.status, 403, "{code}");
    }
    // Without script the whole link is pasted.
    let link = world.edge.cli(&["operator", "link", "--json"]).await.json();
    assert_eq!(
        second.spend(link["url"].as_str().unwrap()).await.status,
        303
    );
    assert!(
        !world.edge.log().contains(&code),
        "the code stands in the log"
    );
    // Out again: the cookie is nobody's from then on.
    let cookies = operator.jar.clone();
    let page = operator.get("/").await;
    assert_eq!(operator.submit(&page, "/sign-out").await.status, 303);
    let mut thief = Operator::stranger(&world.net);
    thief.jar = cookies;
    assert_eq!(thief.get("/").await.status, 401);
}

/// List → person → endpoint and its context → trash can → question → gone, with the receipt; without any
/// script.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_list_to_the_receipt() {
    let world = World::with_login().await;
    let mut operator = Operator::sign_in(&world).await;
    let empty = operator.get("/").await;
    assert!(
        empty.text().contains("Nobody is signed in"),
        "{}",
        empty.text()
    );
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    world.signed_in("lin", &agent.url).await;
    let list = operator.get("/").await.text();
    assert!(
        list.contains("ada@example.test") && list.contains("lin@elsewhere.test"),
        "{list}"
    );
    let user = world.api.user("ada@example.test").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let session = world.api.newest_session_of("ada@example.test").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(list.contains(&format!("/users/{user}")));
    let person = operator.get(&format!("/users/{user}")).await.text();
    for wanted in [
        "ada@example.test",
        world.dev.as_ref().unwrap().issuer.as_str(),
        &world.net.host("app"),
        &session,
    ] {
        assert!(person.contains(wanted), "{wanted}: {person}");
    }
    let context = operator
        .get(&format!("/users/{user}/sessions/{session}"))
        .await
        .text();
    for wanted in ["Chrome", "Linux", "Desktop", "127.0.0.1", "AppleWebKit"] {
        assert!(context.contains(wanted), "{wanted}: {context}");
    }
    // One session.
    let action = format!("/users/{user}/sessions/{session}/revoke");
    let question = operator.get(&action).await;
    let done = operator.submit(&question, &action).await;
    assert_eq!(done.status, 303, "{}", done.text());
    let receipt = operator.get(done.header("location").unwrap()).await.text();
    assert!(
        receipt.contains(r#"id="receipt""#) && receipt.contains("1 of 1"),
        "{receipt}"
    );
    assert_eq!(ada.fetch("GET", &agent.url).await.status, 401);
    // The whole person.
    let action = format!("/users/{user}/delete");
    let question = operator.get(&action).await;
    let done = operator.submit(&question, &action).await;
    let list = operator.get(done.header("location").unwrap()).await.text();
    assert!(list.contains(r#"id="receipt""#), "{list}");
    assert!(
        !list.contains("ada@example.test") && list.contains("lin@elsewhere.test"),
        "{list}"
    );
    assert_eq!(operator.get(&format!("/users/{user}")).await.status, 404);
    // And all sessions of somebody who stays.
    let lin = world.api.user("lin@elsewhere.test").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let action = format!("/users/{lin}/end");
    let question = operator.get(&action).await;
    operator.submit(&question, &action).await;
    assert!(
        operator
            .get("/")
            .await
            .text()
            .contains("lin@elsewhere.test")
    );
    assert!(world.api.sessions().await.is_empty());
}

/// Forms count only from the dashboard's own pages and with the sign-in's own token; what else posts them
/// is refused and nothing happens.
#[tokio::test(flavor = "multi_thread")]
async fn forms_cannot_be_forged() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    let mut ada = world.signed_in("ada", &agent.url).await;
    let user = world.api.user("ada@example.test").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut operator = Operator::sign_in(&world).await;
    let mut other = Operator::sign_in(&world).await;
    let action = format!("/users/{user}/delete");
    let good = form(&mut operator, &action).await.encoded();
    let others = form(&mut other, &action).await.encoded();
    let post = |body: &str| {
        Ask::get(&world.net, "dashboard", &action)
            .method("POST")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned())
    };
    let cases = [
        (
            post(&good).header("sec-fetch-site", "same-site"),
            "an endpoint's page",
        ),
        (
            post(&good).header("sec-fetch-site", "cross-site"),
            "another site's page",
        ),
        (
            post(&good).header("sec-fetch-site", "none"),
            "nobody's page",
        ),
        (
            post(&good).header("origin", &agent.url),
            "an endpoint's origin",
        ),
        (post(&good).header("origin", "null"), "a hidden origin"),
        (post(&good), "neither header"),
        (post("").header("sec-fetch-site", "same-origin"), "no token"),
        (
            post("csrf=").header("sec-fetch-site", "same-origin"),
            "an empty token",
        ),
        (
            post(&others).header("sec-fetch-site", "same-origin"),
            "another operator's token",
        ),
        (
            post(&good.replace("csrf=", "csrf=x")).header("sec-fetch-site", "same-origin"),
            "a changed token",
        ),
    ];
    for (ask, what) in cases {
        let reply = operator.send(ask).await;
        assert_eq!(reply.status, 403, "{what}: {}", reply.text());
        assert!(reply.text().contains("SP_2111"), "{what}: {}", reply.text());
    }
    assert_eq!(
        ada.fetch("GET", &agent.url).await.status,
        200,
        "nothing happened"
    );
    // GET only asks.
    assert_eq!(operator.get(&action).await.status, 200);
    assert_eq!(ada.fetch("GET", &agent.url).await.status, 200);
    assert_eq!(operator.post(&action, good).await.status, 303);
    assert_eq!(ada.fetch("GET", &agent.url).await.status, 401);
}

/// Every page says what may run on it and who may frame it; nothing on it comes from elsewhere or is
/// written inline; what people call themselves is text.
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_closed() {
    let world = World::with_login().await;
    let liar = tests::liar::Liar::start().await;
    liar.register(&world.edge, "liar").await;
    liar.lie(tests::liar::Lie {
        claims: serde_json::json!({ "name": "<img src=x onerror=alert(1)>", "sub": "\"><script>alert(1)</script>", "email": "a@b.test" }),
        ..tests::liar::Lie::default()
    });
    let agent = world.agent("app", &["--oauth=liar"]).await;
    let mut somebody = world.user("somebody");
    somebody.user_agent = "<script>alert(2)</script> Chrome/1".to_owned();
    somebody.sign_in(&agent.url).await;
    let user = world.api.user("a@b.test").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let session = world.api.sessions().await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut operator = Operator::sign_in(&world).await;
    for path in [
        "/".to_owned(),
        "/sign-in".to_owned(),
        format!("/users/{user}"),
        format!("/users/{user}/sessions/{session}"),
        format!("/users/{user}/delete"),
        "/nothing".to_owned(),
    ] {
        let reply = operator.get(&path).await;
        let policy = reply
            .header("content-security-policy")
            .unwrap_or_default()
            .to_owned();
        for wanted in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(wanted), "{path}: {wanted} in {policy:?}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"),
            "{path}: {policy}"
        );
        assert_eq!(
            reply.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(reply.header("x-frame-options"), Some("DENY"), "{path}");
        assert!(
            reply
                .header("cache-control")
                .is_some_and(|value| value.contains("no-store")),
            "{path}: {:?}",
            reply.headers
        );
        let text = reply.text();
        assert!(
            !text.contains("<script>alert") && !text.contains("<img src=x"),
            "{path}: {text}"
        );
        assert!(
            !text.contains("onclick=") && !text.contains("style=\"") && !text.contains("<style"),
            "{path}: something is inline"
        );
    }
    for asset in ["/assets/dashboard.css", "/assets/dashboard.js"] {
        let reply = Ask::get(&world.net, "dashboard", asset)
            .send(&world.net, Version::H2)
            .await;
        assert_eq!(reply.status, 200, "{asset}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
}

async fn form(operator: &mut Operator, action: &str) -> Form {
    let page = operator.get(action).await.text();
    Form::all(&page)
        .into_iter()
        .find(|form| form.action == action && form.method == "POST")
        .expect("a form")
}
