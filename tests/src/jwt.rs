//! JSON web tokens: read, verified, and made by the lying provider.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Header and claims, unverified.
pub fn decode(token: &str) -> (Value, Value) {
    let mut parts = token.split('.');
    let mut part =
        || serde_json::from_slice(&from_base64(parts.next().expect("three parts"))).expect("JSON");
    (part(), part())
}

/// Whether the signature is of the JWKS key that the header names.
pub fn is_signed_by(token: &str, jwks: &Value) -> bool {
    let (header, _) = decode(token);
    let Some(key) = jwks["keys"]
        .as_array()
        .and_then(|keys| keys.iter().find(|key| key["kid"] == header["kid"]))
    else {
        return false;
    };
    let Some((signed, mac)) = token.rsplit_once('.') else {
        return false;
    };
    let field = |name: &str| from_base64(key[name].as_str().unwrap_or_default());
    let mac = from_base64(mac);
    match header["alg"].as_str() {
        Some("ES256") => {
            let mut point = vec![4];
            point.extend(field("x"));
            point.extend(field("y"));
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .verify(signed.as_bytes(), &mac)
                .is_ok()
        }
        Some("EdDSA") => UnparsedPublicKey::new(&signature::ED25519, field("x"))
            .verify(signed.as_bytes(), &mac)
            .is_ok(),
        _ => false,
    }
}

/// An RSA key that signs ID tokens.
#[derive(Debug)]
pub struct SigningKey(KeyPair);

impl SigningKey {
    pub fn generate() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    /// The key as a provider publishes it.
    pub fn jwk(&self, kid: &str) -> Value {
        let public = self.0.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        })
    }

    /// A token signed with RS256.
    pub fn sign(&self, kid: &str, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": kid });
        let signed = format!("{}.{}", to_base64(&header), to_base64(claims));
        let mut mac = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &signature::RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut mac,
            )
            .expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }
}

/// A token without a signature.
pub fn unsigned(claims: &Value) -> String {
    format!(
        "{}.{}.",
        to_base64(&json!({ "alg": "none", "typ": "JWT" })),
        to_base64(claims)
    )
}

fn to_base64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn from_base64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
}
