//! How long turns take: a few counters, without a clock, a lock or an allocation of their own.

use std::time::Duration;

/// The upper bounds of the buckets, in nanoseconds: from a turn that finds nothing to do, to one that everybody feels.
const BOUNDS: [u64; 17] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    1_000_000_000,
];

/// Durations, counted by size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    /// The last one is for what is above all bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: u64,
}

impl Histogram {
    pub(super) fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|&bound| nanoseconds <= bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(nanoseconds);
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in seconds.
    pub(super) fn sum(&self) -> f64 {
        self.sum as f64 / 1e9
    }

    /// The upper bound of each bucket in seconds, and how many are in it alone.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|&bound| bound as f64 / 1e9).chain([f64::INFINITY]);
        bounds.zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_smallest_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for nanoseconds in [0, 1_000, 1_001, 2_500, 1_000_000_000, 1_000_000_001] {
            histogram.record(Duration::from_nanos(nanoseconds));
        }
        let counts: Vec<u64> = histogram.buckets().into_iter().map(|(_, count)| count).collect();
        assert_eq!((counts[0], counts[1], counts[BOUNDS.len() - 1], counts[BOUNDS.len()]), (2, 2, 1, 1));
        assert_eq!(histogram.count(), 6);
        assert!((histogram.sum() - 2.000_004_502).abs() < 1e-12, "{}", histogram.sum());
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn what_never_ends_does_not_overflow() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 2);
    }
}
