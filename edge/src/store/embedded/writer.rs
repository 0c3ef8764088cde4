//! The one writer: changes one after the other, each durable before it is answered, and the way back
//! after the disk failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::{Duration, Instant};

use redb::{Database, Durability};

use super::super::StoreError;
use super::disk::Mode;
use super::engine::{CLOSED, Shared, Task, index, not_open};
use super::fail::{Fail, of_kind, unavailable};
use super::open;
use super::revoke;
use super::sweep::ROUND;
use super::table::{Commit, Writing};
use crate::clock::Clock;

/// What the writer's thread owns.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `Direct` when the open database takes changes.
    mode: Mode,
    trouble: Option<Trouble>,
    /// Until then each change is synced, even one that is not worth it: what a disk that failed a while
    /// ago has not synced, it may lose, and a person would begin a login only to hear that nobody knows it.
    strict_until: Option<Instant>,
    /// Since when there are changes that are not synced.
    unsynced: Option<Instant>,
    left_to_purge: bool,
}

/// The disk failed.
struct Trouble {
    at: Instant,
    /// Trying again earlier would do little else than scan the file.
    retry_at: Instant,
    is_full: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            mode: Mode::Direct,
            trouble: None,
            strict_until: None,
            unsynced: None,
            // Some may be left from before a restart.
            left_to_purge: true,
        }
    }

    /// Works until nobody can give it anything any more, then closes the file.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Task>) {
        loop {
            match queue.recv_timeout(self.patience()) {
                Ok(Task::Write(change)) => change(&mut self),
                Ok(Task::Rescue(failed, done)) => {
                    self.rescue(failed);
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let mut database = self.lock_database();
        if let Some(database) = database.take()
            && self.trouble.is_none()
            && let Err(error) = database.close()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "store not closed");
        }
    }

    /// How long to wait for a task before there is something else to do.
    fn patience(&self) -> Duration {
        if self.trouble.is_some() {
            return A_LONG_TIME;
        }
        if self.left_to_purge {
            return Duration::ZERO;
        }
        self.unsynced.map_or(A_LONG_TIME, |since| {
            (since + SYNC_WITHIN).saturating_duration_since(Clock.monotonic())
        })
    }

    fn idle(&mut self) {
        let now = Clock.monotonic();
        let outcome = if self.trouble.is_some() {
            Ok(())
        } else if self
            .unsynced
            .is_some_and(|since| now >= since + SYNC_WITHIN)
        {
            self.change(now, |_| Ok(((), Commit::Now)))
        } else if self.left_to_purge {
            self.left_to_purge = false;
            self.change(now, |tx| {
                let (rows, _) = revoke::purge(tx, ROUND)?;
                Ok(((), if rows == 0 { Commit::Not } else { Commit::Soon }))
            })
        } else {
            Ok(())
        };
        if let Err(error) = outcome {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "store's own upkeep failed"
            );
        }
    }

    /// One change, from the file's recovery, where that is due, to its durability.
    pub(super) fn change<T>(
        &mut self,
        queued: Instant,
        change: impl FnOnce(&mut Writing<'_>) -> Result<(T, Commit), Fail>,
    ) -> Result<T, StoreError> {
        self.recover(queued)?;
        // A panic in here ends this change, not the writer: redb is opened again as after an error.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.transact(change)));
        match outcome {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Fail::Refused(error))) => Err(error),
            Ok(Err(Fail::Broken(error))) => {
                let error = self.explained(error);
                self.broke(&error);
                Err(error)
            }
            Err(_) => {
                let error = unavailable("a change of the store panicked");
                self.broke(&error);
                Err(error)
            }
        }
    }

    fn transact<T>(
        &mut self,
        change: impl FnOnce(&mut Writing<'_>) -> Result<(T, Commit), Fail>,
    ) -> Result<T, Fail> {
        let shared = Arc::clone(&self.shared);
        let database = shared
            .database
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(not_open)?;
        let mut writing = Writing {
            txn: database.begin_write()?,
            keys: &shared.keys,
            heads: Vec::new(),
            left_to_purge: false,
        };
        let changed = change(&mut writing);
        let Writing {
            mut txn,
            heads,
            left_to_purge,
            ..
        } = writing;
        let (value, commit) = match changed {
            Ok(changed) => changed,
            Err(fail) => {
                txn.abort()?;
                return Err(fail);
            }
        };
        match commit {
            Commit::Not => {
                txn.abort()?;
                return Ok(value);
            }
            // The log is never less durable than what it tells.
            Commit::Soon if heads.is_empty() && !self.is_strict() => {
                txn.set_durability(Durability::None)?;
                txn.commit()?;
                self.unsynced.get_or_insert_with(|| Clock.monotonic());
            }
            Commit::Soon | Commit::Now => {
                txn.commit()?;
                self.unsynced = None;
            }
        }
        self.left_to_purge |= left_to_purge;
        for (shard, head) in heads {
            if let Some(sender) = index(shard).and_then(|at| shared.heads.get(at)) {
                sender.send_replace(head);
            }
        }
        Ok(value)
    }

    /// Makes the file usable before a change. What was queued before the failure fails with it;
    /// later changes wait for the next try, so that the first one after the disk has healed works.
    fn recover(&mut self, queued: Instant) -> Result<(), StoreError> {
        let Some(trouble) = &self.trouble else {
            return Ok(());
        };
        if queued <= trouble.at {
            return Err(trouble.error());
        }
        std::thread::sleep(
            trouble
                .retry_at
                .saturating_duration_since(Clock.monotonic()),
        );
        if self.mode == Mode::Overlay {
            self.reopen();
            if self.mode == Mode::Overlay {
                return Err(self
                    .trouble
                    .as_ref()
                    .map_or_else(|| unavailable(CLOSED), Trouble::error));
            }
        }
        self.trouble = None;
        Ok(())
    }

    /// redb may name the consequence of a failure ("previous I/O error") rather than the failure.
    fn explained(&self, error: StoreError) -> StoreError {
        match self.shared.disk.failure() {
            Some(kind) if !matches!(error, StoreError::Full(_)) => of_kind(kind, error),
            Some(_) | None => error,
        }
    }

    /// The open database is worth nothing any more.
    fn broke(&mut self, error: &StoreError) {
        tracing::error!(error = error as &dyn std::error::Error, "store failed");
        self.reopen();
        if let Some(trouble) = &mut self.trouble {
            trouble.is_full = matches!(error, StoreError::Full(_));
        }
    }

    fn rescue(&mut self, failed: Instant) {
        if self
            .trouble
            .as_ref()
            .is_none_or(|trouble| trouble.at < failed && trouble.retry_at <= Clock.monotonic())
        {
            self.reopen();
        }
    }

    /// Goes back to the last synced state and opens it: for reads and writes, else for reads alone.
    /// Notes trouble either way: the next change has to wait for its try.
    fn reopen(&mut self) {
        let began = Clock.monotonic();
        let shared = Arc::clone(&self.shared);
        let mut database = shared
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // The old one first: two of them must never see the same file.
        drop(database.take());
        self.unsynced = None;
        self.strict_until = Some(began + STRICT_FOR);
        let mut is_full = self.trouble.as_ref().is_some_and(|trouble| trouble.is_full);
        self.mode = Mode::Direct;
        *database = match open::database(&shared.disk, Mode::Direct) {
            Ok(opened) => Some(opened),
            Err(fail) => {
                is_full = matches!(fail.into_inner(), StoreError::Full(_));
                self.mode = Mode::Overlay;
                open::database(&shared.disk, Mode::Overlay)
                    .inspect_err(|_| tracing::error!("store cannot be read"))
                    .ok()
            }
        };
        drop(database);
        let now = Clock.monotonic();
        let cost = now.saturating_duration_since(began);
        self.left_to_purge = true;
        self.trouble = Some(Trouble {
            at: now,
            retry_at: now + (cost * 4).clamp(RETRY_AFTER, RETRY_AFTER_MAX),
            is_full,
        });
    }

    fn is_strict(&self) -> bool {
        self.strict_until
            .is_some_and(|until| Clock.monotonic() < until)
    }

    fn lock_database(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.shared
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn error(&self) -> StoreError {
        if self.is_full {
            StoreError::Full(None)
        } else {
            unavailable("the disk failed a moment ago")
        }
    }
}

/// Changes that need no durability are on disk by then.
const SYNC_WITHIN: Duration = Duration::from_secs(1);
/// After a failure. A sync for each login costs milliseconds; a full disk stays full for longer.
const STRICT_FOR: Duration = Duration::from_mins(1);
const A_LONG_TIME: Duration = Duration::from_hours(1);
/// Between tries while the disk fails.
const RETRY_AFTER: Duration = Duration::from_millis(200);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);
