//! Outages: when clients lost their connections, and how long each heard nothing. A stall loses no connection, so it
//! is no outage: it shows in the latencies.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cause::{Cause, Errors};
use super::times::{Histogram, Times};
use crate::reactor::Moment;

/// The most outages that are described one by one; all are counted.
const MOST_DESCRIBED: usize = 100;
/// Reconnects are counted by the second.
const SECOND: Duration = Duration::from_secs(1);

/// The outages of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutageFigures {
    /// How many there were.
    pub count: u64,
    /// The length of the longest outage, in seconds, from the first loss until all clients were served again.
    pub longest_s: f64,
    /// The silence of a client that lost its connection: from the last time it heard something until its next reply.
    /// `null` without such a client.
    pub silence_us: Option<Times>,
    /// Connections that were established in the place of lost ones.
    pub reconnects: u64,
    /// Attempts that failed.
    pub failed_reconnects: u64,
    /// The most reconnects in a second.
    pub peak_reconnects: u64,
    /// The first outages, one by one.
    pub list: Vec<OutageRecord>,
    /// The whole distribution of `silence_us`.
    pub silence: Histogram,
}

/// One outage: from the first loss of a connection until all clients are served again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OutageRecord {
    /// When it began, in seconds from the beginning of the measured part; negative in the warm-up.
    pub at: f64,
    /// The same by the clock of the machine, in seconds since 1970.
    pub began: f64,
    /// Its length; for an outage that did not end, up to the end of the run.
    pub seconds: f64,
    /// Whether all clients were served again before the run was over.
    pub ended: bool,
    /// Clients that lost their connection.
    pub clients: u64,
    /// The causes of these losses.
    pub causes: Errors,
}

/// The outages while the run goes on.
#[derive(Debug)]
pub(super) struct Outages {
    /// The outages that are over.
    figures: OutageFigures,
    /// When the measured part began.
    from: Moment,
    /// The outage that goes on, and when it began.
    current: Option<(Moment, OutageRecord)>,
    /// Clients that were lost and are not served yet.
    silent: u64,
    second_began: Moment,
    in_second: u64,
}

impl Outages {
    pub(super) fn new(now: Moment) -> Outages {
        let figures = OutageFigures {
            count: 0,
            longest_s: 0.0,
            silence_us: None,
            reconnects: 0,
            failed_reconnects: 0,
            peak_reconnects: 0,
            list: Vec::new(),
            silence: Histogram::new(),
        };
        Outages { figures, from: now, current: None, silent: 0, second_began: now, in_second: 0 }
    }

    /// Begins the measured part. Outages of the warm-up stay.
    pub(super) fn begin(&mut self, now: Moment) {
        let warm_up = now.since(self.from).as_secs_f64();
        self.from = now;
        let current = self.current.iter_mut().map(|(_, outage)| outage);
        self.figures.list.iter_mut().chain(current).for_each(|outage| outage.at -= warm_up);
    }

    /// Notes that a served client lost its connection at `now`; the client may have heard nothing since `since`.
    pub(super) fn lost(&mut self, cause: Cause, since: Moment, now: Moment) {
        let (_, outage) = self.current.get_or_insert_with(|| {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let began = unix.saturating_sub(now.since(since)).as_secs_f64();
            let at = since.since(self.from).as_secs_f64() - self.from.since(since).as_secs_f64();
            let causes = Errors::default();
            (since, OutageRecord { at, began, seconds: 0.0, ended: false, clients: 0, causes })
        });
        outage.clients += 1;
        outage.causes.count(cause);
        self.silent += 1;
    }

    /// Notes that a connection was established in the place of a lost one.
    pub(super) fn reconnected(&mut self, now: Moment) {
        self.figures.reconnects += 1;
        if now >= self.second_began + SECOND {
            self.second_began = now;
            self.in_second = 0;
        }
        self.in_second += 1;
        self.figures.peak_reconnects = self.figures.peak_reconnects.max(self.in_second);
    }

    /// Notes that an attempt to replace a lost connection failed.
    pub(super) fn reconnect_failed(&mut self) {
        self.figures.failed_reconnects += 1;
    }

    /// Notes that a lost client is served again.
    pub(super) fn recovered(&mut self, since: Moment, now: Moment) {
        self.figures.silence.add_time(now.since(since));
        self.silent -= 1;
        if self.silent == 0 {
            self.close(true, now);
        }
    }

    /// Ends the outages with the messages: a client that is silent now was not served again.
    pub(super) fn finish(&mut self, now: Moment) {
        self.close(false, now);
    }

    fn close(&mut self, ended: bool, now: Moment) {
        let Some((began, outage)) = self.current.take() else { return };
        let seconds = now.since(began).as_secs_f64();
        self.figures.count += 1;
        self.figures.longest_s = self.figures.longest_s.max(seconds);
        if self.figures.list.len() < MOST_DESCRIBED {
            self.figures.list.push(OutageRecord { seconds, ended, ..outage });
        }
    }

    /// The outages of the run, which is over.
    pub(super) fn into_figures(self) -> OutageFigures {
        OutageFigures { silence_us: self.figures.silence.times(), ..self.figures }
    }
}

impl OutageFigures {
    /// Adds the outages of another generator. It may have seen the same ones. In the list `at` counts from the beginning
    /// of the generator that saw the outage; `began` is by the clock.
    pub(super) fn merge(&mut self, other: &OutageFigures) -> Result<(), hdrhistogram::AdditionError> {
        self.count += other.count;
        self.longest_s = self.longest_s.max(other.longest_s);
        self.reconnects += other.reconnects;
        self.failed_reconnects += other.failed_reconnects;
        self.peak_reconnects += other.peak_reconnects;
        self.silence.add(&*other.silence)?;
        self.silence_us = self.silence.times();
        self.list.extend(&other.list);
        self.list.sort_by(|one, other| one.began.total_cmp(&other.began));
        self.list.truncate(MOST_DESCRIBED);
        Ok(())
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
        assert_eq!(outages.figures.count, 0, "one client is not served yet");
        outages.recovered(at(1), at(5));
        assert_eq!((outages.figures.count, outages.figures.longest_s), (1, 4.0));
        outages.begin(at(2));
        outages.lost(Cause::Closed, at(9), at(9));
        outages.finish(at(10));
        let figures = outages.into_figures();
        let [first, second] = figures.list[..] else { panic!("{figures:?}") };
        assert_eq!((first.at, first.seconds, first.ended, first.clients), (-1.0, 4.0, true, 2));
        assert_eq!((first.causes.reset, first.causes.timeout), (1, 1));
        assert_eq!((second.at, second.seconds, second.ended, second.clients), (7.0, 1.0, false, 1));
        assert_eq!(figures.silence_us.map(|times| times.count), Some(2));
    }

    #[test]
    fn the_peak_is_the_busiest_second() {
        let start = Moment::now();
        let mut outages = Outages::new(start);
        for milliseconds in [0, 100, 200, 1300, 1400] {
            outages.reconnected(start + Duration::from_millis(milliseconds));
        }
        let figures = outages.into_figures();
        assert_eq!((figures.reconnects, figures.peak_reconnects), (5, 3));
    }
}
