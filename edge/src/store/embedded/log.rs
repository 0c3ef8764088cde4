//! The ordered log: appended in the transaction of the change itself, read from any position.

use jiff::{SignedDuration, Timestamp};
use redb::ReadableTable as _;

use super::super::records::Record as _;
use super::super::{LogBatch, Shard};
use super::fail::Fail;
use super::table::{HEADS, LOG, View, Writing, micros};
use crate::clock::Clock;
use crate::model::change::{Change, LogEntry, Revision};

/// The shard's number in keys.
pub(super) const fn number(shard: Shard) -> u16 {
    match shard {
        Shard::People(number) => number,
        Shard::Shared => u16::MAX,
    }
}

/// Where persons and sessions are.
pub(super) const PEOPLE: Shard = Shard::People(0);

/// The shards that this engine has.
pub(super) const SHARDS: [Shard; 2] = [PEOPLE, Shard::Shared];

impl Writing<'_> {
    /// Appends a change and gives its place. A revision is given once, ever: the counter is part of
    /// the same transaction, and entries are trimmed without touching it.
    pub(super) fn append(&mut self, shard: Shard, change: &Change) -> Result<Revision, Fail> {
        let shard = number(shard);
        let mut heads = self.table(HEADS)?;
        let revision = heads.get(shard)?.map_or(0, |head| head.value()) + 1;
        heads.insert(shard, revision)?;
        drop(heads);
        let entry = (micros(Clock.now()), change.to_bytes()?);
        self.table(LOG)?
            .insert((shard, revision), (entry.0, entry.1.as_slice()))?;
        self.heads.retain(|(other, _)| *other != shard);
        self.heads.push((shard, revision));
        Ok(Revision(revision))
    }
}

/// The shard's newest revision.
pub(super) fn head(view: &impl View, shard: Shard) -> Result<Revision, Fail> {
    let head = view
        .table(HEADS)?
        .get(number(shard))?
        .map(|head| head.value());
    Ok(Revision(head.unwrap_or(0)))
}

/// What there is after a position, at most [`BATCH_MAX`] entries.
pub(super) fn read(view: &impl View, shard: Shard, after: Revision) -> Result<LogBatch, Fail> {
    let head = head(view, shard)?;
    let mut batch = LogBatch {
        entries: Vec::new(),
        gap: false,
        head,
    };
    if after >= head {
        // Who is ahead of the log followed one that is no more, such as before a restored backup.
        batch.gap = after > head && after != JUST_THE_HEAD;
        return Ok(batch);
    }
    let log = view.table(LOG)?;
    let shard = number(shard);
    let first = after.0 + 1;
    for row in log.range((shard, first)..=(shard, head.0))?.take(BATCH_MAX) {
        let (key, value) = row?;
        let (_, bytes) = value.value();
        batch.entries.push(LogEntry {
            revision: Revision(key.value().1),
            change: Change::from_bytes(bytes).map_err(|_| Fail::unreadable("a log entry"))?,
        });
    }
    batch.gap = batch
        .entries
        .first()
        .is_none_or(|entry| entry.revision.0 > first);
    Ok(batch)
}

/// Deletes entries that are older than a day and have `KEPT_ENTRIES` newer ones, at most `limit`.
pub(super) fn trim(tx: &Writing<'_>, now: Timestamp, limit: usize) -> Result<u64, Fail> {
    let before = micros(now.saturating_sub(KEPT_FOR).unwrap_or(Timestamp::MIN));
    let mut trimmed = 0;
    for shard in SHARDS {
        let head = head(tx, shard)?;
        let shard = number(shard);
        let Some(last) = head.0.checked_sub(KEPT_ENTRIES) else {
            continue;
        };
        let mut log = tx.table(LOG)?;
        let mut old = Vec::new();
        for row in log.range((shard, 0)..=(shard, last))?.take(limit) {
            let (key, value) = row?;
            if value.value().0 >= before {
                break;
            }
            old.push(key.value());
        }
        for key in &old {
            log.remove(key)?;
        }
        trimmed += old.len() as u64;
    }
    Ok(trimmed)
}

/// Asks for no entries.
const JUST_THE_HEAD: Revision = Revision(u64::MAX);
/// Entries per read.
pub(super) const BATCH_MAX: usize = 1000;
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
#[cfg(not(test))]
const KEPT_ENTRIES: u64 = 100_000;
/// Few enough for a test to go beyond.
#[cfg(test)]
pub(super) const KEPT_ENTRIES: u64 = 20;
