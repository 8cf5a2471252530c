//! What is counted while a run goes on, in memory that does not grow with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::errors::{Cause, Errors};
use super::fault::Mismatch;
use super::greetings::Greetings;
use super::report::DatagramsReport;
use crate::reactor::Moment;

/// Three significant digits: 0.1 % of any value.
const DIGITS: u8 = 3;
/// What takes longer counts as this long.
const LONGEST: Duration = Duration::from_secs(3600);
/// The most points of the series. When they are used up, two become one and intervals twice as long.
const MOST_POINTS: usize = 1200;
/// The most failures that are described one by one; all are counted.
pub(super) const MOST_DESCRIBED: usize = 16;

/// Durations in nanoseconds.
pub(super) type Histogram = hdrhistogram::Histogram<u64>;

/// Counts and times of a run.
#[derive(Debug)]
pub(super) struct Figures {
    /// Only what should have left, or has begun, from here on is counted.
    pub(super) from: Moment,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) last_reply: Moment,
    /// When the measured part ended, with the replies that it had brought by then.
    pub(super) ended: Option<(Moment, u64)>,
    /// Messages that were due in the measured part and never sent.
    pub(super) not_sent: u64,
    /// CPU time that the measured part took.
    pub(super) cpu_time: Duration,
    /// Whether a signal ended the run early.
    pub(super) interrupted: bool,
    /// When the first connection failed of those that failed since the last reply.
    failing_since: Moment,
    /// From the intended moment (closed loop: from sending) to the complete reply. This interval's are kept apart, and
    /// added to the whole at its end: a message is recorded once.
    pub(super) latency: Histogram,
    interval: Histogram,
    /// Open loop: from sending to the complete reply, and from the intended moment to sending.
    pub(super) service: Option<Histogram>,
    pub(super) lag: Option<Histogram>,
    pub(super) connect: Histogram,
    pub(super) attempted: u64,
    pub(super) opened: u64,
    pub(super) lost: u64,
    pub(super) open: u64,
    pub(super) errors: Errors,
    pub(super) failures: Vec<String>,
    pub(super) mismatches: Vec<Mismatch>,
    pub(super) greetings: Greetings,
    pub(super) datagrams: DatagramsReport,
    pub(super) fairness: Fairness,
    series: Vec<Point>,
    /// When the current interval began, and how long it is.
    interval_began: Moment,
    interval_length: Duration,
    counted: Counted,
}

/// The counts at the beginning of the interval.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    received: u64,
    bytes: u64,
    errors: u64,
}

/// One interval of the series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it began, in seconds from the beginning of the measured part.
    pub at: f64,
    /// How long it was.
    pub seconds: f64,
    /// Replies that were completed in it.
    pub received: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Replies a second.
    pub rate: f64,
    /// The median of their latencies, in microseconds; of merged intervals, the larger one.
    pub p50_us: f64,
    /// The 99th percentile; of merged intervals, the larger one.
    pub p99_us: f64,
    /// The largest.
    pub max_us: f64,
    /// Connections that failed in it.
    pub errors: u64,
    /// Connections open at its end.
    pub open: u64,
}

/// How evenly messages were spread over clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fairness {
    pub(super) clients: u64,
    pub(super) fewest: u64,
    pub(super) most: u64,
    sum: f64,
    squares: f64,
}

/// An empty histogram.
pub(super) fn times() -> Histogram {
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
    // The bounds are constants that hdrhistogram accepts, which its own constructor without bounds would, too.
    Histogram::new_with_bounds(1, longest, DIGITS)
        .expect("1 ns to an hour with three digits is a valid range")
}

impl Figures {
    /// Keeps what is known of a difference, and returns it in words. Only the first few are described.
    pub(super) fn keep_mismatch(&mut self, number: u64, described: Option<Mismatch>) -> String {
        let Some(mismatch) = described else { return format!("connection {number}: a mismatch") };
        let words = mismatch.to_string();
        log::warn!("{words}");
        self.mismatches.push(mismatch);
        words
    }

    pub(super) fn new(open_loop: bool, now: Moment) -> Figures {
        Figures {
            from: now,
            sent: 0,
            received: 0,
            bytes_sent: 0,
            bytes_received: 0,
            last_reply: now,
            ended: None,
            not_sent: 0,
            cpu_time: Duration::ZERO,
            interrupted: false,
            failing_since: now,
            latency: times(),
            interval: times(),
            service: open_loop.then(times),
            lag: open_loop.then(times),
            connect: times(),
            attempted: 0,
            opened: 0,
            lost: 0,
            open: 0,
            errors: Errors::default(),
            failures: Vec::new(),
            mismatches: Vec::new(),
            greetings: Greetings::default(),
            datagrams: DatagramsReport::default(),
            fairness: Fairness::default(),
            series: Vec::new(),
            interval_began: now,
            interval_length: Duration::from_secs(1),
            counted: Counted::default(),
        }
    }

    /// A message leaves now.
    pub(super) fn sending(&mut self, size: usize, intended: Moment, lag: Duration) {
        if intended >= self.from {
            self.sent += 1;
            self.bytes_sent += size as u64;
            if let Some(times) = &mut self.lag {
                times.saturating_record(nanoseconds(lag));
            }
        }
    }

    /// A message that had left was sent to nobody. True if it counted.
    pub(super) fn unsent(&mut self, size: usize, intended: Moment) -> bool {
        let counts = intended >= self.from;
        if counts {
            self.sent -= 1;
            self.bytes_sent -= size as u64;
        }
        counts
    }

    /// The reply to a message is complete.
    pub(super) fn completed(&mut self, size: usize, intended: Moment, sent: Moment, now: Moment) -> bool {
        let counts = intended >= self.from;
        if counts {
            self.received += 1;
            self.bytes_received += size as u64;
            self.last_reply = now;
            self.interval.saturating_record(nanoseconds(now.since(intended)));
            if let Some(times) = &mut self.service {
                times.saturating_record(nanoseconds(now.since(sent)));
            }
        }
        counts
    }

    pub(super) fn connected(&mut self, began: Moment, now: Moment) {
        self.opened += 1;
        self.open += 1;
        self.connect.saturating_record(nanoseconds(now.since(began)));
    }

    /// A connection has failed.
    pub(super) fn failed(&mut self, cause: Cause, now: Moment) {
        self.errors.count(cause);
        if self.failing_since <= self.last_reply {
            self.failing_since = now;
        }
    }

    /// Since when connections have failed and no reply has come, if that is so.
    pub(super) fn failing_since(&self) -> Option<Moment> {
        (self.failing_since > self.last_reply).then_some(self.failing_since)
    }

    /// The measured part begins: what was before is forgotten, but for connections and errors.
    pub(super) fn begin(&mut self, now: Moment) {
        self.from = now;
        self.last_reply = now;
        self.interval_began = now;
        self.counted = Counted { errors: self.errors.total(), ..Counted::default() };
    }

    /// Forgets the connections of a churn, which are what is measured, but those that there are now. Errors stay.
    pub(super) fn begin_churn(&mut self, connecting: u64) {
        self.attempted = connecting + self.open;
        self.opened = self.open;
        self.lost = 0;
        self.connect.reset();
    }

    /// Forgets messages, but not connections and their errors.
    pub(super) fn forget_messages(&mut self) {
        let Figures { attempted, opened, lost, open, errors, .. } = *self;
        let mut blank = Figures::new(self.lag.is_some(), self.from);
        std::mem::swap(&mut blank.connect, &mut self.connect);
        std::mem::swap(&mut blank.failures, &mut self.failures);
        std::mem::swap(&mut blank.mismatches, &mut self.mismatches);
        std::mem::swap(&mut blank.greetings, &mut self.greetings);
        *self = Figures { attempted, opened, lost, open, errors, ..blank };
    }

    /// When the interval ends.
    pub(super) fn interval_end(&self) -> Moment {
        self.interval_began + self.interval_length
    }

    /// Ends the interval, with what came in it.
    pub(super) fn end_interval(&mut self, now: Moment) {
        let length = now.since(self.interval_began).as_secs_f64();
        self.add_interval(now, length);
        if self.series.len() >= MOST_POINTS {
            self.halve_series();
        }
    }

    /// What came after the last interval is added to the whole; nobody reads on.
    pub(super) fn settle(&mut self) {
        let late = self.received - self.counted.received;
        if late > 0 {
            let length = self.last_reply.since(self.interval_began).as_secs_f64();
            self.add_interval(self.last_reply, length);
        }
    }

    fn add_interval(&mut self, now: Moment, length: f64) {
        let counted =
            Counted { received: self.received, bytes: self.bytes_received, errors: self.errors.total() };
        let received = counted.received - self.counted.received;
        let percentile = |quantile| microseconds(&self.interval, quantile);
        if length > 0.0 {
            self.series.push(Point {
                at: self.interval_began.since(self.from).as_secs_f64(),
                seconds: length,
                received,
                bytes: counted.bytes - self.counted.bytes,
                rate: received as f64 / length,
                p50_us: percentile(0.5),
                p99_us: percentile(0.99),
                max_us: percentile(1.0),
                errors: counted.errors - self.counted.errors,
                open: self.open,
            });
        }
        self.counted = counted;
        self.interval_began = now;
        if !self.interval.is_empty() {
            // Both have the same bounds, so that nothing can be out of range.
            let added = self.latency.add(&self.interval);
            debug_assert!(added.is_ok());
            self.interval.reset();
        }
    }

    fn halve_series(&mut self) {
        self.interval_length *= 2;
        let pairs = self.series.chunks(2);
        self.series = pairs.filter_map(|pair| pair.iter().copied().reduce(Point::merge)).collect();
    }

    /// The 99th percentile so far, in microseconds, for the live line.
    pub(super) fn p99_us(&self) -> f64 {
        microseconds(if self.latency.is_empty() { &self.interval } else { &self.latency }, 0.99)
    }

    pub(super) fn take_series(&mut self) -> Vec<Point> {
        std::mem::take(&mut self.series)
    }
}

/// A quantile in microseconds; nothing is 0.
pub(super) fn microseconds(times: &Histogram, quantile: f64) -> f64 {
    if times.is_empty() { 0.0 } else { times.value_at_quantile(quantile) as f64 / 1e3 }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Point {
    fn merge(self, next: Point) -> Point {
        let seconds = self.seconds + next.seconds;
        let received = self.received + next.received;
        Point {
            at: self.at,
            seconds,
            received,
            bytes: self.bytes + next.bytes,
            rate: received as f64 / seconds,
            p50_us: self.p50_us.max(next.p50_us),
            p99_us: self.p99_us.max(next.p99_us),
            max_us: self.max_us.max(next.max_us),
            errors: self.errors + next.errors,
            open: next.open,
        }
    }
}

impl Default for Fairness {
    fn default() -> Fairness {
        Fairness { clients: 0, fewest: u64::MAX, most: 0, sum: 0.0, squares: 0.0 }
    }
}

impl Fairness {
    pub(super) fn add(&mut self, messages: u64) {
        self.clients += 1;
        self.fewest = self.fewest.min(messages);
        self.most = self.most.max(messages);
        self.sum += messages as f64;
        self.squares += (messages as f64).powi(2);
    }

    /// Jain's index: 1 if all have the same, 1/n if one has everything.
    pub(super) fn jain(&self) -> f64 {
        if self.squares == 0.0 { 1.0 } else { self.sum.powi(2) / (self.clients as f64 * self.squares) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_takes_bounded_memory_and_keeps_all_counts() {
        let start = Moment::now();
        let mut figures = Figures::new(false, start);
        let mut now = start;
        for _ in 0..5 * MOST_POINTS {
            let sent = now;
            now = now + Duration::from_secs(1);
            figures.completed(10, sent, sent, now);
            if now >= figures.interval_end() {
                figures.end_interval(now);
            }
        }
        figures.end_interval(now);
        let series = figures.take_series();
        assert!(series.len() <= MOST_POINTS, "{}", series.len());
        assert_eq!(series.iter().map(|point| point.received).sum::<u64>(), 5 * MOST_POINTS as u64);
        assert_eq!(series.iter().map(|point| point.seconds).sum::<f64>(), 5.0 * MOST_POINTS as f64);
        assert!(series.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(figures.latency.len(), 5 * MOST_POINTS as u64);
    }

    #[test]
    fn the_warm_up_is_left_out() {
        let start = Moment::now();
        let second = Duration::from_secs(1);
        let mut figures = Figures::new(true, start);
        figures.from = start + second;
        figures.sending(10, start, Duration::ZERO);
        assert!(!figures.completed(10, start, start, start + second));
        figures.begin(start + second);
        figures.sending(10, start + second, Duration::ZERO);
        assert!(figures.completed(10, start + second, start + second, start + second * 2));
        assert_eq!((figures.sent, figures.received, figures.bytes_received), (1, 1, 10));
    }

    #[test]
    fn failing_begins_anew_after_each_reply() {
        let start = Moment::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut figures = Figures::new(false, start);
        assert_eq!(figures.failing_since(), None);
        figures.failed(Cause::Refused, at(1));
        figures.failed(Cause::Refused, at(2));
        assert_eq!(figures.failing_since(), Some(at(1)));
        figures.completed(10, at(3), at(3), at(3));
        assert_eq!(figures.failing_since(), None);
        figures.failed(Cause::Refused, at(4));
        assert_eq!(figures.failing_since(), Some(at(4)));
    }

    #[test]
    fn jains_index_tells_even_from_uneven() {
        let index = |messages: &[u64]| {
            let mut fairness = Fairness::default();
            messages.iter().for_each(|&messages| fairness.add(messages));
            fairness.jain()
        };
        assert_eq!(index(&[5, 5, 5, 5]), 1.0);
        assert_eq!(index(&[20, 0, 0, 0]), 0.25);
        assert_eq!(index(&[]), 1.0);
    }
}
