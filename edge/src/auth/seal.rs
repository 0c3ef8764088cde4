//! Seals what travels through a browser or waits in the store: tickets, login records, hand-overs.
//!
//! AES-256-GCM with random nonces and a key from the cluster key; what a value is for, and under
//! which name it is kept, is authenticated with it, so that none can stand in for another. The
//! previous key only opens.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use proto::code::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::secret::ClusterKey;

/// What a sealed value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Ticket,
    Login,
    HandOver,
}

/// The keys, newest first.
pub(super) struct Seals(Vec<Key>);

struct Key {
    id: [u8; KEY_ID_BYTES],
    key: RandomizedNonceKey,
}

impl Seals {
    pub(super) fn new(current: &ClusterKey, previous: Option<&ClusterKey>) -> Self {
        Self(
            [Some(current), previous]
                .into_iter()
                .flatten()
                .map(Key::of)
                .collect(),
        )
    }

    /// Seals a value under a name. The same value twice gives different bytes.
    ///
    /// # Errors
    /// `Internal`, when there is no randomness.
    pub(super) fn seal<T: Serialize>(
        &self,
        purpose: Purpose,
        name: &[u8],
        value: &T,
    ) -> Result<Vec<u8>, Code> {
        let key = self.0.first().ok_or(Code::Internal)?;
        let mut text = serde_json::to_vec(value).map_err(|_| Code::Internal)?;
        let nonce = key
            .key
            .seal_in_place_append_tag(Aad::from(purpose.named(name)), &mut text)
            .map_err(|_| Code::Internal)?;
        Ok([&key.id[..], nonce.as_ref(), &text].concat())
    }

    /// Opens a value that was sealed for this purpose under this name.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        name: &[u8],
        sealed: &[u8],
    ) -> Option<T> {
        let (id, rest) = sealed.split_at_checked(KEY_ID_BYTES)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let key = self.0.iter().find(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let text = key
            .key
            .open_in_place(nonce, Aad::from(purpose.named(name)), &mut text)
            .ok()?;
        serde_json::from_slice(text).ok()
    }
}

impl Key {
    #[expect(
        clippy::expect_used,
        reason = "a derived key has the 32 bytes that AES-256 wants"
    )]
    fn of(cluster_key: &ClusterKey) -> Self {
        let [a, b, c, d, ..] = *cluster_key.derive("login sealing key id").expose();
        let key = cluster_key.derive("login sealing");
        Self {
            id: [a, b, c, d],
            key: RandomizedNonceKey::new(&AES_256_GCM, key.expose()).expect("a key of 32 bytes"),
        }
    }
}

impl Purpose {
    fn named(self, name: &[u8]) -> Vec<u8> {
        let purpose: &[u8] = match self {
            Self::Ticket => b"ticket/",
            Self::Login => b"login/",
            Self::HandOver => b"hand-over/",
        };
        [purpose, name].concat()
    }
}

const KEY_ID_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::new([byte; 32])
    }

    /// e14: the same value sealed twice differs; it opens for its own purpose and name only.
    #[test]
    fn opens_what_it_sealed() {
        let seals = Seals::new(&key(1), None);
        let value = "v".to_owned();
        let a = seals.seal(Purpose::Login, b"n", &value).unwrap();
        let b = seals.seal(Purpose::Login, b"n", &value).unwrap();
        assert_ne!(a, b);
        let open =
            |purpose, name: &[u8], sealed: &[u8]| seals.open::<String>(purpose, name, sealed);
        assert_eq!(open(Purpose::Login, b"n", &a), Some(value.clone()));
        assert_eq!(open(Purpose::HandOver, b"n", &a), None);
        assert_eq!(open(Purpose::Login, b"m", &a), None);
        for at in 0..a.len() {
            let mut changed = a.clone();
            changed[at] ^= 1;
            assert_eq!(open(Purpose::Login, b"n", &changed), None, "{at}");
            assert_eq!(open(Purpose::Login, b"n", &a[..at]), None, "{at}");
        }
        let rotated = Seals::new(&key(2), Some(&key(1)));
        assert_eq!(rotated.open(Purpose::Login, b"n", &a), Some(value.clone()));
        let newer = rotated.seal(Purpose::Login, b"n", &value).unwrap();
        assert_eq!(open(Purpose::Login, b"n", &newer), None);
    }
}
