//! One step of a search for a rate: its plan, and what it says of the server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::encoding::seconds;
use super::report::{Condition, Report};

/// A server that answers fewer than this share of the messages that were due in a step can't take the rate: no pause
/// explains that.
const KEEPS_UP: f64 = 0.9;
/// A step that is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Messages a second.
    pub rate: f64,
    /// How long they are measured.
    #[serde(rename = "duration_s", with = "seconds")]
    pub duration: Duration,
}

/// One step of a search.
#[derive(Clone, Debug, Serialize)]
pub struct SearchStep {
    /// The part of the search that it belongs to.
    pub part: SearchPart,
    /// Messages a second that it asked for.
    pub rate: f64,
    /// The conditions that held, with the reasons.
    pub failed: Vec<String>,
    /// Whether the step says nothing of the server, because the generator was late.
    pub generator_late: bool,
    /// Its results.
    pub report: Report,
}

/// The parts of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchPart {
    /// Twice or half the rate before.
    Double,
    /// Above a rate that was to fail and passed.
    Climb,
    /// Between a good and a failing rate.
    Bisect,
    /// At the rate that is to be the answer, or just above it.
    Confirm,
}

impl SearchStep {
    pub(super) fn new(part: SearchPart, rate: f64, report: Report, conditions: &[Condition]) -> SearchStep {
        let violated = |report: &Report| -> Vec<String> {
            conditions.iter().filter_map(|condition| condition.violated(report)).collect()
        };
        let failed = violated(&report);
        let is_good = failed.is_empty() && report.messages.not_sent == 0;
        let generator_late = report.generator.bottleneck
            && !is_good
            && (failed.is_empty() || violated(&untroubled(&report, rate)).is_empty());
        SearchStep { part, rate, failed, generator_late, report }
    }

    /// Whether the server answered far fewer messages than were due and reached it.
    pub(super) fn falls_behind(&self) -> bool {
        let report = &self.report;
        let kept_back = report.generator.longest_delay() / report.seconds.max(f64::MIN_POSITIVE);
        report.rate < self.rate * (KEEPS_UP - kept_back)
    }
}

/// The report with the lowest figures that a generator without delays would have measured.
///
/// A message waits for the messages before it, at the server and on its connection, and for the generator. The
/// generator's delays lie one behind the other, so none of them counts twice. Together they delay a message by at most
/// their sum.
fn untroubled(report: &Report, rate: f64) -> Report {
    let delay = report.generator.longest_delay();
    let mut report = report.clone();
    for times in [&mut report.latency_us, &mut report.service_time_us, &mut report.connect_us] {
        *times = times.map(|times| times.less(delay * 1e6));
    }
    report.generator.lag_us = report.generator.lag_us.map(|times| times.less(delay * 1e6));
    report.messages.not_sent = report.messages.not_sent.saturating_sub((delay * rate).ceil() as u64);
    report
}
