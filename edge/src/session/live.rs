//! The live table: what this edge knows of the sessions that it serves, and who must hear of a change.
//!
//! **Entry first, then load, then merge.** A request inserts `Loading`, subscribes, and only then is
//! the record read; a revocation that arrives in between finds the entry and is merged forward only.
//! Loading first and registering afterwards loses revocations. `follow` is the only one that applies
//! changes, in log order.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use papaya::HashMap;
use proto::id::{ReceiptId, SessionId};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::change::{Change, LogEntry, Revision, Scope};
use crate::model::session::{CutReason, Session, SessionState};
use crate::store::{Loaded, Store, StoreError};
use crate::trust::merge;

/// Sessions by id.
#[derive(Debug)]
pub(crate) struct Live {
    entries: HashMap<SessionId, Arc<Entry>>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

/// One session. Receivers of `state` are the permits: one channel is signal and count.
#[derive(Debug)]
pub(crate) struct Entry {
    state: watch::Sender<Known>,
    /// Milliseconds since the Unix epoch of the newest request, as far as this edge knows.
    last_active_ms: AtomicI64,
    /// What `activity` has written to the store.
    flushed_ms: AtomicI64,
    /// Marks that arrived while the record was being read: whether they cover it is known only then.
    marks: Mutex<Vec<(Scope, Revision, CutReason)>>,
    /// Receivers whose exchange is over as far as can be seen: a cut waits for them, too, but they
    /// are no open exchanges.
    delivered: AtomicU64,
    /// When a revocation was applied, for the time that its cuts take.
    revoked_at: OnceLock<Instant>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Known {
    State(SessionState),
    /// The record could not be read: whoever waits asks again or refuses.
    Failed(Arc<StoreError>),
    /// Taken out of the table; whoever found it must look again.
    Swept,
}

/// A subscription to one session: held by a permit to the last byte.
#[derive(Debug)]
pub(crate) struct Watcher {
    entry: Arc<Entry>,
    state: watch::Receiver<Known>,
    /// The session was found alive: an exchange depends on it.
    is_held: bool,
}

/// Takes an exchange out of the count of open ones while it is held. Let go of it together with, and
/// after, its watcher.
#[derive(Debug)]
pub(crate) struct Delivery {
    entry: Arc<Entry>,
    is_noted: bool,
}

/// What a revocation reached on this edge.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) receipt: ReceiptId,
    /// Exchanges that were open.
    pub(crate) connections: u64,
    entries: Vec<Arc<Entry>>,
}

impl Live {
    pub(crate) fn new(store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            entries: HashMap::new(),
            store,
            metrics,
        }
    }

    /// Subscribes to a session and gives it once it is known.
    ///
    /// The id must come from a cookie whose MAC was checked: each unknown id costs a read. The read
    /// goes on when the caller is dropped, since others may wait for it.
    ///
    /// # Errors
    /// [`CutReason`] when the session is not, or no longer, alive; the store's error when that cannot
    /// be known.
    pub(crate) async fn open(&self, id: SessionId) -> Result<(Watcher, Arc<Session>), Refused> {
        let (mut watcher, is_new) = self.subscribe(id)?;
        if is_new {
            tokio::spawn(load(
                Arc::clone(&self.store),
                Arc::clone(&watcher.entry),
                id,
            ));
        }
        let outcome = watcher.settled().await;
        if matches!(outcome, Err(Refused::Store(_))) {
            // The next request tries again with a fresh entry.
            let entry = Arc::clone(&watcher.entry);
            let _ = self
                .entries
                .pin()
                .remove_if(&id, |_, found| Arc::ptr_eq(found, &entry));
        }
        watcher.is_held = outcome.is_ok();
        outcome.map(|session| (watcher, session))
    }

    /// Inserts `Loading` where nothing is known, and subscribes before anybody looks.
    fn subscribe(&self, id: SessionId) -> Result<(Watcher, bool), Refused> {
        let entries = self.entries.pin();
        for _ in 0..SUBSCRIBE_TRIES {
            let (entry, is_new) = match entries.get(&id) {
                Some(found) => (found, false),
                // Of two inserters only the one whose entry is in the table loads.
                None => match entries.try_insert(id, Arc::new(Entry::loading(&self.metrics))) {
                    Ok(inserted) => (inserted, true),
                    Err(occupied) => (occupied.current, false),
                },
            };
            // The end is final, so it is told without a subscription: a flood with a dead cookie
            // must not look like exchanges that are still to be cut.
            if let Known::State(SessionState::Revoked(reason)) = &*entry.state.borrow() {
                return Err(Refused::Ended(*reason));
            }
            let watcher = Watcher {
                state: entry.state.subscribe(),
                entry: Arc::clone(entry),
                is_held: false,
            };
            if !matches!(&*watcher.state.borrow(), Known::Swept) {
                return Ok((watcher, is_new));
            }
            let swept = Arc::clone(&watcher.entry);
            let _ = entries.remove_if(&id, |_, found| Arc::ptr_eq(found, &swept));
        }
        Err(Refused::Store(Arc::new(StoreError::Unavailable(
            "the session's entry kept being swept".into(),
        ))))
    }

    /// Applies one log entry. Called in log order by `follow` alone.
    ///
    /// Whoever inserts an entry while this runs reads the store afterwards, and the store had the
    /// change before its log told us: nothing falls between.
    pub(crate) fn apply(&self, entry: &LogEntry) -> Option<Reached> {
        let Change::Revoked {
            scope,
            reason,
            receipt,
        } = &entry.change
        else {
            return None;
        };
        let entries = self.entries.pin();
        let mut reached = Reached {
            receipt: *receipt,
            connections: 0,
            entries: Vec::new(),
        };
        if let Scope::Session(id) = scope {
            if let Some(found) = entries.get(id) {
                reached.flip(found, scope, entry.revision, *reason);
            }
            return Some(reached);
        }
        for found in entries.values() {
            found.note_mark(scope, entry.revision, *reason);
            reached.flip(found, scope, entry.revision, *reason);
        }
        Some(reached)
    }

    /// Ends one session on this edge for a reason that needs no log: its time is over.
    pub(crate) fn expire(&self, id: SessionId, reason: CutReason) {
        if let Some(entry) = self.entries.pin().get(&id) {
            entry.learn(SessionState::Revoked(reason));
        }
    }

    /// The log had a gap: everything known is forgotten, and what is open must be confirmed anew.
    /// Entries without permits go; sessions with permits are cut.
    pub(crate) fn forget(&self) -> Vec<Reached> {
        let entries = self.entries.pin();
        let mut all = Vec::new();
        for (id, entry) in &entries {
            if entry.is_unwritten() {
                self.metrics.activity_dropped(1);
            }
            entry.learn(SessionState::Revoked(CutReason::LeaseLost));
            all.push(Reached {
                receipt: ReceiptId::from_bytes([0; 20]),
                connections: 0,
                entries: vec![Arc::clone(entry)],
            });
            entries.remove(id);
        }
        all
    }

    /// Ends what is open of every session, for a reason of this edge alone: the store says nothing of it.
    pub(crate) fn end_all(&self, reason: CutReason) {
        for entry in self.entries.pin().values() {
            entry.learn(SessionState::Revoked(reason));
        }
    }

    /// Takes out entries that nobody holds and that were idle since `before`. Returns how many stay.
    pub(crate) fn sweep(&self, before: Timestamp) -> usize {
        let entries = self.entries.pin();
        entries.retain(|_, entry| !entry.sweep(before.as_millisecond()));
        entries.len()
    }

    /// How many sessions are known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Sessions whose activity the store does not know yet.
    pub(crate) fn unwritten_activity(&self) -> Vec<(SessionId, Timestamp)> {
        let mut batch = Vec::new();
        for (id, entry) in &self.entries.pin() {
            let last = entry.last_active_ms.load(Ordering::Relaxed);
            if entry.is_unwritten()
                && let Ok(at) = Timestamp::from_millisecond(last)
            {
                batch.push((*id, at));
            }
        }
        batch
    }

    /// The store has taken this. Until then an entry stays: without it a session that was active
    /// while the store took no writes would look idle.
    pub(crate) fn activity_written(&self, batch: &[(SessionId, Timestamp)]) {
        let entries = self.entries.pin();
        for (id, at) in batch {
            if let Some(entry) = entries.get(id) {
                entry
                    .flushed_ms
                    .fetch_max(at.as_millisecond(), Ordering::Relaxed);
            }
        }
    }
}

impl Entry {
    fn loading(metrics: &Arc<Metrics>) -> Self {
        Self {
            state: watch::Sender::new(Known::State(SessionState::Loading)),
            last_active_ms: AtomicI64::new(0),
            flushed_ms: AtomicI64::new(0),
            marks: Mutex::new(Vec::new()),
            delivered: AtomicU64::new(0),
            revoked_at: OnceLock::new(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Whether the store does not know the newest activity yet.
    fn is_unwritten(&self) -> bool {
        self.last_active_ms.load(Ordering::Relaxed) > self.flushed_ms.load(Ordering::Relaxed)
    }

    /// Merges forward only; true when the state moved.
    fn learn(&self, learnt: SessionState) -> bool {
        self.state.send_if_modified(|known| match known {
            Known::State(state) => merge::merge(state, learnt),
            Known::Failed(_) | Known::Swept => false,
        })
    }

    /// Remembers a mark for a record that is still being read. A loading entry that collects too
    /// many is ended: refusing is safe, forgetting is not.
    fn note_mark(&self, scope: &Scope, revision: Revision, reason: CutReason) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(&*self.state.borrow(), Known::State(SessionState::Loading)) {
            return;
        }
        if marks.len() < MARKS_WHILE_LOADING_MAX {
            marks.push((scope.clone(), revision, reason));
        } else {
            drop(marks);
            self.learn(SessionState::Revoked(CutReason::LeaseLost));
        }
    }

    /// The record was read: merge it with whatever arrived meanwhile.
    fn loaded(&self, loaded: Loaded) {
        // The lock orders this against `note_mark`: a mark is either in the list now, or comes after
        // the state is `Active` and is then compared by `apply`.
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Loaded::Absent => self.learn(SessionState::Revoked(CutReason::Absent)),
            Loaded::Ended(reason) => self.learn(SessionState::Revoked(reason)),
            Loaded::Live {
                session,
                last_active,
            } => {
                let marked = marks
                    .iter()
                    .find(|(scope, revision, _)| merge::ends_record(&session, scope, *revision));
                self.last_active_ms
                    .fetch_max(last_active.as_millisecond(), Ordering::Relaxed);
                self.flushed_ms
                    .fetch_max(last_active.as_millisecond(), Ordering::Relaxed);
                match marked {
                    Some((_, _, reason)) => self.learn(SessionState::Revoked(*reason)),
                    None => self.learn(SessionState::Active(Arc::new(session))),
                }
            }
        };
        drop(marks);
    }

    /// Marks the entry as taken out unless somebody subscribed. The watch's own lock makes the check
    /// and the mark one step: a subscriber either counts here or sees `Swept`.
    fn sweep(&self, before_ms: i64) -> bool {
        let mut swept = false;
        self.state.send_if_modified(|known| {
            let idle = self.last_active_ms.load(Ordering::Relaxed) < before_ms;
            let settled = !matches!(known, Known::State(SessionState::Loading));
            if idle && settled && !self.is_unwritten() && self.state.receiver_count() == 0 {
                *known = Known::Swept;
                swept = true;
            }
            false
        });
        swept
    }
}

impl Watcher {
    /// Waits until the session is known.
    async fn settled(&mut self) -> Result<Arc<Session>, Refused> {
        let known = self
            .state
            .wait_for(|known| !matches!(known, Known::State(SessionState::Loading)))
            .await
            .map_err(|_| Refused::Ended(CutReason::Absent))?;
        match &*known {
            Known::State(SessionState::Active(session)) => Ok(Arc::clone(session)),
            Known::State(SessionState::Revoked(reason)) => Err(Refused::Ended(*reason)),
            Known::Failed(error) => Err(Refused::Store(Arc::clone(error))),
            Known::State(SessionState::Loading) | Known::Swept => {
                Err(Refused::Ended(CutReason::Absent))
            }
        }
    }

    /// Resolves once the session has ended. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> CutReason {
        let known = self.state.wait_for(|known| ended(known).is_some()).await;
        known
            .ok()
            .and_then(|known| ended(&known))
            .unwrap_or(CutReason::Absent)
    }

    /// Why the session has ended already, if it has.
    #[cfg(test)]
    pub(crate) fn has_ended(&self) -> Option<CutReason> {
        ended(&self.state.borrow())
    }

    /// For saying later that nothing of the exchange is known to be on its way any more.
    pub(crate) fn delivery(&self) -> Delivery {
        Delivery {
            entry: Arc::clone(&self.entry),
            is_noted: false,
        }
    }

    /// Notes a request, for idle limits and lists. An atomic, never I/O.
    pub(crate) fn touch(&self, now: Timestamp) {
        self.entry
            .last_active_ms
            .fetch_max(now.as_millisecond(), Ordering::Relaxed);
    }

    /// The newest request of this session that this edge knows of.
    pub(crate) fn last_active(&self) -> Timestamp {
        Timestamp::from_millisecond(self.entry.last_active_ms.load(Ordering::Relaxed))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.is_held
            && let Some(revoked_at) = self.entry.revoked_at.get()
        {
            let elapsed = Clock.monotonic().duration_since(*revoked_at);
            self.entry.metrics.cut(elapsed);
        }
    }
}

impl Delivery {
    /// The exchange is still cut, but does not count as open any more.
    pub(crate) fn note(&mut self) {
        if !self.is_noted {
            self.is_noted = true;
            self.entry.delivered.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.is_noted {
            self.entry.delivered.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Reached {
    fn flip(&mut self, entry: &Arc<Entry>, scope: &Scope, revision: Revision, reason: CutReason) {
        let mut open = 0;
        let flipped = entry.state.send_if_modified(|known| {
            let Known::State(state) = known else {
                return false;
            };
            let delivered = entry.delivered.load(Ordering::Acquire);
            open = (entry.state.receiver_count() as u64).saturating_sub(delivered);
            let ends = merge::ends(state, scope, revision)
                && merge::merge(state, SessionState::Revoked(reason));
            if ends {
                // Before anybody wakes to it.
                let _ = entry.revoked_at.set(Clock.monotonic());
            }
            ends
        });
        if flipped {
            self.connections += open;
            self.entries.push(Arc::clone(entry));
        }
    }

    /// Waits until every exchange that was open has let go of its permit: from then on no further
    /// upstream byte can enter a client's buffer. The caller sets the bound.
    pub(crate) async fn all_cut(&self) {
        for entry in &self.entries {
            entry.state.closed().await;
        }
    }
}

/// Why a session could not be opened.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    Ended(CutReason),
    Store(Arc<StoreError>),
}

async fn load(store: Arc<Store>, entry: Arc<Entry>, id: SessionId) {
    match store.load_session(id).await {
        Ok(loaded) => entry.loaded(loaded),
        Err(error) => {
            entry.state.send_if_modified(|known| {
                let waiting = matches!(known, Known::State(SessionState::Loading));
                if waiting {
                    *known = Known::Failed(Arc::new(error));
                }
                waiting
            });
        }
    }
}

fn ended(known: &Known) -> Option<CutReason> {
    match known {
        Known::State(SessionState::Revoked(reason)) => Some(*reason),
        Known::State(SessionState::Loading | SessionState::Active(_)) => None,
        Known::Failed(_) | Known::Swept => Some(CutReason::Absent),
    }
}

/// Each try meets an entry that was swept in that very moment.
const SUBSCRIBE_TRIES: usize = 8;
/// Marks that may arrive during one read of a record (well under a millisecond, at most seconds).
const MARKS_WHILE_LOADING_MAX: usize = 256;

#[cfg(test)]
mod tests;
