//! Counts failed attempts to authenticate, per address prefix, so that a guesser is slowed and seen.
//!
//! Only failures are counted and only failures are refused: whoever has a good key gets through, so
//! nobody can lock a neighbour out. The secrets have 256 random bits; this bounds noise, not luck.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;

/// Failures of the last minute by prefix. Bounded: the least used prefix is forgotten first.
pub(super) struct Failures {
    counts: Cache<IpAddr, Arc<AtomicU32>>,
}

impl Failures {
    pub(super) fn new() -> Self {
        Self {
            counts: Cache::builder()
                .max_capacity(PREFIXES_MAX)
                .time_to_live(WINDOW)
                .build(),
        }
    }

    /// Notes a failure; true when this prefix had too many in the last minute.
    pub(super) fn note(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return false };
        let count = self.counts.get_with(prefix(address), Arc::default);
        count.fetch_add(1, Ordering::Relaxed) >= FAILURES_MAX
    }
}

/// An IPv4 address, or the /64 that one IPv6 customer has at least.
fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A person who pastes wrongly fails a few times a minute; a broken client a few dozen.
const FAILURES_MAX: u32 = 60;
const PREFIXES_MAX: u64 = 10_000;
pub(super) const WINDOW: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of one IPv6 customer count together; others do not.
    #[test]
    fn counts_by_prefix() {
        let failures = Failures::new();
        let note = |address: &str| failures.note(Some(address.parse().unwrap()));
        for host in 0..FAILURES_MAX {
            assert!(!note(&format!("2001:db8::{host:x}")));
        }
        assert!(note("2001:db8::ffff"));
        assert!(!note("2001:db8:0:1::1"));
        assert!(!note("203.0.113.7"));
        assert!(!failures.note(None));
    }
}
