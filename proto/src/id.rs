//! Identifiers: 160 bits that sort by time, with a prefix that says of what.
//!
//! The text form is `<prefix><27 base62 characters>`, the shape of a KSUID: 32 bits of seconds since
//! 2014-05-13 16:53:20 UTC, then, ours, 16 bits of the second's fraction so that ids made within a
//! second still sort, then 112 random bits. An id opens nothing: it may be logged and listed.
//! Randomness and time come in as arguments.

use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an [`Id`] names. Implemented by empty types only.
pub trait Kind {
    /// The text in front of the 27 characters, its underscore included.
    const PREFIX: &'static str;
}

/// An identifier of a `K`: 20 bytes, ordered by creation time.
pub struct Id<K> {
    bytes: [u8; ID_BYTES],
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Id<K> {
    /// Makes an id from the wall clock (milliseconds since the Unix epoch) and random bytes.
    ///
    /// Times outside the 32 bits of seconds that an id holds (2014 to 2150) are clamped.
    pub fn new(unix_ms: u64, random: [u8; 14]) -> Self {
        let since_epoch_ms = unix_ms.saturating_sub(EPOCH_UNIX_MS);
        let seconds = u32::try_from(since_epoch_ms / 1000).unwrap_or(u32::MAX);
        // 1 ms is 65.536 parts of a 16-bit fraction; 999 ms give 65470, which fits.
        let fraction = u16::try_from((since_epoch_ms % 1000) * 65_536 / 1000).unwrap_or(u16::MAX);
        let mut bytes = [0; ID_BYTES];
        let (head, tail) = bytes.split_at_mut(6);
        let (time, part) = head.split_at_mut(4);
        time.copy_from_slice(&seconds.to_be_bytes());
        part.copy_from_slice(&fraction.to_be_bytes());
        tail.copy_from_slice(&random);
        Self::from_bytes(bytes)
    }

    /// Takes an id as it travels in binary.
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self {
            bytes,
            kind: PhantomData,
        }
    }

    /// Gives the 20 bytes, big-endian: comparing them compares times.
    pub const fn to_bytes(self) -> [u8; ID_BYTES] {
        self.bytes
    }

    /// Parses the text form; anything but the exact canonical text is refused.
    ///
    /// # Errors
    /// [`InvalidId`] when prefix, length, alphabet or range is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix(K::PREFIX).ok_or(InvalidId)?;
        decode_base62(digits).map(Self::from_bytes).ok_or(InvalidId)
    }

    /// The 27 characters without the prefix.
    pub fn ksuid(&self) -> String {
        encode_base62(self.bytes)
    }
}

/// A text that is no identifier of the expected kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an identifier of this kind")]
pub struct InvalidId;

macro_rules! kinds {
    ($($(#[$doc:meta])* $alias:ident, $kind:ident, $prefix:literal;)*) => {$(
        #[doc = concat!("Marks an [`Id`] that begins with `", $prefix, "`.")]
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind { const PREFIX: &'static str = $prefix; }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    /// A public URL bound to an upstream and a policy.
    EndpointId, Endpoint, "ep_";
    /// One authenticated agent connection (ngrok calls it a tunnel session).
    TunnelId, Tunnel, "ts_";
    /// One agent's lasting identity.
    InstanceId, Instance, "inst_";
    /// A signed-in browser of an App User at an endpoint.
    SessionId, Session, "app_sess_";
    /// An App User: issuer and subject.
    UserId, User, "app_user_";
    /// A process of `edge`.
    EdgeId, Edge, "edge_";
    /// One public request.
    RequestId, Request, "req_";
    /// What an agent authenticates with (ngrok calls it a credential).
    AuthtokenId, Authtoken, "cr_";
    /// What an API client authenticates with.
    ApiKeyId, ApiKey, "ak_";
    /// The record of what a revocation reached.
    ReceiptId, Receipt, "rcpt_";
    /// A login under way.
    LoginId, Login, "login_";
    /// An operator's dashboard sign-in.
    OperatorId, Operator, "opr_";
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}
impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::PREFIX)?;
        f.write_str(&self.ksuid())
    }
}
impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<K: Kind> FromStr for Id<K> {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}
impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Divides the number by 62 until nothing is left, digit by digit from the right.
fn encode_base62(bytes: [u8; ID_BYTES]) -> String {
    // Ids are written for every request: five digits at a time are a tenth of the work.
    let mut limbs = [0_u32; ID_BYTES / 4];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *limb = u32::from_be_bytes(*chunk);
    }
    let mut digits = [b'0'; ID_DIGITS];
    for group in digits.rchunks_mut(GROUP_DIGITS) {
        let mut rest = 0_u64;
        for limb in &mut limbs {
            let value = (rest << 32) | u64::from(*limb);
            // rest < GROUP, so the quotient fits a limb.
            *limb = u32::try_from(value / GROUP).unwrap_or(u32::MAX);
            rest = value % GROUP;
        }
        for digit in group.iter_mut().rev() {
            let place = usize::try_from(rest % 62).unwrap_or(0);
            *digit = ALPHABET.get(place).copied().unwrap_or(b'0');
            rest /= 62;
        }
    }
    String::from_utf8_lossy(&digits).into_owned()
}

fn decode_base62(text: &str) -> Option<[u8; ID_BYTES]> {
    if text.len() != ID_DIGITS {
        return None;
    }
    let mut bytes = [0_u8; ID_BYTES];
    for character in text.bytes() {
        let digit = match character {
            b'0'..=b'9' => character - b'0',
            b'A'..=b'Z' => character - b'A' + 10,
            b'a'..=b'z' => character - b'a' + 36,
            _ => return None,
        };
        let mut carry = u32::from(digit);
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            let [.., low] = value.to_be_bytes();
            *byte = low;
            carry = value >> 8;
        }
        if carry != 0 {
            return None; // above 2^160 - 1
        }
    }
    Some(bytes)
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Length of an id in binary.
pub const ID_BYTES: usize = 20;
const ID_DIGITS: usize = 27;
/// As many digits as fit a limb of 32 bits.
const GROUP_DIGITS: usize = 5;
const GROUP: u64 = 62_u64.pow(5);
/// The KSUID epoch, 2014-05-13T16:53:20Z.
const EPOCH_UNIX_MS: u64 = 1_400_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_round_trips_and_sorts_by_time() {
        let early = SessionId::new(1_795_000_000_000, [0xff; 14]);
        let late = SessionId::new(1_795_000_000_001, [0; 14]);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
        assert_eq!(SessionId::parse(&early.to_string()), Ok(early));
        assert_eq!(early.ksuid().len(), 27);
    }

    #[test]
    fn only_the_canonical_text_parses() {
        let id = UserId::new(1_795_000_000_000, [7; 14]);
        for wrong in [
            "",
            "app_user_",
            &id.ksuid(),
            &id.to_string().replace("app_user_", "app_sess_"),
            &format_args!("{id}0").to_string(),
            "app_user_zzzzzzzzzzzzzzzzzzzzzzzzzzz",
            "app_user_000000000000000000000000-00",
        ] {
            assert_eq!(UserId::parse(wrong), Err(InvalidId), "{wrong}");
        }
        let largest = UserId::from_bytes([0xff; ID_BYTES]);
        assert_eq!(UserId::parse(&largest.to_string()), Ok(largest));
    }
}
