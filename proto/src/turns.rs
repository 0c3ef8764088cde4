//! Writers of one connection take turns while its window is full.
//!
//! A transport that wakes every waiting writer at once, and serves the first that comes until the window is
//! full again, lets a few bulk streams keep a small answer waiting for seconds. A writer that was made to
//! wait therefore lets the others go first, once before each of its next writes.

/// What one writer has to wait for. For writers of one task queue that is served in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    /// Writes to go until the window counts as free again.
    pressed: u8,
    /// It has let the others go first since its last write.
    has_waited: bool,
}

impl Turns {
    /// Whether to go to the end of the queue before the next write.
    pub const fn must_wait(&mut self) -> bool {
        let must = self.pressed > 0 && !self.has_waited;
        self.has_waited = true;
        must
    }

    /// The window was full.
    pub const fn blocked(&mut self) {
        self.pressed = PRESSED;
        self.has_waited = true;
    }

    /// Something was written.
    pub const fn wrote(&mut self) {
        self.pressed = self.pressed.saturating_sub(1);
        self.has_waited = false;
    }
}

/// A window that was full is so again soon: a writer that has written so often without waiting was wrong
/// about that.
const PRESSED: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Alone, a writer never waits; one that was blocked waits once before each write, for a while.
    #[test]
    fn only_who_was_blocked_waits() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            assert!(!turns.must_wait());
            turns.wrote();
        }
        turns.blocked();
        assert!(!turns.must_wait(), "it has just waited");
        turns.wrote();
        for _ in 1..PRESSED {
            assert!(turns.must_wait());
            assert!(!turns.must_wait(), "once");
            turns.wrote();
        }
        assert!(!turns.must_wait());
    }
}
