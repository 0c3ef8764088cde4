//! Codes that are good once: the `state` of a login and the code of a hand-over.
//!
//! 192 random bits and a MAC over them: a made-up code is refused here, and costs the store nothing.
//! The store sees a hash, so that reading it opens no login that is under way; what it keeps under
//! the hash, it seals.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use proto::code::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{Auth, store_code};
use crate::secret::{self, ClusterKey};
use crate::store::OnceKind;

/// Makes and reads codes; those of the previous key are still read.
pub(super) struct Codes {
    current: hmac::Key,
    previous: Option<hmac::Key>,
}

impl Codes {
    pub(super) fn new(current: &ClusterKey, previous: Option<&ClusterKey>) -> Self {
        let key = |cluster_key: &ClusterKey| {
            let key = cluster_key.derive("one-time code MAC");
            hmac::Key::new(hmac::HMAC_SHA256, key.expose())
        };
        Self {
            current: key(current),
            previous: previous.map(key),
        }
    }

    /// A new code.
    pub(super) fn make(&self) -> String {
        let random = secret::random::<RANDOM_BYTES>();
        let mac = tag(&self.current, &random);
        URL_SAFE_NO_PAD.encode([&random[..], &mac].concat())
    }

    /// Where the store keeps what belongs to a code; `None` for one that we did not make.
    pub(super) fn key_of(&self, code: &str) -> Option<[u8; 32]> {
        if code.len() > CODE_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(code).ok()?;
        let (random, mac) = bytes.split_at_checked(RANDOM_BYTES)?;
        let is_ours = |key: &hmac::Key| secret::equal(&tag(key, random), mac);
        let is_known = is_ours(&self.current) || self.previous.as_ref().is_some_and(is_ours);
        is_known.then(|| secret::sha256(random))
    }
}

impl Auth {
    /// Keeps a value under a new code.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn put_once<T: Serialize>(
        &self,
        kind: OnceKind,
        value: &T,
        until: Timestamp,
    ) -> Result<String, Code> {
        let code = self.codes.make();
        self.put_once_under(kind, &code, value, until).await?;
        Ok(code)
    }

    /// As [`Auth::put_once`], under a code that was made before.
    pub(super) async fn put_once_under<T: Serialize>(
        &self,
        kind: OnceKind,
        code: &str,
        value: &T,
        until: Timestamp,
    ) -> Result<(), Code> {
        let key = self.codes.key_of(code).ok_or(Code::Internal)?;
        let text = serde_json::to_vec(value).map_err(|_| Code::Internal)?;
        self.store
            .put_once(kind, key, text, until)
            .await
            .map_err(|error| store_code(&error))
    }

    /// Reads and deletes in one step what is kept under a code; `None` for one that is not known, or
    /// was used.
    ///
    /// # Errors
    /// The store's: then it is not known whether the code is good, and nobody is let in.
    pub(super) async fn take_once<T: DeserializeOwned>(
        &self,
        kind: OnceKind,
        code: &str,
    ) -> Result<Option<T>, Code> {
        let Some(key) = self.codes.key_of(code) else {
            return Ok(None);
        };
        let taken = self.store.take_once(kind, key, self.clock.now()).await;
        let text = taken.map_err(|error| store_code(&error))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }
}

/// The first half of an HMAC-SHA-256 (RFC 2104 §5).
fn tag(key: &hmac::Key, random: &[u8]) -> [u8; MAC_BYTES] {
    let mut half = [0; MAC_BYTES];
    for (to, from) in half.iter_mut().zip(hmac::sign(key, random).as_ref()) {
        *to = *from;
    }
    half
}

const RANDOM_BYTES: usize = 24;
const MAC_BYTES: usize = 16;
/// 40 bytes in base64url.
const CODE_BYTES_MAX: usize = 54;

#[cfg(test)]
mod tests {
    use super::*;

    /// d01: a code that we did not make is refused before the store is asked, whatever its form.
    #[test]
    fn only_ours() {
        let key = |byte| ClusterKey::new([byte; 32]);
        let codes = Codes::new(&key(1), None);
        let code = codes.make();
        assert_eq!(code.len(), CODE_BYTES_MAX);
        let kept = codes.key_of(&code).unwrap();
        assert_eq!(codes.key_of(&code), Some(kept));
        assert_ne!(codes.key_of(&codes.make()), Some(kept));
        let rotated = Codes::new(&key(2), Some(&key(1)));
        assert_eq!(rotated.key_of(&code), Some(kept));
        assert_eq!(codes.key_of(&rotated.make()), None);
        for at in 0..code.len() {
            let mut bytes = code.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(codes.key_of(&changed), None, "{at}");
            let (head, _) = code.split_at(at);
            assert_eq!(codes.key_of(head), None, "{at}");
        }
        for wrong in [
            "",
            "a",
            &"A".repeat(54),
            &"A".repeat(10_000),
            &format!("{code}="),
        ] {
            assert_eq!(codes.key_of(wrong), None, "{wrong}");
        }
    }
}
