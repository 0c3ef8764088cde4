//! A login against a small issuer on loopback: what is accepted, and what must never be.

mod hostile;
mod issuer;
mod login;
mod provider;

use jiff::Timestamp;
use proto::code::Code;
use serde_json::{Value, json};

use super::*;
use issuer::{Issuer, Key, Page};

const CALLBACK: &str = "https://auth.quay.localhost/callback/dev";
const NONCE: &str = "n0nce-n0nce-n0nce-n0nce-n0nce-n0nce-n0nce-n0";
const VERIFIER: &str = "verifier-verifier-verifier-verifier-verifier";
const ACCESS_TOKEN: &str = "access-t0ken";

/// An issuer with one key, and the provider that is registered for it.
struct World {
    issuer: Issuer,
    key: Key,
    provider: IdentityProvider,
}

impl World {
    async fn new() -> Self {
        Self::with_key(Key::ec("k1")).await
    }

    async fn with_key(key: Key) -> Self {
        let issuer = Issuer::start().await;
        issuer.publish(&[&key]);
        let provider = IdentityProvider::new(settings(&issuer.url), &http()).unwrap();
        Self {
            issuer,
            key,
            provider,
        }
    }

    /// What a good ID token says, with one claim changed; `null` removes it.
    fn claims(&self, name: &str, value: Value) -> Value {
        let now = crate::clock::Clock.now().as_second();
        let mut claims = json!({
            "iss": self.issuer.url, "aud": "client", "sub": "ada", "nonce": NONCE,
            "iat": now, "exp": now + 300,
            "email": "ada@example.test", "email_verified": true, "name": "Ada",
        });
        let members = claims.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.to_owned(), value);
        }
        claims
    }

    fn good(&self) -> Value {
        self.claims("", Value::Null)
    }

    /// Lets the token endpoint answer with this ID token.
    fn answer(&self, id_token: &str) {
        let answer =
            json!({"access_token": ACCESS_TOKEN, "token_type": "Bearer", "id_token": id_token});
        self.issuer.serve("/token", Page::json(&answer));
    }

    async fn redeem(&self) -> Result<Identity, IdpError> {
        self.provider
            .redeem(Secret::new("c0de".to_owned()), expect(None))
            .await
    }

    /// Redeems a code for this ID token.
    async fn redeem_for(&self, id_token: &str) -> Result<Identity, IdpError> {
        self.answer(id_token);
        self.redeem().await
    }

    /// Redeems a code for a token that is signed well and has one claim changed.
    async fn redeem_with(&self, name: &str, value: Value) -> Result<Identity, IdpError> {
        self.redeem_for(&self.key.token(&self.claims(name, value)))
            .await
    }

    async fn authorize_url(&self, interactive: bool) -> Result<String, IdpError> {
        let begin = Begin {
            redirect_uri: CALLBACK,
            state: "st4te",
            nonce: NONCE,
            verifier: VERIFIER,
            interactive,
        };
        self.provider.authorize_url(begin).await
    }

    fn oidc(&self) -> &Oidc {
        let Kind::Oidc(oidc) = &self.provider.0;
        oidc
    }
}

fn expect(interactive_since: Option<Timestamp>) -> Expect<'static> {
    Expect {
        redirect_uri: CALLBACK,
        nonce: NONCE,
        verifier: VERIFIER,
        interactive_since,
        now: crate::clock::Clock.now(),
    }
}

fn settings(issuer: &str) -> ProviderSettings {
    let secret = Secret::new("s3cret/+:".to_owned());
    ProviderSettings::resolve("dev", "oidc", Some(issuer), "client", secret, Vec::new()).unwrap()
}

fn http() -> Http {
    Http::new(&HttpOptions {
        allow_loopback_http: true,
        extra_roots: Vec::new(),
    })
    .unwrap()
}

#[track_caller]
fn refused(outcome: Result<Identity, IdpError>, code: Code) {
    match outcome {
        Ok(identity) => panic!("accepted: {identity:?}"),
        Err(error) => assert_eq!(error.code(), code, "{error}"),
    }
}
