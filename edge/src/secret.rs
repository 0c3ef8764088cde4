//! Secrets and randomness: a masked wrapper, hashes, constant-time comparison, and the cluster key
//! with what is derived from it. Nothing here reads a file or prints a secret.

use std::cell::RefCell;
use std::fmt;

use aws_lc_rs::{constant_time, digest, hkdf, rand};
use proto::id::{Id, Kind};
use zeroize::{Zeroize, ZeroizeOnDrop};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A value that is never printed and is wiped when dropped.
#[derive(Clone, Eq, PartialEq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: the caller must not log it or put it in a URL.
    pub(crate) const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The root of cookie MACs, sealing and the link CA. 32 random bytes, the same on every edge, never
/// in the store.
#[derive(Clone, Debug)]
pub(crate) struct ClusterKey(Secret<[u8; 32]>);

impl ClusterKey {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// Makes a new one.
    pub(crate) fn generate() -> Self {
        Self::new(random())
    }

    /// Reads the text form: 43 characters of unpadded base64url, white space around it ignored.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok()?;
        Some(Self::new(bytes.try_into().ok()?))
    }

    /// The text form, for the key's file.
    pub(crate) fn to_text(&self) -> Secret<String> {
        Secret::new(URL_SAFE_NO_PAD.encode(self.0.expose()))
    }

    /// An independent key for one purpose (HKDF-SHA-256, RFC 5869).
    pub(crate) fn derive(&self, purpose: &'static str) -> Secret<[u8; 32]> {
        let info = [purpose.as_bytes()];
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sallyport/1").extract(self.0.expose());
        let mut out = [0; 32];
        #[expect(
            clippy::expect_used,
            reason = "32 bytes is far below the 255 blocks that HKDF-SHA-256 can give"
        )]
        key.expand(&info, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut out))
            .expect("HKDF gives 32 bytes");
        Secret::new(out)
    }
}

/// Random bytes from the operating system.
#[expect(
    clippy::expect_used,
    reason = "without randomness nothing secret may be made: the task ends here"
)]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A new identifier, made now.
pub(crate) fn new_id<K: Kind>(unix_ms: u64) -> Id<K> {
    Id::new(unix_ms, random())
}

/// As [`new_id`], for what wants one at every request: from the same generator, drawn many at a time. The
/// bytes wait in memory, so only for ids that protect nothing.
pub(crate) fn new_id_drawn_ahead<K: Kind>(unix_ms: u64) -> Id<K> {
    thread_local! {
        static DRAWN: RefCell<Vec<[u8; ID_RANDOM_BYTES]>> = const { RefCell::new(Vec::new()) };
    }
    let random = DRAWN.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            let bytes: [u8; ID_RANDOM_BYTES * DRAWN_AHEAD] = random();
            drawn.extend(bytes.as_chunks().0);
        }
        drawn.pop()
    });
    Id::new(unix_ms, random.unwrap_or_else(self::random))
}

/// SHA-256. Enough for secrets of 256 random bits; not for passwords.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Compares without telling by its time where the first difference is.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

const ID_RANDOM_BYTES: usize = 14;
/// A call of the generator costs as much as the look-up of a session; of 64 ids, one makes it.
const DRAWN_AHEAD: usize = 64;
