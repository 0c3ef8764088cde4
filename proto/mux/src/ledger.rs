//! What is known of each stream beside its bytes, by its number: how the other side's direction ended,
//! whether it still reads, and whether both sides have let go, so that the stream's place is free.
//!
//! Records may overtake a stream's own first bytes: what is said of a stream that has not come yet is
//! kept for it. Counts what has come and was not read. No I/O; wakes whoever waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::OwnedSemaphorePermit;

use crate::record::Record;

/// All streams of a connection.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    rows: Mutex<BTreeMap<u32, Row>>,
    /// Bytes that have come for streams that are held, and were not read. A read may be counted before
    /// what it read.
    unread: AtomicI64,
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
pub(crate) struct Entry {
    known: Mutex<Known>,
    /// None when the stream was given up, or is only awaited.
    bytes: Mutex<Option<yamux::Stream>>,
    unread: AtomicI64,
}

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
    pub(crate) fn enter(
        &self,
        bytes: yamux::Stream,
        place: Option<OwnedSemaphorePermit>,
    ) -> Arc<Entry> {
        let id = bytes.id().val();
        let mut rows = self.lock();
        let row = rows.entry(id).or_insert_with(|| Row {
            entry: Arc::default(),
            hold: Hold::Awaited,
            _place: place,
        });
        row.hold = Hold::Held;
        *row.entry.bytes() = Some(bytes);
        Arc::clone(&row.entry)
    }

    /// This side has let go of the stream. `is_known`: the other side has heard of it.
    pub(crate) fn let_go(&self, id: u32, is_known: bool) {
        let mut rows = self.lock();
        if let Some(row) = rows.get_mut(&id) {
            row.hold = Hold::LetGo;
            self.forget(&row.entry);
            if !is_known || row.entry.known().is_gone {
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

    /// Bytes have come for a stream. Those of streams that nobody holds are thrown away by the
    /// multiplexer.
    pub(crate) fn came(&self, id: u32, bytes: u32) {
        let rows = self.lock();
        if let Some(row) = rows.get(&id)
            && row.hold == Hold::Held
        {
            row.entry.unread.fetch_add(bytes.into(), Ordering::Relaxed);
            self.unread.fetch_add(bytes.into(), Ordering::Relaxed);
        }
    }

    /// Bytes were read of a stream.
    pub(crate) fn read(&self, entry: &Entry, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        entry.unread.fetch_sub(bytes, Ordering::Relaxed);
        self.unread.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that have come and were not read.
    pub(crate) fn unread(&self) -> u64 {
        u64::try_from(self.unread.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Gives up the stream with the most unread bytes, which are free then; gives its number.
    pub(crate) fn give_up_largest(&self, code: u32) -> Option<u32> {
        let (id, entry) = {
            let rows = self.lock();
            let (id, row) = rows
                .iter()
                .filter(|(_, row)| row.hold == Hold::Held)
                .max_by_key(|(_, row)| row.entry.unread.load(Ordering::Relaxed))?;
            (*id, Arc::clone(&row.entry))
        };
        if entry.unread.load(Ordering::Relaxed) <= 0 {
            return None;
        }
        // Whoever reads or writes at this moment is done with it in a moment.
        drop(entry.bytes().take());
        self.forget(&entry);
        entry.end(code);
        Some(id)
    }

    /// What is unread of a stream is gone with it.
    fn forget(&self, entry: &Entry) {
        let unread = entry.unread.swap(0, Ordering::Relaxed);
        self.unread.fetch_sub(unread, Ordering::Relaxed);
    }

    /// Every stream ends with the connection.
    pub(crate) fn lose_all(&self) {
        let rows = std::mem::take(&mut *self.lock());
        for row in rows.values() {
            row.entry.end(0);
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
        let mut known = self.known();
        keep(&mut known.reader, cx);
        known.fate
    }

    /// Whether the other side reads no more; whoever writes is woken when that changes.
    pub(crate) fn is_stopped(&self, cx: &Context<'_>) -> bool {
        let mut known = self.known();
        keep(&mut known.writer, cx);
        known.is_stopped
    }

    /// Ready when the other side has given its direction up.
    pub(crate) fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        let mut known = self.known();
        if matches!(known.fate, Fate::Reset(_)) {
            return Poll::Ready(());
        }
        known.watch(cx);
        Poll::Pending
    }

    /// Ready when the other side reads no more.
    pub(crate) fn poll_stopped(&self, cx: &Context<'_>) -> Poll<()> {
        let mut known = self.known();
        if known.is_stopped {
            return Poll::Ready(());
        }
        known.watch(cx);
        Poll::Pending
    }

    /// Both directions are over, whatever the other side says; zero: with the connection.
    fn end(&self, code: u32) {
        let mut known = self.known();
        known.is_stopped = true;
        known.fate = Fate::Reset(code);
        wake(known);
    }

    /// The stream itself, for a moment.
    pub(crate) fn bytes(&self) -> MutexGuard<'_, Option<yamux::Stream>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, record: Record) {
        let mut known = self.known();
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
