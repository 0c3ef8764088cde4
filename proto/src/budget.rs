//! Memory for what readers leave unread: one link's share, and that of the whole process.
//!
//! It is given out in the windows that links grow by, and taken back when readers read on or are given
//! up. What all links hold for slow readers is never more than this. Counting only, no I/O.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::window::STREAM_WINDOW;

/// The budget of an edge, or of an agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    per_link: u64,
    all: u64,
    granted: AtomicU64,
}

/// What one link was granted. Given back when dropped.
#[derive(Debug)]
pub struct Granted {
    budget: Budget,
    bytes: AtomicU64,
}

impl Budget {
    /// Bytes for one link and for all together, given out in whole streams' windows.
    pub fn new(per_link: u64, all: u64) -> Self {
        Self(Arc::new(Shared {
            per_link,
            all,
            granted: AtomicU64::new(0),
        }))
    }

    /// Bytes that all links may hold for slow readers now.
    pub fn granted(&self) -> u64 {
        self.0.granted.load(Ordering::Relaxed)
    }

    /// Nothing yet, for a new link.
    pub fn open(&self) -> Granted {
        Granted {
            budget: self.clone(),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Granted {
    /// Makes it `wanted` bytes, or as many as there are; gives what it is then. For one caller at a
    /// time.
    pub fn set(&self, wanted: u64) -> u64 {
        let Shared {
            per_link,
            all,
            granted,
        } = &*self.budget.0;
        let wanted = wanted.min(*per_link) / STREAM_WINDOW * STREAM_WINDOW;
        let held = self.bytes.load(Ordering::Relaxed);
        let mut given = held;
        if wanted > held {
            // What is left may be less than was wanted.
            let _ = granted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |granted| {
                let left = all.saturating_sub(granted) / STREAM_WINDOW * STREAM_WINDOW;
                given = held + left.min(wanted - held);
                Some(granted + (given - held))
            });
        } else if wanted < held {
            given = wanted;
            granted.fetch_sub(held - wanted, Ordering::Relaxed);
        }
        self.bytes.store(given, Ordering::Relaxed);
        given
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No link gets more than its share, all together no more than there is, and all of it comes back.
    #[test]
    fn shares_are_kept() {
        let one = STREAM_WINDOW;
        let budget = Budget::new(4 * one, 6 * one + 1);
        let (first, second) = (budget.open(), budget.open());
        assert_eq!(first.set(9 * one), 4 * one, "one link's share");
        assert_eq!(
            second.set(3 * one),
            2 * one,
            "what is left, in whole windows"
        );
        assert_eq!(budget.granted(), 6 * one);
        assert_eq!(second.set(3 * one), 2 * one);
        assert_eq!(first.set(one + 1), one);
        assert_eq!(second.set(3 * one), 3 * one);
        assert_eq!((first.bytes(), second.bytes()), (one, 3 * one));
        drop(second);
        assert_eq!(budget.granted(), one);
        drop(first);
        assert_eq!(budget.granted(), 0);
    }
}
