//! Idle upstream connections of one worker, kept for the next exchange of the same endpoint over the
//! same tunnel. Each is a task that waits to be handed a job; which ones may come here, `exchange` says.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::id::{EndpointId, TunnelId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ingress::exchange::Job;

/// What an upstream connection serves. Its stream's head said so, and cannot be changed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    pub(crate) endpoint: EndpointId,
    pub(crate) tunnel: TunnelId,
    pub(crate) generation: u64,
}

/// Idle connections, the newest last.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Key, VecDeque<Idle>>>,
    per_key_max: usize,
}

/// An idle connection's hand.
#[derive(Debug)]
pub(crate) struct Idle {
    hand: oneshot::Sender<Job>,
    since: Instant,
}

/// The connection of one client that is never shared: authentication such as NTLM belongs to it.
#[derive(Debug, Default)]
pub(crate) struct Own(Mutex<Option<(Key, Idle)>>);

impl Idle {
    /// An idle connection, and where it hears of its next job.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Job>) {
        let (hand, next) = oneshot::channel();
        let since = Instant::now();
        (Self { hand, since }, next)
    }

    /// Hands over a job; gives it back when the connection has ended meanwhile.
    pub(crate) fn hand(self, job: Job) -> Result<(), Box<Job>> {
        self.hand.send(job).map_err(Box::new)
    }
}

impl Pool {
    /// Keeps at most so many connections of one key.
    pub(crate) fn new(per_key_max: usize) -> Self {
        Self {
            idle: Mutex::default(),
            per_key_max,
        }
    }

    /// The connection that was used last, unless it has been idle for longer than `age_max`.
    pub(crate) fn take(&self, key: &Key, age_max: Duration) -> Option<Idle> {
        let mut all = self.lock();
        let idle = all.get_mut(key)?;
        loop {
            let newest = idle.pop_back()?;
            if newest.hand.is_closed() {
                continue;
            }
            if newest.since.elapsed() <= age_max {
                return Some(newest);
            }
            // All others are older still.
            idle.push_back(newest);
            return None;
        }
    }

    /// Keeps a connection; the oldest goes when there are too many.
    pub(crate) fn put(&self, key: Key, newest: Idle) {
        let mut all = self.lock();
        let idle = all.entry(key).or_default();
        let oldest = (idle.len() >= self.per_key_max)
            .then(|| idle.pop_front())
            .flatten();
        idle.push_back(newest);
        drop(all);
        // Wakes its task, which ends.
        drop(oldest);
    }

    /// Frees the connection that has been idle for longest on a tunnel, for its stream's sake.
    pub(crate) fn evict(&self, tunnel: TunnelId) -> bool {
        let mut all = self.lock();
        let oldest = all
            .iter_mut()
            .filter(|(key, _)| key.tunnel == tunnel)
            .find_map(|(_, idle)| idle.pop_front());
        drop(all);
        oldest.is_some()
    }

    /// Forgets connections of a key that have ended.
    pub(crate) fn prune(&self, key: &Key) {
        let mut all = self.lock();
        if let Some(idle) = all.get_mut(key) {
            idle.retain(|idle| !idle.hand.is_closed());
            if idle.is_empty() {
                all.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, VecDeque<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    pub(crate) fn take(&self, key: &Key) -> Option<Idle> {
        self.lock()
            .take_if(|(own, _)| own == key)
            .map(|(_, idle)| idle)
            .filter(|idle| !idle.hand.is_closed())
    }

    pub(crate) fn put(&self, key: Key, idle: Idle) {
        let before = self.lock().replace((key, idle));
        drop(before);
    }

    /// The client has gone, and what it authenticated with it.
    pub(crate) fn clear(&self) {
        let own = self.lock().take();
        drop(own);
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Key, Idle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
