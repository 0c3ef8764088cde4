//! Permits: what ends them, and that nothing which came before they listened is missed.

use std::time::Duration;

use proto::code::Code;

use super::login_rule;
use super::world::{APP, Browser, Outcome, World};
use crate::model::change::Scope;
use crate::model::endpoint::{Access, LoginRule};
use crate::model::session::CutReason;

fn rule(session_life: Duration, idle_limit: Option<Duration>) -> Access {
    match login_rule(&[], &["example.test"]) {
        Access::Login(rule) => Access::Login(LoginRule {
            session_life,
            idle_limit,
            ..rule
        }),
        Access::Public => panic!("a login rule"),
    }
}

/// A revoke between the verdict and the first `cut()` is heard.
#[tokio::test]
async fn revoked_before_it_listened() {
    let mut world = World::new().await;
    let mut ada = Browser::of("ada");
    let mut permit = ada.visit(&world, APP).await.1.permit();
    let scope = Scope::User(permit.session().unwrap().user);
    let revoked = world
        .revocations
        .revoke(scope, CutReason::Revoked, String::new(), false);
    revoked.await.unwrap().unwrap();
    world.follow().await;
    assert_eq!(permit.cut().await, CutReason::Revoked);
}

/// A rule that no longer lets the person in ends what is open and refuses what comes; one that does
/// changes nothing; another provider makes everybody a stranger.
#[tokio::test]
async fn changed_rules() {
    let mut world = World::new().await;
    let mut ada = Browser::of("ada");
    ada.visit(&world, APP).await.1.permit();
    let mut permit = ada.get(&world, APP).await.permit();
    world.change_app(login_rule(&["ada@example.test"], &[]));
    tokio::select! {
        biased;
        reason = permit.cut() => panic!("cut: {reason:?}"),
        () = tokio::task::yield_now() => {}
    }
    world.change_app(login_rule(&["lin@example.test"], &[]));
    assert_eq!(permit.cut().await, CutReason::PolicyChanged);
    let failure = ada.get(&world, &format!("{APP}/x")).await.failure();
    assert_eq!(failure.code, Code::NotAllowed);
    let Access::Login(mut other) = login_rule(&[], &[]) else {
        panic!("a login rule");
    };
    other.provider = "second".to_owned();
    world.change_app(Access::Login(other));
    assert!(
        ada.get(&world, APP)
            .await
            .location()
            .contains("/login?ticket=")
    );
    world.routes.remove(world.app.id);
    assert_eq!(permit.cut().await, CutReason::EndpointRemoved);
}

/// The absolute end comes, however busy the session is, and is said to whoever comes afterwards.
#[tokio::test]
async fn absolute_end() {
    let world = World::with(rule(Duration::from_millis(1500), None)).await;
    let mut ada = Browser::of("ada");
    let mut permit = ada.visit(&world, APP).await.1.permit();
    assert_eq!(permit.cut().await, CutReason::Expired);
    drop(permit);
    let parts = ada.fetch("GET", APP, &[]);
    let route = world.route("app.otter.localhost");
    let verdict = world
        .auth
        .authorize(&route, &parts, [127, 0, 0, 1].into())
        .await;
    let crate::auth::Verdict::Login(reply) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(Outcome::Answered(reply).code(), Code::SessionExpired);
    // A page load logs in again, without a page in between.
    ada.visit(&world, APP).await.1.permit();
}

/// An open exchange is activity: the idle end waits for it, and comes after it.
#[tokio::test]
async fn idle_end() {
    let limit = Duration::from_millis(400);
    let world = World::with(rule(Duration::from_mins(1), Some(limit))).await;
    let mut ada = Browser::of("ada");
    let mut permit = ada.visit(&world, APP).await.1.permit();
    let held = tokio::time::timeout(3 * limit, permit.cut()).await;
    assert!(held.is_err(), "an open exchange was cut: {held:?}");
    ada.get(&world, APP).await.permit();
    drop(permit);
    let idle = async {
        // Looking at the session is no activity, so asking does not keep it alive.
        let url = format!("{APP}/.sallyport/session");
        loop {
            let outcome = ada.get(&world, &url).await;
            if let Outcome::Answered(reply) = outcome
                && matches!(reply.content, crate::auth::reply::Content::Failure(_))
            {
                return Outcome::Answered(reply).code();
            }
            tokio::task::yield_now().await;
        }
    };
    let code = tokio::time::timeout(Duration::from_secs(20), idle).await;
    assert_eq!(code, Ok(Code::SessionExpired));
}
