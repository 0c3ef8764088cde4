//! The engine's two ways in: reads on blocking threads, and writes one after the other on a thread
//! of their own.
//!
//! Reads leave the async threads too: they take microseconds while redb's cache has the pages, but a
//! page that has to come from a slow disk would hold up every connection of a worker.
//!
//! Writes are answered only once they are as durable as they ask. After a failure of the disk the
//! writer goes back to the last synced state ([`super::disk`]) and opens the file again; until that
//! works, what can still be read is read and every change is refused.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::super::{Shard, StoreError};
use super::disk::{Disk, Mode};
use super::fail::{Fail, unavailable};
use super::log;
use super::open;
use super::revoke;
use super::sweep::ROUND;
use super::table::{Commit, Keys, Reading, Writing};
use crate::clock::Clock;

/// An open store. Dropping it finishes what is queued and closes the file.
pub(super) struct Engine {
    shared: Arc<Shared>,
    /// `None` only while dropping.
    tasks: Option<mpsc::Sender<Task>>,
    places: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<Disk>,
    keys: Keys,
    /// `None` when the disk cannot even be read.
    database: RwLock<Option<Database>>,
    heads: [watch::Sender<u64>; log::SHARDS.len()],
}

enum Task {
    Write(Box<dyn FnOnce(&mut Writer) + Send>),
    /// A read failed at this time.
    Rescue(Instant, mpsc::Sender<()>),
}

/// What the writer's thread owns.
struct Writer {
    shared: Arc<Shared>,
    /// `Direct` when the open database takes changes.
    mode: Mode,
    trouble: Option<Trouble>,
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

impl Engine {
    /// Takes over an open database.
    pub(super) fn start(disk: Arc<Disk>, database: Database, keys: Keys) -> Result<Self, Fail> {
        let shared = Arc::new(Shared {
            disk,
            keys,
            database: RwLock::new(Some(database)),
            heads: [watch::Sender::new(0), watch::Sender::new(0)],
        });
        for (shard, head) in log::SHARDS.into_iter().zip(&shared.heads) {
            head.send_replace(shared.read(|view| log::head(view, shard))?.0);
        }
        let (tasks, queue) = mpsc::channel();
        let writer = Writer {
            shared: Arc::clone(&shared),
            mode: Mode::Direct,
            trouble: None,
            unsynced: None,
            left_to_purge: true,
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&queue))?;
        Ok(Self {
            shared,
            tasks: Some(tasks),
            places: Arc::new(Semaphore::new(QUEUE_MAX)),
            writer: Some(writer),
        })
    }

    /// Runs a change. Once it is queued it happens whether or not anybody waits for the answer.
    pub(super) async fn write<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writing<'_>) -> Result<(T, Commit), Fail> + Send + 'static,
    {
        let place: OwnedSemaphorePermit = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(unavailable)?;
        let (answer, answered) = oneshot::channel();
        let queued = Clock.monotonic();
        let task = Task::Write(Box::new(move |writer| {
            let outcome = writer.change(queued, change);
            drop(place);
            // Nobody waits any more: the change stands all the same.
            let _ = answer.send(outcome);
        }));
        let tasks = self.tasks.as_ref().ok_or_else(|| unavailable(CLOSED))?;
        tasks.send(task).map_err(|_| unavailable(CLOSED))?;
        answered.await.map_err(|_| unavailable(CLOSED))?
    }

    /// Reads one snapshot. Runs a second time when the file had to be opened again.
    pub(super) async fn read<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Reading<'_>) -> Result<T, Fail> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let tasks = self.tasks.clone();
        tokio::task::spawn_blocking(move || {
            let failed = match shared.read(&look) {
                Ok(found) => return Ok(found),
                Err(Fail::Refused(error)) => return Err(error),
                Err(Fail::Broken(error)) => error,
            };
            let (done, rescued) = mpsc::channel();
            let rescue = Task::Rescue(Clock.monotonic(), done);
            let asked = tasks.is_some_and(|tasks| tasks.send(rescue).is_ok());
            if asked && rescued.recv().is_ok() {
                shared.read(&look).map_err(Fail::into_inner)
            } else {
                Err(failed)
            }
        })
        .await
        .map_err(unavailable)?
    }

    /// The newest revision of a shard, as it grows.
    pub(super) fn head(&self, shard: Shard) -> Option<watch::Receiver<u64>> {
        Some(
            self.shared
                .heads
                .get(index(log::number(shard))?)?
                .subscribe(),
        )
    }

    #[cfg(test)]
    pub(super) fn disk(&self) -> &Disk {
        &self.shared.disk
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Shared {
    fn read<T>(&self, look: impl Fn(&Reading<'_>) -> Result<T, Fail>) -> Result<T, Fail> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(not_open)?;
        look(&Reading {
            txn: database.begin_read()?,
            keys: &self.keys,
        })
    }
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Task>) {
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
    fn change<T>(
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
            Commit::Soon if heads.is_empty() => {
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

    fn lock_database(&self) -> std::sync::RwLockWriteGuard<'_, Option<Database>> {
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

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("disk", &self.shared.disk)
            .finish_non_exhaustive()
    }
}

fn not_open() -> Fail {
    Fail::Broken(unavailable("the store's file is not open"))
}

fn index(shard: u16) -> Option<usize> {
    log::SHARDS
        .iter()
        .position(|known| log::number(*known) == shard)
}

const CLOSED: &str = "the store is closed";
/// Changes that wait for the writer: each is a request of somebody who waits.
const QUEUE_MAX: usize = 1024;
/// Changes that need no durability are on disk by then.
const SYNC_WITHIN: Duration = Duration::from_secs(1);
const A_LONG_TIME: Duration = Duration::from_hours(1);
/// Between tries while the disk fails.
const RETRY_AFTER: Duration = Duration::from_millis(200);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);
