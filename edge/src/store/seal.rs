//! Sealing: what the store keeps of people is unreadable without the cluster key, and a value moved
//! to another place does not open there.
//!
//! AES-256-GCM, the key's id in front, a random nonce for each value, table and key as associated
//! data. Random 96-bit nonces are good for 2^32 values under one key, some hundred million logins.
//! No file, no table, no format of records here.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::secret;

/// Seals with the newest key; opens with that and the one before, so that a key can be replaced
/// without rewriting the store.
#[derive(Clone)]
pub(crate) struct Sealer(Arc<Keys>);

struct Keys {
    current: Key,
    previous: Option<Key>,
}

struct Key {
    id: [u8; KEY_ID_LEN],
    aead: RandomizedNonceKey,
}

impl Sealer {
    /// Takes keys derived from the cluster key for this purpose alone.
    pub(crate) fn new(current: &[u8; 32], previous: Option<&[u8; 32]>) -> Self {
        Self(Arc::new(Keys {
            current: Key::new(current),
            previous: previous.map(Key::new),
        }))
    }

    /// Seals a value for one place. The same value sealed twice differs.
    #[expect(
        clippy::expect_used,
        reason = "fails only beyond 64 GiB; no value of the store comes near"
    )]
    pub(crate) fn seal(&self, table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
        let Key { id, aead } = &self.0.current;
        let mut body = value.to_vec();
        let nonce = aead
            .seal_in_place_append_tag(place(table, key), &mut body)
            .expect("AES-256-GCM seals any value of the store");
        [&id[..], &nonce.as_ref()[..], &body].concat()
    }

    /// Opens a value at the place that it was sealed for; `None` when it is damaged, moved, or sealed
    /// with an unknown key.
    pub(crate) fn open(&self, table: &str, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID_LEN>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let sealing = [Some(&self.0.current), self.0.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.id == *id)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = sealing
            .aead
            .open_in_place(nonce, place(table, key), &mut body)
            .ok()?
            .len();
        body.truncate(opened);
        Some(body)
    }

    /// Whether a value was sealed with the newest key.
    pub(crate) fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&self.0.current.id)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Key {
    #[expect(clippy::expect_used, reason = "32 bytes is the key length of AES-256")]
    fn new(bytes: &[u8; 32]) -> Self {
        let digest = secret::sha256(&[&b"sallyport key id"[..], bytes].concat());
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(digest.split_at(KEY_ID_LEN).0);
        Self {
            id,
            aead: RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key"),
        }
    }
}

/// Names of tables hold no zero byte, so that two places never read the same.
fn place(table: &str, key: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([table.as_bytes(), &[0], key].concat())
}

/// Tells keys apart; says nothing of the key.
const KEY_ID_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seals of one value have nothing in common: no nonce is static (E14).
    #[test]
    fn the_same_value_never_seals_alike() {
        let sealer = Sealer::new(&[7; 32], None);
        let mut nonces = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let sealed = sealer.seal("sessions", b"key", b"ada@example.test");
            assert!(!sealed.windows(3).any(|part| part == b"ada"));
            assert!(nonces.insert(sealed[KEY_ID_LEN..KEY_ID_LEN + NONCE_LEN].to_vec()));
            assert_eq!(
                sealer.open("sessions", b"key", &sealed).as_deref(),
                Some(&b"ada@example.test"[..])
            );
        }
    }

    /// A value opens at its own place only, whole, and with its own key.
    #[test]
    fn moved_damaged_or_foreign_values_do_not_open() {
        let sealer = Sealer::new(&[7; 32], None);
        let sealed = sealer.seal("sessions", b"one", b"value");
        assert!(sealer.open("sessions", b"two", &sealed).is_none());
        assert!(sealer.open("users", b"one", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(sealer.open("sessions", b"one", &damaged).is_none());
            assert!(sealer.open("sessions", b"one", &sealed[..at]).is_none());
        }
        let other = Sealer::new(&[8; 32], None);
        assert!(other.open("sessions", b"one", &sealed).is_none());
    }

    /// After a change of keys the old values still open, and new ones use the new key.
    #[test]
    fn rotation_reads_both_and_writes_the_newest() {
        let old = Sealer::new(&[1; 32], None);
        let both = Sealer::new(&[2; 32], Some(&[1; 32]));
        let from_old = old.seal("users", b"k", b"v");
        assert_eq!(
            both.open("users", b"k", &from_old).as_deref(),
            Some(&b"v"[..])
        );
        assert!(!both.is_current(&from_old));
        let from_both = both.seal("users", b"k", b"v");
        assert!(both.is_current(&from_both));
        assert!(old.open("users", b"k", &from_both).is_none());
        assert!(
            Sealer::new(&[2; 32], None)
                .open("users", b"k", &from_both)
                .is_some()
        );
    }
}
