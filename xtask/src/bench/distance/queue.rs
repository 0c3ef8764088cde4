//! When packets leave the way: after the time that it takes, at the rate that it carries, some never. Reads no clock
//! and does no I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One direction.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<(Instant, Vec<u8>)>,
    /// Until when the way is busy with what has entered it.
    busy_until: Option<Instant>,
    random: u64,
}

impl Queue {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            busy_until: None,
            // The generator must not begin at nought.
            random: seed | 1,
        }
    }

    /// Takes a packet in; it is lost by chance, or when too much waits already.
    pub(super) fn enter(&mut self, now: Instant, packet: &[u8], lost_of_a_thousand: u32) {
        if self.chance() < u64::from(lost_of_a_thousand) {
            return;
        }
        let free = self.busy_until.map_or(now, |until| until.max(now));
        if free.duration_since(now) > WAIT_MAX {
            return;
        }
        let sent = free + TIME_PER_BYTE * u32::try_from(packet.len()).unwrap_or(u32::MAX);
        self.busy_until = Some(sent);
        self.waiting.push_back((sent + DELAY, packet.to_vec()));
    }

    /// When the next packet leaves.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// A packet that has come through by now.
    pub(super) fn leave(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.due()? > now {
            return None;
        }
        self.waiting.pop_front().map(|(_, packet)| packet)
    }

    /// From 0 to 999, the same in every run (xorshift).
    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000
    }
}

/// Half a round trip of 50 ms.
const DELAY: Duration = Duration::from_millis(25);
/// 1 Gbit/s.
const TIME_PER_BYTE: Duration = Duration::from_nanos(8);
/// The router's buffer: two round trips' worth.
const WAIT_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_take_their_time_and_keep_their_order() {
        let mut queue = Queue::new(7);
        let start = Instant::now();
        queue.enter(start, &[1; 1250], 0);
        queue.enter(start, &[2; 1250], 0);
        let first = start + Duration::from_micros(25_010);
        assert_eq!(queue.due(), Some(first));
        assert_eq!(queue.leave(start + Duration::from_millis(25)), None);
        assert_eq!(queue.leave(first).unwrap()[0], 1);
        assert_eq!(queue.leave(first), None);
        assert_eq!(
            queue.leave(first + Duration::from_micros(10)).unwrap()[0],
            2
        );
    }

    #[test]
    fn some_are_lost_by_chance() {
        let mut queue = Queue::new(7);
        let start = Instant::now();
        for _ in 0..100_000 {
            queue.enter(start, &[], 10);
        }
        let lost = 100_000 - queue.waiting.len();
        assert!((800..1200).contains(&lost), "{lost}");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut queue = Queue::new(7);
        let start = Instant::now();
        for _ in 0..20_000 {
            queue.enter(start, &[0; 1500], 0);
        }
        let most = 100_000_000 / (1500 * 8) + 2;
        assert!(queue.waiting.len() <= most, "{}", queue.waiting.len());
    }
}
