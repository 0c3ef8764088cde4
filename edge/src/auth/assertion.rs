//! Who is signed in, for the upstream: plain headers, and a signed `Sallyport-Assertion` (JWT, EdDSA
//! with Ed25519) whose key follows from the cluster key. Its public part is at
//! `/.sallyport/jwks.json` of every endpoint, the previous cluster key's beside it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use papaya::HashMap;
use proto::id::SessionId;
use serde::Serialize;

use crate::model::session::Session;
use crate::secret::{self, ClusterKey};

/// Signs assertions and shows the keys that verify them.
pub(super) struct Assertions {
    key: Key,
    jwks: String,
    /// Signing costs more than everything else on a request's way, and facts of a session never change.
    /// Read without a lock.
    signed: HashMap<SessionId, Arc<Signed>>,
}

/// What the upstream is told, and since when.
#[derive(Debug)]
struct Signed {
    at: Timestamp,
    headers: Vec<(HeaderName, HeaderValue)>,
}

struct Key {
    pair: Ed25519KeyPair,
    id: String,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    sid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    email_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// The provider's name on this edge.
    provider: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Serialize)]
struct Jwks<'a> {
    keys: Vec<Jwk<'a>>,
}

#[derive(Serialize)]
struct Jwk<'a> {
    kty: &'a str,
    crv: &'a str,
    alg: &'a str,
    #[serde(rename = "use")]
    usage: &'a str,
    kid: &'a str,
    x: String,
}

impl Assertions {
    pub(super) fn new(current: &ClusterKey, previous: Option<&ClusterKey>) -> Self {
        let key = Key::of(current);
        let previous = previous.map(Key::of);
        let keys = [Some(&key), previous.as_ref()]
            .into_iter()
            .flatten()
            .map(Key::public)
            .collect();
        Self {
            // Strings only: writing them cannot fail.
            jwks: serde_json::to_string(&Jwks { keys }).unwrap_or_default(),
            key,
            signed: HashMap::new(),
        }
    }

    /// The public keys, as a JWKS document (RFC 7517).
    pub(super) fn jwks(&self) -> &str {
        &self.jwks
    }

    /// What the upstream is told of a session's person. `origin` gives the endpoint's: issuer and
    /// audience of the assertion.
    pub(super) fn headers(
        &self,
        session: &Session,
        origin: impl FnOnce() -> String,
        now: Timestamp,
    ) -> Vec<(HeaderName, HeaderValue)> {
        if let Some(signed) = self.signed.pin().get(&session.id)
            && signed.is_fresh(now)
        {
            return signed.headers.clone();
        }
        let headers = self.make(session, &origin(), now);
        let signed = Arc::new(Signed {
            at: now,
            headers: headers.clone(),
        });
        self.keep(session.id, signed, now);
        headers
    }

    /// Keeps what was signed; what is stale goes first, and everything when that is not enough.
    fn keep(&self, session: SessionId, fresh: Arc<Signed>, now: Timestamp) {
        let all = self.signed.pin();
        if all.len() >= SIGNED_MAX {
            all.retain(|_, signed| signed.is_fresh(now));
            if all.len() >= SIGNED_MAX {
                all.clear();
            }
        }
        all.insert(session, fresh);
    }

    fn make(
        &self,
        session: &Session,
        origin: &str,
        now: Timestamp,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let claims = &session.claims;
        // An address that nobody proved is no identity.
        let email = claims.email.as_deref().filter(|_| claims.email_verified);
        let id = session.user.to_string();
        let mut headers = Vec::with_capacity(7);
        for (ours, compatible, text) in [
            (USER_ID, NGROK_USER_ID, Some(id.as_str())),
            (USER_EMAIL, NGROK_USER_EMAIL, email),
            (USER_NAME, NGROK_USER_NAME, claims.name.as_deref()),
        ] {
            if let Some(value) = text.and_then(header_value) {
                headers.push((ours, value.clone()));
                headers.push((compatible, value));
            }
        }
        let assertion = self.sign(session, origin, now);
        headers.extend(assertion.map(|value| (ASSERTION, value)));
        headers
    }

    fn sign(&self, session: &Session, origin: &str, now: Timestamp) -> Option<HeaderValue> {
        let claims = &session.claims;
        let iat = now.as_second();
        let header = Header {
            alg: "EdDSA",
            typ: "sallyport-assertion+jwt",
            kid: &self.key.id,
        };
        let assertion = Assertion {
            iss: origin,
            aud: origin,
            sub: session.user.to_string(),
            sid: session.id.to_string(),
            email: claims.email.as_deref(),
            email_verified: claims.email_verified,
            name: claims.name.as_deref(),
            provider: &session.provider,
            iat,
            exp: iat.saturating_add(LIFE.as_secs().cast_signed()),
        };
        let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let signed = format!(
            "{}.{}",
            part(serde_json::to_vec(&header).ok()?),
            part(serde_json::to_vec(&assertion).ok()?)
        );
        let signature = self.key.pair.try_sign(signed.as_bytes()).ok()?;
        let mut value =
            HeaderValue::from_str(&format!("{signed}.{}", part(signature.as_ref().to_vec())))
                .ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Signed {
    /// A clock that went back makes nothing fresh.
    fn is_fresh(&self, now: Timestamp) -> bool {
        Duration::try_from(now.duration_since(self.at)).is_ok_and(|age| age < REUSE)
    }
}

impl Key {
    #[expect(
        clippy::expect_used,
        reason = "any 32 bytes are an Ed25519 seed (RFC 8032 §5.1.5)"
    )]
    fn of(cluster_key: &ClusterKey) -> Self {
        let seed = cluster_key.derive("assertion signing");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("a seed of 32 bytes");
        let thumbprint = secret::sha256(pair.public_key().as_ref());
        Self {
            id: URL_SAFE_NO_PAD.encode(thumbprint),
            pair,
        }
    }

    fn public(&self) -> Jwk<'_> {
        Jwk {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            usage: "sig",
            kid: &self.id,
            x: URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
        }
    }
}

/// A text as a header takes it: printable ASCII as it is, every other byte of its UTF-8, and `%`
/// itself, as `%XX`. Decoding per cent gives the text back.
fn header_value(text: &str) -> Option<HeaderValue> {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.trim().bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    let is_usable = !encoded.is_empty() && encoded.len() <= VALUE_BYTES_MAX;
    HeaderValue::from_str(&encoded).ok().filter(|_| is_usable)
}

const USER_ID: HeaderName = HeaderName::from_static("sallyport-user-id");
const USER_EMAIL: HeaderName = HeaderName::from_static("sallyport-user-email");
const USER_NAME: HeaderName = HeaderName::from_static("sallyport-user-name");
const NGROK_USER_ID: HeaderName = HeaderName::from_static("ngrok-auth-user-id");
const NGROK_USER_EMAIL: HeaderName = HeaderName::from_static("ngrok-auth-user-email");
const NGROK_USER_NAME: HeaderName = HeaderName::from_static("ngrok-auth-user-name");
const ASSERTION: HeaderName = HeaderName::from_static("sallyport-assertion");
/// How long an assertion is good for; an upstream's clock may be off by minutes.
const LIFE: Duration = Duration::from_mins(5);
/// How long one is sent again: whoever gets it has three minutes left.
const REUSE: Duration = Duration::from_mins(2);
/// About 1500 bytes each.
const SIGNED_MAX: usize = 10_000;
/// A longer name is left out: upstreams bound their heads.
const VALUE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::session;
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

    const ORIGIN: &str = "https://app.example.com:8443";

    /// a11: an assertion verifies with the published keys, for its own audience, and soon ends.
    #[test]
    fn verifies_with_the_published_keys() {
        let key = |byte| ClusterKey::new([byte; 32]);
        let assertions = Assertions::new(&key(1), None);
        let now = crate::clock::Clock.now();
        let headers = assertions.headers(&session(), || ORIGIN.to_owned(), now);
        let find = |wanted: &HeaderName| {
            headers
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value)
        };
        let token = find(&ASSERTION).unwrap();
        assert!(token.is_sensitive());
        let token = token.to_str().unwrap();
        let header = decode_header(token).unwrap();
        for assertions in [&assertions, &Assertions::new(&key(2), Some(&key(1)))] {
            let jwks: JwkSet = serde_json::from_str(assertions.jwks()).unwrap();
            let jwk = jwks.find(header.kid.as_deref().unwrap()).unwrap();
            let mut wanted = Validation::new(Algorithm::EdDSA);
            wanted.set_audience(&[ORIGIN]);
            wanted.set_issuer(&[ORIGIN]);
            let key = DecodingKey::from_jwk(jwk).unwrap();
            let token = decode::<serde_json::Value>(token, &key, &wanted).unwrap();
            assert_eq!(token.claims["email"], "ada@example.test");
            assert_eq!(token.claims["sub"], session().user.to_string());
            let life =
                token.claims["exp"].as_i64().unwrap() - token.claims["iat"].as_i64().unwrap();
            assert!(life <= 300);
            wanted.set_audience(&["https://other.example.com"]);
            assert!(decode::<serde_json::Value>(token_of(&headers), &key, &wanted).is_err());
        }
        let stranger: JwkSet = serde_json::from_str(Assertions::new(&key(3), None).jwks()).unwrap();
        assert!(stranger.find(header.kid.as_deref().unwrap()).is_none());
        assert_eq!(find(&USER_EMAIL).unwrap(), "ada@example.test");
        assert_eq!(find(&NGROK_USER_EMAIL), find(&USER_EMAIL));
        assert_eq!(find(&USER_ID).unwrap(), session().user.to_string().as_str());
    }

    /// One is sent again until somebody could get it with too little time left, and not longer; however
    /// many people come, a bounded number is kept.
    #[test]
    fn sent_again_for_a_while() {
        let assertions = Assertions::new(&ClusterKey::new([1; 32]), None);
        let begun = crate::clock::Clock.now();
        let at = |seconds| crate::auth::flow::after(begun, Duration::from_secs(seconds));
        let mut session = session();
        let token = |now| {
            let headers = assertions.headers(&session, || ORIGIN.to_owned(), now);
            token_of(&headers).to_owned()
        };
        let first = token(at(100));
        assert_eq!(token(at(219)), first);
        let second = token(at(220));
        assert_ne!(second, first);
        assert_ne!(token(at(100)), second, "a clock that went back");
        for _ in 0..SIGNED_MAX + 10 {
            session.id = secret::new_id(1_795_000_000_000);
            assertions.keep(
                session.id,
                Arc::new(Signed {
                    at: begun,
                    headers: Vec::new(),
                }),
                begun,
            );
            assert!(assertions.signed.len() <= SIGNED_MAX);
        }
    }

    fn token_of(headers: &[(HeaderName, HeaderValue)]) -> &str {
        let (_, value) = headers.iter().find(|(name, _)| *name == ASSERTION).unwrap();
        value.to_str().unwrap()
    }

    /// An address that nobody proved is not sent, and no name can break a header.
    #[test]
    fn plain_headers() {
        let assertions = Assertions::new(&ClusterKey::new([1; 32]), None);
        let mut session = session();
        session.claims.email_verified = false;
        session.claims.name = Some("Zo\u{eb}\r\nX-Admin: 1 100%".to_owned());
        let now = crate::clock::Clock.now();
        let headers = assertions.headers(&session, || ORIGIN.to_owned(), now);
        assert!(headers.iter().all(|(name, _)| *name != USER_EMAIL));
        let (_, name) = headers.iter().find(|(name, _)| *name == USER_NAME).unwrap();
        assert_eq!(name, "Zo%C3%AB%0D%0AX-Admin: 1 100%25");
        assert_eq!(header_value("  "), None);
        assert_eq!(header_value(&"\u{e4}".repeat(200)), None);
    }
}
