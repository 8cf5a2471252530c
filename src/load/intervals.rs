//! The intervals of several generators as one series, while the generators run: counts are added, and percentiles are
//! those of all messages.
//!
//! Each generator has intervals of its own, which begin when its measured part begins. Here an interval counts where
//! its middle lies. A common interval is complete when each generator has come past it. A late generator, perhaps a
//! stopped one, holds the series up by at most [`MOST_PENDING`] intervals. Beyond that its figures count in a later
//! interval, so that none is lost.

use std::collections::VecDeque;
use std::time::Duration;

use super::series::{Point, Points};
use super::times::Histogram;
use super::worker::IntervalRecord;

/// The most intervals that are kept while a generator is late. Each takes some hundred kilobytes.
const MOST_PENDING: usize = 60;
/// An interval shorter than this part of the others belongs to the one before it.
const SHORT: f64 = 0.1;

/// The common intervals of some generators.
pub(super) struct Intervals {
    length: Duration,
    /// When the first interval began, in seconds since 1970; `None` before the first interval.
    origin: Option<f64>,
    generators: Vec<Reach>,
    /// The intervals that are not complete, and the number of the first of them.
    pending: VecDeque<Cell>,
    first: u64,
    /// All complete ones, in bounded memory.
    points: Points,
}

/// The progress of a generator.
#[derive(Clone, Copy, Default)]
struct Reach {
    /// The end of its latest interval, in seconds from the origin.
    until: f64,
    has_ended: bool,
    /// The connections that it had open then.
    open: u64,
}

/// A common interval, as far as it is known.
struct Cell {
    received: u64,
    bytes: u64,
    errors: u64,
    /// The end of the latest interval in it.
    until: f64,
    latency: Histogram,
}

impl Intervals {
    pub(super) fn new(length: Duration, generators: usize) -> Intervals {
        Intervals {
            length,
            origin: None,
            generators: vec![Reach::default(); generators],
            pending: VecDeque::new(),
            first: 0,
            points: Points::default(),
        }
    }

    /// Begins another run or step.
    pub(super) fn begin(&mut self) {
        *self = Intervals::new(self.length, self.generators.len());
    }

    /// Adds an interval of one generator.
    pub(super) fn add(&mut self, generator: usize, record: &IntervalRecord) {
        let IntervalRecord { ended, point, latency } = record;
        let began = ended - point.seconds;
        let (origin, length) = (*self.origin.get_or_insert(began), self.length.as_secs_f64());
        let is_short = point.seconds < length * SHORT;
        let place = if is_short { began - length * SHORT } else { began + point.seconds / 2.0 };
        let number = ((place - origin) / length).max(0.0) as u64;
        if number >= self.first + 2 * MOST_PENDING as u64 && self.pending.is_empty() {
            // Nothing came for long: all generators were stopped, or the clock was set.
            self.first = number;
        }
        let ahead = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let ahead = ahead.min(2 * MOST_PENDING);
        while self.pending.len() <= ahead {
            self.pending.push_back(Cell::new());
        }
        self.pending[ahead].add(point, latency, ended - origin);
        let generator = &mut self.generators[generator];
        *generator = Reach { until: generator.until.max(ended - origin), open: point.open, ..*generator };
    }

    /// Notes that the generator sends no more intervals.
    pub(super) fn ended(&mut self, generator: usize) {
        self.generators[generator].has_ended = true;
    }

    /// Removes the next complete interval, with its latencies.
    pub(super) fn next(&mut self) -> Option<(Point, Histogram)> {
        // An interval ends about when the next begins, and no generator is quite on time.
        let length = self.length.as_secs_f64();
        let is_past = |generator: &Reach| generator.until > (self.first as f64 + 0.5) * length;
        let all_are_past = self.generators.iter().all(|generator| generator.has_ended || is_past(generator));
        if !all_are_past && self.pending.len() <= MOST_PENDING {
            return None;
        }
        let cell = self.pending.pop_front()?;
        let at = self.first as f64 * length;
        self.first += 1;
        let open = self.generators.iter().map(|generator| generator.open).sum();
        let point = cell.point(at, length, open);
        self.points.push(point, point.seconds < length * SHORT);
        Some((point, cell.latency))
    }

    /// All complete intervals, in their order.
    pub(super) fn take_points(&mut self) -> Vec<Point> {
        std::mem::take(&mut self.points).into_points()
    }
}

impl Cell {
    fn new() -> Cell {
        Cell { received: 0, bytes: 0, errors: 0, until: 0.0, latency: Histogram::new() }
    }

    fn add(&mut self, point: &Point, latency: &Histogram, until: f64) {
        self.received += point.received;
        self.bytes += point.bytes;
        self.errors += point.errors;
        self.until = self.until.max(until);
        // All generators are this program, so their histograms have the same bounds.
        let added = self.latency.add(&**latency);
        debug_assert!(added.is_ok());
    }

    fn point(&self, at: f64, length: f64, open: u64) -> Point {
        // The last interval may be shorter than the others.
        let seconds = if self.until > at { length.min(self.until - at) } else { length };
        Point {
            at,
            seconds,
            received: self.received,
            bytes: self.bytes,
            rate: self.received as f64 / seconds,
            p50_us: self.latency.microseconds(0.5),
            p99_us: self.latency.microseconds(0.99),
            max_us: self.latency.microseconds(1.0),
            errors: self.errors,
            open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interval that ended at second 1e9 + `ended` since 1970, with replies that took these numbers of microseconds.
    fn record(ended: f64, seconds: f64, latencies: &[u64]) -> IntervalRecord {
        let mut latency = Histogram::new();
        latencies.iter().for_each(|time| latency.add_time(Duration::from_micros(*time)));
        let received = latencies.len() as u64;
        let point = Point {
            at: 0.0,
            seconds,
            received,
            bytes: received * 10,
            rate: 0.0,
            p50_us: None,
            p99_us: None,
            max_us: None,
            errors: 1,
            open: 5,
        };
        IntervalRecord { ended: 1e9 + ended, point, latency }
    }

    fn all(intervals: &mut Intervals) -> Vec<(f64, u64)> {
        std::iter::from_fn(|| intervals.next()).map(|(point, _)| (point.at, point.received)).collect()
    }

    #[test]
    fn percentiles_are_those_of_all_messages() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2);
        intervals.add(0, &record(1.0, 1.0, &[100; 90]));
        assert!(intervals.next().is_none(), "the other one is not past it");
        intervals.add(1, &record(1.01, 1.01, &[100, 900, 900, 900, 900, 900, 900, 900, 900, 900]));
        let (point, latency) = intervals.next().expect("both are past it");
        assert_eq!(
            (point.received, point.bytes, point.errors, point.open, latency.len()),
            (100, 1000, 2, 10, 100)
        );
        let round = |time: Option<f64>| time.map(f64::round);
        assert_eq!((round(point.p50_us), round(point.p99_us)), (Some(100.0), Some(900.0)));
        assert_eq!((point.at, point.seconds, point.rate), (0.0, 1.0, 100.0));
    }

    #[test]
    fn a_generator_that_is_late_is_waited_for_within_a_bound_and_no_reply_is_lost() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2);
        intervals.add(1, &record(1.0, 1.0, &[1]));
        for second in 1..=10 {
            intervals.add(0, &record(f64::from(second), 1.0, &[1, 1]));
        }
        assert_eq!(all(&mut intervals), [(0.0, 3)]);
        // Generator 1 was stopped: one long interval, and then it keeps up.
        intervals.add(1, &record(9.0, 8.0, &[1; 7]));
        assert_eq!(all(&mut intervals).iter().map(|(_, received)| received).sum::<u64>(), 16 + 7);
        let mut before = Vec::new();
        for second in 11..=200 {
            intervals.add(0, &record(f64::from(second), 1.0, &[1, 1]));
            before.extend(all(&mut intervals));
        }
        assert_eq!(before.len(), 200 - 9 - MOST_PENDING, "no more are kept");
        intervals.add(1, &record(200.0, 191.0, &[1; 5]));
        let rest = all(&mut intervals);
        assert_eq!(rest.iter().map(|(_, received)| received).sum::<u64>(), 2 * MOST_PENDING as u64 + 5);
    }

    #[test]
    fn a_generator_that_has_ended_is_not_waited_for_and_the_last_replies_join_the_interval_before() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2);
        intervals.add(0, &record(1.0, 1.0, &[1]));
        intervals.add(0, &record(1.01, 0.01, &[1]));
        assert_eq!(all(&mut intervals), []);
        intervals.ended(1);
        assert_eq!(all(&mut intervals), [(0.0, 2)]);
        // All were stopped, or the clock was set.
        intervals.add(0, &record(1e6, 1.0, &[1]));
        assert_eq!(all(&mut intervals), [(999_999.0, 1)]);
        assert_eq!(intervals.take_points().len(), 2);
    }

    #[test]
    fn a_short_last_interval_is_no_point_of_its_own() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2);
        for generator in [0, 1] {
            intervals.add(generator, &record(1.0, 1.0, &[1, 1]));
        }
        assert_eq!(all(&mut intervals), [(0.0, 4)]);
        for generator in [0, 1] {
            intervals.add(generator, &record(1.002, 0.002, &[1]));
            intervals.ended(generator);
        }
        assert_eq!(all(&mut intervals).iter().map(|(_, received)| received).sum::<u64>(), 2);
        let points: Vec<_> = intervals.take_points().iter().map(|point| point.received).collect();
        assert_eq!(points, [6]);
    }
}
