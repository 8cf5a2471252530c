//! The results of a run, as programs read them: `--json` prints a [`Report`], whose names are a promise.
//!
//! The schema is `schema/load-report.schema.json`, which the tests check a real report against. Names are only ever
//! added; should one have to change or go, [`FORMAT_VERSION`] grows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errors::Errors;
use super::fault::Mismatch;
use super::figures::{Figures, Histogram, Point, microseconds};
use super::plan::{Arrivals, Pace, Plan, Usage};

/// The version of the format, in each report.
pub const FORMAT_VERSION: u32 = 1;
/// A generator that took more than this share of a core may have been what was measured.
const BUSY: f64 = 0.9;
/// An open loop that was this late with one message of a hundred was not on time.
const LATE_US: f64 = 1000.0;

/// What a run brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// What was asked for.
    pub settings: Settings,
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
    /// What became of datagrams; only over UDP.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub udp: Option<DatagramsReport>,
    /// Connections that failed, by cause; over UDP also each datagram of other bytes than were sent.
    pub errors: Errors,
    /// The first failures, in words.
    pub failures: Vec<String>,
    /// The first mismatches.
    pub mismatches: Vec<Mismatch>,
    /// If the server is to speak first, how many connections it greeted with which words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub greetings: Option<BTreeMap<String, u64>>,
    /// Connections that were greeted with none of these words: only so many are told apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub greetings_other: Option<u64>,
    /// How evenly messages were spread over clients.
    pub fairness: FairnessReport,
    /// What the generator itself took.
    pub generator: Generator,
    /// The measured part, interval by interval.
    pub series: Vec<Point>,
    /// What to think of, and what to try.
    pub warnings: Vec<String>,
    /// Whether it was ended early by a signal.
    pub interrupted: bool,
    #[serde(skip)]
    pub(super) latency: Option<Histogram>,
}

/// What a run was asked for, as text and numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The endpoints.
    pub endpoints: Vec<String>,
    /// `closed`, `open`, `churn` (either loop) or `hold`.
    pub mode: String,
    /// Clients at once.
    pub clients: u64,
    /// The shortest message.
    pub size_min: u64,
    /// The longest message.
    pub size_max: u64,
    /// Messages under way per client.
    pub depth: u32,
    /// How long a client thinks before its next message.
    pub think_us: f64,
    /// Messages a second that an open loop was asked for.
    pub rate: Option<f64>,
    /// `fixed` or `poisson`, in an open loop.
    pub arrivals: Option<String>,
    /// How long the measured part was to be, if no number of messages was given.
    pub duration_s: Option<f64>,
    /// How many messages were to be sent.
    pub messages: Option<u64>,
    /// How long it ran before.
    pub warmup_s: f64,
    /// What the bytes, sizes and arrivals come from.
    pub seed: u64,
    /// Whether each byte was compared.
    pub verify: bool,
    /// Connects a second, if limited.
    pub connect_rate: Option<f64>,
    /// How long a reply could take.
    pub timeout_s: f64,
    /// Source addresses, if given.
    pub source: Option<String>,
    /// Whether connections were ended by a reset.
    pub reset: bool,
}

/// Connections of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How many were wanted: the clients, or in churn the connections that were begun.
    pub requested: u64,
    /// How many were established.
    pub opened: u64,
    /// How many of those failed later.
    pub lost: u64,
}

/// Messages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// How many were sent.
    pub sent: u64,
    /// How many came back complete.
    pub received: u64,
    /// How many were under way when their connection failed or the run was interrupted.
    pub cut_off: u64,
    /// How many were due in an open loop and never sent, because their connection was busy to the end.
    pub not_sent: u64,
}

/// What became of messages over UDP that were not simply answered. Each message that was sent is received, lost, late,
/// corrupted or cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramsReport {
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

impl DatagramsReport {
    /// Messages that have ended without being received.
    pub(super) fn not_received(&self) -> u64 {
        self.lost + self.late + self.corrupted
    }
}

/// Bytes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Bytes of messages that were sent.
    pub sent: u64,
    /// Bytes of messages that came back complete.
    pub received: u64,
}

/// A distribution of times, in microseconds, with three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The smallest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p99_9: f64,
    /// The 99.99th percentile.
    pub p99_99: f64,
    /// The largest.
    pub max: f64,
}

/// How evenly messages were spread over clients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FairnessReport {
    /// The fewest complete replies of a client.
    pub fewest: u64,
    /// The most.
    pub most: u64,
    /// Jain's index: 1 if all have the same, 1/n if one has everything.
    pub jain: f64,
}

/// What the generator itself took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// CPU time of the measured part.
    pub cpu_seconds: f64,
    /// Open loop: how late messages left although their connection was free. All 0 in a closed loop.
    pub lag_us: Lag,
    /// Whether the generator, and not the server, was what limited the run.
    pub bottleneck: bool,
}

/// How late messages left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Report {
    /// The results of a run that is over.
    pub(super) fn new(plan: &Plan, mut figures: Figures) -> Report {
        let series = figures.take_series();
        let (ended, received) = figures.ended.unwrap_or((figures.from, 0));
        let seconds = ended.since(figures.from).as_secs_f64();
        let lag = figures.lag.as_ref().map_or(Lag::default(), |lag| Lag {
            p50: microseconds(lag, 0.5),
            p99: microseconds(lag, 0.99),
            max: microseconds(lag, 1.0),
        });
        let cpu_seconds = figures.cpu_time.as_secs_f64();
        let bottleneck = match plan.pace {
            Pace::Open { .. } => lag.p99 > LATE_US,
            Pace::Closed { .. } => seconds > 0.0 && cpu_seconds / seconds > BUSY,
        };
        let churn = plan.usage == Usage::Churn;
        let fairness = &figures.fairness;
        let mut report = Report {
            version: FORMAT_VERSION,
            connections: Connections {
                requested: if churn { figures.attempted } else { plan.clients as u64 },
                opened: figures.opened,
                lost: figures.lost,
            },
            messages: Messages {
                sent: figures.sent,
                received: figures.received,
                cut_off: figures.sent - figures.received - figures.datagrams.not_received(),
                not_sent: figures.not_sent,
            },
            bytes: Bytes { sent: figures.bytes_sent, received: figures.bytes_received },
            seconds,
            rate: if seconds > 0.0 { received as f64 / seconds } else { 0.0 },
            latency_us: Times::of(&figures.latency),
            service_time_us: figures.service.as_ref().and_then(Times::of),
            connect_us: Times::of(&figures.connect),
            udp: plan.is_over_udp().then_some(figures.datagrams),
            errors: figures.errors,
            failures: std::mem::take(&mut figures.failures),
            mismatches: std::mem::take(&mut figures.mismatches),
            greetings: (plan.greeting > 0).then(|| figures.greetings.by_text()),
            greetings_other: (plan.greeting > 0).then(|| figures.greetings.others()),
            fairness: FairnessReport {
                fewest: if fairness.clients == 0 { 0 } else { fairness.fewest },
                most: fairness.most,
                jain: fairness.jain(),
            },
            generator: Generator { cpu_seconds, lag_us: lag, bottleneck },
            series,
            warnings: Vec::new(),
            interrupted: figures.interrupted,
            settings: Settings::of(plan),
            latency: Some(figures.latency),
        };
        report.warnings = report.find_warnings();
        report
    }
}

impl Times {
    fn of(times: &Histogram) -> Option<Times> {
        (!times.is_empty()).then(|| Times {
            min: times.min() as f64 / 1e3,
            mean: times.mean() / 1e3,
            p50: microseconds(times, 0.5),
            p90: microseconds(times, 0.9),
            p99: microseconds(times, 0.99),
            p99_9: microseconds(times, 0.999),
            p99_99: microseconds(times, 0.9999),
            max: times.max() as f64 / 1e3,
        })
    }
}

impl Settings {
    fn of(plan: &Plan) -> Settings {
        let (think, rate, arrivals) = match plan.pace {
            Pace::Closed { think } => (think, None, None),
            Pace::Open { rate, arrivals } => (Default::default(), Some(rate), Some(arrivals)),
        };
        let mode = match (plan.usage, rate) {
            (Usage::Hold, _) => "hold",
            (Usage::Churn, _) => "churn",
            (Usage::Exchange, None) => "closed",
            (Usage::Exchange, Some(_)) => "open",
        };
        Settings {
            endpoints: plan.endpoints.iter().map(ToString::to_string).collect(),
            mode: mode.into(),
            clients: plan.clients as u64,
            size_min: plan.sizes.shortest as u64,
            size_max: plan.sizes.longest as u64,
            depth: plan.depth,
            think_us: think.as_secs_f64() * 1e6,
            rate,
            arrivals: arrivals.map(|arrivals| match arrivals {
                Arrivals::Fixed => "fixed".into(),
                Arrivals::Poisson => "poisson".into(),
            }),
            duration_s: plan.messages.is_none().then_some(plan.duration.as_secs_f64()),
            messages: plan.messages,
            warmup_s: plan.warmup.as_secs_f64(),
            seed: plan.seed,
            verify: plan.verify,
            connect_rate: plan.connect_rate,
            timeout_s: plan.timeout.as_secs_f64(),
            source: plan.sources.as_ref().map(ToString::to_string),
            reset: plan.reset,
        }
    }
}
