//! The counts and times of a run while it goes on, in memory that does not grow with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cause::{Cause, Errors};
use super::fairness::Fairness;
use super::greetings::Greetings;
use super::mismatch::Mismatch;
use super::outages::Outages;
use super::series::{Counts, Point, Series, USUAL_LENGTH};
use super::starvation::Starvation;
use super::times::{Histogram, Histograms};
use crate::reactor::Moment;

/// The most failures that a report describes one by one; it counts all.
pub(super) const MOST_DESCRIBED: usize = 16;

/// Counts and times of a run.
#[derive(Debug)]
pub(super) struct Figures {
    /// Messages that were due from here on count.
    pub(super) from: Moment,
    pub(super) last_reply: Moment,
    /// The moment of the first failure since the last reply.
    failing_since: Moment,
    /// When the measured part ended, with the replies that had come by then.
    pub(super) ended: Option<(Moment, u64)>,
    /// Whether a signal ended the run early.
    pub(super) interrupted: bool,
    pub(super) connections: Connections,
    /// How many connections are open.
    pub(super) open: u64,
    pub(super) messages: Messages,
    pub(super) bytes: Bytes,
    pub(super) datagrams: DatagramFates,
    pub(super) outages: Outages,
    pub(super) errors: Errors,
    pub(super) failures: Vec<String>,
    pub(super) mismatches: Vec<Mismatch>,
    pub(super) greetings: Greetings,
    pub(super) fairness: Fairness,
    pub(super) starvation: Starvation,
    /// The series keeps the latencies of the current interval, and adds them here at the interval's end. So each
    /// message is recorded once.
    pub(super) histograms: Histograms,
    series: Series,
    /// How long an interval of the series is.
    pub(super) interval: Duration,
}

/// Connections of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How many connections the clients wanted: one for each client, or in a churn every connection that was begun.
    pub requested: u64,
    /// How many were established.
    pub opened: u64,
    /// How many of the established ones failed later.
    pub lost: u64,
}

/// Messages of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// How many were sent.
    pub sent: u64,
    /// How many had a complete reply.
    pub received: u64,
    /// How many were under way when their connection failed or the run was interrupted.
    pub cut_off: u64,
    /// How many were due in an open loop and never sent, because their connection was busy or lost to the end.
    pub not_sent: u64,
}

/// Bytes of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Bytes of messages that were sent.
    pub sent: u64,
    /// Bytes of messages that came back complete.
    pub received: u64,
}

/// The fates of messages over UDP that were not simply answered. Each message that was sent is received, lost, late,
/// corrupted or cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramFates {
    /// Messages without an answer.
    pub lost: u64,
    /// Messages whose answer came after the timeout. They are neither lost nor received.
    pub late: u64,
    /// Further answers to messages that were answered.
    pub duplicated: u64,
    /// Answers that an answer to a later message of the same client had overtaken. They are received.
    pub reordered: u64,
    /// Messages whose answer has other bytes.
    pub corrupted: u64,
    /// Datagrams that answer no message.
    pub unknown: u64,
}

impl Figures {
    /// Keeps a difference, and returns it in words. Only the first few are described.
    pub(super) fn keep_mismatch(&mut self, number: u64, described: Option<Mismatch>) -> String {
        let Some(mismatch) = described else { return format!("connection {number}: a mismatch") };
        let words = mismatch.to_string();
        if mismatch.says.is_none() || self.mismatches.iter().all(|known| known.says != mismatch.says) {
            log::warn!("{words}");
            self.mismatches.push(mismatch);
        }
        words
    }

    pub(super) fn new(open_loop: bool, now: Moment) -> Figures {
        Figures {
            from: now,
            last_reply: now,
            failing_since: now,
            ended: None,
            interrupted: false,
            connections: Connections::default(),
            open: 0,
            messages: Messages::default(),
            bytes: Bytes::default(),
            datagrams: DatagramFates::default(),
            outages: Outages::new(now),
            errors: Errors::default(),
            failures: Vec::new(),
            mismatches: Vec::new(),
            greetings: Greetings::default(),
            fairness: Fairness::default(),
            starvation: Starvation::new(now),
            histograms: Histograms::new(open_loop),
            series: Series::new(now, USUAL_LENGTH, Counts::default()),
            interval: USUAL_LENGTH,
        }
    }

    /// Counts a message that leaves now.
    pub(super) fn sending(&mut self, size: usize, intended: Moment, lag: Duration) {
        if intended >= self.from {
            self.messages.sent += 1;
            self.bytes.sent += size as u64;
            if let Some(times) = &mut self.histograms.lag {
                times.add_time(lag);
            }
        }
    }

    /// Takes back a message that reached nobody: it counts as not sent. True if it counted before.
    pub(super) fn unsent(&mut self, size: usize, intended: Moment) -> bool {
        let counts = intended >= self.from;
        if counts {
            self.messages.sent -= 1;
            self.bytes.sent -= size as u64;
        }
        counts
    }

    /// Counts a complete reply. True if its message counts.
    pub(super) fn completed(&mut self, size: usize, intended: Moment, sent: Moment, now: Moment) -> bool {
        let counts = intended >= self.from;
        if counts {
            self.messages.received += 1;
            self.bytes.received += size as u64;
            self.last_reply = now;
            self.series.add(now.since(intended));
            if let Some(times) = &mut self.histograms.service {
                times.add_time(now.since(sent));
            }
        }
        counts
    }

    /// Counts further bytes of the reply to a message.
    pub(super) fn more_of_a_reply(&mut self, size: usize, intended: Moment) {
        if intended >= self.from {
            self.bytes.received += size as u64;
        }
    }

    pub(super) fn connected(&mut self, began: Moment, now: Moment) {
        self.connections.opened += 1;
        self.open += 1;
        self.histograms.connect.add_time(now.since(began));
    }

    /// Counts a failed connection. The first few failures are kept in words.
    pub(super) fn fail(&mut self, cause: Cause, describe: impl FnOnce() -> String) {
        self.failed(cause, Moment::now());
        let kept = self.failures.len() < MOST_DESCRIBED;
        if kept || log::log_enabled!(log::Level::Debug) {
            let description = describe();
            log::debug!("{description}");
            if kept && !self.failures.contains(&description) {
                self.failures.push(description);
            }
        }
    }

    fn failed(&mut self, cause: Cause, now: Moment) {
        self.errors.count(cause);
        if self.failing_since <= self.last_reply {
            self.failing_since = now;
        }
    }

    /// The moment since which connections have failed and no reply has come; `None` if nothing failed since the last
    /// reply.
    pub(super) fn failing_since(&self) -> Option<Moment> {
        (self.failing_since > self.last_reply).then_some(self.failing_since)
    }

    /// Begins the measured part. Connections, errors and outages of the warm-up stay.
    pub(super) fn begin(&mut self, now: Moment) {
        self.from = now;
        self.last_reply = now;
        self.outages.begin(now);
        let counts = Counts { errors: self.errors.total(), ..Counts::default() };
        self.series = Series::new(now, self.interval, counts);
    }

    /// Forgets the connections of a churn so far, since the measured part counts its own; open connections and errors
    /// stay.
    pub(super) fn begin_churn(&mut self, connecting: u64) {
        self.connections = Connections { requested: connecting + self.open, opened: self.open, lost: 0 };
        self.histograms.connect.reset();
    }

    /// Forgets messages, but not connections and their errors.
    pub(super) fn forget_messages(&mut self) {
        let mut blank = Figures::new(self.histograms.lag.is_some(), self.from);
        std::mem::swap(&mut blank.histograms.connect, &mut self.histograms.connect);
        *self = Figures {
            connections: self.connections,
            open: self.open,
            errors: self.errors,
            failures: std::mem::take(&mut self.failures),
            mismatches: std::mem::take(&mut self.mismatches),
            greetings: std::mem::take(&mut self.greetings),
            interval: self.interval,
            ..blank
        };
    }

    /// Hands over the figures of a window. The figures of the next window begin with the open connections; connect
    /// times and greetings go on.
    pub(super) fn hand_over(&mut self) -> Figures {
        let open = self.open;
        let mut next = Figures::new(self.histograms.lag.is_some(), Moment::now());
        next.histograms.connect = self.histograms.connect.clone();
        let next = Figures {
            open,
            connections: Connections { requested: open, opened: open, lost: 0 },
            greetings: self.greetings.clone(),
            interval: self.interval,
            ..next
        };
        std::mem::replace(self, next)
    }

    /// The end of the current interval.
    pub(super) fn interval_end(&self) -> Moment {
        self.series.interval_end()
    }

    /// Ends the interval, and counts the replies that came in it.
    pub(super) fn end_interval(&mut self, now: Moment) -> Option<Point> {
        let counts = Counts {
            received: self.messages.received,
            bytes: self.bytes.received,
            errors: self.errors.total(),
        };
        self.series.end_interval(now, counts, self.open, &mut self.histograms.latency)
    }

    /// The latencies of the interval that ended just now.
    pub(super) fn interval_latency(&self) -> &Histogram {
        self.series.latency()
    }

    /// Adds the replies that came after the last interval. No client reads on.
    pub(super) fn settle(&mut self) -> Option<Point> {
        if self.messages.received > self.series.counted().received {
            self.end_interval(self.last_reply)
        } else {
            None
        }
    }

    /// The 99th percentile so far, in microseconds.
    pub(super) fn p99_us(&self) -> Option<f64> {
        let whole = &self.histograms.latency;
        let latency = if whole.is_empty() { self.series.latency() } else { whole };
        latency.microseconds(0.99)
    }

    /// The series, complete: nothing is added to it any more.
    pub(super) fn take_series(&mut self) -> Vec<Point> {
        let blank = Series::new(self.from, self.interval, Counts::default());
        std::mem::replace(&mut self.series, blank).into_points()
    }
}

impl DatagramFates {
    /// Adds the fates at another generator.
    pub(super) fn plus(self, other: DatagramFates) -> DatagramFates {
        DatagramFates {
            lost: self.lost + other.lost,
            late: self.late + other.late,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            corrupted: self.corrupted + other.corrupted,
            unknown: self.unknown + other.unknown,
        }
    }

    /// Messages that ended without being received.
    pub(super) fn not_received(&self) -> u64 {
        self.lost + self.late + self.corrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((figures.messages.sent, figures.messages.received, figures.bytes.received), (1, 1, 10));
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
}
