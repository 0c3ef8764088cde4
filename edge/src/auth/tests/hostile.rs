//! What must never let anybody in: groups C, D and E of the hostile cases, each for its own reason.

use std::sync::atomic::Ordering;

use proto::code::Code;

use super::world::{APP, AUTH, Browser, OTHER, Outcome, World};
use crate::auth::Verdict;
use crate::model::session::CutReason;

/// d01: an attacker's answer in the victim's browser, or none of ours at all, is never redeemed.
#[tokio::test]
async fn d01_foreign_state() {
    let world = World::new().await;
    let mut attacker = Browser::of("mal");
    let page = attacker.reach_provider(&world, APP).await;
    let planted = attacker.at_provider(&world, &page);
    let mut victim = Browser::of("ada");
    let own = victim.reach_provider(&world, APP).await;
    assert_eq!(
        victim.get(&world, &planted).await.code(),
        Code::LoginBrowserMismatch
    );
    // Read and deleted: it is no use to the attacker either.
    assert_eq!(
        attacker.get(&world, &planted).await.code(),
        Code::LoginUnknown
    );
    for url in [
        format!("{AUTH}/callback/dev?code=code-0"),
        format!("{AUTH}/callback/dev?code=code-0&state="),
        format!("{AUTH}/callback/dev?code=code-0&state={}", "A".repeat(54)),
    ] {
        assert_eq!(
            victim.get(&world, &url).await.code(),
            Code::LoginUnknown,
            "{url}"
        );
    }
    assert_eq!(world.issuer.token_calls(), 0);
    let back = victim.at_provider(&world, &own);
    victim.visit(&world, &back).await.1.permit();
}

/// d02: a callback is good once.
#[tokio::test]
async fn d02_callback_replay() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    let page = ada.reach_provider(&world, APP).await;
    let back = ada.at_provider(&world, &page);
    let before = ada.clone();
    ada.visit(&world, &back).await.1.permit();
    for browser in [&mut ada, &mut before.clone()] {
        assert_eq!(browser.get(&world, &back).await.code(), Code::LoginUnknown);
    }
    assert_eq!(world.issuer.token_calls(), 1);
    assert_eq!(world.sessions().await.len(), 1);
}

/// d09, d11, d17: another provider's path, another issuer, a parameter twice, a refusal with markup.
#[tokio::test]
async fn answers_that_are_not_redeemed() {
    let world = World::new().await;
    let changes: [(&str, &str, Code); 8] = [
        ("/callback/dev", "/callback/second", Code::IssuerMismatch),
        ("/callback/dev", "/callback/", Code::IssuerMismatch),
        (
            "&iss=",
            "&iss=https%3A%2F%2Fother.example%2F",
            Code::IssuerMismatch,
        ),
        ("&iss=", "&x=", Code::IssuerMismatch),
        ("&iss=", "&code=second&iss=", Code::DuplicateParameter),
        ("&iss=", "&st%61te=second&iss=", Code::DuplicateParameter),
        (
            "?code=",
            "?error=access_denied&error_description=%3Cscript%3E&x=",
            Code::ProviderRefused,
        ),
        ("?code=", "?x=", Code::CallbackMalformed),
    ];
    for (from, to, code) in changes {
        let mut ada = Browser::of("ada");
        let page = ada.reach_provider(&world, APP).await;
        let back = ada.at_provider(&world, &page).replacen(from, to, 1);
        let failure = ada.get(&world, &back).await.failure();
        assert_eq!(failure.code, code, "{back}");
    }
    assert_eq!(world.issuer.token_calls(), 0);
    assert!(world.sessions().await.is_empty());
}

/// c07: a hand-over is good once, in its own browser, at its own endpoint.
#[tokio::test]
async fn c07_hand_over() {
    let world = World::new().await;
    let hand_over = async |browser: &mut Browser| {
        let page = browser.reach_provider(&world, APP).await;
        let back = browser.at_provider(&world, &page);
        browser.get(&world, &back).await.location()
    };
    let mut attacker = Browser::of("mal");
    attacker.reach_provider(&world, APP).await;
    let mut ada = Browser::of("ada");
    let url = hand_over(&mut ada).await;
    assert_eq!(
        attacker.get(&world, &url).await.code(),
        Code::HandOverInvalid
    );
    assert_eq!(
        ada.get(&world, &url).await.code(),
        Code::HandOverInvalid,
        "it is spent"
    );
    let elsewhere = hand_over(&mut ada).await.replace(APP, OTHER);
    // Not even with the binding carried over by hand.
    for ((_, name), value) in ada.jar.clone() {
        ada.jar
            .insert(("other.otter.localhost".to_owned(), name), value);
    }
    assert_eq!(
        ada.get(&world, &elsewhere).await.code(),
        Code::HandOverInvalid
    );
    let url = hand_over(&mut ada).await;
    assert!(ada.get(&world, &url).await.location().starts_with(APP));
    assert_eq!(ada.get(&world, &url).await.code(), Code::HandOverInvalid);
    assert_eq!(world.sessions().await.len(), 1);
    let forged = format!("{APP}/.sallyport/callback?code={}", "A".repeat(54));
    assert_eq!(ada.get(&world, &forged).await.code(), Code::HandOverInvalid);
}

/// A ticket is ours or nothing, and binds the browser that got it.
#[tokio::test]
async fn tickets() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    let url = ada.get(&world, APP).await.location();
    assert!(url.len() < 1024, "{} bytes", url.len());
    let long = format!("{APP}/{}", "a%5C".repeat(500));
    let with_target = ada.get(&world, &long).await.location();
    assert!(
        with_target.len() < 4096 + 100,
        "{} bytes",
        with_target.len()
    );
    let (head, _) = url.split_at(url.len() - 1);
    for wrong in [
        head,
        &format!("{AUTH}/login"),
        &format!("{AUTH}/login?ticket="),
    ] {
        assert_eq!(
            ada.get(&world, wrong).await.code(),
            Code::CallbackMalformed,
            "{wrong}"
        );
    }
    assert_eq!(
        ada.get(&world, &format!("{url}&ticket=x")).await.code(),
        Code::DuplicateParameter
    );
    // Begun in one browser, gone on with in another: the hand-over finds no binding there.
    let mut victim = Browser::of("lin");
    let failure = victim.visit(&world, &url).await.1.failure();
    assert_eq!(failure.code, Code::HandOverInvalid);
    assert!(world.sessions().await.is_empty());
}

/// c01 to c06: no login, and no log-out, leads to another host.
#[tokio::test]
async fn foreign_targets() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    ada.visit(&world, APP).await.1.permit();
    for target in [
        "//evil.tld",
        "/%5Cevil.tld",
        "https://badapp.otter.localhost:8443/",
        "https://app.otter.localhost:8443@evil.tld",
        "javascript:alert(1)",
        "/.sallyport/callback",
        "%2F%0D%0ASet-Cookie:a=b",
    ] {
        for path in ["login", "logout"] {
            let url = format!("{APP}/.sallyport/{path}?return_to={target}");
            assert_eq!(
                ada.get(&world, &url).await.code(),
                Code::TargetRefused,
                "{url}"
            );
        }
    }
}

/// e06: a forged cookie is refused in process. Whatever part of it was changed, it never gets as far as
/// the live table, which is the only way to the store.
#[tokio::test]
async fn e06_forged_ids_never_reach_the_store() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    ada.visit(&world, APP).await.1.permit();
    ada.get(&world, APP).await.permit();
    let known = world.live.len();
    assert_eq!(known, 1, "what is genuine is looked up");
    let (key, genuine) = ada
        .jar
        .iter()
        .find(|(_, value)| value.matches('.').count() == 4)
        .map(|(key, value)| (key.clone(), value.clone()))
        .unwrap();
    let mut tried = 0;
    for at in 0..genuine.len() {
        for new in ["A", "b"] {
            let mut value = genuine.clone();
            value.replace_range(at..=at, new);
            if value == genuine {
                continue;
            }
            let mut forger = ada.clone();
            forger.jar.insert(key.clone(), value);
            let parts = forger.fetch("GET", &format!("{APP}/x"), &[]);
            let route = world.route("app.otter.localhost");
            let verdict = world
                .auth
                .authorize(&route, &parts, [127, 0, 0, 1].into())
                .await;
            assert!(matches!(verdict, Verdict::Login(_)), "{at} {new}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
    assert_eq!(world.live.len(), known);
    ada.get(&world, APP).await.permit();
}

/// e12: a sign-out that another site sends, or without the cookie, ends nothing.
#[tokio::test]
async fn e12_forged_sign_out() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    ada.visit(&world, APP).await.1.permit();
    let url = format!("{APP}/.sallyport/logout");
    let sign_out = async |pairs: &[(&str, &str)], browser: &Browser| {
        let parts = browser.fetch("POST", &url, pairs);
        let route = world.route("app.otter.localhost");
        let request = http::Request::from_parts(parts, bytes::Bytes::from_static(b"sid=all"));
        world
            .auth
            .endpoint_path(&route, request, [127, 0, 0, 1].into())
            .await
    };
    for from in ["cross-site", "same-site"] {
        let reply = sign_out(&[("sec-fetch-site", from)], &ada).await;
        let code = Outcome::Answered(reply).code();
        assert_eq!(code, Code::CrossSiteRefused);
    }
    let stranger = sign_out(&[], &Browser::of("mal")).await;
    assert!(stranger.cookies.is_empty());
    let mut broken = ada.clone();
    for value in broken.jar.values_mut() {
        value.push('A');
    }
    assert!(sign_out(&[], &broken).await.cookies.is_empty());
    assert_eq!(world.sessions().await.len(), 1);
    ada.get(&world, APP).await.permit();
}

/// Unsafe methods and upgrades from a sibling endpoint do not count as signed in.
#[tokio::test]
async fn siblings_are_strangers() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    ada.visit(&world, APP).await.1.permit();
    let route = world.route("app.otter.localhost");
    let judge = async |method: &str, pairs: &[(&str, &str)]| {
        let parts = ada.fetch(method, &format!("{APP}/x"), pairs);
        world
            .auth
            .authorize(&route, &parts, [127, 0, 0, 1].into())
            .await
    };
    let upgrade = ("upgrade", "websocket");
    for (method, pairs) in [
        ("POST", vec![("sec-fetch-site", "same-site")]),
        ("GET", vec![upgrade, ("origin", OTHER)]),
    ] {
        let Verdict::Login(reply) = judge(method, &pairs).await else {
            panic!("{method} {pairs:?}");
        };
        let failure = Outcome::Answered(reply).failure();
        assert_eq!(failure.code, Code::CrossSiteRefused);
        assert!(failure.login_url.is_some());
    }
    for (method, pairs) in [
        ("GET", vec![("sec-fetch-site", "cross-site")]),
        (
            "POST",
            vec![("sec-fetch-site", "same-origin"), ("origin", "null")],
        ),
        ("POST", vec![]),
        ("GET", vec![upgrade, ("origin", APP)]),
    ] {
        let verdict = judge(method, &pairs).await;
        assert!(matches!(verdict, Verdict::Allow(_)), "{method} {pairs:?}");
    }
}

/// e09, e13: without a fresh lease the store is asked, on every request; what it says counts.
#[tokio::test]
async fn a_stale_edge_asks_the_store() {
    let world = World::new().await;
    let mut ada = Browser::of("ada");
    let id = ada
        .visit(&world, APP)
        .await
        .1
        .permit()
        .session()
        .unwrap()
        .id;
    world.fresh.store(false, Ordering::Relaxed);
    ada.get(&world, APP).await.permit();
    // Revoked, and this edge has not heard of it: the live table still says `Active`.
    let scope = crate::model::change::Scope::Session(id);
    let revoked = world
        .revocations
        .revoke(scope, CutReason::Revoked, String::new(), false);
    revoked.await.unwrap().unwrap();
    assert_eq!(ada.get(&world, APP).await.code(), Code::SessionRevoked);
    assert!(ada.session_cookie("app.otter.localhost").is_some());
}

/// d05, e13: a store that fails at any step answers 503: nobody is let in, nothing is redeemed, no
/// cookie is set or cleared, and afterwards everything goes on.
#[tokio::test]
async fn d05_store_fails() {
    let world = World::new().await;
    let crate::store::Store::Embedded(disk) = &*world.store;
    let refused = |outcome: Outcome, what: &str| {
        let code = outcome.code();
        let is_store = matches!(code, Code::StoreFull | Code::StoreUnavailable);
        assert!(is_store && code.status() == 503, "{what}: {code}");
    };
    let mut ada = Browser::of("ada");
    let page = ada.reach_provider(&world, APP).await;
    let back = ada.at_provider(&world, &page);
    disk.fail_writes(DISK_FULL);
    refused(ada.get(&world, &back).await, "state");
    assert_eq!(world.issuer.token_calls(), 0);
    disk.fail_writes(0);

    let page = ada.reach_provider(&world, APP).await;
    let back = ada.at_provider(&world, &page);
    let hand_over = ada.get(&world, &back).await.location();
    disk.fail_writes(DISK_FULL);
    refused(ada.get(&world, &hand_over).await, "hand-over");
    assert!(world.sessions().await.is_empty());
    disk.fail_writes(0);

    ada.visit(&world, APP).await.1.permit();
    disk.fail_writes(DISK_FULL);
    let url = format!("{APP}/.sallyport/logout");
    refused(ada.send(&world, "POST", &url).await, "log-out");
    ada.get(&world, APP).await.permit();
    disk.fail_writes(0);
    ada.send(&world, "POST", &url).await;
    assert!(world.sessions().await.is_empty());
}

/// ENOSPC.
const DISK_FULL: i32 = 28;
