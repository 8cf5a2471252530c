//! The figures that a condition can compare, with their units, and the runs in which each of them means something.

use super::super::figures::DatagramFates;
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

/// A distribution of times: each of its [`STATISTICS`] can be compared.
#[derive(Debug)]
pub(super) struct Distribution {
    prefix: &'static str,
    scope: Scope,
    of: fn(&Report) -> Option<Times>,
}

/// A figure that is not one of a distribution.
#[derive(Debug)]
pub(super) struct Number {
    name: &'static str,
    unit: Unit,
    scope: Scope,
    of: fn(&Report) -> f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microseconds,
    Seconds,
    Percent,
    Pieces,
}

/// The runs in which a measure means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Always,
    OpenLoop,
    Scheduled,
    Streams,
    Datagrams,
    Overtaking,
    Messages,
    Compared,
}

const DISTRIBUTIONS: [Distribution; 4] = [
    Distribution { prefix: "", scope: Scope::Always, of: |report| report.latency_us },
    Distribution { prefix: "service_", scope: Scope::OpenLoop, of: |report| report.service_time_us },
    Distribution { prefix: "lag_", scope: Scope::OpenLoop, of: |report| report.generator.lag_us },
    Distribution { prefix: "connect_", scope: Scope::Streams, of: |report| report.connect_us },
];

const NUMBERS: [Number; 14] = [
    number("rate", Unit::Pieces, Scope::Messages, |report| report.rate),
    number("received", Unit::Pieces, Scope::Always, |report| report.messages.received as f64),
    number("errors", Unit::Pieces, Scope::Always, |report| report.errors.total() as f64),
    number("mismatches", Unit::Pieces, Scope::Compared, |report| report.errors.mismatch as f64),
    number("lost", Unit::Pieces, Scope::Always, |report| match report.udp {
        Some(datagrams) => datagrams.lost as f64,
        None => report.connections.lost as f64,
    }),
    number("cut_off", Unit::Pieces, Scope::Always, |report| report.messages.cut_off as f64),
    number("not_sent", Unit::Pieces, Scope::Scheduled, |report| report.messages.not_sent as f64),
    number("outages", Unit::Pieces, Scope::Always, |report| report.outages.count as f64),
    number("outage", Unit::Seconds, Scope::Always, |report| report.outages.longest_s),
    number("late", Unit::Pieces, Scope::Datagrams, |report| fates(report).late as f64),
    number("duplicated", Unit::Pieces, Scope::Datagrams, |report| fates(report).duplicated as f64),
    number("reordered", Unit::Pieces, Scope::Overtaking, |report| fates(report).reordered as f64),
    number("unknown", Unit::Pieces, Scope::Datagrams, |report| fates(report).unknown as f64),
    number("loss", Unit::Percent, Scope::Datagrams, Report::loss),
];

const fn number(name: &'static str, unit: Unit, scope: Scope, of: fn(&Report) -> f64) -> Number {
    Number { name, unit, scope, of }
}

fn fates(report: &Report) -> DatagramFates {
    report.udp.unwrap_or_default()
}

impl Unit {
    /// The unit as an addition to a name.
    fn place(self) -> &'static str {
        match self {
            Unit::Microseconds | Unit::Pieces => "",
            Unit::Seconds => " in s",
            Unit::Percent => " in %",
        }
    }

    /// A value as people write it.
    fn read(self, text: &str) -> Result<f64, &'static str> {
        let seconds = || Some(humantime::parse_duration(text).ok()?.as_secs_f64());
        let (value, expected) = match self {
            Unit::Microseconds => {
                (seconds().map(|seconds| seconds * 1e6), "a time is expected, such as 5ms or 800us")
            }
            Unit::Seconds => (seconds(), "a time is expected, such as 2s"),
            Unit::Percent => {
                let share = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
                (share, "a share is expected, such as 0.1%")
            }
            Unit::Pieces => (text.parse().ok(), "a number is expected"),
        };
        value.filter(|value| value.is_finite()).ok_or(expected)
    }

    /// A value in words.
    fn show(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "nothing was measured".into(),
            Unit::Microseconds => text(value),
            Unit::Seconds => text(value * 1e6),
            Unit::Percent => format!("{value:.3}%"),
            Unit::Pieces => format!("{value:.0}"),
        }
    }

    /// The reason why no figure of this unit is below 0.
    fn floor(self) -> &'static str {
        match self {
            Unit::Microseconds | Unit::Seconds => "no time is below nothing",
            Unit::Percent => "no share is below 0%",
            Unit::Pieces => "no count is below 0",
        }
    }
}

impl Scope {
    /// The runs that have the figure, as an addition to its name.
    fn place(self) -> &'static str {
        match self {
            Scope::Always => "",
            Scope::OpenLoop => " (with --rate)",
            Scope::Scheduled => " (with --rate, without --messages)",
            Scope::Streams => " (not over UDP)",
            Scope::Datagrams => " (over UDP)",
            Scope::Overtaking => " (over UDP, with --depth)",
            Scope::Messages => " (without --hold)",
            Scope::Compared => " (not with --expect any)",
        }
    }

    /// The reason why a figure means nothing in this run; `None` if it means something.
    fn obstacle(self, plan: &Plan) -> Option<&'static str> {
        match self {
            Scope::OpenLoop | Scope::Scheduled if plan.rate().is_none() => {
                Some("only an open loop (--rate) has this figure")
            }
            Scope::Scheduled if plan.messages.is_some() => {
                Some("a run of so many --messages waits until all of them are sent; compare `received`")
            }
            Scope::Streams if plan.is_over_udp() => Some("over UDP there are no connections to establish"),
            Scope::Datagrams | Scope::Overtaking if !plan.is_over_udp() => {
                Some("only messages over udp:// can be lost or late")
            }
            Scope::Overtaking if plan.depth == 1 => {
                Some("each client has one message under way (no --depth), so no other overtakes it")
            }
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
        let times = DISTRIBUTIONS.iter().skip(1);
        let times: String = times
            .map(|Distribution { prefix, scope, .. }| format!(", {prefix}p99 and so on{}", scope.place()))
            .collect();
        let numbers: Vec<String> = NUMBERS
            .iter()
            .map(|Number { name, unit, scope, .. }| format!("{name}{}{}", unit.place(), scope.place()))
            .collect();
        format!(
            "Times: {} of latency{times}. Numbers: {}. `lost` counts connections, over UDP messages",
            statistics.join(" "),
            numbers.join(", ")
        )
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

    /// The value in its unit; a time without any measurement is infinite.
    pub(super) fn of(self, report: &Report) -> f64 {
        match self {
            Measure::Time(distribution, statistic) => {
                (distribution.of)(report).map_or(f64::INFINITY, |times| (statistic.of)(&times))
            }
            Measure::Number(number) => (number.of)(report),
        }
    }

    /// The reason why the measure means nothing in a run of this plan; `None` if it means something.
    pub(super) fn obstacle(self, plan: &Plan) -> Option<&'static str> {
        match self {
            Measure::Time(distribution, _) => distribution.scope,
            Measure::Number(number) => number.scope,
        }
        .obstacle(plan)
    }

    /// The most that the measure can be in a run of this plan, and the reason.
    pub(super) fn ceiling(self, plan: &Plan) -> (f64, &'static str) {
        let Measure::Number(number) = self else { return (f64::INFINITY, "") };
        match (number.name, plan.messages, plan.pace) {
            ("rate", None, Pace::Open { rate, arrivals: Arrivals::Fixed }) => {
                // The first message of all is due at once, so a short run may have one more than its share.
                let seconds = plan.duration.as_secs_f64();
                ((rate * seconds).ceil() / seconds, "an open loop never exceeds its --rate")
            }
            ("loss", ..) => (100.0, "no share is above 100%"),
            _ => (f64::INFINITY, ""),
        }
    }

    /// The reason why the measure is never below 0.
    pub(super) fn floor(self) -> &'static str {
        self.unit().floor()
    }

    pub(super) fn read(self, value: &str) -> Result<f64, &'static str> {
        self.unit().read(value)
    }

    /// A value of it in words.
    pub(super) fn show(self, value: f64) -> String {
        self.unit().show(value)
    }

    fn unit(self) -> Unit {
        match self {
            Measure::Time(..) => Unit::Microseconds,
            Measure::Number(number) => number.unit,
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
            let value = format!("1{}", unit.place().trim_start_matches(" in "));
            assert_eq!(Measure::named(name).expect("it is listed").read(&value), Ok(1.0));
        }
        assert!(Measure::named("service_errors").is_none());
    }
}
