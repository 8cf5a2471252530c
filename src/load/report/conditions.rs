//! `--fail-if`: conditions on the figures, for automated runs, and the exit status that they lead to.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::super::plan::{Arrivals, Pace, Plan, Usage};
use super::super::replies::Replies;
use super::super::times::{STATISTICS, Statistic, Times, text};
use super::json::Report;

/// A figure that is too large or too small: `p99>5ms`, `errors>0`, `rate<1000`.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    figure: Figure,
    comparison: Comparison,
    bound: f64,
}

/// Text that is no condition, or a condition that says nothing about the run it is meant for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It can't be read.
    #[error("`{text}` is no condition: {reason}")]
    Text {
        /// What was written.
        text: String,
        /// What was expected.
        reason: String,
    },
    /// It can be read, and whether it holds is known before the run.
    #[error("--fail-if '{condition}' {fate}: {reason}")]
    Pointless {
        /// The condition.
        condition: String,
        /// `can never hold` or `always holds`.
        fate: &'static str,
        /// Why that is so.
        reason: &'static str,
    },
}

/// The judgement of a run. The numbers are exit statuses of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was echoed, or over UDP was lost.
    Good,
    /// Connections failed, or nothing was received.
    Errors,
    /// No connection was ever established, or over UDP no message answered: refused.
    Refused,
    /// No connection was ever established, or over UDP no message answered: timed out.
    TimedOut,
    /// Other bytes came back than were sent.
    Mismatch,
    /// A condition that was to fail the run held; these are the reasons.
    Failed(Vec<String>),
}

/// What a condition compares.
#[derive(Clone, Copy, Debug)]
enum Figure {
    Time(&'static Distribution, &'static Statistic),
    Number(&'static Number),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// The runs in which a figure means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Always,
    OpenLoop,
    Streams,
    Datagrams,
    Messages,
    Compared,
}

/// Times: each of their [`STATISTICS`] can be compared.
#[derive(Debug)]
struct Distribution {
    prefix: &'static str,
    holds: Holds,
    of: fn(&Report) -> Option<Times>,
}

/// A figure that is no time.
#[derive(Debug)]
struct Number {
    name: &'static str,
    unit: &'static str,
    holds: Holds,
    /// The least and the most that it can be.
    range: (f64, f64),
    of: fn(&Report) -> f64,
}

const DISTRIBUTIONS: [Distribution; 4] = [
    Distribution { prefix: "", holds: Holds::Always, of: |report| report.latency_us },
    Distribution { prefix: "service_", holds: Holds::OpenLoop, of: |report| report.service_time_us },
    Distribution { prefix: "lag_", holds: Holds::OpenLoop, of: |report| report.generator.lag_us },
    Distribution { prefix: "connect_", holds: Holds::Streams, of: |report| report.connect_us },
];

const NUMBERS: [Number; 14] = [
    number("rate", Holds::Messages, |report| report.rate),
    number("received", Holds::Always, |report| report.messages.received as f64),
    number("errors", Holds::Always, |report| report.errors.total() as f64),
    number("mismatches", Holds::Compared, |report| report.errors.mismatch as f64),
    number("lost", Holds::Always, |report| match report.udp {
        Some(datagrams) => datagrams.lost as f64,
        None => report.connections.lost as f64,
    }),
    number("cut_off", Holds::Always, |report| report.messages.cut_off as f64),
    number("not_sent", Holds::OpenLoop, |report| report.messages.not_sent as f64),
    number("outages", Holds::Always, |report| report.outages.count as f64),
    Number {
        name: "outage",
        unit: "s",
        holds: Holds::Always,
        range: (0.0, f64::INFINITY),
        of: |report| report.outages.longest_s,
    },
    number("late", Holds::Datagrams, |report| report.udp.unwrap_or_default().late as f64),
    number("duplicated", Holds::Datagrams, |report| report.udp.unwrap_or_default().duplicated as f64),
    number("reordered", Holds::Datagrams, |report| report.udp.unwrap_or_default().reordered as f64),
    number("unknown", Holds::Datagrams, |report| report.udp.unwrap_or_default().unknown as f64),
    Number { name: "loss", unit: "%", holds: Holds::Datagrams, range: (0.0, 100.0), of: Report::loss },
];

const fn number(name: &'static str, holds: Holds, of: fn(&Report) -> f64) -> Number {
    Number { name, unit: "", holds, range: (0.0, f64::INFINITY), of }
}

impl Holds {
    /// Where it means something, as an addition to a name.
    fn place(self) -> &'static str {
        match self {
            Holds::Always => "",
            Holds::OpenLoop => " (with --rate)",
            Holds::Streams => " (not over UDP)",
            Holds::Datagrams => " (over UDP)",
            Holds::Messages => " (without --hold)",
            Holds::Compared => " (not with --expect any)",
        }
    }

    /// Why a figure means nothing in this run, if so.
    fn obstacle(self, plan: &Plan) -> Option<&'static str> {
        match self {
            Holds::OpenLoop if plan.rate().is_none() => Some("only an open loop (--rate) has this figure"),
            Holds::Streams if plan.is_over_udp() => Some("over UDP there are no connections to establish"),
            Holds::Datagrams if !plan.is_over_udp() => Some("only messages over udp:// can be lost or late"),
            Holds::Messages if plan.usage == Usage::Hold => {
                Some("connections that are held exchange two messages each, at no rate")
            }
            Holds::Compared if plan.replies == Replies::Any => {
                Some("where any bytes are a reply (--expect any), none can be wrong")
            }
            _ => None,
        }
    }
}

impl Figure {
    fn named(name: &str) -> Option<Figure> {
        if let Some(number) = NUMBERS.iter().find(|number| number.name == name) {
            return Some(Figure::Number(number));
        }
        DISTRIBUTIONS.iter().find_map(|distribution| {
            let rest = name.strip_prefix(distribution.prefix)?;
            let statistic = STATISTICS.iter().find(|statistic| statistic.name == rest)?;
            Some(Figure::Time(distribution, statistic))
        })
    }

    /// The value in microseconds, percent or pieces; a time that nothing was measured of is endless.
    fn of(self, report: &Report) -> f64 {
        match self {
            Figure::Time(distribution, statistic) => {
                (distribution.of)(report).map_or(f64::INFINITY, |times| (statistic.of)(&times))
            }
            Figure::Number(number) => (number.of)(report),
        }
    }

    fn holds(self) -> Holds {
        match self {
            Figure::Time(distribution, _) => distribution.holds,
            Figure::Number(number) => number.holds,
        }
    }

    /// The least and the most that it can be in a run of this plan, and why it can't be more.
    fn range(self, plan: &Plan) -> ((f64, f64), &'static str) {
        let Figure::Number(number) = self else { return ((0.0, f64::INFINITY), "no time is below nothing") };
        match (number.name, plan.messages, plan.pace) {
            ("rate", None, Pace::Open { rate, arrivals: Arrivals::Fixed }) => {
                ((0.0, rate), "an open loop never exceeds its --rate")
            }
            ("loss", ..) => (number.range, "a share is between 0% and 100%"),
            _ => (number.range, "no count is below 0"),
        }
    }

    fn read(self, value: &str) -> Result<f64, &'static str> {
        let (bound, expected) = match self {
            Figure::Time(..) => {
                let time = humantime::parse_duration(value).ok();
                (time.map(|time| time.as_secs_f64() * 1e6), "a time is expected, such as 5ms or 800us")
            }
            Figure::Number(Number { unit: "%", .. }) => {
                let share = value.strip_suffix('%').and_then(|number| number.trim().parse().ok());
                (share, "a share is expected, such as 0.1%")
            }
            Figure::Number(Number { unit: "s", .. }) => {
                let time = humantime::parse_duration(value).ok();
                (time.map(|time| time.as_secs_f64()), "a time is expected, such as 2s")
            }
            Figure::Number(_) => (value.parse().ok(), "a number is expected"),
        };
        bound.filter(|bound: &f64| bound.is_finite()).ok_or(expected)
    }
}

impl Comparison {
    const ALL: [(&str, Comparison); 4] = [
        // The longer ones first, since they begin like the others.
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        (">", Comparison::Above),
        ("<", Comparison::Below),
    ];

    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Comparison::Above => value > bound,
            Comparison::AtLeast => value >= bound,
            Comparison::Below => value < bound,
            Comparison::AtMost => value <= bound,
        }
    }
}

impl Condition {
    /// Everything that can be compared, in words, for `--help`.
    pub fn help() -> String {
        format!(
            "Exit with status 8 if this holds, such as p99>5ms, errors>0 or rate<1000; may be repeated. Compare by >, \
             >=, < or <=. {}",
            Condition::figures()
        )
    }

    /// The names of all figures.
    fn figures() -> String {
        let statistics: Vec<&str> = STATISTICS.iter().map(|statistic| statistic.name).collect();
        let mut text = format!("Times: {} of latency", statistics.join(" "));
        // Writing to a string can't fail.
        for Distribution { prefix, holds, .. } in DISTRIBUTIONS.iter().skip(1) {
            let _ = write!(text, ", {prefix}p99 and so on{}", holds.place());
        }
        text.push_str(". Numbers: ");
        for (place, Number { name, unit, holds, .. }) in NUMBERS.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let unit = if unit.is_empty() { String::new() } else { format!(" in {unit}") };
            let _ = write!(text, "{comma}{name}{unit}{}", holds.place());
        }
        text + ". `lost` counts connections, over UDP messages"
    }

    /// Refuses a condition whose answer is known before the run.
    ///
    /// # Errors
    /// Why it can never hold, or always does.
    pub fn check(&self, plan: &Plan) -> Result<(), ConditionError> {
        let pointless =
            |fate, reason| Err(ConditionError::Pointless { condition: self.text.clone(), fate, reason });
        if let Some(reason) = self.figure.holds().obstacle(plan) {
            return pointless("can never hold", reason);
        }
        let ((least, most), reason) = self.figure.range(plan);
        let (at_least, at_most) =
            (self.comparison.holds(least, self.bound), self.comparison.holds(most, self.bound));
        match (at_least, at_most) {
            (true, true) => pointless("always holds", reason),
            (false, false) => pointless("can never hold", reason),
            _ => Ok(()),
        }
    }

    /// The reason in words if the condition holds.
    pub fn violated(&self, report: &Report) -> Option<String> {
        let value = self.figure.of(report);
        self.comparison.holds(value, self.bound).then(|| {
            let value = match self.figure {
                _ if !value.is_finite() => "nothing was measured".into(),
                Figure::Time(..) => text(value),
                Figure::Number(Number { unit: "%", .. }) => format!("{value:.3}%"),
                Figure::Number(Number { unit: "s", .. }) => text(value * 1e6),
                Figure::Number(_) => format!("{value:.0}"),
            };
            format!("{}: it is {value}", self.text)
        })
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        let error = |reason: &str| ConditionError::Text { text: text.into(), reason: reason.into() };
        let place =
            text.find(['<', '>']).ok_or(error("write FIGURE>VALUE or FIGURE<VALUE, as in p99>5ms"))?;
        let (name, rest) = text.split_at(place);
        let found = Comparison::ALL
            .iter()
            .find_map(|(sign, comparison)| rest.strip_prefix(sign).map(|value| (*comparison, value.trim())));
        let (comparison, value) = found.ok_or(error("the comparisons are >, >=, < and <="))?;
        let figure = Figure::named(name.trim())
            .ok_or_else(|| error(&format!("no such figure. {}", Condition::figures())))?;
        let bound = figure.read(value).map_err(error)?;
        Ok(Condition { text: text.into(), figure, comparison, bound })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Verdict {
    /// Judges a run: a mismatch is worst, then not having connected at all, then the conditions, then other errors.
    pub fn of(report: &Report, conditions: &[Condition]) -> Verdict {
        if report.errors.mismatch > 0 {
            return Verdict::Mismatch;
        }
        // A datagram socket is open whether or not there is anybody: only an answer tells.
        let nobody = match report.udp {
            Some(_) => report.messages.received == 0,
            None => report.connections.opened == 0,
        };
        if nobody && report.errors.refused > 0 {
            return Verdict::Refused;
        }
        let all_lost = report.udp.is_some_and(|udp| udp.lost + udp.late > 0);
        if nobody && (report.errors.timeout > 0 || all_lost) {
            return Verdict::TimedOut;
        }
        let reasons: Vec<String> =
            conditions.iter().filter_map(|condition| condition.violated(report)).collect();
        if !reasons.is_empty() {
            return Verdict::Failed(reasons);
        }
        // A run that received nothing proved nothing, whatever ended it.
        let is_good = report.errors.total() == 0 && report.messages.received > 0;
        if is_good { Verdict::Good } else { Verdict::Errors }
    }

    /// The exit status that stands for it.
    pub fn status(&self) -> u8 {
        match self {
            Verdict::Good => 0,
            Verdict::Errors => 1,
            Verdict::Refused => 4,
            Verdict::TimedOut => 5,
            Verdict::Mismatch => 7,
            Verdict::Failed(_) => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;

    fn condition(text: &str) -> Condition {
        text.parse().expect("a condition")
    }

    #[test]
    fn conditions_are_read_with_their_units() {
        for (text, comparison, bound) in [
            ("p99>5ms", Comparison::Above, 5000.0),
            ("service_p95 >= 1s", Comparison::AtLeast, 1e6),
            ("rate < 1e5", Comparison::Below, 1e5),
            ("loss<=0.5 %", Comparison::AtMost, 0.5),
        ] {
            let condition = condition(text);
            assert_eq!((condition.comparison, condition.bound), (comparison, bound), "{text}");
        }
        for nonsense in [
            "",
            "p99",
            "p98>1ms",
            "p99>5",
            "errors>many",
            "errors>1ms",
            "rate>inf",
            "loss>1",
            "late>1%",
            "p99=>1s",
            "service_errors>0",
            "p99><1s",
        ] {
            assert!(nonsense.parse::<Condition>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn help_names_all_figures_and_all_of_them_can_be_read() {
        let help = Condition::help();
        for statistic in STATISTICS {
            assert!(help.contains(statistic.name), "{} is not in {help}", statistic.name);
            for distribution in &DISTRIBUTIONS {
                assert!(help.contains(distribution.prefix), "{help}");
                condition(&format!("{}{}>1s", distribution.prefix, statistic.name));
            }
        }
        for Number { name, unit, .. } in &NUMBERS {
            assert!(help.contains(name), "{name} is not in {help}");
            condition(&format!("{name}>1{unit}"));
        }
    }

    #[test]
    fn what_is_known_before_the_run_is_refused_with_the_reason() {
        let plan = |endpoint: &str| Plan::new(vec![endpoint.parse::<Endpoint>().expect("an endpoint")]);
        let closed = plan("localhost:7");
        let open = |arrivals| Plan { pace: Pace::Open { rate: 1000.0, arrivals }, ..closed.clone() };
        let counted = Plan { messages: Some(50), ..closed.clone() };
        let held = Plan { usage: Usage::Hold, ..closed.clone() };
        let any = Plan { replies: Replies::Any, verify: false, ..closed.clone() };
        for (plan, text, part) in [
            (&closed, "not_sent>0", "can never hold: only an open loop"),
            (&closed, "service_p99>1s", "can never hold"),
            (&closed, "loss>1%", "can never hold: only messages over udp://"),
            (&closed, "errors<0", "can never hold: no count is below 0"),
            (&closed, "errors>=0", "always holds"),
            (&open(Arrivals::Fixed), "rate>1000", "can never hold: an open loop never exceeds"),
            (&open(Arrivals::Fixed), "rate<=1000", "always holds"),
            (&held, "rate<1", "can never hold"),
            (&any, "mismatches>0", "can never hold: where any bytes are a reply"),
            (&plan("udp://localhost:7"), "connect_p99>1s", "can never hold: over UDP"),
            (&plan("udp://localhost:7"), "loss>100%", "can never hold: a share"),
        ] {
            let error = condition(text).check(plan).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains(part), "{error}");
        }
        for (plan, text) in [
            (&closed, "p99>5ms"),
            (&closed, "rate<1000"),
            (&closed, "lost>0"),
            (&open(Arrivals::Fixed), "rate<1000"),
            (&open(Arrivals::Poisson), "rate>1000"),
            (&open(Arrivals::Fixed), "lag_max>=1ms"),
            (&counted, "received<50"),
            (&held, "connect_max>1s"),
        ] {
            assert_eq!(condition(text).check(plan), Ok(()), "{text}");
        }
    }
}
