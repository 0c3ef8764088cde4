//! Many latencies in little memory: buckets that grow with the value, each at most 1.6 % wide.

use std::time::Duration;

/// Counts of microseconds. Values beyond about an hour count as that.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.total += other.total;
    }

    /// The middle of the bucket in which the quantile lies, in milliseconds.
    pub(super) fn quantile_ms(&self, part: f64) -> Option<f64> {
        let wanted = part * self.total as f64;
        let mut seen = 0_u64;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if *count > 0 && seen as f64 >= wanted {
                return Some(middle_of(at) / 1000.0);
            }
        }
        None
    }
}

/// Below 128 every value has a bucket; above, each power of two has 64.
fn bucket(micros: u32) -> usize {
    let value = micros as usize;
    if value < 2 * STEPS {
        return value;
    }
    let shift = micros.ilog2() - STEP_BITS;
    (shift as usize) * STEPS + (value >> shift)
}

fn middle_of(bucket: usize) -> f64 {
    if bucket < 2 * STEPS {
        return bucket as f64;
    }
    let shift = bucket / STEPS - 1;
    let first = ((bucket - shift * STEPS) << shift) as f64;
    let width = (1_usize << shift) as f64;
    first + (width - 1.0) / 2.0
}

const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;
/// Up to `u32::MAX` microseconds, which is 71 minutes.
const BUCKETS: usize = (32 - STEP_BITS as usize + 1) * STEPS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lands_near_itself() {
        for micros in (0..5000).chain([10_000, 123_456, 1 << 20, (1 << 31) + 5, u32::MAX]) {
            let at = bucket(micros);
            assert!(at < BUCKETS, "{micros}");
            let off = (middle_of(at) - f64::from(micros)).abs();
            assert!(off <= f64::from(micros) * 0.016 + 0.5, "{micros}: {off}");
        }
    }

    #[test]
    fn buckets_never_go_back() {
        let all: Vec<usize> = (0..100_000).map(bucket).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn quantiles_come_out() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.5), None);
        let mut other = Histogram::default();
        for millis in 1..=1000 {
            let half = if millis % 2 == 0 {
                &mut histogram
            } else {
                &mut other
            };
            half.record(Duration::from_millis(millis));
        }
        histogram.add(&other);
        for (part, wanted) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile_ms(part).unwrap();
            assert!((found - wanted).abs() < wanted * 0.02, "{part}: {found}");
        }
    }
}
