//! The same login at providers that nobody here wrote.

use tests::http::{Ask, Version};
use tests::provider::Provider;
use tests::world::World;

/// npm oidc-provider 9: strict, PKCE demanded, exact redirect URI, consent asked for.
#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_9() {
    let world = World::start().await;
    let redirect_uri = format!("{}/callback/strict", world.net.url("auth"));
    let Some(provider) = Provider::node(
        "oidc-provider.mjs",
        &[&redirect_uri],
        &world.logs(),
        "oidc_provider_9",
    )
    .await
    else {
        return;
    };
    let added = world.edge.add_provider("strict", &provider).await;
    assert_eq!(added["redirect_uri"], redirect_uri.as_str());
    let agent = world
        .agent(
            "app",
            &["--oauth=strict", "--oauth-allow-domain=example.test"],
        )
        .await;
    whole_life(&world, &agent.url, "grace", "grace@example.test").await;
}

/// npm oauth2-mock-server 8: no form, no consent, no `auth_time`.
#[tokio::test(flavor = "multi_thread")]
async fn oauth2_mock_server_8() {
    let world = World::start().await;
    let Some(provider) = Provider::node(
        "oauth2-mock-server.mjs",
        &[],
        &world.logs(),
        "oauth2_mock_server_8",
    )
    .await
    else {
        return;
    };
    world.edge.add_provider("mock", &provider).await;
    let agent = world
        .agent(
            "app",
            &["--oauth=mock", "--oauth-allow-email=mock@example.test"],
        )
        .await;
    whole_life(&world, &agent.url, "anybody", "mock@example.test").await;
}

/// Sign in, be told to the app, be listed, be revoked, sign in again after "Sign in again".
async fn whole_life(world: &World, url: &str, name: &str, email: &str) {
    let mut user = world.user(name);
    user.sign_in(&format!("{url}/headers")).await;
    let seen = world.upstream.seen().pop().unwrap();
    assert_eq!(seen.header("sallyport-user-email"), Some(email));
    let listed = world.api.user(email).await;
    let session = world.api.newest_session_of(email).await;
    let old = user.cookie(url);
    let receipt = world
        .api
        .revoke(&format!(
            "/app/sessions/{}",
            session["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(receipt["sessions_ended"], 1);
    Ask::get(&world.net, "app", "/")
        .cookie(&old)
        .send(&world.net, Version::H2)
        .await
        .assert_refused(401, "SP_2002", "revoked");
    user.sign_in(url).await;
    assert_eq!(user.buttons_pressed, 1, "{:#?}", user.trail);
    assert_eq!(
        world.api.user(email).await["id"],
        listed["id"],
        "the same App User"
    );
}
