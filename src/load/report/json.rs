//! The results of a run, as programs read them: `--json` prints a [`Report`], whose names are a promise.
//!
//! The tests check real reports against the schema, `schema/load-report.schema.json`. Names are only ever added;
//! should one have to change or go, [`FORMAT_VERSION`] grows.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rustix::system::uname;
use serde::{Deserialize, Serialize};

use super::super::cause::Errors;
use super::super::fairness::Fairness;
use super::super::figures::{Bytes, Connections, DatagramFates, Figures, Messages};
use super::super::mismatch::Mismatch;
use super::super::outages::OutageFigures;
use super::super::plan::{Plan, Usage};
use super::super::series::Point;
use super::super::starvation::Generator;
use super::super::times::{Histogram, Histograms, Times};
use crate::reactor::Moment;

/// The version of the format, in each report.
pub const FORMAT_VERSION: u32 = 2;

/// The results of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// The version of the program.
    pub program: String,
    /// The name of the machine that it ran on.
    pub host: String,
    /// When the measured part began, in seconds since 1970 by the clock of that machine.
    pub started: f64,
    /// The plan.
    pub settings: Plan,
    /// Connections.
    pub connections: Connections,
    /// Messages of the measured part.
    pub messages: Messages,
    /// Bytes of these messages.
    pub bytes: Bytes,
    /// How long the measured part was.
    pub seconds: f64,
    /// Complete replies a second, within the measured part.
    pub rate: f64,
    /// From sending to the complete reply; in an open loop from when the message was due. `null` without a reply.
    pub latency_us: Option<Times>,
    /// Open loop only: from really sending to the complete reply.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service_time_us: Option<Times>,
    /// From beginning to connect until it was established. `null` without a connection.
    pub connect_us: Option<Times>,
    /// The fates of datagrams; only over UDP.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub udp: Option<DatagramFates>,
    /// When clients lost their connections, and for how long.
    pub outages: OutageFigures,
    /// Connections that failed, by cause; over UDP also each datagram of other bytes than were sent.
    pub errors: Errors,
    /// The first failures, in words.
    pub failures: Vec<String>,
    /// The first mismatches.
    pub mismatches: Vec<Mismatch>,
    /// How many connections the server greeted with which words, if the server is to speak first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub greetings: Option<BTreeMap<String, u64>>,
    /// Connections that were greeted with other words: only so many greetings are told apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub greetings_other: Option<u64>,
    /// How evenly messages were spread over clients.
    pub fairness: Fairness,
    /// The generator's own cost.
    pub generator: Generator,
    /// The measured part, interval by interval.
    pub series: Vec<Point>,
    /// Reasons why the figures may mislead, and remedies.
    pub warnings: Vec<String>,
    /// Whether a signal ended the run early.
    pub interrupted: bool,
    /// The generators that this report is merged from; missing in a report of one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub merged: Option<Merged>,
    /// The whole distributions that the times were read from.
    pub histograms: Histograms,
}

/// The generators of a merged report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Merged {
    /// How long after the first generator the last generator began to measure.
    pub start_spread_s: f64,
    /// Each generator.
    pub generators: Vec<GeneratorPart>,
}

/// One generator of several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneratorPart {
    /// The machine that it ran on.
    pub host: String,
    /// The version of its program.
    pub program: String,
    /// Its seed.
    pub seed: u64,
    /// Its share of the clients.
    pub clients: u64,
    /// When it began to measure, in seconds since 1970.
    pub started: f64,
    /// How long it measured.
    pub seconds: f64,
    /// Its replies a second in the part that all measured.
    pub rate: f64,
    /// Its cost.
    pub generator: Generator,
    /// Whether a signal ended its run early.
    pub interrupted: bool,
}

impl Report {
    /// The results, once the run is over, without warnings.
    pub(in crate::load) fn new(settings: Plan, mut figures: Figures) -> Report {
        let series = figures.take_series();
        let Figures { messages, histograms, datagrams, .. } = figures;
        let (ended, received) = figures.ended.unwrap_or((figures.from, 0));
        let seconds = ended.since(figures.from).as_secs_f64();
        let lag_us = histograms.lag.as_ref().and_then(Histogram::times);
        let generator = figures.starvation.judged(settings.pace, seconds, lag_us);
        let is_greeted = settings.greeting > 0;
        let requested = match settings.usage {
            Usage::Churn => figures.connections.requested,
            Usage::Exchange | Usage::Hold => settings.clients as u64,
        };
        Report {
            version: FORMAT_VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
            host: uname().nodename().to_string_lossy().into_owned(),
            started: unix_seconds(figures.from),
            connections: Connections { requested, ..figures.connections },
            messages: Messages {
                cut_off: messages.sent - messages.received - datagrams.not_received(),
                ..messages
            },
            bytes: figures.bytes,
            seconds,
            rate: if seconds > 0.0 { received as f64 / seconds } else { 0.0 },
            latency_us: histograms.latency.times(),
            service_time_us: histograms.service.as_ref().and_then(Histogram::times),
            connect_us: histograms.connect.times(),
            udp: settings.is_over_udp().then_some(datagrams),
            outages: figures.outages.into_figures(),
            errors: figures.errors,
            failures: figures.failures,
            mismatches: figures.mismatches,
            greetings: is_greeted.then(|| figures.greetings.by_text()),
            greetings_other: is_greeted.then(|| figures.greetings.others()),
            fairness: figures.fairness,
            generator: Generator {
                // A generator that had nothing to send limited nothing.
                bottleneck: generator.bottleneck && messages.sent + messages.not_sent > 0,
                ..generator
            },
            series,
            warnings: Vec::new(),
            interrupted: figures.interrupted,
            settings,
            merged: None,
            histograms,
        }
    }

    /// The cores that the generators took, each of them while it measured.
    pub(super) fn cores_taken(&self) -> f64 {
        let share = |cpu_seconds: f64, seconds: f64| if seconds > 0.0 { cpu_seconds / seconds } else { 0.0 };
        match &self.merged {
            Some(merged) => {
                let parts = merged.generators.iter();
                parts.map(|part| share(part.generator.cpu_seconds, part.seconds)).sum()
            }
            None => share(self.generator.cpu_seconds, self.seconds),
        }
    }

    /// The CPU time of a reply in the measured part, in microseconds. `None` if no reply came in that part, as while
    /// connections are held.
    pub(super) fn cpu_us_per_reply(&self) -> Option<f64> {
        (self.rate > 0.0).then(|| self.cores_taken() * 1e6 / self.rate)
    }

    /// Lost messages, in percent of all that were sent; none over streams.
    pub(super) fn loss(&self) -> f64 {
        let lost = self.udp.map_or(0, |udp| udp.lost);
        if lost == 0 { 0.0 } else { lost as f64 / self.messages.sent as f64 * 100.0 }
    }
}

/// A moment by the clock of the machine.
fn unix_seconds(moment: Moment) -> f64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_1970.saturating_sub(Moment::now().since(moment)).as_secs_f64()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn replies_of_another_part_have_no_share_in_the_cpu_time() {
        let from = Moment::now();
        let until = from + Duration::from_secs(2);
        for (in_the_part, expected) in [(50, Some(20_000.0)), (0, None)] {
            let mut figures = Figures::new(false, from);
            figures.begin(from);
            for _ in 0..100 {
                figures.sending(10, from, Duration::ZERO);
                figures.completed(10, from, from, from);
            }
            figures.starvation.generator.cpu_seconds = 1.0;
            figures.ended = Some((until, in_the_part));
            let report = Report::new(Plan::new(vec![":7".parse().expect("an endpoint")]), figures);
            assert_eq!((report.messages.received, report.cores_taken()), (100, 0.5));
            assert_eq!(report.cpu_us_per_reply(), expected);
        }
    }

    #[test]
    fn a_generator_that_sent_nothing_was_no_bottleneck() {
        let from = Moment::now();
        let plan = Plan::new(vec![":7".parse().expect("an endpoint")]);
        for (sent, is_bottleneck) in [(0, false), (1, true)] {
            let mut figures = Figures::new(false, from);
            figures.messages.sent = sent;
            figures.starvation.generator.cpu_seconds = 1.0;
            figures.ended = Some((from + Duration::from_secs(1), 0));
            assert_eq!(Report::new(plan.clone(), figures).generator.bottleneck, is_bottleneck, "{sent}");
        }
    }

    /// A run of ten seconds from `started`. Its replies have these latencies in nanoseconds, evenly over the time.
    pub(in crate::load) fn report(started: f64, latencies: &[u64]) -> Report {
        let plan = Plan::new(vec![":7".parse().expect("an endpoint")]);
        let from = Moment::now();
        let mut figures = Figures::new(false, from);
        figures.begin(from);
        let step = Duration::from_secs(10) / u32::try_from(latencies.len().max(1)).expect("few");
        let mut now = from;
        for nanoseconds in latencies {
            while figures.interval_end() <= now {
                figures.end_interval(figures.interval_end());
            }
            figures.sending(10, now, Duration::ZERO);
            figures.completed(10, now, now, now + Duration::from_nanos(*nanoseconds));
            now = now + step;
        }
        figures.end_interval(from + Duration::from_secs(10));
        figures.ended = Some((from + Duration::from_secs(10), figures.messages.received));
        Report { started, ..Report::new(plan, figures) }
    }
}
