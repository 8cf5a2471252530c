//! Outages in the results: when clients lost their connections, and how long each heard nothing.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::cause::Errors;
use super::super::outages::{MOST_DESCRIBED, Outage, Outages};
use super::super::times::{Histogram, Times, text};
use crate::reactor::Moment;

/// The outages of a run. A stall is none: no connection is lost in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutageFigures {
    /// How many there were.
    pub count: u64,
    /// The length of the longest, in seconds, from the first loss until all clients were served again.
    pub longest_s: f64,
    /// From when a client that lost its connection last heard something until its next reply. `null` without such a
    /// client.
    pub silence_us: Option<Times>,
    /// Connections that were established in the place of lost ones.
    pub reconnects: u64,
    /// Attempts that failed.
    pub failed_reconnects: u64,
    /// The most reconnects in a second.
    pub peak_reconnects: u64,
    /// The first of them, one by one.
    pub list: Vec<OutageRecord>,
    /// The whole distribution of `silence_us`.
    pub silence: Histogram,
}

/// One outage.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OutageRecord {
    /// When it began, in seconds from the beginning of the measured part; negative in the warm-up.
    pub at: f64,
    /// The same by the clock of the machine, in seconds since 1970.
    pub began: f64,
    /// How long it was; if it did not end, as long as the run went on.
    pub seconds: f64,
    /// Whether all clients were served again before the run was over.
    pub ended: bool,
    /// Clients that lost their connection.
    pub clients: u64,
    /// Why they did.
    pub causes: Errors,
}

impl OutageFigures {
    /// The outages of a run whose measured part began at `from` and ended at `end`.
    pub(super) fn new(outages: Outages, from: Moment, end: Moment) -> OutageFigures {
        let record = |outage: &Outage| OutageRecord {
            at: outage.began.since(from).as_secs_f64() - from.since(outage.began).as_secs_f64(),
            began: outage.began_unix,
            seconds: outage.ended.unwrap_or(end).since(outage.began).as_secs_f64(),
            ended: outage.ended.is_some(),
            clients: outage.clients,
            causes: outage.causes,
        };
        OutageFigures {
            count: outages.count,
            longest_s: outages.longest.as_secs_f64(),
            silence_us: outages.silence.times(),
            reconnects: outages.reconnects,
            failed_reconnects: outages.failed_reconnects,
            peak_reconnects: outages.peak,
            list: outages.described.iter().map(record).collect(),
            silence: outages.silence,
        }
    }

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

    /// The lines of the table; none without an outage.
    pub(super) fn lines(&self, clients: usize) -> Vec<(&'static str, String)> {
        let Some(first) = self.list.first() else { return Vec::new() };
        let which = if self.count == 1 { "1, at" } else { "the first at" };
        let count = if self.count == 1 { String::new() } else { format!("{}, ", self.count) };
        let end = if first.ended { "" } else { ", to the end" };
        let outages = format!(
            "{count}{which} {}: {} of {clients} clients ({}), {}{end}; the longest {}",
            time_of_day(first.began),
            first.clients,
            first.causes,
            text(first.seconds * 1e6),
            text(self.longest_s * 1e6),
        );
        let reconnects = format!(
            "{} reconnects, at most {} a second, {} failed",
            self.reconnects, self.peak_reconnects, self.failed_reconnects
        );
        let silence = match &self.silence_us {
            Some(times) => {
                format!("p50 {}, p99 {}, max {}; ", text(times.p50), text(times.p99), text(times.max))
            }
            None => String::new(),
        };
        vec![("outages", outages), ("silence", silence + &reconnects)]
    }
}

/// The time of day in UTC, to the millisecond.
fn time_of_day(seconds_since_1970: f64) -> String {
    let time = UNIX_EPOCH + Duration::try_from_secs_f64(seconds_since_1970).unwrap_or_default();
    let text = humantime::format_rfc3339_millis(time).to_string();
    // 2026-11-21T14:02:11.204Z
    text.split_once('T').map_or(text.clone(), |(_, time)| time.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::super::cause::Cause;
    use super::*;

    #[test]
    fn an_outage_is_said_in_two_lines() {
        let from = Moment::now() + Duration::from_secs(60);
        let at = |milliseconds| from + Duration::from_millis(milliseconds);
        let mut outages = Outages::new(from);
        assert!(OutageFigures::new(Outages::new(from), from, at(9)).lines(1).is_empty());
        outages.lost(Cause::Reset, at(2000), at(2000));
        outages.lost(Cause::Timeout, at(2000), at(2500));
        outages.reconnected(at(3000));
        outages.recovered(at(2000), at(3000));
        outages.finish(at(4000));
        let figures = OutageFigures::new(outages, from, at(4000));
        assert_eq!((figures.list[0].at, figures.list[0].seconds, figures.list[0].ended), (2.0, 2.0, false));
        let lines = figures.lines(9);
        assert!(lines[0].1.starts_with("1, at "), "{lines:?}");
        assert!(
            lines[0].1.contains("Z: 2 of 9 clients (1 timed out, 1 reset), 2.00 s, to the end"),
            "{lines:?}"
        );
        assert!(lines[1].1.contains("max 1.00 s; 1 reconnects, at most 1 a second, 0 failed"), "{lines:?}");
        assert_eq!(time_of_day(1_000_000_000.25), "01:46:40.250Z");
    }
}
