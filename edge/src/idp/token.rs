//! Verifies ID tokens (OIDC Core §3.1.3.7). The algorithm is pinned before a key is looked for, and
//! nothing in a token's header but `alg` and `kid` is believed: no `jku`, no `x5u`, no `jwk`.
//!
//! Signatures are checked by openidconnect's keys; the claims are read here, because that crate
//! refuses whole tokens for claims that nobody asks for, and for the bare issuer of Google.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use openidconnect::core::{CoreJsonWebKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey, SignatureVerificationError};
use serde_json::{Map, Value};

use super::IdpError;
use crate::secret;

/// What may sign an ID token. Never `none`, and nothing with a shared secret.
pub(super) const ALGORITHMS: [CoreJwsSigningAlgorithm; 4] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// What a token is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks<'a> {
    pub(super) issuer: &'a str,
    /// The issuer may come without its `https://`.
    pub(super) bare_issuer: bool,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) algorithms: &'a [CoreJwsSigningAlgorithm],
    pub(super) access_token: &'a str,
    pub(super) now: Timestamp,
}

/// Why a token is not accepted.
#[derive(Debug)]
pub(super) enum TokenFault {
    /// No known key verifies it: perhaps there are newer ones.
    Key,
    Refused(IdpError),
}

impl From<IdpError> for TokenFault {
    fn from(error: IdpError) -> Self {
        Self::Refused(error)
    }
}

/// Checks signature and claims; gives all claims, as the provider sent them.
pub(super) fn verify(
    token: &str,
    keys: &CoreJsonWebKeySet,
    checks: &Checks<'_>,
) -> Result<Map<String, Value>, TokenFault> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(refused("it is too long"));
    }
    let (signed, signature) = token
        .rsplit_once('.')
        .ok_or_else(|| refused("it is not a signed token"))?;
    let (header, payload) = signed
        .split_once('.')
        .filter(|(_, payload)| !payload.contains('.'))
        .ok_or_else(|| refused("it is not a signed token"))?;
    let header = object(header)?;
    let algorithm = algorithm(&header, checks.algorithms)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| refused("its signature cannot be read"))?;
    let key = signing_key(keys, &header, &algorithm, signed.as_bytes(), &signature)?;
    let claims = object(payload)?;
    check_claims(&claims, checks)?;
    check_access_token(&claims, key, &algorithm, checks.access_token)?;
    Ok(claims)
}

/// The pinned algorithm that a header names.
fn algorithm(
    header: &Map<String, Value>,
    allowed: &[CoreJwsSigningAlgorithm],
) -> Result<CoreJwsSigningAlgorithm, TokenFault> {
    let algorithm = match text(header, "alg") {
        Some("RS256") => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
        Some("ES256") => CoreJwsSigningAlgorithm::EcdsaP256Sha256,
        Some("PS256") => CoreJwsSigningAlgorithm::RsaSsaPssSha256,
        Some("EdDSA") => CoreJwsSigningAlgorithm::EdDsa,
        _ => return Err(refused("its algorithm is not allowed")),
    };
    if !allowed.contains(&algorithm) {
        return Err(refused(
            "its algorithm is not one that the provider announces",
        ));
    }
    if header.contains_key("crit") {
        return Err(refused("its header demands an extension"));
    }
    // Other tokens of the same issuer (logout, access) must not pass for one.
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if typ.eq_ignore_ascii_case("JWT") => {}
        Some(_) => return Err(refused("it is a token of another type")),
    }
    Ok(algorithm)
}

/// The key that made the signature, among those that may have.
fn signing_key<'k>(
    keys: &'k CoreJsonWebKeySet,
    header: &Map<String, Value>,
    algorithm: &CoreJwsSigningAlgorithm,
    signed: &[u8],
    signature: &[u8],
) -> Result<&'k CoreJsonWebKey, TokenFault> {
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str()),
        Some(_) => return Err(refused("its key id is not a text")),
    };
    let mut tries = TRIES_MAX;
    for key in keys.keys() {
        if kid.is_some() && kid != key.key_id().map(|id| id.as_str()) {
            continue;
        }
        match key.verify_signature(algorithm, signed, signature) {
            Ok(()) => return Ok(key),
            // Of another type, or for another use.
            Err(SignatureVerificationError::InvalidKey(_)) => {}
            Err(_) if tries > 0 => tries -= 1,
            Err(_) => break,
        }
    }
    Err(TokenFault::Key)
}

fn check_claims(claims: &Map<String, Value>, checks: &Checks<'_>) -> Result<(), TokenFault> {
    let issuer = text(claims, "iss").ok_or_else(|| refused("it names no issuer"))?;
    let bare = checks
        .issuer
        .strip_prefix("https://")
        .filter(|_| checks.bare_issuer);
    if issuer != checks.issuer && Some(issuer) != bare {
        return Err(IdpError::issuer(issuer).into());
    }
    check_audience(claims, checks.client_id)?;
    let expires = moment(claims, "exp")?.ok_or_else(|| refused("it never expires"))?;
    if expires <= earlier(checks.now) {
        return Err(refused("it has expired"));
    }
    let issued =
        moment(claims, "iat")?.ok_or_else(|| refused("it does not say when it was issued"))?;
    if issued > later(checks.now) {
        return Err(refused("it was issued in the future"));
    }
    let nonce = text(claims, "nonce").ok_or(IdpError::Nonce)?;
    if !secret::equal(nonce.as_bytes(), checks.nonce.as_bytes()) {
        return Err(IdpError::Nonce.into());
    }
    Ok(())
}

/// `aud` must name us; where it names others too, `azp` must say that the token is ours.
fn check_audience(claims: &Map<String, Value>, client_id: &str) -> Result<(), TokenFault> {
    let (ours, alone) = match claims.get("aud") {
        Some(Value::String(audience)) => (audience == client_id, true),
        Some(Value::Array(audiences)) => (
            audiences
                .iter()
                .any(|audience| audience.as_str() == Some(client_id)),
            audiences.len() == 1,
        ),
        _ => (false, true),
    };
    let party = match claims.get("azp") {
        None | Some(Value::Null) => alone,
        Some(party) => party.as_str() == Some(client_id),
    };
    if ours && party {
        Ok(())
    } else {
        Err(refused("it is for another client"))
    }
}

/// OIDC Core §3.1.3.6: where the token says which access token came with it, it must be this one.
fn check_access_token(
    claims: &Map<String, Value>,
    key: &CoreJsonWebKey,
    algorithm: &CoreJwsSigningAlgorithm,
    access_token: &str,
) -> Result<(), TokenFault> {
    let claimed = match claims.get("at_hash") {
        None | Some(Value::Null) => return Ok(()),
        Some(claimed) => claimed.as_str(),
    };
    let hash = key
        .hash_bytes(access_token.as_bytes(), algorithm)
        .map_err(|_| refused("its at_hash cannot be checked"))?;
    let half = hash.get(..hash.len() / 2).unwrap_or_default();
    if claimed.map(|claimed| claimed.trim_end_matches('=')) == Some(&URL_SAFE_NO_PAD.encode(half)) {
        Ok(())
    } else {
        Err(refused("it came with another access token"))
    }
}

/// When the person last proved who they are.
pub(super) fn auth_time(claims: &Map<String, Value>) -> Result<Option<Timestamp>, IdpError> {
    moment(claims, "auth_time").map_err(|fault| match fault {
        TokenFault::Refused(error) => error,
        TokenFault::Key => IdpError::answer("its ID token cannot be read"),
    })
}

/// A moment less what clocks may differ.
pub(super) fn earlier(moment: Timestamp) -> Timestamp {
    moment.saturating_sub(SKEW).unwrap_or(moment)
}

/// A moment plus what clocks may differ.
pub(super) fn later(moment: Timestamp) -> Timestamp {
    moment.saturating_add(SKEW).unwrap_or(moment)
}

/// A `NumericDate` (RFC 7519 §2), which some providers send with a fraction.
fn moment(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, TokenFault> {
    let Some(value) = claims.get(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of f64 saturates; far ends fail below"
    )]
    let seconds = value
        .as_i64()
        .or_else(|| value.as_f64().map(|seconds| seconds as i64));
    seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map(Some)
        .ok_or_else(|| refused("a moment in it cannot be read"))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn object(part: &str) -> Result<Map<String, Value>, TokenFault> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| refused("it cannot be read"))?;
    serde_json::from_slice(&bytes).map_err(|_| refused("it cannot be read"))
}

fn refused(why: &str) -> TokenFault {
    TokenFault::Refused(IdpError::answer(format!("its ID token is refused: {why}")))
}

const TOKEN_BYTES_MAX: usize = 64 * 1024;
const SKEW: SignedDuration = SignedDuration::from_secs(60);
/// Signatures checked for one token beyond the first. Only tokens without a `kid` need more.
const TRIES_MAX: usize = 7;
