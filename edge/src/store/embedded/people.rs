//! App Users, and what is remembered of a person between their sessions.
//!
//! A person is found by a keyed hash of issuer and subject, so that the file does not tell who is in
//! it even to somebody who can guess names.

use aws_lc_rs::hmac;
use jiff::Timestamp;
use proto::id::{EndpointId, UserId};
use redb::ReadableTable as _;

use super::super::{Page, Person};
use super::expiry::Expiring;
use super::fail::Fail;
use super::marks::{self, Marked};
use super::sessions;
use super::table::{
    Keys, MARKS, PERSONS, PERSONS_AT, USER_ACTIVE, USERS, View, Writing, micros, time,
};
use crate::model::change::Revision;
use crate::model::user::{Claims, User};

/// What is remembered of a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    /// `None` once the App User was deleted.
    pub(super) user: Option<UserId>,
    /// Revision of their newest session.
    pub(super) signed_in: Revision,
    /// Revision of the newest revocation of them or of a session of theirs.
    pub(super) revoked: Revision,
    /// All this is forgotten then.
    pub(super) until: i64,
}

/// The key of a person in the index.
pub(super) fn person_key(keys: &Keys, issuer: &str, subject: &str) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, keys.index.expose());
    let mut context = hmac::Context::with_key(&key);
    context.update(&(issuer.len() as u64).to_be_bytes());
    context.update(issuer.as_bytes());
    context.update(subject.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

pub(super) fn remembered(view: &impl View, person: &[u8; 32]) -> Result<Option<Remembered>, Fail> {
    let rows = view.table(PERSONS)?;
    let Some(row) = rows.get(person)? else {
        return Ok(None);
    };
    let (user, signed_in, revoked, until) = row.value();
    Ok(Some(Remembered {
        user: user.try_into().ok().map(UserId::from_bytes),
        signed_in: Revision(signed_in),
        revoked: Revision(revoked),
        until,
    }))
}

/// An App User with the newest activity; `None` when absent or deleted.
pub(super) fn user(view: &impl View, id: UserId) -> Result<Option<User>, Fail> {
    let Some(mut user) = view.record::<User>(USERS, id.to_bytes())? else {
        return Ok(None);
    };
    freshen(view, &mut user)?;
    Ok(Some(user))
}

/// App Users, newest first.
pub(super) fn users(view: &impl View, page: Page<UserId>) -> Result<Vec<User>, Fail> {
    let before = page.before.map_or([0xff; 20], UserId::to_bytes);
    let mut found = Vec::new();
    let rows = view.table(USERS)?;
    for row in rows.range::<&[u8; 20]>(..&before)?.rev().take(limit(&page)) {
        let (id, sealed) = row?;
        let mut user: User =
            view.keys()
                .open(redb::TableHandle::name(&USERS), id.value(), sealed.value())?;
        freshen(view, &mut user)?;
        found.push(user);
    }
    Ok(found)
}

pub(super) fn limit<I>(page: &Page<I>) -> usize {
    page.limit.clamp(1, PAGE_MAX)
}

/// Whether the person must prove themselves again.
pub(super) fn interactive_due(view: &impl View, person: &Person) -> Result<bool, Fail> {
    let key = person_key(view.keys(), &person.issuer, &person.subject);
    let Some(known) = remembered(view, &key)? else {
        return Ok(false);
    };
    let over = |marked: Marked<'_>| {
        let mark = marks::mark(view, &marked)?;
        Ok::<_, Fail>(mark.map_or(Revision(0), |mark| mark.revision))
    };
    if known.revoked > known.signed_in
        || over(Marked::All)? > known.signed_in
        || over(Marked::Provider(&person.provider))? > known.signed_in
    {
        return Ok(true);
    }
    // A silent login elsewhere proves nothing here: the endpoint's mark is compared with the last
    // session at the endpoint itself.
    let at = view
        .table(PERSONS_AT)?
        .get((&key, &person.endpoint.to_bytes()))?
        .map(|revision| Revision(revision.value()));
    Ok(match at {
        Some(at) => over(Marked::Endpoint(person.endpoint))? > at,
        None => false,
    })
}

impl Writing<'_> {
    pub(super) fn remember(&self, person: &[u8; 32], known: Remembered) -> Result<(), Fail> {
        let user = known.user.map(UserId::to_bytes);
        let row = (
            user.as_ref().map_or(&[][..], |id| &id[..]),
            known.signed_in.0,
            known.revoked.0,
            known.until,
        );
        let before = self
            .table(PERSONS)?
            .insert(person, row)?
            .map(|row| row.value().3);
        let what = Expiring::Person(*person);
        match before {
            Some(before) if before == known.until => Ok(()),
            Some(before) => {
                self.expires_no_more(before, &what)?;
                self.expires(known.until, &what)
            }
            None => self.expires(known.until, &what),
        }
    }

    /// Notes that a person or a session of theirs was revoked.
    pub(super) fn note_revoked(&self, claims: &Claims, revision: Revision) -> Result<(), Fail> {
        let person = person_key(self.keys, &claims.issuer, &claims.subject);
        match remembered(self, &person)? {
            Some(known) => self.remember(
                &person,
                Remembered {
                    revoked: revision,
                    ..known
                },
            ),
            None => Ok(()),
        }
    }

    /// Records a login of the person and gives their user. `until` is when they may be forgotten.
    pub(super) fn signed_in(
        &self,
        person: &[u8; 32],
        known: Option<Remembered>,
        user: &User,
        at: (EndpointId, Revision),
        until: i64,
    ) -> Result<(), Fail> {
        let (endpoint, revision) = at;
        self.remember(
            person,
            Remembered {
                user: Some(user.id),
                signed_in: revision,
                revoked: known.map_or(Revision(0), |known| known.revoked),
                until: known.map_or(until, |known| known.until.max(until)),
            },
        )?;
        self.table(PERSONS_AT)?
            .insert((person, &endpoint.to_bytes()), revision.0)?;
        self.user_active(user.id, micros(user.last_active))?;
        self.put(USERS, user.id.to_bytes(), user)
    }

    /// Raises a user's last activity; the user exists.
    pub(super) fn user_active(&self, id: UserId, at: i64) -> Result<(), Fail> {
        let mut rows = self.table(USER_ACTIVE)?;
        let newest = rows
            .get(&id.to_bytes())?
            .map_or(at, |found| found.value().max(at));
        rows.insert(&id.to_bytes(), newest)?;
        Ok(())
    }

    /// Deletes a user's record. What is remembered of the person stays, without the user.
    pub(super) fn delete_user(&self, user: &User, at: Timestamp) -> Result<(), Fail> {
        let person = person_key(self.keys, &user.claims.issuer, &user.claims.subject);
        if let Some(known) = remembered(self, &person)? {
            self.remember(
                &person,
                Remembered {
                    user: None,
                    ..known
                },
            )?;
        }
        self.remove_user(user.id)?;
        // Their sessions are dead and go one by one; the mark outlives them.
        self.expires(
            marks::kept_until(at),
            &Expiring::Mark(Marked::User(user.id).to_bytes()),
        )
    }

    fn remove_user(&self, id: UserId) -> Result<(), Fail> {
        self.table(USERS)?.remove(&id.to_bytes())?;
        self.table(USER_ACTIVE)?.remove(&id.to_bytes())?;
        Ok(())
    }

    /// Forgets a person whose time has come, and their user; false when they were seen since.
    pub(super) fn forget(&self, person: &[u8; 32], now: Timestamp) -> Result<bool, Fail> {
        let Some(known) = remembered(self, person)? else {
            return Ok(false);
        };
        if known.until > micros(now) {
            self.expires(known.until, &Expiring::Person(*person))?;
            return Ok(false);
        }
        if let Some(user) = known.user {
            if sessions::has_any(self, user)? {
                // Swept in the same hour: their rows come first.
                self.expires(marks::kept_until(now), &Expiring::Person(*person))?;
                return Ok(false);
            }
            self.remove_user(user)?;
            self.table(MARKS)?
                .remove(Marked::User(user).to_bytes().as_slice())?;
        }
        self.table(PERSONS)?.remove(person)?;
        let mut at = self.table(PERSONS_AT)?;
        let mut keys = Vec::new();
        for row in at.range((person, &[0; 20])..=(person, &[0xff; 20]))? {
            keys.push(*row?.0.value().1);
        }
        for endpoint in &keys {
            at.remove((person, endpoint))?;
        }
        Ok(true)
    }
}

fn freshen(view: &impl View, user: &mut User) -> Result<(), Fail> {
    let rows = view.table(USER_ACTIVE)?;
    if let Some(active) = rows.get(&user.id.to_bytes())? {
        user.last_active = user.last_active.max(time(active.value()));
    }
    Ok(())
}

/// Entries of a page.
const PAGE_MAX: usize = 1000;
