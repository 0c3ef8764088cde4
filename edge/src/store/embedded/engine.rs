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
use std::sync::mpsc;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use redb::{Database, ReadableDatabase as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::super::{Shard, StoreError};
use super::disk::Disk;
use super::fail::{Fail, unavailable};
use super::log;
use super::table::{Commit, Keys, Reading, Writing};
use super::writer::Writer;
use crate::clock::Clock;

/// An open store. Dropping it finishes what is queued and closes the file.
pub(super) struct Engine {
    shared: Arc<Shared>,
    /// `None` only while dropping.
    tasks: Option<mpsc::Sender<Task>>,
    places: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
}

pub(super) struct Shared {
    pub(super) disk: Arc<Disk>,
    pub(super) keys: Keys,
    /// `None` when the disk cannot even be read.
    pub(super) database: RwLock<Option<Database>>,
    pub(super) heads: [watch::Sender<u64>; log::SHARDS.len()],
}

pub(super) enum Task {
    Write(Box<dyn FnOnce(&mut Writer) + Send>),
    /// A read failed at this time.
    Rescue(Instant, mpsc::Sender<()>),
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
        let writer = Writer::new(Arc::clone(&shared));
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

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("disk", &self.shared.disk)
            .finish_non_exhaustive()
    }
}

pub(super) fn not_open() -> Fail {
    Fail::Broken(unavailable("the store's file is not open"))
}

/// Where a shard's head is kept.
pub(super) fn index(shard: u16) -> Option<usize> {
    log::SHARDS
        .iter()
        .position(|known| log::number(*known) == shard)
}

pub(super) const CLOSED: &str = "the store is closed";
/// Changes that wait for the writer: each is a request of somebody who waits.
const QUEUE_MAX: usize = 1024;
