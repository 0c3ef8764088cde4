//! How much a link may hold for readers that do not read.
//!
//! A link's receive window belongs to all of its streams: what one reader leaves unread is taken from the
//! others. So the window grows by a stream's own window for every stream that is not emptied, and the
//! others always have [`LINK_WINDOW`] for themselves. That memory comes out of a budget. What is beyond
//! it is decided here: who is given up, and whether new streams are turned away. No clock, no I/O.

use core::time::Duration;

/// Bytes that one stream may have unread: 50 ms away, half a gigabit a second needs 3 MB.
pub const STREAM_WINDOW: u64 = 4 << 20;
/// Bytes that all streams that are being emptied share. Larger ones made small requests wait behind bulk.
pub const LINK_WINDOW: u64 = 16 << 20;
/// Between two looks at a link's streams. One that was not empty all the while holds something.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A reader that is busy empties its stream within this.
pub const SLOW_AFTER: Duration = Duration::from_secs(1);

/// What a look at one stream shows; the counters only ever change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Something may be unread.
    pub holds: bool,
    /// How often it was found empty.
    pub emptied: u32,
    /// How often something was read.
    pub reads: u32,
}

/// What is known of one stream's reader.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    last: Seen,
    empty_at: Duration,
    read_at: Duration,
}

/// What a link needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Need {
    /// Bytes beyond [`LINK_WINDOW`] that keep the window open for everybody else.
    pub window: u64,
    /// Bytes that slow readers may hold.
    pub slow: u64,
}

impl Reader {
    /// A stream that has just been opened.
    pub const fn new(now: Duration) -> Self {
        Self {
            last: Seen {
                holds: false,
                emptied: 0,
                reads: 0,
            },
            empty_at: now,
            read_at: now,
        }
    }

    /// Takes note of what a look shows. Time counts from the first look that shows something unread:
    /// nobody looks while nothing is.
    pub const fn look(&mut self, now: Duration, seen: Seen) {
        let was_empty = !seen.holds || !self.last.holds;
        if was_empty || seen.emptied != self.last.emptied {
            self.empty_at = now;
        }
        if was_empty || seen.reads != self.last.reads {
            self.read_at = now;
        }
        self.last = seen;
    }

    /// How long it has not been read, though it was not empty.
    pub const fn unread_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.read_at)
    }

    const fn not_empty_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.empty_at)
    }
}

impl Need {
    /// Adds a stream.
    pub fn add(&mut self, now: Duration, reader: &Reader) {
        let not_empty_for = reader.not_empty_for(now);
        if not_empty_for >= LOOK_EVERY {
            self.window = self.window.saturating_add(STREAM_WINDOW);
        }
        if not_empty_for >= SLOW_AFTER {
            self.slow = self.slow.saturating_add(STREAM_WINDOW);
        }
    }

    /// Whether new streams are turned away: slow readers alone need more than was granted.
    pub const fn is_over(&self, granted: u64) -> bool {
        self.slow > granted
    }

    /// How many readers to give up, those first that have not read for longest, and only such as have
    /// not read for [`SLOW_AFTER`].
    pub const fn streams_beyond(&self, granted: u64) -> u64 {
        self.slow.saturating_sub(granted).div_ceil(STREAM_WINDOW)
    }
}

const _: () = assert!(LINK_WINDOW >= 4 * STREAM_WINDOW);
const _: () = assert!(LOOK_EVERY.as_millis() * 10 <= SLOW_AFTER.as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A reader over time: each step is (ms, holds, emptied, reads).
    fn need(steps: &[(u64, bool, u32, u32)]) -> (Need, Duration) {
        let mut reader = Reader::new(ms(0));
        let mut at = ms(0);
        for &(now, holds, emptied, reads) in steps {
            at = ms(now);
            let seen = Seen {
                holds,
                emptied,
                reads,
            };
            reader.look(at, seen);
        }
        let mut need = Need::default();
        need.add(at, &reader);
        (need, reader.unread_for(at))
    }

    /// Only a stream that was never empty between two looks needs room of its own, however it is read.
    #[test]
    fn room_goes_to_what_is_not_emptied() {
        let (none, fast, slow) = (
            Need::default(),
            Need {
                window: STREAM_WINDOW,
                slow: 0,
            },
            Need {
                window: STREAM_WINDOW,
                slow: STREAM_WINDOW,
            },
        );
        for (case, steps, expected, unread) in [
            (
                "idle",
                &[(50, false, 1, 3), (5_000, false, 1, 3)][..],
                none,
                0,
            ),
            ("busy", &[(50, true, 1, 3), (100, true, 2, 9)], none, 0),
            ("new", &[(50, true, 0, 0)], none, 0),
            (
                "never read",
                &[(50, true, 0, 0), (100, true, 0, 0)],
                fast,
                50,
            ),
            (
                "stalled",
                &[(50, true, 1, 1), (1_050, true, 1, 1)],
                slow,
                1_000,
            ),
            (
                "read slowly",
                &[(50, true, 1, 1), (1_050, true, 1, 2)],
                slow,
                0,
            ),
            (
                "read again",
                &[(1_050, true, 1, 1), (1_100, false, 2, 4)],
                none,
                0,
            ),
            (
                "woken after long",
                &[(50, false, 1, 1), (5_050, true, 1, 1)],
                none,
                0,
            ),
        ] {
            assert_eq!(need(steps), (expected, ms(unread)), "{case}");
        }
    }

    /// Within the budget nobody is given up and nobody turned away; beyond it, as many as are beyond.
    #[test]
    fn what_is_beyond_the_budget_is_given_up() {
        let need = Need {
            window: 70 * STREAM_WINDOW,
            slow: 64 * STREAM_WINDOW,
        };
        for (granted, over, give_up) in [
            (70 * STREAM_WINDOW, false, 0),
            (64 * STREAM_WINDOW, false, 0),
            (64 * STREAM_WINDOW - 1, true, 1),
            (60 * STREAM_WINDOW, true, 4),
            (0, true, 64),
        ] {
            assert_eq!(need.is_over(granted), over, "{granted}");
            assert_eq!(need.streams_beyond(granted), give_up, "{granted}");
        }
        assert!(!Need::default().is_over(0));
    }
}
