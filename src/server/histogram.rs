//! The durations of turns, in a few counters. They need no clock, lock or allocation of their own.

use std::time::Duration;

/// The upper bounds of the buckets, in seconds: from a turn that finds nothing to do to a turn that every client feels.
const BOUNDS: [f64; 17] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1,
    1.0,
];

/// Durations, counted by size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    /// The last one is for times above all bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    pub(super) fn record(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all durations, in seconds.
    pub(super) fn sum(&self) -> f64 {
        self.sum
    }

    /// The upper bound of each bucket in seconds, and the number of durations in this bucket alone.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.counts).collect()
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
        assert!(histogram.count() == 2 && histogram.sum().is_finite());
    }
}
