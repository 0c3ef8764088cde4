//! How many raw connections are open, and how many a drain has ended: nothing in their bytes tells them
//! that the edge stops, so whoever drains is told of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by all raw connections and those who ask. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    ended: AtomicU64,
}

/// One connection, until dropped.
#[derive(Debug)]
pub(super) struct Counted(Tally);

impl Tally {
    pub(super) fn count(&self) -> Counted {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    /// Those that are open.
    pub(crate) fn open(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Those that were quiet and that a drain has ended before its time.
    pub(crate) fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    pub(super) fn note_ended(&self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
