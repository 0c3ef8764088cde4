//! Tells a dead link by its silence, while somebody waits for what comes over it.
//!
//! A killed peer says no goodbye, and a stopped one none either. A live one's transport acknowledges what
//! it is sent, whatever its app does: so a link that says nothing is asked, and one that does not even
//! acknowledge is dead. While nobody waits, the probes of `control` are enough. No clock, no I/O.

use core::time::Duration;

/// Watches one link.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    received: u64,
    heard_at: Duration,
    asked_at: Option<Duration>,
}

/// What to do about a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Lives,
    /// Send something that must be acknowledged.
    Ask,
    /// Close it.
    Dead,
}

impl Silence {
    /// A link that has just been heard.
    pub const fn new(now: Duration) -> Self {
        Self {
            received: 0,
            heard_at: now,
            asked_at: None,
        }
    }

    /// Judges by a number that changes with everything that comes, acknowledgements included. Call it
    /// again after [`Silence::look_after`].
    pub fn look(&mut self, now: Duration, received: u64, is_awaited: bool) -> Verdict {
        if !is_awaited || received != self.received {
            *self = Self {
                received,
                heard_at: now,
                asked_at: None,
            };
            return Verdict::Lives;
        }
        match self.asked_at {
            Some(asked_at) if now.saturating_sub(asked_at) >= DEAD_AFTER => Verdict::Dead,
            Some(_) => Verdict::Lives,
            None if now.saturating_sub(self.heard_at) >= ASK_AFTER => {
                self.asked_at = Some(now);
                Verdict::Ask
            }
            None => Verdict::Lives,
        }
    }

    /// When to look again.
    pub const fn look_after(is_awaited: bool) -> Duration {
        if is_awaited { LOOK_EVERY } else { ASK_AFTER }
    }
}

/// A link is never found dead later than this after its last word.
pub const FOUND_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A link on which something is awaited says something more often than that, or is asked.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// Four retransmissions at a round trip of 50 ms: longer than what a path loses in a bad moment.
const DEAD_AFTER: Duration = Duration::from_millis(2500);

// A last word just after a look, noticed by the next; a look that is late by its interval each time.
const _: () = assert!(
    ASK_AFTER.as_millis() * 2 + DEAD_AFTER.as_millis() + LOOK_EVERY.as_millis()
        <= FOUND_WITHIN.as_millis()
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks as often as it says; what the link has said by then, and whether somebody waits, is given by
    /// the time. Gives when it was asked and when it was found dead.
    fn watch(
        until: Duration,
        received: impl Fn(Duration) -> u64,
        is_awaited: impl Fn(Duration) -> bool,
    ) -> (usize, Option<Duration>) {
        let mut silence = Silence::new(Duration::ZERO);
        let (mut now, mut asked) = (Duration::ZERO, 0);
        while now <= until {
            match silence.look(now, received(now), is_awaited(now)) {
                Verdict::Lives => {}
                Verdict::Ask => asked += 1,
                Verdict::Dead => return (asked, Some(now)),
            }
            now += Silence::look_after(is_awaited(now));
        }
        (asked, None)
    }

    const HOUR: Duration = Duration::from_hours(1);

    /// Whenever the last word came, and whenever somebody began to wait, a dead link is found in time.
    #[test]
    fn a_dead_link_is_found_in_time() {
        for began in (0..3_000).step_by(130) {
            for died in (began..began + 3_000).step_by(70) {
                let (began, died) = (Duration::from_millis(began), Duration::from_millis(died));
                let said = |now: Duration| now.min(died).as_millis() as u64 / 10;
                let (asked, dead) = watch(HOUR, said, |now| now >= began);
                let dead = dead.unwrap();
                assert!(
                    asked == 1 && dead - died <= FOUND_WITHIN,
                    "{began:?} {died:?} {dead:?}"
                );
            }
        }
    }

    /// A link that answers lives, however little it says; one that nobody waits for is left alone.
    #[test]
    fn a_live_link_lives() {
        // It says something only when it is asked.
        let answers = core::cell::Cell::new(0);
        let mut silence = Silence::new(Duration::ZERO);
        for half_second in 0..7_200 {
            let now = Duration::from_millis(half_second * 500);
            match silence.look(now, answers.get(), true) {
                Verdict::Lives => {}
                Verdict::Ask => answers.set(answers.get() + 1),
                Verdict::Dead => panic!("at {now:?}"),
            }
        }
        assert!(answers.get() > 1_000);
        assert_eq!(watch(HOUR, |_| 7, |_| false), (0, None));
    }
}
