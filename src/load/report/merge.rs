//! Reports of several generators that ran at the same time, as one.
//!
//! Distributions are added value by value, so percentiles are true ones of all messages. Rates are added over the part of
//! the time that all generators measured.

use std::collections::BTreeMap;

use hdrhistogram::AdditionError;

use super::super::figures::MOST_DESCRIBED;
use super::super::greetings::MOST_DIFFERENT;
use super::super::plan::{Pace, Plan};
use super::super::series::{Point, larger};
use super::super::times::Histogram;
use super::differences::differences;
use super::json::{GeneratorPart, Merged, Report};
use super::warnings;

/// Settings that may differ between generators: the share of the load, and the settings that keep generators apart.
const OWN: [&str; 7] = ["clients", "pace.rate", "messages", "connect_rate", "connecting", "seed", "sources"];

/// The reason why reports can't be merged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MergeError {
    /// No report was given.
    #[error("there is no report to merge")]
    Nothing,
    /// A report is a merged one.
    #[error("report {0} is a merged one already: merge the reports that it was made of")]
    Merged(usize),
    /// The reports have different settings.
    #[error("report {place} had other settings than the first: {differences}")]
    Settings {
        /// The report, counted from 1.
        place: usize,
        /// The settings, with both values.
        differences: String,
    },
    /// There was no time at which all generators measured.
    #[error(
        "the runs do not overlap: report {late} began {gap_s:.3} s after report {early} had ended (--start-at begins \
         them together; between machines, are the clocks right?)"
    )]
    Apart {
        /// The report that ended first, counted from 1.
        early: usize,
        /// The report that began last.
        late: usize,
        /// How long after the end of the first.
        gap_s: f64,
    },
    /// A histogram has other bounds than this program's.
    #[error("report {0} has a histogram that can't be added: {1}")]
    Histogram(usize, String),
}

/// The part of the time that all generators measured, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Common {
    from: f64,
    until: f64,
}

/// Makes one report of several generators' reports.
///
/// # Errors
/// When they did not run at the same time or had different settings.
pub fn merge(reports: &[Report]) -> Result<Report, MergeError> {
    let first = reports.first().ok_or(MergeError::Nothing)?;
    for (place, report) in reports.iter().enumerate() {
        if report.merged.is_some() {
            return Err(MergeError::Merged(place + 1));
        }
        let differences = differences(&first.settings, &report.settings, &OWN);
        if !differences.is_empty() {
            return Err(MergeError::Settings { place: place + 1, differences: differences.join("; ") });
        }
    }
    let common = Common::of(reports)?;
    let mut merged = first.clone();
    for (place, report) in reports.iter().enumerate().skip(1) {
        let unfit = |error: AdditionError| MergeError::Histogram(place + 1, error.to_string());
        merged.histograms.merge(&report.histograms).map_err(unfit)?;
        merged.outages.merge(&report.outages).map_err(unfit)?;
        add(&mut merged, report);
    }
    merged.host = hosts(reports);
    merged.settings = together(reports);
    merged.seconds = common.seconds();
    merged.rate = reports.iter().map(|report| common.rate(report)).sum();
    merged.latency_us = merged.histograms.latency.times();
    merged.service_time_us = merged.histograms.service.as_ref().and_then(Histogram::times);
    merged.connect_us = merged.histograms.connect.times();
    (merged.greetings, merged.greetings_other) = add_greetings(reports).unzip();
    merged.generator.lag_us = merged.histograms.lag.as_ref().and_then(Histogram::times);
    merged.generator.throttled_s = throttled(reports);
    merged.series = add_series(reports, merged.started);
    merged.merged = Some(Merged {
        start_spread_s: (common.from - merged.started).max(0.0),
        generators: reports.iter().map(|report| part(report, common)).collect(),
    });
    merged.warnings = warnings::find(&merged);
    Ok(merged)
}

/// Adds the figures of another generator that are sums, extremes or lists.
fn add(merged: &mut Report, report: &Report) {
    merged.started = merged.started.min(report.started);
    merged.connections.requested += report.connections.requested;
    merged.connections.opened += report.connections.opened;
    merged.connections.lost += report.connections.lost;
    merged.messages.sent += report.messages.sent;
    merged.messages.received += report.messages.received;
    merged.messages.cut_off += report.messages.cut_off;
    merged.messages.not_sent += report.messages.not_sent;
    merged.bytes.sent += report.bytes.sent;
    merged.bytes.received += report.bytes.received;
    merged.udp = merged.udp.zip(report.udp).map(|(sum, more)| sum.plus(more));
    merged.errors.merge(&report.errors);
    extend(&mut merged.failures, &report.failures);
    extend(&mut merged.mismatches, &report.mismatches);
    merged.fairness.merge(&report.fairness);
    merged.interrupted |= report.interrupted;
    let (sum, more) = (&mut merged.generator, &report.generator);
    sum.cpu_seconds += more.cpu_seconds;
    sum.waited_for_core_s += more.waited_for_core_s;
    sum.stolen_s += more.stolen_s;
    sum.core_share = sum.core_share.min(more.core_share);
    sum.held_up_s += more.held_up_s;
    sum.longest_hold_up_s = sum.longest_hold_up_s.max(more.longest_hold_up_s);
    sum.behind_s += more.behind_s;
    sum.bottleneck |= more.bottleneck;
}

/// Adds further lines to a list that describes the first few.
fn extend<T: Clone>(list: &mut Vec<T>, more: &[T]) {
    list.extend(more.iter().take(MOST_DESCRIBED.saturating_sub(list.len())).cloned());
}

impl Common {
    /// The common part of all generators that measured anything. A generator that never had a connection says nothing
    /// about time.
    fn of(reports: &[Report]) -> Result<Common, MergeError> {
        let has_measured = |report: &Report| report.messages.sent + report.messages.not_sent > 0;
        let measured = || reports.iter().enumerate().filter(|(_, report)| has_measured(report));
        let end = |report: &Report| report.started + report.seconds;
        let late = measured().max_by(|one, other| one.1.started.total_cmp(&other.1.started));
        let early = measured().min_by(|one, other| end(one.1).total_cmp(&end(other.1)));
        let (Some((late, last)), Some((early, first))) = (late, early) else {
            return Ok(Common { from: reports[0].started, until: end(&reports[0]) });
        };
        let (from, until) = (last.started, end(first));
        if from >= until && late != early {
            return Err(MergeError::Apart { early: early + 1, late: late + 1, gap_s: from - until });
        }
        Ok(Common { from, until })
    }

    fn seconds(self) -> f64 {
        self.until - self.from
    }

    /// Replies a second of one generator in this time. If an interval lies in it only in part, its replies are taken
    /// as evenly spread.
    fn rate(self, report: &Report) -> f64 {
        let within = |point: &Point| {
            let began = report.started + point.at;
            let inside = (began + point.seconds).min(self.until) - began.max(self.from);
            point.received as f64 * (inside / point.seconds).clamp(0.0, 1.0)
        };
        if self.seconds() <= report.seconds * (1.0 - 1e-9) {
            report.series.iter().map(within).sum::<f64>() / self.seconds()
        } else {
            report.rate
        }
    }
}

fn part(report: &Report, common: Common) -> GeneratorPart {
    GeneratorPart {
        host: report.host.clone(),
        program: report.program.clone(),
        seed: report.settings.seed,
        clients: report.settings.clients as u64,
        started: report.started,
        seconds: report.seconds,
        rate: common.rate(report),
        generator: report.generator,
        interrupted: report.interrupted,
    }
}

fn hosts(reports: &[Report]) -> String {
    let mut hosts: Vec<&str> = reports.iter().map(|report| report.host.as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts.join(" ")
}

/// The settings of the whole: shares are added, everything else is the same.
fn together(reports: &[Report]) -> Plan {
    let plans = || reports.iter().map(|report| &report.settings);
    let mut whole = reports[0].settings.clone();
    whole.clients = plans().map(|plan| plan.clients).sum();
    whole.connecting = plans().map(|plan| plan.connecting).sum();
    whole.messages = plans().map(|plan| plan.messages).sum();
    whole.connect_rate = plans().map(|plan| plan.connect_rate).sum();
    if let Pace::Open { rate, .. } = &mut whole.pace {
        *rate = plans().filter_map(Plan::rate).sum();
    }
    whole
}

/// Generators of one host usually share a control group, and each reports the throttling of the whole group. So only
/// the longest of each host counts.
fn throttled(reports: &[Report]) -> f64 {
    let mut hosts: BTreeMap<&str, f64> = BTreeMap::new();
    for report in reports {
        let longest = hosts.entry(&report.host).or_insert(0.0);
        *longest = longest.max(report.generator.throttled_s);
    }
    hosts.into_values().sum()
}

/// The greetings of all reports; `None` if no server spoke first. A merged report tells as many greetings apart as one
/// generator does.
fn add_greetings(reports: &[Report]) -> Option<(BTreeMap<String, u64>, u64)> {
    let mut counts = BTreeMap::new();
    let mut others = 0;
    for report in reports {
        others += report.greetings_other?;
        for (text, count) in report.greetings.as_ref()? {
            if counts.len() < MOST_DIFFERENT || counts.contains_key(text) {
                *counts.entry(text.clone()).or_insert(0) += count;
            } else {
                others += count;
            }
        }
    }
    Some((counts, others))
}

/// Intervals as long as the longest of any generator. Each point counts where its middle lies.
fn add_series(reports: &[Report], started: f64) -> Vec<Point> {
    let length = reports
        .iter()
        .filter_map(|report| report.series.first())
        .map(|point| point.seconds.round().max(1.0))
        .fold(1.0, f64::max);
    let mut cells: BTreeMap<u64, (Point, f64)> = BTreeMap::new();
    for report in reports {
        let shift = report.started - started;
        let mut open = BTreeMap::new();
        for point in &report.series {
            let place = ((shift + point.at + point.seconds / 2.0) / length) as u64;
            let end = shift + point.at + point.seconds;
            let (cell, until) = cells
                .entry(place)
                .or_insert_with(|| (Point { at: place as f64 * length, ..Point::default() }, 0.0));
            *until = until.max(end);
            cell.received += point.received;
            cell.bytes += point.bytes;
            cell.errors += point.errors;
            cell.p50_us = larger(cell.p50_us, point.p50_us);
            cell.p99_us = larger(cell.p99_us, point.p99_us);
            cell.max_us = larger(cell.max_us, point.max_us);
            open.insert(place, point.open);
        }
        for (place, open) in open {
            cells.entry(place).and_modify(|(cell, _)| cell.open += open);
        }
    }
    let whole = |(cell, until): (Point, f64)| {
        let seconds = (until - cell.at).clamp(f64::MIN_POSITIVE, length);
        Point { seconds, rate: cell.received as f64 / seconds, ..cell }
    };
    cells.into_values().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::plan::Usage;
    use super::super::json::tests::report;
    use super::*;

    #[test]
    fn generators_of_one_host_are_throttled_together() {
        let throttled = |host: &str, throttled_s| {
            let mut report = report(1000.0, &[1]);
            report.host = host.into();
            report.generator.throttled_s = throttled_s;
            report
        };
        let reports = [throttled("one", 2.0), throttled("one", 3.0), throttled("other", 0.5)];
        assert_eq!(merge(&reports).expect("they fit").generator.throttled_s, 3.5);
    }

    proptest! {
        /// A merge has the percentiles of one generator that saw all messages, also after a round trip through JSON.
        #[test]
        fn percentiles_are_those_of_all_values(
            parts in prop::collection::vec(prop::collection::vec(1..10_000_000_u64, 0..200), 1..5)
        ) {
            let reports: Vec<Report> = parts.iter().map(|latencies| report(100.0, latencies)).collect();
            let text: String = reports.iter().map(|report| serde_json::to_string(report).expect("JSON") + "\n").collect();
            let merged = merge(&super::super::reading::read("text", &text).expect("reports")).expect("the same run");
            let all: Vec<u64> = parts.concat();
            let whole = report(100.0, &all);
            prop_assert_eq!(merged.histograms.latency.times(), whole.histograms.latency.times());
            prop_assert_eq!(merged.latency_us, whole.latency_us);
            prop_assert_eq!(merged.messages.received, all.len() as u64);
        }
    }

    #[test]
    fn rates_are_added_over_the_common_part() {
        let (one, other) = (report(100.0, &[5; 1000]), report(105.0, &[7; 500]));
        let merged = merge(&[one, other]).expect("they overlap");
        // Each ran for ten seconds; evenly, as far as the series of a second each tells.
        assert_eq!((merged.seconds, merged.started), (5.0, 100.0));
        assert!((merged.rate - 150.0).abs() < 1e-6, "{}", merged.rate);
        let parts = merged.merged.expect("it is one");
        assert_eq!((parts.start_spread_s, parts.generators.len()), (5.0, 2));
        assert_eq!(merged.series.len(), 15);
        assert_eq!(merged.series.iter().map(|point| point.received).sum::<u64>(), 1500);
        assert_eq!((merged.series[7].received, merged.series[7].rate.round()), (150, 150.0));
        assert!(
            merged.warnings.iter().any(|warning| warning.contains("began 5.000 s apart")),
            "{:?}",
            merged.warnings
        );
    }

    #[test]
    fn shares_are_added_and_everything_else_is_the_same() {
        let mut other = report(100.0, &[5]);
        other.settings.clients = 3;
        other.settings.seed += 1;
        let merged = merge(&[report(100.0, &[5]), other.clone()]).expect("shares may differ");
        assert_eq!(merged.settings.clients, report(100.0, &[]).settings.clients + 3);

        other.settings.depth = 9;
        let error = merge(&[report(100.0, &[5]), other]).expect_err("the depth differs").to_string();
        assert!(error.starts_with("report 2 had other settings than the first: depth: 1 and 9"), "{error}");
        let mut held = report(100.0, &[5]);
        held.settings.usage = Usage::Hold;
        assert!(matches!(merge(&[held, report(100.0, &[5])]), Err(MergeError::Settings { place: 2, .. })));
    }

    #[test]
    fn runs_at_different_times_and_merged_ones_are_refused() {
        let error = merge(&[report(120.0, &[5]), report(100.0, &[5])]).expect_err("ten seconds apart");
        assert_eq!(error, MergeError::Apart { early: 2, late: 1, gap_s: 10.0 });
        assert_eq!(merge(&[]).expect_err("nothing"), MergeError::Nothing);
        let nothing = merge(&[report(100.0, &[]), report(120.0, &[])]).expect("neither measured anything");
        assert_eq!((nothing.rate, nothing.latency_us), (0.0, None));
        let merged = merge(&[report(100.0, &[5])]).expect("one alone is whole");
        assert_eq!(merge(&[merged]).expect_err("it is merged"), MergeError::Merged(1));
    }
}
