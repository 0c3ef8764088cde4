//! Discovery, its cache, the client's limits, and the registry of providers.

use std::time::Duration;

use super::*;

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Metadata of another issuer, or that leads out of https, is refused.
#[tokio::test]
async fn foreign_metadata_is_refused() {
    let world = World::new().await;
    for (name, value, code) in [
        (
            "issuer",
            json!("https://evil.example"),
            Code::IssuerMismatch,
        ),
        (
            "issuer",
            json!(format!("{}/", world.issuer.url)),
            Code::IssuerMismatch,
        ),
        (
            "authorization_endpoint",
            json!("http://example.com/a"),
            Code::ProviderAnswerInvalid,
        ),
        (
            "authorization_endpoint",
            json!("javascript:alert(1)"),
            Code::ProviderAnswerInvalid,
        ),
        (
            "token_endpoint",
            json!("http://example.com/t"),
            Code::ProviderAnswerInvalid,
        ),
        (
            "token_endpoint",
            json!("https://169.254.169.254/t"),
            Code::ProviderAnswerInvalid,
        ),
        ("token_endpoint", Value::Null, Code::ProviderAnswerInvalid),
        (
            "userinfo_endpoint",
            json!("https://10.0.0.1/u"),
            Code::ProviderAnswerInvalid,
        ),
        (
            "jwks_uri",
            json!("https://[fd00::1]/k"),
            Code::ProviderMisconfigured,
        ),
        (
            "id_token_signing_alg_values_supported",
            json!(["HS256", "none"]),
            Code::ProviderAnswerInvalid,
        ),
    ] {
        world.issuer.announce(name, value.clone());
        let error = IdentityProvider::discover(settings(&world.issuer.url), &http())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{name} {value}: {error}");
    }
    world.issuer.announce("", Value::Null);
    IdentityProvider::discover(settings(&world.issuer.url), &http())
        .await
        .unwrap();
}

/// An answer larger than the bound ends the request, announced or not.
#[tokio::test]
async fn large_answers_are_cut_off() {
    let world = World::new().await;
    world
        .issuer
        .announce("padding", json!("x".repeat(300 * 1024)));
    let error = IdentityProvider::discover(settings(&world.issuer.url), &http())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ProviderAnswerInvalid);
}

/// A crowd asks once, and a failure is remembered for some seconds.
#[tokio::test]
async fn one_discovery_is_in_flight() {
    let world = World::new().await;
    world.issuer.serve(DISCOVERY, Page::status(500, &json!({})));
    let crowd = || futures_util::future::join_all((0..50).map(|_| world.authorize_url(false)));
    for outcome in crowd().await {
        assert_eq!(outcome.unwrap_err().code(), Code::ProviderUnreachable);
    }
    assert_eq!(world.issuer.hits(DISCOVERY), 1);

    world.issuer.announce("", Value::Null);
    world.authorize_url(false).await.unwrap_err();
    world
        .oidc()
        .discovery
        .grow_older(Duration::from_secs(6))
        .await;
    for outcome in crowd().await {
        outcome.unwrap();
    }
    assert_eq!(world.issuer.hits(DISCOVERY), 2);
}

/// Metadata is asked for again after an hour; without an answer the old one serves for a day.
#[tokio::test]
async fn metadata_is_refreshed() {
    let world = World::new().await;
    world.authorize_url(false).await.unwrap();
    world
        .oidc()
        .discovery
        .grow_older(Duration::from_mins(59))
        .await;
    world.authorize_url(false).await.unwrap();
    assert_eq!(world.issuer.hits(DISCOVERY), 1);

    world.issuer.announce(
        "authorization_endpoint",
        json!(format!("{}/new", world.issuer.url)),
    );
    world
        .oidc()
        .discovery
        .grow_older(Duration::from_mins(2))
        .await;
    assert!(world.authorize_url(false).await.unwrap().contains("/new?"));

    world.issuer.serve(DISCOVERY, Page::status(500, &json!({})));
    world
        .oidc()
        .discovery
        .grow_older(Duration::from_hours(2))
        .await;
    assert!(world.authorize_url(false).await.unwrap().contains("/new?"));
    world
        .oidc()
        .discovery
        .grow_older(Duration::from_hours(23))
        .await;
    world.authorize_url(false).await.unwrap_err();
}

/// Nobody listens, or the address is private: said as what it is, and nothing is dialled.
#[tokio::test]
async fn unreachable_and_private_issuers() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let nobody = settings(&format!("http://127.0.0.1:{port}"));
    let error = IdentityProvider::discover(nobody, &http())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ProviderUnreachable);

    let world = World::new().await;
    let public = Http::new(&HttpOptions {
        allow_loopback_http: false,
        extra_roots: Vec::new(),
    })
    .unwrap();
    let by_name = world.issuer.url.replace("127.0.0.1", "localhost");
    let with_tls = by_name.replace("http:", "https:");
    for issuer in [
        world.issuer.url.as_str(),
        by_name.as_str(),
        with_tls.as_str(),
        "https://10.1.2.3",
        "https://[::1]",
        "https://2130706433",
        "https://0x7f.1",
        "https://[::ffff:192.168.0.1]",
    ] {
        let error = match IdentityProvider::new(settings(issuer), &public) {
            Ok(provider) => provider.check_issuer(None).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(
            error.code(),
            Code::ProviderMisconfigured,
            "{issuer}: {error}"
        );
    }
    assert_eq!(world.issuer.hits(DISCOVERY), 0);
    // Allowed here, and by name, too.
    IdentityProvider::new(settings(&by_name), &http()).unwrap();
    let private = IdentityProvider::new(settings("https://192.168.0.1"), &http()).unwrap_err();
    assert_eq!(private.code(), Code::ProviderMisconfigured);
}

/// A provider by the name of this machine works without DNS.
#[tokio::test]
async fn loopback_names_resolve() {
    let world = World::new().await;
    let url = world
        .issuer
        .url
        .replace("127.0.0.1", "login.quay.localhost");
    world.issuer.announce("issuer", json!(url));
    IdentityProvider::discover(settings(&url), &http())
        .await
        .unwrap();
}

/// Https is believed by the system's roots and the operator's own, and by nothing else.
#[tokio::test]
async fn extra_roots_are_trusted() {
    let (issuer, root) = Issuer::start_tls().await;
    issuer.publish(&[&Key::ec("k1")]);
    let with = |extra_roots| {
        Http::new(&HttpOptions {
            allow_loopback_http: true,
            extra_roots,
        })
    };
    let discover = async |http: Http| {
        IdentityProvider::discover(settings(&issuer.url), &http)
            .await
            .map_err(|error| error.code())
    };
    assert_eq!(
        discover(with(Vec::new()).unwrap()).await.unwrap_err(),
        Code::ProviderUnreachable
    );
    discover(with(vec![root]).unwrap()).await.unwrap();
    assert_eq!(
        with(vec![b"no certificate".to_vec()]).unwrap_err().code(),
        Code::ProviderMisconfigured
    );
}

/// Registering again with the same settings keeps what a provider has learnt; others replace it.
#[tokio::test]
async fn the_registry_keeps_what_is_unchanged() {
    let world = World::new().await;
    let providers = Providers::default();
    let build = |secret: &str| {
        let settings = ProviderSettings::resolve(
            "dev",
            "oidc",
            Some(&world.issuer.url),
            "client",
            Secret::new(secret.to_owned()),
            Vec::new(),
        );
        IdentityProvider::new(settings.unwrap(), &http()).unwrap()
    };
    providers.replace(build("one"));
    let first = providers.get("dev").unwrap();
    providers.replace(build("one"));
    assert!(Arc::ptr_eq(&first, &providers.get("dev").unwrap()));
    providers.replace(build("two"));
    assert!(!Arc::ptr_eq(&first, &providers.get("dev").unwrap()));
    assert_eq!(providers.names(), ["dev"]);
    providers.remove("dev");
    assert!(providers.get("dev").is_none() && providers.names().is_empty());
}

/// Secrets are in no debug output.
#[tokio::test]
async fn nothing_secret_is_shown() {
    let world = World::new().await;
    world.redeem_with("", Value::Null).await.unwrap();
    let shown = format!("{:?}", world.provider);
    assert!(
        !shown.contains("s3cret") && !shown.contains(ACCESS_TOKEN),
        "{shown}"
    );
}
