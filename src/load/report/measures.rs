//! The figures that a condition can compare, with their units, and the runs in which each of them means something.

use std::fmt::Write as _;

use super::super::plan::{Arrivals, Pace, Plan, Usage};
use super::super::replies::Replies;
use super::super::times::{STATISTICS, Statistic, Times, text};
use super::json::Report;

/// A figure that can be compared with a bound.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    Time(&'static Distribution, &'static Statistic),
    Number(&'static Number),
}

/// The runs in which a measure means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Always,
    OpenLoop,
    Streams,
    Datagrams,
    Messages,
    Compared,
}

/// Times: each of their [`STATISTICS`] can be compared.
#[derive(Debug)]
pub(super) struct Distribution {
    prefix: &'static str,
    scope: Scope,
    of: fn(&Report) -> Option<Times>,
}

/// A figure that is no time.
#[derive(Debug)]
pub(super) struct Number {
    name: &'static str,
    unit: &'static str,
    scope: Scope,
    /// The least and the most that it can be.
    range: (f64, f64),
    of: fn(&Report) -> f64,
}

const DISTRIBUTIONS: [Distribution; 4] = [
    Distribution { prefix: "", scope: Scope::Always, of: |report| report.latency_us },
    Distribution { prefix: "service_", scope: Scope::OpenLoop, of: |report| report.service_time_us },
    Distribution { prefix: "lag_", scope: Scope::OpenLoop, of: |report| report.generator.lag_us },
    Distribution { prefix: "connect_", scope: Scope::Streams, of: |report| report.connect_us },
];

const NUMBERS: [Number; 14] = [
    number("rate", Scope::Messages, |report| report.rate),
    number("received", Scope::Always, |report| report.messages.received as f64),
    number("errors", Scope::Always, |report| report.errors.total() as f64),
    number("mismatches", Scope::Compared, |report| report.errors.mismatch as f64),
    number("lost", Scope::Always, |report| match report.udp {
        Some(datagrams) => datagrams.lost as f64,
        None => report.connections.lost as f64,
    }),
    number("cut_off", Scope::Always, |report| report.messages.cut_off as f64),
    number("not_sent", Scope::OpenLoop, |report| report.messages.not_sent as f64),
    number("outages", Scope::Always, |report| report.outages.count as f64),
    Number {
        name: "outage",
        unit: "s",
        scope: Scope::Always,
        range: (0.0, f64::INFINITY),
        of: |report| report.outages.longest_s,
    },
    number("late", Scope::Datagrams, |report| report.udp.unwrap_or_default().late as f64),
    number("duplicated", Scope::Datagrams, |report| report.udp.unwrap_or_default().duplicated as f64),
    number("reordered", Scope::Datagrams, |report| report.udp.unwrap_or_default().reordered as f64),
    number("unknown", Scope::Datagrams, |report| report.udp.unwrap_or_default().unknown as f64),
    Number { name: "loss", unit: "%", scope: Scope::Datagrams, range: (0.0, 100.0), of: Report::loss },
];

const fn number(name: &'static str, scope: Scope, of: fn(&Report) -> f64) -> Number {
    Number { name, unit: "", scope, range: (0.0, f64::INFINITY), of }
}

impl Scope {
    /// Where it means something, as an addition to a name.
    fn place(self) -> &'static str {
        match self {
            Scope::Always => "",
            Scope::OpenLoop => " (with --rate)",
            Scope::Streams => " (not over UDP)",
            Scope::Datagrams => " (over UDP)",
            Scope::Messages => " (without --hold)",
            Scope::Compared => " (not with --expect any)",
        }
    }

    /// Why a figure means nothing in this run, if so.
    fn obstacle(self, plan: &Plan) -> Option<&'static str> {
        match self {
            Scope::OpenLoop if plan.rate().is_none() => Some("only an open loop (--rate) has this figure"),
            Scope::Streams if plan.is_over_udp() => Some("over UDP there are no connections to establish"),
            Scope::Datagrams if !plan.is_over_udp() => Some("only messages over udp:// can be lost or late"),
            Scope::Messages if plan.usage == Usage::Hold => {
                Some("connections that are held exchange two messages each, at no rate")
            }
            Scope::Compared if plan.replies == Replies::Any => {
                Some("where any bytes are a reply (--expect any), none can be wrong")
            }
            _ => None,
        }
    }
}

impl Measure {
    /// The names of all figures.
    pub(super) fn names() -> String {
        let statistics: Vec<&str> = STATISTICS.iter().map(|statistic| statistic.name).collect();
        let mut text = format!("Times: {} of latency", statistics.join(" "));
        // Writing to a string can't fail.
        for Distribution { prefix, scope, .. } in DISTRIBUTIONS.iter().skip(1) {
            let _ = write!(text, ", {prefix}p99 and so on{}", scope.place());
        }
        text.push_str(". Numbers: ");
        for (place, Number { name, unit, scope, .. }) in NUMBERS.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let unit = if unit.is_empty() { String::new() } else { format!(" in {unit}") };
            let _ = write!(text, "{comma}{name}{unit}{}", scope.place());
        }
        text + ". `lost` counts connections, over UDP messages"
    }

    pub(super) fn named(name: &str) -> Option<Measure> {
        if let Some(number) = NUMBERS.iter().find(|number| number.name == name) {
            return Some(Measure::Number(number));
        }
        DISTRIBUTIONS.iter().find_map(|distribution| {
            let rest = name.strip_prefix(distribution.prefix)?;
            let statistic = STATISTICS.iter().find(|statistic| statistic.name == rest)?;
            Some(Measure::Time(distribution, statistic))
        })
    }

    /// The value in microseconds, percent or pieces; a time that nothing was measured of is endless.
    pub(super) fn of(self, report: &Report) -> f64 {
        match self {
            Measure::Time(distribution, statistic) => {
                (distribution.of)(report).map_or(f64::INFINITY, |times| (statistic.of)(&times))
            }
            Measure::Number(number) => (number.of)(report),
        }
    }

    /// Why it means nothing in a run of this plan, if so.
    pub(super) fn obstacle(self, plan: &Plan) -> Option<&'static str> {
        match self {
            Measure::Time(distribution, _) => distribution.scope,
            Measure::Number(number) => number.scope,
        }
        .obstacle(plan)
    }

    /// The least and the most that it can be in a run of this plan, and why it can't be more.
    pub(super) fn range(self, plan: &Plan) -> ((f64, f64), &'static str) {
        let Measure::Number(number) = self else { return ((0.0, f64::INFINITY), "no time is below nothing") };
        match (number.name, plan.messages, plan.pace) {
            ("rate", None, Pace::Open { rate, arrivals: Arrivals::Fixed }) => {
                ((0.0, rate), "an open loop never exceeds its --rate")
            }
            ("loss", ..) => (number.range, "a share is between 0% and 100%"),
            _ => (number.range, "no count is below 0"),
        }
    }

    pub(super) fn read(self, value: &str) -> Result<f64, &'static str> {
        let (bound, expected) = match self {
            Measure::Time(..) => {
                let time = humantime::parse_duration(value).ok();
                (time.map(|time| time.as_secs_f64() * 1e6), "a time is expected, such as 5ms or 800us")
            }
            Measure::Number(Number { unit: "%", .. }) => {
                let share = value.strip_suffix('%').and_then(|number| number.trim().parse().ok());
                (share, "a share is expected, such as 0.1%")
            }
            Measure::Number(Number { unit: "s", .. }) => {
                let time = humantime::parse_duration(value).ok();
                (time.map(|time| time.as_secs_f64()), "a time is expected, such as 2s")
            }
            Measure::Number(_) => (value.parse().ok(), "a number is expected"),
        };
        bound.filter(|bound: &f64| bound.is_finite()).ok_or(expected)
    }

    /// A value of it in words.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "nothing was measured".into(),
            Measure::Time(..) => text(value),
            Measure::Number(Number { unit: "%", .. }) => format!("{value:.3}%"),
            Measure::Number(Number { unit: "s", .. }) => text(value * 1e6),
            Measure::Number(_) => format!("{value:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_listed_and_can_be_named() {
        let names = Measure::names();
        for statistic in STATISTICS {
            assert!(names.contains(statistic.name), "{} is not in {names}", statistic.name);
            for Distribution { prefix, .. } in &DISTRIBUTIONS {
                assert!(names.contains(prefix), "{names}");
                let measure = Measure::named(&format!("{prefix}{}", statistic.name)).expect("it is listed");
                assert_eq!(measure.read("1ms"), Ok(1000.0));
            }
        }
        for Number { name, unit, .. } in &NUMBERS {
            assert!(names.contains(name), "{name} is not in {names}");
            assert!(Measure::named(name).expect("it is listed").read(&format!("1{unit}")).is_ok());
        }
        assert!(Measure::named("service_errors").is_none());
    }
}
