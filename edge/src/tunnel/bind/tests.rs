//! Labels, and what an agent is told of the rule that it asked for.

use std::time::Duration;

use proto::bind::UpstreamProtocol;

use super::*;
use crate::store::embedded::Embedded;
use crate::store::seal::Sealer;

/// Labels are what DNS and certificates take.
#[test]
fn labels() {
    for good in ["a", "my-app", "x1", &"a".repeat(63)] {
        assert!(is_label(good), "{good}");
    }
    for bad in [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a_b",
        "ä",
        "xn--\u{e4}",
        &"a".repeat(64),
    ] {
        assert!(!is_label(bad), "{bad}");
    }
    assert!(ADJECTIVES.iter().chain(ANIMALS).all(|word| is_label(word)));
}

/// Endpoints that let in anybody who has an account at a public provider are bound with a loud notice;
/// a rule, or a provider of one's own, needs none. An unknown provider is refused, and those that are
/// known are named.
#[tokio::test]
async fn an_open_door_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store");
    let edge = secret::new_id(Clock.unix_ms());
    let engine = Embedded::open(&file, Sealer::new(&[7; 32], None), edge)
        .await
        .unwrap();
    let store = Arc::new(Store::Embedded(engine));
    for name in ["google", "own"] {
        let record = ProviderRecord {
            name: name.to_owned(),
            kind: "oidc".to_owned(),
            issuer: "https://issuer.example".to_owned(),
            client_id: "id".to_owned(),
            client_secret: "secret".to_owned(),
            scopes: Vec::new(),
            created_at: Clock.now(),
        };
        store.put_provider(record).await.unwrap();
    }
    let binder = Binder {
        store,
        site: Site {
            domain: "otter.localhost".to_owned(),
            port: 8443,
        },
        clock: Clock,
        session_life: Duration::from_hours(24),
        idle_limit: None,
        name_key: Secret::new([7; 32]),
        is_public: |provider| provider.name == "google",
    };
    let asker = Asker {
        authtoken: secret::new_id(Clock.unix_ms()),
        instance: secret::new_id(Clock.unix_ms()),
    };
    let claim = async |provider: &str, domains: &[&str]| {
        let request = BindRequest {
            request: 1,
            url: Some("app".to_owned()),
            generation: 1,
            upstream: "http://localhost:8080".to_owned(),
            pooling: false,
            login: Some(LoginOptions {
                provider: provider.to_owned(),
                allow_emails: Vec::new(),
                allow_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            }),
            upstream_protocol: UpstreamProtocol::Http1,
            host_header: None,
        };
        binder.claim(asker, &request, |_, _| Ok(())).await
    };
    let codes = |granted: Granted| -> Vec<Code> {
        granted.notices.iter().map(|notice| notice.code).collect()
    };
    let open = claim("google", &[]).await.unwrap();
    assert_eq!(open.url, "https://app.otter.localhost:8443");
    assert_eq!(codes(open), [Code::AnyoneMaySignIn]);
    assert_eq!(codes(claim("google", &["example.test"]).await.unwrap()), []);
    assert_eq!(codes(claim("own", &[]).await.unwrap()), []);
    let unknown = claim("okta", &[]).await.unwrap_err();
    assert_eq!(unknown.code, Code::UnknownProvider);
    assert!(
        unknown.message.contains("google, own"),
        "{}",
        unknown.message
    );
    let unusable = claim("own", &["*.example.test"]).await.unwrap_err();
    assert_eq!(unusable.code, Code::AllowRuleInvalid);
}
