//! The lease: until when an edge may answer from memory.
//!
//! Times are a monotonic `Duration` since the edge started. The lease runs from the moment the
//! heartbeat was *sent*: whatever the store confirmed was true then, not when the answer came.

use std::time::Duration;

/// How long an edge may trust its memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the embedded store is always fresh: a store elsewhere times it"
    )
)]
pub(crate) enum Lease {
    /// The store is in this process: memory is never behind it.
    Always,
    /// Fresh until one second after the send time of the last completed pair of heartbeat and read.
    Timed { fresh_until: Duration },
}

/// How long one completed pair of heartbeat and log read is believed.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

impl Lease {
    /// A pair that was sent at `sent` has completed. An answer that overtook a later one changes nothing.
    #[cfg_attr(not(test), expect(dead_code, reason = "for a store elsewhere"))]
    pub(crate) fn renew(&mut self, sent: Duration) {
        match self {
            Self::Always => {}
            Self::Timed { fresh_until } => *fresh_until = (*fresh_until).max(sent + LEASE),
        }
    }

    pub(crate) fn is_fresh(self, now: Duration) -> bool {
        match self {
            Self::Always => true,
            Self::Timed { fresh_until } => now < fresh_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease counts from the send time, and an old answer never shortens it.
    #[test]
    fn counts_from_the_send_time() {
        let at = Duration::from_millis;
        let mut lease = Lease::Timed {
            fresh_until: Duration::ZERO,
        };
        assert!(!lease.is_fresh(at(0)));
        lease.renew(at(500));
        assert!(lease.is_fresh(at(1_499)));
        assert!(!lease.is_fresh(at(1_500)));
        lease.renew(at(250));
        assert!(lease.is_fresh(at(1_499)));
        assert!(Lease::Always.is_fresh(Duration::MAX));
    }
}
