//! The way of a login that goes well, and its variants.

use aws_lc_rs::digest;

use super::issuer::encode;
use super::*;

fn query(url: &str) -> std::collections::HashMap<String, String> {
    url::Url::parse(url)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

/// A code becomes a checked person, with PKCE, nonce and client authentication.
#[tokio::test]
async fn a_login_gives_a_person() {
    for key in [Key::ec("k1"), Key::rsa("k1"), Key::ed("k1")] {
        let world = World::with_key(key).await;
        let asked = query(&world.authorize_url(false).await.unwrap());
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], "client");
        assert_eq!(asked["redirect_uri"], CALLBACK);
        assert_eq!(asked["scope"], "openid email profile");
        assert_eq!(asked["state"], "st4te");
        assert_eq!(asked["nonce"], NONCE);
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(
            asked["code_challenge"],
            encode(&crate::secret::sha256(VERIFIER.as_bytes()))
        );
        assert!(!asked.contains_key("prompt") && !asked.contains_key("max_age"));

        let identity = world.redeem_with("", Value::Null).await.unwrap();
        assert_eq!(
            identity.claims,
            Claims {
                issuer: world.issuer.url.clone(),
                subject: "ada".to_owned(),
                email: Some("ada@example.test".to_owned()),
                email_verified: true,
                name: Some("Ada".to_owned()),
                username: None,
            }
        );
        assert_eq!(identity.auth_time, None);

        let (headers, body) = world.issuer.last("/token");
        let form: std::collections::HashMap<_, _> = url::form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(form["grant_type"], "authorization_code");
        assert_eq!(form["code"], "c0de");
        assert_eq!(form["code_verifier"], VERIFIER);
        assert_eq!(form["redirect_uri"], CALLBACK);
        assert!(!body.contains("s3cret"), "the secret travels in the header");
        // RFC 6749 §2.3.1: form-encoded first.
        let basic = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            "client:s3cret%2F%2B%3A",
        );
        assert_eq!(headers["authorization"], format!("Basic {basic}"));
        assert_eq!(world.issuer.hits("/.well-known/openid-configuration"), 1);
        assert_eq!(world.issuer.hits("/jwks"), 1);
    }
}

/// RSA with PSS padding is one of the pinned algorithms.
#[tokio::test]
async fn pss_is_accepted() {
    let world = World::with_key(Key::rsa("k1")).await;
    let header = json!({"alg": "PS256", "kid": "k1"});
    world
        .redeem_for(&world.key.token_with(&header, &world.good()))
        .await
        .unwrap();
}

/// A provider that takes credentials in the form only gets them there.
#[tokio::test]
async fn credentials_go_into_the_form_where_they_must() {
    let world = World::new().await;
    world.issuer.announce(
        "token_endpoint_auth_methods_supported",
        json!(["client_secret_post"]),
    );
    world.redeem_with("", Value::Null).await.unwrap();
    let (headers, body) = world.issuer.last("/token");
    assert!(!headers.contains_key("authorization"));
    assert!(
        body.contains("client_id=client") && body.contains("client_secret=s3cret"),
        "{body}"
    );
}

/// After a revoke the person proves themselves anew: asked for, and checked where it can be.
#[tokio::test]
async fn interactive_logins_are_proven() {
    let world = World::new().await;
    let asked = query(&world.authorize_url(true).await.unwrap());
    assert_eq!(
        (asked["prompt"].as_str(), asked["max_age"].as_str()),
        ("login", "0")
    );

    let now = crate::clock::Clock.now();
    let since = Some(now - jiff::SignedDuration::from_secs(20));
    let code = || Secret::new("c0de".to_owned());
    for (auth_time, good) in [
        (now.as_second() - 10, true),
        (now.as_second() - 75, true),
        (now.as_second() - 120, false),
        (now.as_second() + 120, false),
    ] {
        world.answer(
            &world
                .key
                .token(&world.claims("auth_time", json!(auth_time))),
        );
        let outcome = world.provider.redeem(code(), expect(since)).await;
        if good {
            assert_eq!(outcome.unwrap().auth_time.unwrap().as_second(), auth_time);
        } else {
            refused(outcome, Code::InteractiveNotProven);
        }
    }
    // Where none comes, the moment of redemption counts.
    world.answer(&world.key.token(&world.good()));
    let expected = expect(since);
    let identity = world.provider.redeem(code(), expected).await.unwrap();
    assert_eq!(identity.auth_time, Some(expected.now));
    // An ordinary login may rest on an old proof.
    world
        .redeem_with("auth_time", json!(now.as_second() - 86_400))
        .await
        .unwrap();
}

/// What the ID token does not say, user-info does, about the same person only.
#[tokio::test]
async fn user_info_completes_the_person() {
    let world = World::new().await;
    let info = json!({"sub": "ada", "email": "ada@example.test", "email_verified": true, "preferred_username": "ada"});
    world.issuer.serve("/userinfo", Page::json(&info));
    let identity = world.redeem_with("email", Value::Null).await.unwrap();
    assert_eq!(identity.claims.email.as_deref(), Some("ada@example.test"));
    assert!(identity.claims.email_verified);
    assert_eq!(identity.claims.username.as_deref(), Some("ada"));
    let (headers, _) = world.issuer.last("/userinfo");
    assert_eq!(headers["authorization"], format!("Bearer {ACCESS_TOKEN}"));

    world.redeem_with("", Value::Null).await.unwrap();
    assert_eq!(
        world.issuer.hits("/userinfo"),
        1,
        "not asked where the token says all"
    );
}

/// The access token must be the one that the ID token came with.
#[tokio::test]
async fn at_hash_is_checked() {
    let world = World::new().await;
    let hash = digest::digest(&digest::SHA256, ACCESS_TOKEN.as_bytes());
    world
        .redeem_with("at_hash", json!(encode(&hash.as_ref()[..16])))
        .await
        .unwrap();
    let other = digest::digest(&digest::SHA256, b"another");
    for wrong in [json!(encode(&other.as_ref()[..16])), json!(""), json!(7)] {
        refused(
            world.redeem_with("at_hash", wrong).await,
            Code::ProviderAnswerInvalid,
        );
    }
}

/// Several audiences are fine where the token says that it is ours.
#[tokio::test]
async fn several_audiences_need_azp() {
    let world = World::new().await;
    let mut claims = world.claims("aud", json!(["client", "other"]));
    refused(
        world.redeem_for(&world.key.token(&claims)).await,
        Code::ProviderAnswerInvalid,
    );
    claims["azp"] = "client".into();
    world.redeem_for(&world.key.token(&claims)).await.unwrap();
    claims["azp"] = "other".into();
    refused(
        world.redeem_for(&world.key.token(&claims)).await,
        Code::ProviderAnswerInvalid,
    );
    world.redeem_with("aud", json!(["client"])).await.unwrap();
}

/// Clocks differ by up to a minute, and dates may have a fraction.
#[tokio::test]
async fn clocks_may_differ() {
    let world = World::new().await;
    let now = crate::clock::Clock.now().as_second();
    world.redeem_with("iat", json!(now + 30)).await.unwrap();
    world.redeem_with("exp", json!(now - 30)).await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century fit")]
    let fraction = now as f64 + 100.5;
    world.redeem_with("exp", json!(fraction)).await.unwrap();
}

/// Google may name itself without `https://`, and nobody else may.
#[tokio::test]
async fn a_bare_issuer_is_googles_alone() {
    let now = crate::clock::Clock.now();
    let key = Key::ec("k1");
    let keys: openidconnect::core::CoreJsonWebKeySet =
        serde_json::from_value(json!({"keys": [key.jwk()]})).unwrap();
    let claims = |iss: &str| json!({"iss": iss, "aud": "client", "nonce": NONCE, "iat": now.as_second(), "exp": now.as_second() + 60});
    let verify = |iss: &str, bare_issuer| {
        let checks = token::Checks {
            issuer: "https://accounts.google.com",
            bare_issuer,
            client_id: "client",
            nonce: NONCE,
            algorithms: &token::ALGORITHMS,
            access_token: ACCESS_TOKEN,
            now,
        };
        token::verify(&key.token(&claims(iss)), &keys, &checks).is_ok()
    };
    assert!(verify("https://accounts.google.com", true));
    assert!(verify("accounts.google.com", true));
    assert!(!verify("accounts.google.com", false));
    assert!(!verify("http://accounts.google.com", true));
    assert!(!verify("https://accounts.google.com/", true));
}

/// RFC 9207: compared whenever it is there, required where it is promised.
#[tokio::test]
async fn the_callbacks_issuer_is_compared() {
    let world = World::new().await;
    world.provider.check_issuer(None).await.unwrap();
    world
        .provider
        .check_issuer(Some(&world.issuer.url))
        .await
        .unwrap();
    let slash = format!("{}/", world.issuer.url);
    for other in ["https://evil.example", "", slash.as_str()] {
        let error = world.provider.check_issuer(Some(other)).await.unwrap_err();
        assert_eq!(error.code(), Code::IssuerMismatch);
    }

    let promising = World::new().await;
    promising.issuer.announce(
        "authorization_response_iss_parameter_supported",
        json!(true),
    );
    promising
        .provider
        .check_issuer(Some(&promising.issuer.url))
        .await
        .unwrap();
    let error = promising.provider.check_issuer(None).await.unwrap_err();
    assert_eq!(error.code(), Code::IssuerMismatch);
}
