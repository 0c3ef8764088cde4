//! The session cookie `__Host-sallyport`: `version . key id . session id . secret . MAC`.
//!
//! The MAC (HMAC-SHA-256 with a key from the cluster key) is checked in process, in constant time,
//! before anything else is read from the value: a forged id never reaches the store. A session id
//! alone opens nothing, since the store compares a hash of the secret. An unprefixed twin is never
//! read, and of two cookies of our name neither is trusted.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderValue};
use proto::id::SessionId;

use crate::secret::{ClusterKey, Secret};

/// Mints and reads session cookies: the current key for both, the previous one for reading only.
pub(super) struct Cookies {
    current: Key,
    previous: Option<Key>,
}

struct Key {
    id: String,
    mac: hmac::Key,
}

/// What a genuine cookie says.
pub(super) struct SessionCookie {
    pub(super) id: SessionId,
    pub(super) secret: Secret<[u8; 32]>,
}

impl Cookies {
    pub(super) fn new(current: &ClusterKey, previous: Option<&ClusterKey>) -> Self {
        Self {
            current: Key::of(current),
            previous: previous.map(Key::of),
        }
    }

    /// The value for a new session.
    pub(super) fn mint(&self, id: SessionId, secret: &Secret<[u8; 32]>) -> Secret<String> {
        let signed = format!(
            "{VERSION}.{}.{}.{}",
            self.current.id,
            URL_SAFE_NO_PAD.encode(id.to_bytes()),
            URL_SAFE_NO_PAD.encode(secret.expose()),
        );
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&self.current.mac, signed.as_bytes()));
        Secret::new(format!("{signed}.{mac}"))
    }

    /// The session cookie of a request, if there is exactly one and we made it.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<SessionCookie> {
        self.read(the_one(headers, SESSION)?)
    }

    fn read(&self, value: &str) -> Option<SessionCookie> {
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        let (signed, mac) = value.rsplit_once('.')?;
        let mut parts = signed.split('.');
        let mut next = || parts.next();
        let (version, key, id, secret) = (next()?, next()?, next()?, next()?);
        if version != VERSION || next().is_some() {
            return None;
        }
        let key = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|known| known.id == key)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&key.mac, signed.as_bytes(), &mac).ok()?;
        let id = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        Some(SessionCookie {
            id: SessionId::from_bytes(id),
            secret: Secret::new(secret),
        })
    }
}

impl Key {
    fn of(cluster_key: &ClusterKey) -> Self {
        let [a, b, c, d, ..] = *cluster_key.derive("session cookie key id").expose();
        let mac = cluster_key.derive("session cookie MAC");
        Self {
            id: URL_SAFE_NO_PAD.encode([a, b, c, d]),
            mac: hmac::Key::new(hmac::HMAC_SHA256, mac.expose()),
        }
    }
}

/// Every cookie of a request. HTTP/2 sends them as separate values: those are joined by going on
/// from one to the next, since a crumb holds whole pairs (RFC 9113 §8.2.3).
pub(super) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair.trim_ascii()).ok()?.split_once('='))
}

/// The value of the cookie of that name when it occurs exactly once.
pub(super) fn the_one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = pairs(headers).filter(|(found, _)| *found == name);
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

/// A `Set-Cookie` value for this host alone.
pub(super) fn set(name: &str, value: &str, life: Duration) -> HeaderValue {
    let text = format!("{name}={value}; Max-Age={}; {ATTRIBUTES}", life.as_secs());
    // Names and values are of the base64url alphabet and dots.
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// A `Set-Cookie` value that removes a cookie.
pub(super) fn clear(name: &str) -> HeaderValue {
    set(name, "", Duration::ZERO)
}

pub(super) const SESSION: &str = "__Host-sallyport";
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";
const VERSION: &str = "1";
/// 1 + 6 + 27 + 43 + 43 characters and four dots.
const VALUE_BYTES_MAX: usize = 124;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::new([byte; 32])
    }

    fn minted(cookies: &Cookies) -> (SessionId, String) {
        let id = secret::new_id(1_795_000_000_000);
        let value = cookies.mint(id, &Secret::new([7; 32]));
        (id, value.expose().clone())
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::COOKIE, value.parse().unwrap());
        }
        headers
    }

    /// e02, e06, e11: only what we made is read; every changed, missing or added byte makes it a
    /// stranger's.
    #[test]
    fn every_byte_counts() {
        let cookies = Cookies::new(&key(1), None);
        let (id, value) = minted(&cookies);
        assert_eq!(value.len(), VALUE_BYTES_MAX);
        let read = cookies.read(&value).unwrap();
        assert_eq!((read.id, *read.secret.expose()), (id, [7; 32]));
        for at in 0..value.len() {
            for bit in 0..7 {
                let mut bytes = value.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(cookies.read(&changed).is_none(), "{at} {changed}");
            }
            let (head, tail) = value.split_at(at);
            assert!(cookies.read(head).is_none());
            assert!(tail.len() == value.len() || cookies.read(tail).is_none());
        }
        let rest = value.strip_prefix("1.").unwrap();
        for wrong in [
            String::new(),
            ".".repeat(4),
            "x".repeat(10_000),
            format!("{value}="),
            format!("2.{rest}"),
            format!("1.{value}"),
            format!("\"{value}\""),
            id.to_string(),
        ] {
            assert!(cookies.read(&wrong).is_none(), "{wrong}");
        }
    }

    /// Keys rotate without logging anyone out; a key that is gone reads nothing.
    #[test]
    fn two_keys() {
        let (id, old) = minted(&Cookies::new(&key(1), None));
        let rotated = Cookies::new(&key(2), Some(&key(1)));
        assert_eq!(rotated.read(&old).unwrap().id, id);
        let (_, new) = minted(&rotated);
        assert!(Cookies::new(&key(1), None).read(&new).is_none());
        assert!(Cookies::new(&key(2), None).read(&new).is_some());
        assert!(Cookies::new(&key(3), Some(&key(2))).read(&old).is_none());
    }

    /// e03, e04, e05: one cookie of exactly our name, in whatever crumb; otherwise none.
    #[test]
    fn one_cookie() {
        let cookies = Cookies::new(&key(1), None);
        let (_, value) = minted(&cookies);
        let ours = format!("__Host-sallyport={value}");
        let is_read = |values: &[&str]| cookies.of(&headers(values)).is_some();
        assert!(is_read(&[&ours]));
        assert!(is_read(&[&format!("a=1; {ours};b=2")]));
        assert!(is_read(&[
            "a=1",
            &ours,
            "b=2",
            "__Host-sallyport_chunks=99999999"
        ]));
        assert!(!is_read(&[]));
        assert!(!is_read(&[&format!("{ours}; {ours}")]));
        assert!(!is_read(&[&ours, "__Host-sallyport=x"]));
        assert!(!is_read(&[&ours, "__Host-sallyport="]));
        for twin in [
            "sallyport",
            "__host-sallyport",
            "__Secure-sallyport",
            "__Host-sallyport2",
        ] {
            assert!(!is_read(&[&format!("{twin}={value}")]), "{twin}");
        }
    }

    /// e05: the attributes keep a cookie on its own host, over TLS, and away from scripts.
    #[test]
    fn attributes() {
        assert_eq!(
            set(SESSION, "v", Duration::from_mins(1)),
            "__Host-sallyport=v; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
        assert!(set(SESSION, "v", Duration::from_mins(1)).is_sensitive());
        assert_eq!(
            clear(SESSION),
            "__Host-sallyport=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
    }
}
