//! A run as its watchers see it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::encoding::seconds;
use super::series::{Point, larger};
use super::times::Histogram;

/// Watches a run.
pub trait Watcher {
    /// Shows the present state of the run.
    fn watch(&mut self, progress: &Progress);

    /// An interval of the measured part is over; these are its own figures, and its latencies.
    fn interval(&mut self, point: &Point, latency: &Histogram) {
        let _ = (point, latency);
    }

    /// A step of a search is over. Nothing is measured before the next one, so the watcher may block.
    fn pause(&mut self) {}
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The part of the run.
    pub doing: Doing,
    /// How much of the measured part is done, from 0 to 1.
    pub done: f64,
    /// Replies a second, in the last interval.
    pub rate: f64,
    /// The 99th percentile of latency in the last interval, in microseconds; `None` without a reply.
    pub p99_us: Option<f64>,
    /// How long no reply has come although some are due.
    #[serde(rename = "stalled_s", with = "seconds")]
    pub stalled: Duration,
    /// Connections that failed.
    pub errors: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that are asked for.
    pub clients: u64,
}

/// The parts of a run in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Clients connect.
    Opening,
    /// The time to begin has not come.
    Waiting,
    /// Messages flow, and nothing counts.
    WarmingUp,
    /// Connections are only held.
    Holding,
    /// Messages flow and count.
    Measuring,
    /// The run awaits the replies to the last messages.
    Draining,
}

impl Progress {
    /// Several generators as one: it has come as far as the last of them, and stalls if all of them do.
    pub(super) fn of_all(parts: impl Iterator<Item = Progress>) -> Option<Progress> {
        parts.reduce(|one, other| Progress {
            doing: one.doing.min(other.doing),
            done: one.done.min(other.done),
            rate: one.rate + other.rate,
            p99_us: larger(one.p99_us, other.p99_us),
            stalled: one.stalled.min(other.stalled),
            errors: one.errors + other.errors,
            open: one.open + other.open,
            clients: one.clients + other.clients,
        })
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doing::Opening => "opening",
            Doing::Waiting => "waiting",
            Doing::WarmingUp => "warming up",
            Doing::Holding => "holding",
            Doing::Measuring => "measuring",
            Doing::Draining => "draining",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_generators_are_as_far_as_the_last_of_them() {
        let one = Progress {
            doing: Doing::Measuring,
            done: 0.5,
            rate: 100.0,
            p99_us: Some(5.0),
            stalled: Duration::from_secs(3),
            errors: 1,
            open: 10,
            clients: 10,
        };
        let other = Progress {
            doing: Doing::Opening,
            done: 0.0,
            rate: 0.0,
            p99_us: None,
            stalled: Duration::ZERO,
            errors: 0,
            open: 4,
            clients: 9,
        };
        let expected = Progress { rate: 100.0, p99_us: Some(5.0), errors: 1, open: 14, clients: 19, ..other };
        assert_eq!(Progress::of_all([one, other].into_iter()), Some(expected));
        let json = serde_json::to_string(&one).expect("it can be written");
        assert_eq!(serde_json::from_str::<Progress>(&json).expect("it can be read"), one);
        assert_eq!(Progress::of_all([].into_iter()), None);
    }
}
