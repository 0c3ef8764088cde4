//! What the provider remembers: who is signed in, which codes and access tokens are out. In memory,
//! bounded, and everything ends by itself. Time comes in as an argument, so the tests need not wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::dev_provider::people::Person;

/// A browser that is signed in at the provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login {
    pub(super) person: &'static Person,
    /// When the form was sent, in seconds since 1970.
    pub(super) auth_time: u64,
}

/// What an authorization code stands for.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) login: Login,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) nonce: Option<String>,
    pub(super) scope: String,
}

/// What an access token lets its bearer see.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) person: &'static Person,
    pub(super) scope: String,
}

/// All of it, behind locks that are never held across a wait.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    logins: Mutex<Expiring<Login>>,
    codes: Mutex<Expiring<Code>>,
    access: Mutex<Expiring<Access>>,
}

#[derive(Clone, Debug)]
enum Code {
    Fresh(Grant),
    /// Redeemed for this access token, which ends when somebody tries again (RFC 6749 §4.1.2).
    Spent(String),
}

impl Ledger {
    pub(super) fn sign_in(&self, now: u64, cookie: String, login: Login) {
        with(&self.logins, |logins| {
            logins.put(now, LOGIN_SECONDS, cookie, login);
        });
    }

    pub(super) fn login(&self, now: u64, cookie: &str) -> Option<Login> {
        with(&self.logins, |logins| logins.find(now, cookie).copied())
    }

    pub(super) fn sign_out(&self, cookie: &str) {
        with(&self.logins, |logins| logins.drop_one(cookie));
    }

    pub(super) fn issue(&self, now: u64, code: String, grant: Grant) {
        with(&self.codes, |codes| {
            codes.put(now, CODE_SECONDS, code, Code::Fresh(grant));
        });
    }

    /// Spends a code for an access token. A second attempt fails and ends what the first one got, and so
    /// does a first one that `check` refuses: a code is shown once.
    pub(super) fn redeem<E>(
        &self,
        now: u64,
        code: &str,
        token: &str,
        check: impl FnOnce(&Grant) -> Result<(), E>,
    ) -> Option<Result<Grant, E>> {
        let found = with(&self.codes, |codes| {
            let entry = codes.find_mut(now, code)?;
            Some(std::mem::replace(entry, Code::Spent(token.to_owned())))
        });
        let grant = match found? {
            Code::Fresh(grant) => grant,
            Code::Spent(earlier) => {
                with(&self.access, |access| access.drop_one(&earlier));
                return None;
            }
        };
        if let Err(error) = check(&grant) {
            return Some(Err(error));
        }
        let seen = Access {
            person: grant.login.person,
            scope: grant.scope.clone(),
        };
        with(&self.access, |access| {
            access.put(now, TOKEN_SECONDS, token.to_owned(), seen);
        });
        Some(Ok(grant))
    }

    pub(super) fn access(&self, now: u64, token: &str) -> Option<Access> {
        with(&self.access, |access| access.find(now, token).cloned())
    }
}

fn with<T, R>(locked: &Mutex<T>, act: impl FnOnce(&mut T) -> R) -> R {
    act(&mut locked.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A bounded map whose entries end.
#[derive(Debug)]
struct Expiring<V> {
    entries: HashMap<String, (u64, V)>,
}

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
        }
    }
}

impl<V> Expiring<V> {
    fn put(&mut self, now: u64, seconds: u64, key: String, value: V) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.retain(|_, (end, _)| *end > now);
        }
        if self.entries.len() >= ENTRIES_MAX {
            let soonest = self.entries.iter().min_by_key(|(_, (end, _))| *end);
            if let Some(key) = soonest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
        self.entries
            .insert(key, (now.saturating_add(seconds), value));
    }

    fn find(&self, now: u64, key: &str) -> Option<&V> {
        let (end, value) = self.entries.get(key)?;
        (*end > now).then_some(value)
    }

    fn find_mut(&mut self, now: u64, key: &str) -> Option<&mut V> {
        let (end, value) = self.entries.get_mut(key)?;
        (*end > now).then_some(value)
    }

    fn drop_one(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

/// A working day.
pub(super) const LOGIN_SECONDS: u64 = 12 * 60 * 60;
/// Long enough for any redirect, short enough to be worthless in a log.
pub(super) const CODE_SECONDS: u64 = 60;
pub(super) const TOKEN_SECONDS: u64 = 60 * 60;
/// Per kind; more than any test opens, and a few megabytes at most.
pub(super) const ENTRIES_MAX: usize = 10_000;
