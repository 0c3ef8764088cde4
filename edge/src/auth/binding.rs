//! Binding cookies: what ties one login to the browser that began it, on the endpoint's host and on
//! the auth host alike.
//!
//! Each carries the login's id in its name, so parallel tabs never overwrite one another; at most 16
//! stay, the oldest are dropped. Records keep a hash of the value, never the value.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, HeaderValue};
use proto::id::LoginId;
use serde::{Deserialize, Serialize};

use crate::auth::cookie;
use crate::secret;

/// The hash of a binding cookie's value, in base64url.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Bound(String);

impl Bound {
    /// Whether a request comes from the browser that this login was bound to.
    pub(super) fn holds(&self, login: LoginId, headers: &HeaderMap) -> bool {
        cookie::the_one(headers, &name(login))
            .is_some_and(|value| secret::equal(hash(value).as_bytes(), self.0.as_bytes()))
    }
}

/// Binds a login to the browser that sent these headers: what to remember, and the cookies to set.
/// The first sets the binding; further ones remove the oldest where there are too many.
pub(super) fn bind(
    login: LoginId,
    headers: &HeaderMap,
    life: Duration,
) -> (Bound, Vec<HeaderValue>) {
    let value = URL_SAFE_NO_PAD.encode(secret::random::<32>());
    let mut older: Vec<LoginId> = cookie::pairs(headers)
        .filter_map(|(name, _)| login_of(name))
        .filter(|other| *other != login)
        .collect();
    older.sort_unstable();
    older.dedup();
    let surplus = (older.len() + 1).saturating_sub(BINDINGS_MAX);
    let mut cookies = vec![cookie::set(&name(login), &value, life)];
    cookies.extend(older.into_iter().take(surplus.min(CLEARED_MAX)).map(clear));
    (Bound(hash(&value)), cookies)
}

/// Removes a login's binding.
pub(super) fn clear(login: LoginId) -> HeaderValue {
    cookie::clear(&name(login))
}

fn name(login: LoginId) -> String {
    format!("{PREFIX}{}", login.ksuid())
}

fn login_of(name: &str) -> Option<LoginId> {
    let ksuid = name.strip_prefix(PREFIX)?;
    LoginId::parse(&format!("login_{ksuid}")).ok()
}

fn hash(value: &str) -> String {
    URL_SAFE_NO_PAD.encode(secret::sha256(value.as_bytes()))
}

const PREFIX: &str = "__Host-sallyport-login-";
/// Logins under way in one browser, about 100 bytes of `Cookie` header each.
const BINDINGS_MAX: usize = 16;
/// Removals in one answer: a client may send any number of cookies.
const CLEARED_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::COOKIE;

    fn id(at: u64) -> LoginId {
        LoginId::new(1_795_000_000_000 + at, [1; 14])
    }

    fn sent(cookies: &[HeaderValue]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            headers.append(COOKIE, pair.parse().unwrap());
        }
        headers
    }

    /// d01: a login goes on in its own browser only.
    #[test]
    fn binds_one_browser() {
        let life = Duration::from_mins(10);
        let (bound, cookies) = bind(id(1), &HeaderMap::new(), life);
        assert_eq!(cookies.len(), 1);
        let own = sent(&cookies);
        assert!(bound.holds(id(1), &own));
        assert!(!bound.holds(id(2), &own));
        assert!(!bound.holds(id(1), &HeaderMap::new()));
        let (_, other) = bind(id(1), &HeaderMap::new(), life);
        assert!(!bound.holds(id(1), &sent(&other)));
        let twice = sent(&[cookies[0].clone(), other[0].clone()]);
        assert!(!bound.holds(id(1), &twice));
    }

    /// d03: sixteen logins may be under way; the oldest go first.
    #[test]
    fn drops_the_oldest() {
        let life = Duration::from_mins(10);
        let mut jar = HeaderMap::new();
        for at in (0..16).rev() {
            let (_, cookies) = bind(id(at), &jar, life);
            assert_eq!(cookies.len(), 1, "{at}");
            jar.append(COOKIE, sent(&cookies)[COOKIE].clone());
        }
        let (_, cookies) = bind(id(16), &jar, life);
        assert_eq!(cookies.len(), 2);
        assert_eq!(cookies[1], clear(id(0)));
    }
}
