//! What is known of each stream beside its bytes, by its number: how the other side's direction ended,
//! whether it still reads, and whether both sides have let go, so that the stream's place is free.
//!
//! Records may overtake a stream's own first bytes: what is said of a stream that has not come yet is
//! kept for it. No I/O; wakes whoever waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::OwnedSemaphorePermit;

use crate::record::Record;

/// All streams of a connection.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    rows: Mutex<BTreeMap<u32, Row>>,
}

#[derive(Debug)]
struct Row {
    entry: Arc<Entry>,
    hold: Hold,
    /// The stream's place among those that may be open; free when the row goes.
    _place: Option<OwnedSemaphorePermit>,
}

/// Whether this side has the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hold {
    /// Only records have come so far.
    Awaited,
    Held,
    LetGo,
}

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Entry(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    fate: Fate,
    is_stopped: bool,
    is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whoever waits for a reset or a stop without reading or writing.
    watchers: Vec<Waker>,
}

/// What becomes of the other side's direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Fate {
    #[default]
    Open,
    /// Complete with so many bytes.
    Finished(u64),
    /// Given up, for this reason; zero when it went with the connection.
    Reset(u32),
}

/// More is said of streams than there can be.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Ledger {
    /// Enters a stream that is here now.
    pub(crate) fn enter(&self, id: u32, place: Option<OwnedSemaphorePermit>) -> Arc<Entry> {
        let mut rows = self.lock();
        let row = rows.entry(id).or_insert_with(|| Row {
            entry: Arc::default(),
            hold: Hold::Awaited,
            _place: place,
        });
        row.hold = Hold::Held;
        Arc::clone(&row.entry)
    }

    /// This side has let go of the stream. `is_known`: the other side has heard of it.
    pub(crate) fn let_go(&self, id: u32, is_known: bool) {
        let mut rows = self.lock();
        if let Some(row) = rows.get_mut(&id) {
            row.hold = Hold::LetGo;
            if !is_known || row.entry.lock().is_gone {
                rows.remove(&id);
            }
        }
    }

    /// Notes what the other side says of a stream. `is_theirs`: of one that it opens.
    pub(crate) fn note(&self, record: Record, is_theirs: bool) -> Result<(), TooMany> {
        let (id, is_gone) = match record {
            Record::Finish { stream, .. }
            | Record::Reset { stream, .. }
            | Record::Stop { stream, .. } => (stream, false),
            Record::Gone { stream, .. } => (stream, true),
            Record::Ping { .. } | Record::Pong { .. } | Record::Close { .. } => return Ok(()),
        };
        let mut rows = self.lock();
        if !rows.contains_key(&id) {
            // One of ours, which both have let go of, or somebody talks of what never was.
            if !is_theirs {
                return Ok(());
            }
            if rows.len() >= ROWS_MAX {
                return Err(TooMany);
            }
        }
        let row = rows.entry(id).or_insert_with(|| Row {
            entry: Arc::default(),
            hold: Hold::Awaited,
            _place: None,
        });
        let entry = Arc::clone(&row.entry);
        if is_gone && row.hold == Hold::LetGo {
            rows.remove(&id);
        }
        drop(rows);
        entry.note(record);
        Ok(())
    }

    /// Every stream ends with the connection.
    pub(crate) fn lose_all(&self) {
        let rows = std::mem::take(&mut *self.lock());
        for row in rows.values() {
            row.entry.lose();
        }
    }

    /// How many streams are known of.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// What becomes of the other side's direction; whoever reads is woken when that changes.
    pub(crate) fn fate(&self, cx: &Context<'_>) -> Fate {
        let mut known = self.lock();
        keep(&mut known.reader, cx);
        known.fate
    }

    /// Whether the other side reads no more; whoever writes is woken when that changes.
    pub(crate) fn is_stopped(&self, cx: &Context<'_>) -> bool {
        let mut known = self.lock();
        keep(&mut known.writer, cx);
        known.is_stopped
    }

    /// Ready when the other side has given its direction up.
    pub(crate) fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        let mut known = self.lock();
        if matches!(known.fate, Fate::Reset(_)) {
            return Poll::Ready(());
        }
        known.watch(cx);
        Poll::Pending
    }

    /// Ready when the other side reads no more.
    pub(crate) fn poll_stopped(&self, cx: &Context<'_>) -> Poll<()> {
        let mut known = self.lock();
        if known.is_stopped {
            return Poll::Ready(());
        }
        known.watch(cx);
        Poll::Pending
    }

    /// The connection has ended.
    pub(crate) fn lose(&self) {
        let mut known = self.lock();
        known.is_stopped = true;
        known.fate = Fate::Reset(0);
        wake(known);
    }

    fn note(&self, record: Record) {
        let mut known = self.lock();
        match record {
            Record::Finish { bytes, .. } if known.fate == Fate::Open => {
                known.fate = Fate::Finished(bytes);
            }
            Record::Reset { code, .. } => known.give_up(code),
            Record::Stop { .. } => known.is_stopped = true,
            Record::Gone { code, .. } => {
                known.give_up(code);
                known.is_gone = true;
            }
            Record::Finish { .. }
            | Record::Ping { .. }
            | Record::Pong { .. }
            | Record::Close { .. } => {}
        }
        wake(known);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What was finished stays finished.
    fn give_up(&mut self, code: u32) {
        if self.fate == Fate::Open {
            self.fate = Fate::Reset(code);
        }
    }

    fn watch(&mut self, cx: &Context<'_>) {
        if !self.watchers.iter().any(|one| one.will_wake(cx.waker())) {
            // One for each direction; more only when futures are dropped and made anew in other tasks.
            if self.watchers.len() >= WATCHERS_MAX {
                self.watchers.remove(0).wake();
            }
            self.watchers.push(cx.waker().clone());
        }
    }
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|one| one.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

/// Wakes everybody, without the lock: they look for themselves.
fn wake(mut known: MutexGuard<'_, Known>) {
    let (reader, writer) = (known.reader.take(), known.writer.take());
    let watchers = std::mem::take(&mut known.watchers);
    drop(known);
    for waker in reader.into_iter().chain(writer).chain(watchers) {
        waker.wake();
    }
}

/// Streams that are open, those that the other side still holds, and those that records have overtaken.
const ROWS_MAX: usize = 4 * proto::limits::STREAMS_PER_TUNNEL_MAX as usize;
const WATCHERS_MAX: usize = 8;
