//! Idle upstream connections of one worker, kept for the next exchange of the same endpoint over the
//! same tunnel. Which ones may come here, `exchange` says; whether one is still alive is found out when
//! it is taken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::id::{EndpointId, TunnelId};
use tokio::time::Instant;

use crate::ingress::upstream::Upstream;

/// What an upstream connection serves. Its stream's head said so, and cannot be changed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    pub(crate) endpoint: EndpointId,
    pub(crate) tunnel: TunnelId,
    pub(crate) generation: u64,
    /// Which link of the tunnel.
    pub(crate) lane: u32,
}

/// Idle connections, the newest last.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Key, VecDeque<Idle>>>,
    per_key_max: usize,
}

#[derive(Debug)]
struct Idle {
    upstream: Upstream,
    since: Instant,
}

/// The connection of one client that is never shared: authentication such as NTLM belongs to it.
#[derive(Debug, Default)]
pub(crate) struct Own(Mutex<Option<Box<Upstream>>>);

impl Pool {
    /// Keeps at most so many connections of one key.
    pub(crate) fn new(per_key_max: usize) -> Self {
        Self {
            idle: Mutex::default(),
            per_key_max,
        }
    }

    /// The connection that was used last, unless it has been idle for longer than `age_max`. It may have
    /// ended meanwhile.
    pub(crate) fn take(&self, key: &Key, age_max: Duration) -> Option<Upstream> {
        let mut all = self.lock();
        let idle = all.get_mut(key)?;
        // All others are older still.
        idle.pop_back_if(|newest| newest.since.elapsed() <= age_max)
            .map(|newest| newest.upstream)
    }

    /// Keeps a connection; the oldest goes when there are too many.
    pub(crate) fn put(&self, upstream: Upstream) {
        let newest = Idle {
            since: Instant::now(),
            upstream,
        };
        let mut all = self.lock();
        let idle = all.entry(newest.upstream.key).or_default();
        let oldest = (idle.len() >= self.per_key_max)
            .then(|| idle.pop_front())
            .flatten();
        idle.push_back(newest);
        drop(all);
        if let Some(oldest) = oldest {
            tokio::spawn(oldest.upstream.finish());
        }
    }

    /// Frees the connection that has been idle for longest on a tunnel, for its stream's sake.
    pub(crate) fn evict(&self, tunnel: TunnelId) {
        let mut all = self.lock();
        let oldest = all
            .iter_mut()
            .filter(|(key, _)| key.tunnel == tunnel)
            .find_map(|(_, idle)| idle.pop_front());
        drop(all);
        // Dropped, its place is free at once.
        drop(oldest);
    }

    /// Ends, every now and then, what has been idle for too long, and forgets what has ended.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut every = tokio::time::interval(SWEEP_EVERY);
        loop {
            every.tick().await;
            for upstream in self.out_of_use() {
                tokio::spawn(upstream.finish());
            }
        }
    }

    fn out_of_use(&self) -> Vec<Upstream> {
        let mut old = Vec::new();
        self.lock().retain(|_, idle| {
            while let Some(oldest) = idle.pop_front_if(|oldest| oldest.since.elapsed() > IDLE_MAX) {
                old.push(oldest.upstream);
            }
            idle.retain_mut(|idle| idle.upstream.is_alive());
            !idle.is_empty()
        });
        old
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, VecDeque<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    pub(crate) fn take(&self, key: &Key) -> Option<Upstream> {
        self.lock()
            .take_if(|own| own.key == *key)
            .map(|upstream| *upstream)
    }

    pub(crate) fn put(&self, upstream: Upstream) {
        let before = self.lock().replace(Box::new(upstream));
        drop(before);
    }

    /// The client has gone, and what it authenticated with it.
    pub(crate) fn clear(&self) {
        let own = self.lock().take();
        drop(own);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Upstream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a connection waits for its next exchange: shorter than what most apps allow.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(2);
