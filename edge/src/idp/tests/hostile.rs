//! Answers that must never become a person (hostile cases D04 to D18).

use aws_lc_rs::hmac;

use super::issuer::{encode, unsigned};
use super::*;

/// D06: no signature, no look at a key.
#[tokio::test]
async fn unsigned_tokens_are_refused() {
    let world = World::new().await;
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None", "kid": "k1"}),
        json!({}),
        json!({"alg": null}),
        json!({"alg": ["ES256"]}),
    ] {
        let token = format!("{}.", unsigned(&header, &world.good()));
        refused(world.redeem_for(&token).await, Code::ProviderAnswerInvalid);
        let stripped = unsigned(&header, &world.good());
        refused(
            world.redeem_for(&stripped).await,
            Code::ProviderAnswerInvalid,
        );
        // Signed well, but under a name that is not pinned.
        let signed = world.key.token_with(&header, &world.good());
        refused(world.redeem_for(&signed).await, Code::ProviderAnswerInvalid);
    }
    assert_eq!(world.issuer.hits("/jwks"), 1);
}

/// A public key is no shared secret.
#[tokio::test]
async fn hmac_with_the_public_key_is_refused() {
    let world = World::with_key(Key::rsa("k1")).await;
    let secrets = [
        world.key.jwk().to_string().into_bytes(),
        world.key.jwk()["n"].to_string().into_bytes(),
        b"s3cret/+:".to_vec(),
    ];
    for secret in secrets {
        let signed = unsigned(&json!({"alg": "HS256", "kid": "k1"}), &world.good());
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &secret),
            signed.as_bytes(),
        );
        let token = format!("{signed}.{}", encode(tag.as_ref()));
        refused(world.redeem_for(&token).await, Code::ProviderAnswerInvalid);
    }
    assert_eq!(
        world.issuer.hits("/jwks"),
        1,
        "no newer keys are looked for"
    );
}

/// A key of one algorithm verifies no other, and an algorithm that is not announced none at all.
#[tokio::test]
async fn algorithms_are_pinned() {
    let world = World::new().await;
    for alg in ["RS256", "PS256", "EdDSA", "ES384", "HS512"] {
        let token = world
            .key
            .token_with(&json!({"alg": alg, "kid": "k1"}), &world.good());
        refused(world.redeem_for(&token).await, Code::ProviderAnswerInvalid);
    }
    let narrow = World::with_key(Key::ec("k1")).await;
    narrow
        .issuer
        .announce("id_token_signing_alg_values_supported", json!(["RS256"]));
    refused(
        narrow.redeem_with("", Value::Null).await,
        Code::ProviderAnswerInvalid,
    );
}

/// D07: keys and addresses in a token's header are ignored; nothing is fetched.
#[tokio::test]
async fn keys_in_the_header_are_ignored() {
    let world = World::new().await;
    let own = Key::ec("mine");
    let elsewhere = format!("{}/elsewhere", world.issuer.url);
    world
        .issuer
        .serve("/elsewhere", Page::json(&json!({"keys": [own.jwk()]})));
    for name in ["jku", "x5u", "jwk"] {
        let mut header = json!({"alg": "ES256", "kid": "mine"});
        header[name] = if name == "jwk" {
            own.jwk()
        } else {
            json!(elsewhere)
        };
        refused(
            world
                .redeem_for(&own.token_with(&header, &world.good()))
                .await,
            Code::ProviderAnswerInvalid,
        );
        // Under the known key's name, too.
        header["kid"] = "k1".into();
        refused(
            world
                .redeem_for(&own.token_with(&header, &world.good()))
                .await,
            Code::ProviderAnswerInvalid,
        );
    }
    assert_eq!(world.issuer.hits("/elsewhere"), 0);
}

/// Claims that say: not for you, not now, not this login, not this issuer.
#[tokio::test]
async fn wrong_claims_are_refused() {
    let world = World::new().await;
    let now = crate::clock::Clock.now().as_second();
    for (name, value, code) in [
        ("aud", json!("other"), Code::ProviderAnswerInvalid),
        ("aud", json!([]), Code::ProviderAnswerInvalid),
        ("aud", Value::Null, Code::ProviderAnswerInvalid),
        ("aud", json!({"client": true}), Code::ProviderAnswerInvalid),
        ("azp", json!("other"), Code::ProviderAnswerInvalid),
        ("azp", json!(1), Code::ProviderAnswerInvalid),
        ("exp", json!(now - 61), Code::ProviderAnswerInvalid),
        ("exp", Value::Null, Code::ProviderAnswerInvalid),
        ("exp", json!("tomorrow"), Code::ProviderAnswerInvalid),
        ("exp", json!(1e300), Code::ProviderAnswerInvalid),
        ("iat", json!(now + 120), Code::ProviderAnswerInvalid),
        ("iat", Value::Null, Code::ProviderAnswerInvalid),
        ("nonce", Value::Null, Code::NonceMismatch),
        ("nonce", json!("another"), Code::NonceMismatch),
        ("nonce", json!([NONCE]), Code::NonceMismatch),
        ("iss", json!("https://evil.example"), Code::IssuerMismatch),
        (
            "iss",
            json!(format!("{}/", world.issuer.url)),
            Code::IssuerMismatch,
        ),
        ("iss", Value::Null, Code::ProviderAnswerInvalid),
        ("sub", Value::Null, Code::ProviderAnswerInvalid),
        ("sub", json!(7), Code::ProviderAnswerInvalid),
        ("sub", json!(""), Code::ProviderAnswerInvalid),
        ("auth_time", json!("x"), Code::ProviderAnswerInvalid),
    ] {
        refused(world.redeem_with(name, value).await, code);
    }
}

/// Other tokens of the same issuer, and headers that demand more than we do, are refused.
#[tokio::test]
async fn other_tokens_are_refused() {
    let world = World::new().await;
    for header in [
        json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"}),
        json!({"alg": "ES256", "kid": "k1", "typ": "at+jwt"}),
        json!({"alg": "ES256", "kid": "k1", "typ": 1}),
        json!({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256", "kid": 1}),
    ] {
        let token = world.key.token_with(&header, &world.good());
        refused(world.redeem_for(&token).await, Code::ProviderAnswerInvalid);
    }
}

/// D16: what is encrypted, too long or no token at all is refused before it is opened.
#[tokio::test]
async fn malformed_tokens_are_refused() {
    let world = World::new().await;
    let padded = world
        .key
        .token(&world.claims("padding", json!("x".repeat(64 * 1024))));
    let good = world.key.token(&world.good());
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        padded.as_str(),
        // Five parts: encrypted, perhaps compressed.
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIiwiemlwIjoiREVGIn0....",
        &format!("{good}."),
        &format!("{good}AA"),
        &format!(" {good}"),
        good.trim_start_matches('e'),
    ] {
        refused(world.redeem_for(token).await, Code::ProviderAnswerInvalid);
    }
    world.issuer.serve(
        "/token",
        Page::json(&json!({"access_token": "x", "token_type": "Bearer"})),
    );
    refused(world.redeem().await, Code::ProviderAnswerInvalid);
}

/// A key that appears while logins go on is found, by one question.
#[tokio::test]
async fn rotated_keys_are_found() {
    let world = World::new().await;
    world.redeem_with("", Value::Null).await.unwrap();
    let next = Key::ec("k2");
    world.issuer.publish(&[&world.key, &next]);
    world.redeem_for(&next.token(&world.good())).await.unwrap();
    world.redeem_for(&next.token(&world.good())).await.unwrap();
    assert_eq!(world.issuer.hits("/jwks"), 2);

    // The same name with another key: the signature fails first.
    world
        .oidc()
        .discovery
        .grow_older(std::time::Duration::from_secs(61))
        .await;
    let replaced = Key::ec("k2");
    world.issuer.publish(&[&replaced]);
    world
        .redeem_for(&replaced.token(&world.good()))
        .await
        .unwrap();
    assert_eq!(world.issuer.hits("/jwks"), 3);
    refused(
        world.redeem_for(&next.token(&world.good())).await,
        Code::ProviderAnswerInvalid,
    );
}

/// D08: a thousand tokens with unknown keys cost the issuer one question a minute.
#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once() {
    let world = World::new().await;
    world.redeem_with("", Value::Null).await.unwrap();
    let stranger = Key::ec("k9");
    let oidc = world.oidc();
    let found = oidc.discovery.found().await.unwrap();
    for flood in 0..1000 {
        let header = json!({"alg": "ES256", "kid": format!("flood-{flood}")});
        let token = stranger.token_with(&header, &world.good());
        if flood < 20 {
            refused(world.redeem_for(&token).await, Code::ProviderAnswerInvalid);
        } else {
            let _ = oidc.discovery.newer_keys(&found).await;
        }
    }
    assert_eq!(world.issuer.hits("/jwks"), 2);
    oidc.discovery
        .grow_older(std::time::Duration::from_secs(61))
        .await;
    refused(
        world.redeem_for(&stranger.token(&world.good())).await,
        Code::ProviderAnswerInvalid,
    );
    refused(
        world.redeem_for(&stranger.token(&world.good())).await,
        Code::ProviderAnswerInvalid,
    );
    assert_eq!(world.issuer.hits("/jwks"), 3);
}

/// D13: an address counts as verified only where the provider says so with a boolean.
#[tokio::test]
async fn unverified_addresses_stay_unverified() {
    let world = World::new().await;
    for said in [
        json!("false"),
        json!("true"),
        json!(false),
        json!(1),
        Value::Null,
    ] {
        let identity = world
            .redeem_with("email_verified", said.clone())
            .await
            .unwrap();
        assert!(!identity.claims.email_verified, "{said}");
    }
    // D12
    let identity = world
        .redeem_with("email", json!("x@evil.test@example.test"))
        .await
        .unwrap();
    assert_eq!(
        (identity.claims.email, identity.claims.email_verified),
        (None, false)
    );
}

/// D15: user-info that is no object, or about somebody else, ends the login.
#[tokio::test]
async fn odd_user_info_is_refused() {
    let world = World::new().await;
    world.answer(&world.key.token(&world.claims("email", Value::Null)));
    for info in [
        json!(["sub", "ada"]),
        json!("ada"),
        json!(null),
        json!({}),
        json!({"sub": 1}),
        json!({"sub": "mal", "email": "ada@example.test", "email_verified": true}),
    ] {
        world.issuer.serve("/userinfo", Page::json(&info));
        refused(world.redeem().await, Code::ProviderAnswerInvalid);
    }
    for body in [
        "",
        "<html>",
        "{\"sub\":\"ada\"",
        &format!("{{\"sub\":\"ada\",\"x\":\"{}\"}}", "x".repeat(300_000)),
    ] {
        let page = Page {
            body: body.to_owned(),
            ..Page::json(&json!({}))
        };
        world.issuer.serve("/userinfo", page);
        refused(world.redeem().await, Code::ProviderAnswerInvalid);
    }
    world
        .issuer
        .serve("/userinfo", Page::status(403, &json!({"sub": "ada"})));
    refused(world.redeem().await, Code::ProviderAnswerInvalid);
}

/// What a provider answers instead of tokens, by whose doing it is; its texts are not repeated.
#[tokio::test]
async fn refusals_of_the_token_endpoint() {
    let world = World::new().await;
    let html = Page {
        body: "<html>".to_owned(),
        ..Page::json(&json!({}))
    };
    let description = "<script>alert('s3cret')</script>";
    let error = |error: &str| json!({"error": error, "error_description": description});
    for (page, code) in [
        (
            Page::status(400, &error("invalid_grant")),
            Code::ProviderRefused,
        ),
        (
            Page::status(400, &error("access_denied\u{202e}\n<b>")),
            Code::ProviderRefused,
        ),
        (
            Page::status(401, &error("invalid_client")),
            Code::ProviderMisconfigured,
        ),
        (
            Page::status(200, &error("invalid_grant")),
            Code::ProviderAnswerInvalid,
        ),
        (Page::status(503, &json!({})), Code::ProviderUnreachable),
        (Page::status(302, &json!({})), Code::ProviderAnswerInvalid),
        (html, Code::ProviderAnswerInvalid),
    ] {
        world.issuer.serve("/token", page);
        let error = world.redeem().await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("script") && !shown.contains('\u{202e}'),
            "{shown}"
        );
    }
}

/// No redirect is followed, with a code or a token in hand least of all.
#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::new().await;
    let away = Page {
        status: ::http::StatusCode::TEMPORARY_REDIRECT,
        headers: vec![("location", format!("{}/elsewhere", world.issuer.url))],
        body: String::new(),
    };
    world.issuer.serve("/elsewhere", Page::json(&json!({})));
    for path in [
        "/userinfo",
        "/token",
        "/jwks",
        "/.well-known/openid-configuration",
    ] {
        world.answer(&world.key.token(&world.claims("email", Value::Null)));
        world.issuer.serve(path, away.clone());
        let fresh = IdentityProvider::new(settings(&world.issuer.url), &http()).unwrap();
        let outcome = fresh
            .redeem(Secret::new("c0de".to_owned()), expect(None))
            .await;
        refused(outcome, Code::ProviderAnswerInvalid);
    }
    assert_eq!(world.issuer.hits("/elsewhere"), 0);
}
