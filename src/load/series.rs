//! The measured part interval by interval, in memory that does not grow with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::times::Histogram;
use crate::reactor::Moment;

/// The most points. A series that reaches them joins each two, and from then on a point holds twice as many intervals.
pub(super) const MOST_POINTS: usize = 1200;
/// The length of an interval by default.
pub(super) const USUAL_LENGTH: Duration = Duration::from_secs(1);
/// A last interval shorter than this part of the others says nothing by itself, and is added to the one before.
const SHORT: u32 = 10;

/// One interval of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it began, in seconds from the beginning of the measured part.
    pub at: f64,
    /// How long it was.
    pub seconds: f64,
    /// Replies that were completed in it.
    pub received: u64,
    /// Bytes of these replies.
    pub bytes: u64,
    /// Replies a second.
    pub rate: f64,
    /// The median of their latencies, in microseconds; `null` without a reply. Of joined intervals, the larger one.
    pub p50_us: Option<f64>,
    /// The 99th percentile, likewise.
    pub p99_us: Option<f64>,
    /// The largest, likewise.
    pub max_us: Option<f64>,
    /// Connections that failed in it.
    pub errors: u64,
    /// Connections open at its end.
    pub open: u64,
}

/// The intervals so far, and the one that goes on.
#[derive(Debug)]
pub(super) struct Series {
    points: Points,
    /// When the measured part began.
    from: Moment,
    /// When the current interval began, and when it is to end. All of them are to be equally long.
    began: Moment,
    ends: Moment,
    length: Duration,
    /// Latencies of the current interval; until its first reply comes, those of the interval before.
    latency: Histogram,
    is_of_the_one_before: bool,
    /// The counts at the beginning of the current interval.
    counted: Counts,
}

/// Counts of the whole run so far. The difference between two of them is the share of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) received: u64,
    pub(super) bytes: u64,
    pub(super) errors: u64,
}

impl Series {
    pub(super) fn new(from: Moment, length: Duration, counted: Counts) -> Series {
        Series {
            points: Points::default(),
            from,
            began: from,
            ends: from + length,
            length,
            latency: Histogram::new(),
            is_of_the_one_before: false,
            counted,
        }
    }

    pub(super) fn add(&mut self, latency: Duration) {
        self.forget_the_one_before();
        self.latency.add_time(latency);
    }

    fn forget_the_one_before(&mut self) {
        if std::mem::take(&mut self.is_of_the_one_before) {
            self.latency.reset();
        }
    }

    /// The latencies of the current interval, or, just after its end, of the one before.
    pub(super) fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// When the current interval is over.
    pub(super) fn interval_end(&self) -> Moment {
        self.ends
    }

    /// The counts at the beginning of the current interval.
    pub(super) fn counted(&self) -> Counts {
        self.counted
    }

    /// Ends the interval, adds its latencies to those of the whole, and returns its figures, unless it has no length.
    pub(super) fn end_interval(
        &mut self,
        now: Moment,
        counted: Counts,
        open: u64,
        whole: &mut Histogram,
    ) -> Option<Point> {
        self.forget_the_one_before();
        let length = now.since(self.began);
        let point = (!length.is_zero()).then(|| self.point(length.as_secs_f64(), counted, open));
        if let Some(point) = point {
            self.points.push(point, length < self.length / SHORT);
        }
        self.counted = counted;
        self.began = now;
        if self.ends <= now {
            // A late end does not delay the end of the next interval.
            let missed = now.since(self.ends).as_nanos() / self.length.as_nanos().max(1) + 1;
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            self.ends = self.ends + self.length.saturating_mul(missed);
        }
        if !self.latency.is_empty() {
            // Both have the same bounds, so that nothing can be out of range.
            let added = whole.add(&*self.latency);
            debug_assert!(added.is_ok());
        }
        self.is_of_the_one_before = !self.latency.is_empty();
        point
    }

    pub(super) fn into_points(self) -> Vec<Point> {
        self.points.into_points()
    }

    fn point(&self, seconds: f64, counted: Counts, open: u64) -> Point {
        let received = counted.received - self.counted.received;
        Point {
            at: self.began.since(self.from).as_secs_f64(),
            seconds,
            received,
            bytes: counted.bytes - self.counted.bytes,
            rate: received as f64 / seconds,
            p50_us: self.latency.microseconds(0.5),
            p99_us: self.latency.microseconds(0.99),
            max_us: self.latency.microseconds(1.0),
            errors: counted.errors - self.counted.errors,
            open,
        }
    }
}

/// Intervals in bounded memory.
#[derive(Debug)]
pub(super) struct Points {
    all: Vec<Point>,
    /// How many intervals a point holds, and how many the last one holds so far.
    stride: u32,
    in_last: u32,
}

impl Default for Points {
    fn default() -> Points {
        Points { all: Vec::new(), stride: 1, in_last: 1 }
    }
}

impl Points {
    /// Adds an interval. A short one gets no point of its own.
    pub(super) fn push(&mut self, point: Point, is_short: bool) {
        match self.all.last_mut() {
            Some(last) if is_short => last.append(&point),
            Some(last) if self.in_last < self.stride => {
                *last = last.join(point);
                self.in_last += 1;
            }
            _ => {
                self.all.push(point);
                self.in_last = 1;
            }
        }
        if self.all.len() >= MOST_POINTS {
            self.in_last += self.stride;
            self.stride *= 2;
            let pairs = self.all.chunks(2);
            self.all = pairs.filter_map(|pair| pair.iter().copied().reduce(Point::join)).collect();
        }
    }

    pub(super) fn into_points(self) -> Vec<Point> {
        self.all
    }
}

impl Point {
    /// Two intervals of the same weight as one.
    fn join(self, next: Point) -> Point {
        let seconds = self.seconds + next.seconds;
        let received = self.received + next.received;
        Point {
            at: self.at,
            seconds,
            received,
            bytes: self.bytes + next.bytes,
            rate: received as f64 / seconds,
            // Without a reply the time is `None`, which is less than any time.
            p50_us: larger(self.p50_us, next.p50_us),
            p99_us: larger(self.p99_us, next.p99_us),
            max_us: larger(self.max_us, next.max_us),
            errors: self.errors + next.errors,
            open: next.open,
        }
    }

    /// Adds a slice that is too short for percentiles of its own: the percentiles of the interval stay.
    fn append(&mut self, slice: &Point) {
        let Point { p50_us, p99_us, .. } = *self;
        *self = self.join(*slice);
        (self.p50_us, self.p99_us) = (p50_us.or(slice.p50_us), p99_us.or(slice.p99_us));
    }
}

/// The larger of two times. A measured time is larger than none.
pub(super) fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(received: u64) -> Counts {
        Counts { received, bytes: received * 10, errors: 0 }
    }

    #[test]
    fn it_takes_bounded_memory_and_keeps_all_counts() {
        let mut now = Moment::now();
        let (mut series, mut whole) = (Series::new(now, USUAL_LENGTH, Counts::default()), Histogram::new());
        let seconds = 5 * MOST_POINTS as u64;
        for received in 1..=seconds {
            now = now + Duration::from_secs(1);
            series.add(Duration::from_secs(1));
            if now >= series.interval_end() {
                series.end_interval(now, after(received), 1, &mut whole);
            }
        }
        series.end_interval(now, after(seconds), 1, &mut whole);
        let points = series.into_points();
        assert!(points.len() <= MOST_POINTS, "{}", points.len());
        assert_eq!(points.iter().map(|point| point.received).sum::<u64>(), seconds);
        assert_eq!(points.iter().map(|point| point.seconds).sum::<f64>(), seconds as f64);
        assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(whole.len(), seconds);
    }

    #[test]
    fn a_short_slice_gets_no_point_of_its_own_and_a_hole_has_no_latency() {
        let start = Moment::now();
        let at = |microseconds| start + Duration::from_micros(microseconds);
        let (mut series, mut whole) = (Series::new(start, USUAL_LENGTH, Counts::default()), Histogram::new());
        (0..5).for_each(|_| series.add(Duration::from_micros(100)));
        series.end_interval(at(1_000_000), after(5), 1, &mut whole);
        series.end_interval(at(2_000_000), after(5), 1, &mut whole);
        (0..3).for_each(|_| series.add(Duration::from_micros(100)));
        series.end_interval(at(3_000_000), after(8), 1, &mut whole);
        series.add(Duration::from_micros(900));
        series.end_interval(at(3_000_086), after(9), 1, &mut whole);
        let points = series.into_points();
        assert_eq!(points.iter().map(|point| point.received).collect::<Vec<_>>(), [5, 0, 4]);
        assert_eq!((points[1].p50_us, points[1].max_us), (None, None));
        let round = |time: Option<f64>| time.map(f64::round);
        assert_eq!((round(points[2].p99_us), round(points[2].max_us)), (Some(100.0), Some(900.0)));
        assert!((points[2].seconds - 1.000_086).abs() < 1e-9, "{:?}", points[2]);
    }
}
