//! One-time values: put, taken once, and things that may be seen once.
//!
//! Putting is not worth a sync: what is lost with the machine is a login that begins anew. Taking
//! and seeing are, since what was taken must not come back, neither with a restart nor when a failed
//! disk rolls back what was not synced.

use jiff::Timestamp;
use redb::{ReadableTable as _, ReadableTableMetadata as _, TableHandle as _};

use super::super::{OnceKind, StoreError};
use super::expiry::Expiring;
use super::fail::Fail;
use super::table::{Commit, ONCE, SEEN, View as _, Writing, micros};

pub(super) fn put(
    tx: &Writing<'_>,
    kind: OnceKind,
    key: &[u8; 32],
    value: &[u8],
    until: Timestamp,
) -> Result<((), Commit), Fail> {
    let kind = number(kind);
    if tx.table(ONCE)?.len()? >= HELD_MAX {
        return Err(StoreError::Full(None).into());
    }
    let sealed = tx.keys.sealer.seal(ONCE.name(), &place(kind, key), value);
    let until = micros(until);
    let before = tx
        .table(ONCE)?
        .insert((kind, key), (until, sealed.as_slice()))?
        .map(|before| before.value().0);
    let what = Expiring::Once(kind, *key);
    if let Some(before) = before {
        tx.expires_no_more(before, &what)?;
    }
    tx.expires(until, &what)?;
    Ok(((), Commit::Soon))
}

pub(super) fn take(
    tx: &Writing<'_>,
    kind: OnceKind,
    key: &[u8; 32],
    now: Timestamp,
) -> Result<(Option<Vec<u8>>, Commit), Fail> {
    let kind = number(kind);
    let taken = tx.table(ONCE)?.remove((kind, key))?.map(|row| {
        let (until, sealed) = row.value();
        (until, sealed.to_vec())
    });
    let Some((until, sealed)) = taken else {
        return Ok((None, Commit::Not));
    };
    tx.expires_no_more(until, &Expiring::Once(kind, *key))?;
    if until <= micros(now) {
        return Ok((None, Commit::Soon));
    }
    let value = tx
        .keys
        .sealer
        .open(ONCE.name(), &place(kind, key), &sealed)
        .ok_or(StoreError::Unreadable {
            what: "a one-time value",
        })?;
    Ok((Some(value), Commit::Now))
}

/// True the first time.
pub(super) fn see(
    tx: &Writing<'_>,
    key: &[u8; 32],
    now: Timestamp,
    until: Timestamp,
) -> Result<(bool, Commit), Fail> {
    let mut rows = tx.table(SEEN)?;
    let before = rows.get(key)?.map(|before| before.value());
    if before.is_some_and(|before| before > micros(now)) {
        return Ok((false, Commit::Not));
    }
    if rows.len()? >= HELD_MAX {
        return Err(StoreError::Full(None).into());
    }
    rows.insert(key, micros(until))?;
    drop(rows);
    if let Some(before) = before {
        tx.expires_no_more(before, &Expiring::Seen(*key))?;
    }
    tx.expires(micros(until), &Expiring::Seen(*key))?;
    Ok((true, Commit::Now))
}

const fn number(kind: OnceKind) -> u8 {
    match kind {
        OnceKind::Login => 0,
        OnceKind::HandOver => 1,
        OnceKind::OperatorLink => 2,
    }
}

fn place(kind: u8, key: &[u8; 32]) -> Vec<u8> {
    [&[kind], &key[..]].concat()
}

/// Values under way and things seen, each: a flood of logins that nobody finishes fills no disk.
const HELD_MAX: u64 = 1_000_000;
