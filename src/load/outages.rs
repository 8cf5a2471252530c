//! Outages: when clients lost their connections, and how long each heard nothing. A stall loses no connection, so it
//! is no outage: it shows in the latencies.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cause::{Cause, Errors};
use super::times::Histogram;
use crate::reactor::Moment;

/// The most outages that are described one by one; all are counted.
pub(super) const MOST_DESCRIBED: usize = 100;
/// Reconnects are counted by the second.
const SECOND: Duration = Duration::from_secs(1);

/// The outages of a run.
#[derive(Debug)]
pub(super) struct Outages {
    /// The first outages. The last of them may still go on.
    pub(super) described: Vec<Outage>,
    pub(super) count: u64,
    pub(super) longest: Duration,
    /// Of each client that lost its connection, the time until its next reply, in nanoseconds.
    pub(super) silence: Histogram,
    /// Connections established in the place of lost ones, and attempts that failed.
    pub(super) reconnects: u64,
    pub(super) failed_reconnects: u64,
    /// The most reconnects in a second.
    pub(super) peak: u64,
    current: Option<Outage>,
    /// Clients that were lost and are not served yet.
    silent: u64,
    second_began: Moment,
    in_second: u64,
}

/// From the first loss of a connection until all clients are served again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) began: Moment,
    /// The same by the wall clock, in seconds since 1970.
    pub(super) began_unix: f64,
    /// None: the run was over before it was.
    pub(super) ended: Option<Moment>,
    /// Clients that lost their connection.
    pub(super) clients: u64,
    pub(super) causes: Errors,
}

impl Outages {
    pub(super) fn new(now: Moment) -> Outages {
        Outages {
            described: Vec::new(),
            count: 0,
            longest: Duration::ZERO,
            silence: Histogram::new(),
            reconnects: 0,
            failed_reconnects: 0,
            peak: 0,
            current: None,
            silent: 0,
            second_began: now,
            in_second: 0,
        }
    }

    /// A client that was served lost its connection at `now`; it may have heard nothing since `since`.
    pub(super) fn lost(&mut self, cause: Cause, since: Moment, now: Moment) {
        let outage = self.current.get_or_insert_with(|| {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let began_unix = unix.saturating_sub(now.since(since)).as_secs_f64();
            Outage { began: since, began_unix, ended: None, clients: 0, causes: Errors::default() }
        });
        outage.clients += 1;
        outage.causes.count(cause);
        self.silent += 1;
    }

    /// A connection was established in the place of a lost one.
    pub(super) fn reconnected(&mut self, now: Moment) {
        self.reconnects += 1;
        if now >= self.second_began + SECOND {
            self.second_began = now;
            self.in_second = 0;
        }
        self.in_second += 1;
        self.peak = self.peak.max(self.in_second);
    }

    /// A lost client is served again.
    pub(super) fn recovered(&mut self, since: Moment, now: Moment) {
        self.silence.add_time(now.since(since));
        self.silent -= 1;
        if self.silent == 0 {
            self.close(Some(now), now);
        }
    }

    /// The messages have ended: a client that is silent now was not served again.
    pub(super) fn finish(&mut self, now: Moment) {
        self.close(None, now);
    }

    fn close(&mut self, ended: Option<Moment>, now: Moment) {
        let Some(outage) = self.current.take() else { return };
        self.count += 1;
        self.longest = self.longest.max(now.since(outage.began));
        if self.described.len() < MOST_DESCRIBED {
            self.described.push(Outage { ended, ..outage });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_the_first_loss_until_all_are_served() {
        let start = Moment::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outages = Outages::new(start);
        outages.lost(Cause::Reset, at(1), at(1));
        outages.lost(Cause::Timeout, at(1), at(2));
        outages.reconnected(at(3));
        outages.recovered(at(1), at(3));
        assert_eq!(outages.count, 0, "one client is not served yet");
        outages.recovered(at(1), at(5));
        assert_eq!((outages.count, outages.longest), (1, Duration::from_secs(4)));
        outages.lost(Cause::Closed, at(9), at(9));
        outages.finish(at(10));
        let [first, second] = outages.described[..] else { panic!("{outages:?}") };
        assert_eq!((first.began, first.ended, first.clients), (at(1), Some(at(5)), 2));
        assert_eq!((first.causes.reset, first.causes.timeout), (1, 1));
        assert_eq!((second.ended, second.clients, outages.silence.len()), (None, 1, 2));
    }

    #[test]
    fn the_peak_is_the_busiest_second() {
        let start = Moment::now();
        let mut outages = Outages::new(start);
        for milliseconds in [0, 100, 200, 1300, 1400] {
            outages.reconnected(start + Duration::from_millis(milliseconds));
        }
        assert_eq!((outages.reconnects, outages.peak), (5, 3));
    }
}
