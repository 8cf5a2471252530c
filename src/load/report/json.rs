//! The results of a run, as programs read them: `--json` prints a [`Report`], whose names are a promise.
//!
//! The schema is `schema/load-report.schema.json`, which the tests check real reports against. Names are only ever
//! added; should one have to change or go, [`FORMAT_VERSION`] grows.

use std::collections::BTreeMap;
use std::time::SystemTime;

use rustix::system::uname;
use serde::{Deserialize, Serialize};

use super::super::cause::Errors;
use super::super::fairness::Fairness;
use super::super::figures::{Bytes, Connections, DatagramFates, Figures, Messages};
use super::super::mismatch::Mismatch;
use super::super::outages::OutageFigures;
use super::super::plan::{Pace, Plan, Usage};
use super::super::series::Point;
use super::super::starvation::Starvation;
use super::super::times::{Histogram, Histograms, Times};
use crate::reactor::Moment;

/// The version of the format, in each report.
pub const FORMAT_VERSION: u32 = 2;
/// A generator that took more than this share of a core may have limited the run itself.
const BUSY: f64 = 0.9;
/// A generator may have limited the run if for more than this share of it one of these was so: it waited for a core, a
/// hypervisor gave its processors to others, or it never caught up with its work.
pub(super) const STARVED: f64 = 0.1;
/// The same for a generator that was stopped, blocked or throttled: everything that was due then waited for it.
pub(super) const HELD_UP: f64 = 0.01;
/// An open loop that was this late with one message of a hundred was not on time.
const LATE_US: f64 = 1000.0;

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
    /// If the server is to speak first, how many connections it greeted with which words.
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
    /// Ways in which the figures may mislead, and remedies.
    pub warnings: Vec<String>,
    /// Whether it was ended early by a signal.
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
    /// How long after the first generator the last one began to measure.
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
    /// Whether it was ended early by a signal.
    pub interrupted: bool,
}

/// The generator's own cost, and signs that it was kept from working.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// CPU time of the measured part.
    pub cpu_seconds: f64,
    /// Open loop: how late messages left although their connection was free. `null` in a closed loop.
    pub lag_us: Option<Times>,
    /// How long it was ready to run and had no core, in seconds.
    #[serde(default)]
    pub waited_for_core_s: f64,
    /// How long a hypervisor ran others on its processors, on average over these, in seconds.
    #[serde(default)]
    pub stolen_s: f64,
    /// How long its control groups had used up their quota, added up over all processors, in seconds.
    #[serde(default)]
    pub throttled_s: f64,
    /// The share of one core that hypervisor and quota left to it.
    #[serde(default = "whole_core")]
    pub core_share: f64,
    /// By how much its loop was woken too late, in seconds: the process was stopped, or a call blocked it.
    #[serde(default)]
    pub held_up_s: f64,
    /// The longest of these delays, in seconds.
    #[serde(default)]
    pub longest_hold_up_s: f64,
    /// Open loop: how long the loop had no moment without work, in seconds.
    #[serde(default)]
    pub behind_s: f64,
    /// Whether the generator, and not the server, limited the run.
    pub bottleneck: bool,
}

impl Report {
    /// The results, once the run is over, without warnings.
    pub(in crate::load) fn new(settings: Plan, mut figures: Figures) -> Report {
        let series = figures.take_series();
        let Figures { messages, histograms, datagrams, .. } = figures;
        let (ended, received) = figures.ended.unwrap_or((figures.from, 0));
        let seconds = ended.since(figures.from).as_secs_f64();
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
            generator: Generator::new(settings.pace, seconds, &figures.starvation, histograms.lag.as_ref()),
            series,
            warnings: Vec::new(),
            interrupted: figures.interrupted,
            settings,
            merged: None,
            histograms,
        }
    }

    /// The cores that the generators took, each while it measured.
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

    /// The CPU time of a reply in the measured part, in microseconds. Nothing if none came in it, as while connections
    /// are held.
    pub(super) fn cpu_us_per_reply(&self) -> Option<f64> {
        (self.rate > 0.0).then(|| self.cores_taken() * 1e6 / self.rate)
    }

    /// Lost messages, in percent of all that were sent; none over streams.
    pub(super) fn loss(&self) -> f64 {
        let lost = self.udp.map_or(0, |udp| udp.lost);
        if lost == 0 { 0.0 } else { lost as f64 / self.messages.sent as f64 * 100.0 }
    }
}

impl Generator {
    fn new(pace: Pace, seconds: f64, starvation: &Starvation, lag: Option<&Histogram>) -> Generator {
        let is_open = matches!(pace, Pace::Open { .. });
        let share = |time: f64| if seconds > 0.0 { time / seconds } else { 0.0 };
        let cpu_seconds = if seconds > 0.0 { starvation.cpu_time.as_secs_f64() } else { 0.0 };
        let waited_for_core_s = starvation.waited.as_secs_f64();
        let (stolen_s, throttled_s) =
            (starvation.withheld.stolen.as_secs_f64(), starvation.withheld.throttled.as_secs_f64());
        let core_share = starvation.quota.min(1.0 - share(stolen_s)).max(0.0);
        let held_up_s = starvation.held_up.as_secs_f64();
        let behind_s = if is_open { starvation.behind.as_secs_f64() } else { 0.0 };
        let lag_us = lag.and_then(Histogram::times);
        let was_starved = share(waited_for_core_s) > STARVED
            || share(stolen_s) > STARVED
            || share(throttled_s) > HELD_UP
            || share(held_up_s) > HELD_UP;
        let bottleneck = was_starved
            || if is_open {
                lag_us.is_some_and(|lag| lag.p99 > LATE_US) || share(behind_s) > STARVED
            } else {
                share(cpu_seconds + waited_for_core_s) > BUSY * core_share
            };
        Generator {
            cpu_seconds,
            lag_us,
            waited_for_core_s,
            stolen_s,
            throttled_s,
            core_share,
            held_up_s,
            longest_hold_up_s: starvation.longest.as_secs_f64(),
            behind_s,
            bottleneck,
        }
    }
}

/// Reports of earlier versions know of nothing that was kept from the generator.
fn whole_core() -> f64 {
    1.0
}

/// A moment by the clock on the wall.
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
            figures.starvation.cpu_time = Duration::from_secs(1);
            figures.ended = Some((until, in_the_part));
            let report = Report::new(Plan::new(vec![":7".parse().expect("an endpoint")]), figures);
            assert_eq!((report.messages.received, report.cores_taken()), (100, 0.5));
            assert_eq!(report.cpu_us_per_reply(), expected);
        }
    }

    /// A run of ten seconds from `started`, with so many nanoseconds of latency each, evenly over the time.
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
