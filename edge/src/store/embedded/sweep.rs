//! Deletes what has ended, a bounded amount at a time, and takes heartbeats.

use jiff::{SignedDuration, Timestamp};
use proto::id::{EdgeId, SessionId};

use super::expiry::Expiring;
use super::fail::Fail;
use super::log;
use super::revoke;
use super::sessions;
use super::table::{
    Commit, EDGES, MARKS, ONCE, OPERATORS, RECEIPTS, SEEN, TOMBSTONES, View as _, Writing, micros,
};
use crate::clock::Clock;

/// One round. Gives how much was deleted.
pub(super) fn sweep(tx: &mut Writing<'_>, now: Timestamp) -> Result<(u64, Commit), Fail> {
    let (mut rows, _) = revoke::purge(tx, ROUND)?;
    for ended in tx.take_expired(now, ROUND)? {
        rows += u64::from(delete(tx, &ended, now)?);
    }
    rows += log::trim(tx, now, ROUND)?;
    let commit = if rows == 0 { Commit::Not } else { Commit::Soon };
    Ok((rows, commit))
}

/// Notes that an edge runs. Synced, so that it proves that the disk takes writes.
pub(super) fn heartbeat(tx: &Writing<'_>, edge: EdgeId) -> Result<((), Commit), Fail> {
    let now = Clock.now();
    let long_gone = micros(now.saturating_sub(GONE_AFTER).unwrap_or(Timestamp::MIN));
    let mut rows = tx.table(EDGES)?;
    rows.retain(|_, seen| seen >= long_gone)?;
    rows.insert(&edge.to_bytes(), micros(now))?;
    Ok(((), Commit::Now))
}

/// False when there was nothing left to delete, or its end has moved.
fn delete(tx: &Writing<'_>, ended: &Expiring, now: Timestamp) -> Result<bool, Fail> {
    Ok(match ended {
        Expiring::Session(id) => {
            let id = SessionId::from_bytes(*id);
            match sessions::facts(tx, id)? {
                Some(facts) => {
                    sessions::remove(tx, id, &facts)?;
                    true
                }
                None => false,
            }
        }
        Expiring::Tombstone(id) => tx.table(TOMBSTONES)?.remove(id)?.is_some(),
        Expiring::Receipt(id) => tx.table(RECEIPTS)?.remove(id)?.is_some(),
        Expiring::Operator(id) => tx.table(OPERATORS)?.remove(id)?.is_some(),
        Expiring::Once(kind, key) => tx.table(ONCE)?.remove((*kind, key))?.is_some(),
        Expiring::Seen(key) => tx.table(SEEN)?.remove(key)?.is_some(),
        Expiring::Person(key) => tx.forget(key, now)?,
        Expiring::Mark(key) => tx.table(MARKS)?.remove(key.as_slice())?.is_some(),
    })
}

/// Rows of each kind per round: a few milliseconds of the one writer.
pub(super) const ROUND: usize = 500;
/// Rounds per call.
pub(super) const ROUNDS_MAX: usize = 40;
/// An edge that has not been heard of for so long is not listed any more.
const GONE_AFTER: SignedDuration = SignedDuration::from_hours(1);
