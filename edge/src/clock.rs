//! The one place that reads the wall clock and the monotonic clock, so that everything else takes
//! time as an argument or asks here.

use jiff::Timestamp;
use std::time::Instant;

/// Gives the time. Leases and time-outs use [`Clock::monotonic`], displays and ends use [`Clock::now`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock;

#[expect(clippy::unused_self, reason = "whoever may read a clock was given one")]
impl Clock {
    /// The wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn now(self) -> Timestamp {
        Timestamp::now()
    }

    /// Milliseconds since the Unix epoch, for new ids. Before 1970 it is 0.
    pub(crate) fn unix_ms(self) -> u64 {
        u64::try_from(self.now().as_millisecond()).unwrap_or(0)
    }

    /// A clock that never goes back and does not follow the wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn monotonic(self) -> Instant {
        Instant::now()
    }
}
