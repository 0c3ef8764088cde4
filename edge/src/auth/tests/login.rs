//! The way in and out, whole: what a person meets, and what the store holds afterwards.

use http::Request;
use proto::code::Code;

use super::world::{APP, AUTH, Browser, OTHER, Outcome, World};
use super::{endpoint, login_rule};
use crate::auth::reply::{Content, Reply};
use crate::model::change::Scope;
use crate::model::endpoint::Access;
use crate::model::session::CutReason;

/// A page load without a session ends, after a login, where it was going; the next needs none.
#[tokio::test]
async fn signs_in_and_arrives() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    let (at, end) = ada.visit(&world, &format!("{APP}/a/b?x=1")).await;
    assert_eq!(at, format!("{APP}/a/b?x=1"));
    let permit = end.permit();
    let session = permit.session().unwrap();
    assert_eq!(session.claims.email.as_deref(), Some("ada@example.test"));
    assert_eq!(session.public_url, APP);
    assert_eq!(world.sessions().await, [session.id]);
    assert_eq!(ada.bindings(), 0, "bindings are cleared on both hosts");
    let names: Vec<_> = world
        .auth
        .identity_headers(&permit)
        .into_iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert!(names.contains(&"sallyport-user-email".to_owned()));
    assert!(names.contains(&"sallyport-assertion".to_owned()));
    let again = ada.get(&world, APP).await.permit();
    assert_eq!(again.session().unwrap().id, session.id);
    assert_eq!(world.issuer.token_calls(), 1);
    // Signed in already: the login path goes on at once.
    let url = format!("{APP}/.sallyport/login?return_to=%2Fy");
    assert_eq!(ada.get(&world, &url).await.location(), format!("{APP}/y"));
}

/// A second endpoint logs in again, silently; the cookie of one opens nothing at the other.
#[tokio::test]
async fn one_session_for_each_endpoint() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    let app = ada.visit(&world, APP).await.1.permit();
    let stolen = ada.session_cookie("app.otter.localhost").unwrap().clone();
    let key = (
        "other.otter.localhost".to_owned(),
        "__Host-sallyport".to_owned(),
    );
    ada.jar.insert(key, stolen);
    let page = ada.reach_provider(&world, OTHER).await;
    let back = ada.at_provider(&world, &page);
    let other = ada.visit(&world, &back).await.1.permit();
    assert_ne!(app.session().unwrap().id, other.session().unwrap().id);
    assert_eq!(world.sessions().await.len(), 2);
}

/// d03: ten fresh tabs begin before any ends, end in reverse, and all arrive; one session is left.
#[tokio::test]
async fn d03_parallel_tabs() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    let mut pages = Vec::new();
    for tab in 0..10 {
        let url = format!("{APP}/tab/{tab}");
        pages.push((url.clone(), ada.reach_provider(&world, &url).await));
    }
    for (url, page) in pages.into_iter().rev() {
        let back = ada.at_provider(&world, &page);
        let (at, end) = ada.visit(&world, &back).await;
        assert_eq!(at, url);
        end.permit();
    }
    assert_eq!(
        world.sessions().await.len(),
        1,
        "a later tab finds the session"
    );
    assert_eq!(ada.bindings(), 0);
}

/// e01: a new login makes a new id and secret, and ends the session that the browser held.
#[tokio::test]
async fn e01_new_session_at_every_login() {
    let mut world = World::new().await;
    let mut ada = Browser::of("ada");
    let old = ada
        .visit(&world, APP)
        .await
        .1
        .permit()
        .session()
        .unwrap()
        .id;
    let old_cookie = ada.session_cookie("app.otter.localhost").unwrap().clone();
    let url = format!("{APP}/.sallyport/login?return_to=%2F&again=1");
    let new = ada.visit(&world, &url).await.1.permit();
    assert_ne!(new.session().unwrap().id, old);
    world.follow().await;
    assert_eq!(world.sessions().await, [new.session().unwrap().id]);
    let mut attacker = Browser::of("mal");
    let key = (
        "app.otter.localhost".to_owned(),
        "__Host-sallyport".to_owned(),
    );
    attacker.jar.insert(key, old_cookie);
    assert_eq!(attacker.get(&world, APP).await.code(), Code::SessionRevoked);
}

/// Programs, and everything that is no page load, get 401 with the address of the login.
#[tokio::test]
async fn other_requests_get_401() {
    let world = World::new().await;
    let ada = Browser::of("ada");
    let cases = [
        ("GET", "/x?y=1", vec![], "%2Fx%3Fy%3D1"),
        (
            "GET",
            "/ws",
            vec![("upgrade", "websocket"), ("accept", "text/html")],
            "%2Fws",
        ),
        ("POST", "/x", vec![("accept", "text/html")], "%2F"),
        ("OPTIONS", "/x", vec![], "%2F"),
    ];
    for (method, path, pairs, return_to) in cases {
        let parts = ada.fetch(method, &format!("{APP}{path}"), &pairs);
        let route = world.route("app.otter.localhost");
        let verdict = world
            .auth
            .authorize(&route, &parts, [127, 0, 0, 1].into())
            .await;
        let crate::auth::Verdict::Login(reply) = verdict else {
            panic!("{method} {path}: {verdict:?}");
        };
        let failure = Outcome::Answered(reply).failure();
        assert_eq!(failure.code, Code::LoginRequired);
        let url = format!("{APP}/.sallyport/login?return_to={return_to}");
        assert_eq!(failure.login_url, Some(url));
    }
}

/// After a revoke the browser meets a page with a button; only what follows it lets in again.
#[tokio::test]
async fn interactive_after_a_revoke() {
    let mut world = World::new().await;
    let mut ada = Browser::of("ada");
    let id = ada
        .visit(&world, APP)
        .await
        .1
        .permit()
        .session()
        .unwrap()
        .id;
    let scope = Scope::Session(id);
    let revoked = world
        .revocations
        .revoke(scope, CutReason::Revoked, String::new(), false);
    revoked.await.unwrap().unwrap();
    world.follow().await;
    let failure = ada.get(&world, &format!("{APP}/x")).await.failure();
    assert_eq!(failure.code, Code::SessionRevoked);
    let again = failure.action.unwrap().url;
    assert_eq!(
        again,
        format!("{APP}/.sallyport/login?return_to=%2Fx&again=1")
    );
    // A browser without that cookie logs in silently, and meets the same button.
    let mut bare = Browser::of("ada");
    let failure = bare.visit(&world, APP).await.1.failure();
    assert_eq!(failure.code, Code::SessionRevoked);
    assert!(world.sessions().await.is_empty());
    let page = bare
        .reach_provider(&world, &failure.action.unwrap().url)
        .await;
    let query = page.query().unwrap();
    assert!(
        query.contains("prompt=login") && query.contains("max_age=0"),
        "{query}"
    );
    let back = bare.at_provider(&world, &page);
    bare.visit(&world, &back).await.1.permit();
    let (at, end) = ada.visit(&world, &again).await;
    assert_eq!(at, format!("{APP}/x"));
    end.permit();
}

/// A login that was under way during a revoke does not undo it.
#[tokio::test]
async fn revoked_while_the_login_was_under_way() {
    let mut world = World::new().await;
    let mut ada = Browser::of("ada");
    let user = ada
        .visit(&world, APP)
        .await
        .1
        .permit()
        .session()
        .unwrap()
        .user;
    let url = format!("{APP}/.sallyport/login?again=1");
    let page = ada.reach_provider(&world, &url).await;
    let back = ada.at_provider(&world, &page);
    let hand_over = ada.get(&world, &back).await.location();
    let scope = Scope::User(user);
    let revoked = world
        .revocations
        .revoke(scope, CutReason::Revoked, String::new(), false);
    revoked.await.unwrap().unwrap();
    world.follow().await;
    let failure = ada.get(&world, &hand_over).await.failure();
    assert_eq!(failure.code, Code::SessionRevoked);
    assert!(failure.action.unwrap().url.contains("again=1"));
    assert!(world.sessions().await.is_empty());
}

/// Logging out: GET ends nothing, POST ends this session everywhere and clears its cookie.
#[tokio::test]
async fn logs_out() {
    let mut world = World::new().await;
    let mut ada = Browser::of("ada");
    let mut permit = ada.visit(&world, APP).await.1.permit();
    let url = format!("{APP}/.sallyport/logout");
    let Outcome::Answered(Reply { content, .. }) = ada.get(&world, &url).await else {
        panic!("a page");
    };
    let Content::SignOut { action, person } = content else {
        panic!("a button: {content:?}");
    };
    assert_eq!(
        (action.as_str(), person.as_deref()),
        ("/.sallyport/logout", Some("ada@example.test"))
    );
    assert_eq!(world.sessions().await.len(), 1);
    let Outcome::Answered(reply) = ada.send(&world, "POST", &url).await else {
        panic!("a page");
    };
    assert!(
        matches!(reply.content, Content::SignedOut { .. }),
        "{reply:?}"
    );
    assert!(world.sessions().await.is_empty());
    assert_eq!(ada.session_cookie("app.otter.localhost"), None);
    world.follow().await;
    assert_eq!(permit.cut().await, CutReason::LoggedOut);
    // Silent at the provider, so our button comes first.
    assert_eq!(ada.visit(&world, APP).await.1.code(), Code::SessionRevoked);
    let foreign = format!("{url}?return_to=https%3A%2F%2Fevil.tld");
    assert_eq!(ada.get(&world, &foreign).await.code(), Code::TargetRefused);
}

/// Scripts learn who is signed in, and no secret; methods and paths are what they are said to be.
#[tokio::test]
async fn session_keys_and_unknown_paths() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    let path = |path: &str| format!("{APP}/.sallyport{path}");
    assert_eq!(
        ada.get(&world, &path("/session")).await.code(),
        Code::LoginRequired
    );
    let id = ada
        .visit(&world, APP)
        .await
        .1
        .permit()
        .session()
        .unwrap()
        .id;
    let Outcome::Answered(Reply {
        content: Content::Json { body, .. },
        ..
    }) = ada.get(&world, &path("/session")).await
    else {
        panic!("a document");
    };
    let who: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(who["user"]["email"], "ada@example.test");
    assert_eq!(who["session"]["id"], id.to_string());
    let secret = ada
        .session_cookie("app.otter.localhost")
        .unwrap()
        .split('.')
        .nth(3)
        .unwrap();
    assert!(!body.contains(secret) && !body.contains("access-t0ken"));
    assert_eq!(ada.get(&world, &path("")).await.code(), Code::UnknownPath);
    assert_eq!(ada.get(&world, &path("/x")).await.code(), Code::UnknownPath);
    assert_eq!(
        ada.get(&world, &format!("{AUTH}/x")).await.code(),
        Code::UnknownPath
    );
    for (method, url) in [
        ("HEAD", path("/callback?code=x")),
        ("POST", path("/login")),
        ("DELETE", path("/logout")),
        ("POST", format!("{AUTH}/login")),
        ("HEAD", format!("{AUTH}/callback/dev")),
    ] {
        let failure = ada.send(&world, method, &url).await.failure();
        assert_eq!(failure.code, Code::MethodNotAllowed, "{method} {url}");
        assert!(failure.allow.is_some());
    }
}

/// A public endpoint asks nobody, and tells its upstream of nobody.
#[tokio::test]
async fn public_endpoints() {
    let world = World::with(Access::Public).await;
    let mut ada = Browser::of("ada");
    let permit = ada.get(&world, APP).await.permit();
    assert!(permit.session().is_none());
    assert!(world.auth.identity_headers(&permit).is_empty());
    let url = format!("{APP}/.sallyport/login?return_to=%2Fx");
    assert_eq!(ada.get(&world, &url).await.location(), format!("{APP}/x"));
    let request = Request::builder().uri("/.sallyport/session");
    let route = world.route("app.otter.localhost");
    let reply = world
        .auth
        .endpoint_path(
            &route,
            request.body(bytes::Bytes::new()).unwrap(),
            [127, 0, 0, 1].into(),
        )
        .await;
    assert_eq!(Outcome::Answered(reply).code(), Code::LoginRequired);
}

/// d12, d13: whom the rule does not let in gets no session, and is told how to be somebody else.
#[tokio::test]
async fn rules_at_the_callback() {
    let world = World::with(login_rule(&["lin@example.test"], &[])).await;
    for (person, code) in [("ada", Code::NotAllowed), ("mal", Code::EmailUnverified)] {
        let mut browser = Browser::of(person);
        let failure = browser.visit(&world, APP).await.1.failure();
        assert_eq!(failure.code, code, "{person}");
        assert!(failure.action.unwrap().url.contains("again=1"));
    }
    assert!(world.sessions().await.is_empty());
    Browser::of("lin").visit(&world, APP).await.1.permit();
    assert_eq!(endpoint(Access::Public).host, "app.otter.localhost");
}
