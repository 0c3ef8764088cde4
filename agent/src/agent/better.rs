//! While TLS has to do: tries QUIC from time to time, ever more rarely, until it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::code::Code;

use crate::link::{Link, Target};
use crate::status::{Event, Status, Trouble};

/// When QUIC is tried again.
#[derive(Clone, Debug)]
pub(super) struct Better {
    /// The first pause.
    base: Duration,
    /// Times that this agent has moved to QUIC without staying there.
    moves: u32,
    has_told: Arc<AtomicBool>,
}

impl Better {
    pub(super) fn new(base: Duration) -> Self {
        Self {
            base,
            moves: 0,
            has_told: Arc::default(),
        }
    }

    /// The agent moves to a link over QUIC.
    pub(super) const fn moved(&mut self) {
        self.moves = self.moves.saturating_add(1);
    }

    /// A link over QUIC has lasted.
    pub(super) const fn stayed(&mut self) {
        self.moves = 0;
    }

    /// Gives a link over QUIC once there is one. Dropping the future ends the search.
    pub(super) async fn link(self, target: Target, status: Status, random: fn() -> u64) -> Link {
        let mut attempt = self.moves;
        loop {
            tokio::time::sleep(pause(self.base, attempt, random())).await;
            match Link::dial_quic(&target).await {
                Ok(link) => return link,
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    attempt,
                    "no QUIC yet"
                ),
            }
            attempt = attempt.saturating_add(1);
            if !self.has_told.swap(true, Ordering::Relaxed) {
                status.say(Event::Notice(Trouble {
                    code: Code::UdpBlocked,
                    message: BLOCKED.to_owned(),
                    next_step: UNBLOCK.to_owned(),
                }));
            }
        }
    }
}

/// Three quarters to five quarters of a pause that doubles, so that a fleet behind one firewall does not
/// knock in step.
fn pause(base: Duration, attempt: u32, seed: u64) -> Duration {
    let doubled = base.saturating_mul(1 << attempt.min(DOUBLINGS_MAX));
    let whole = doubled.min(PAUSE_MAX.max(base));
    let share = u32::try_from(seed % 1000).unwrap_or(0);
    whole * 3 / 4 + whole / 2 * share / 1000
}

const BLOCKED: &str = "UDP to the edge does not get through: the link is TLS over TCP, which is slower \
                       where packets are lost";
const UNBLOCK: &str = "let UDP to the edge's port through; it is tried again from time to time";
const DOUBLINGS_MAX: u32 = 10;
/// A handful of packets; whoever opens a firewall does not want to wait for longer.
const PAUSE_MAX: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_bounds() {
        let base = Duration::from_secs(30);
        for (attempt, whole) in [(0, 30), (1, 60), (3, 240), (4, 300), (99, 300)] {
            let whole = Duration::from_secs(whole);
            for seed in [0, 500, 999, u64::MAX] {
                let pause = pause(base, attempt, seed);
                assert!(
                    pause >= whole * 3 / 4 && pause <= whole * 5 / 4,
                    "{attempt} {seed}"
                );
            }
        }
        assert!(pause(base, 0, 0) < pause(base, 0, 999));
    }
}
