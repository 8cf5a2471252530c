//! `--fail-if`: conditions on the figures, for automated runs.

use std::fmt;
use std::str::FromStr;

use super::report::Report;

/// A figure that is too large or too small: `p99>5ms`, `errors>0`, `rate<1000`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    figure: Figure,
    above: bool,
    bound: f64,
}

/// What can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Min,
    Mean,
    P50,
    P90,
    P99,
    P99_9,
    P99_99,
    Max,
    LagP99,
    ConnectP99,
    Rate,
    Errors,
    Mismatches,
    Lost,
    CutOff,
    NotSent,
    Received,
    Loss,
    Late,
    Duplicated,
    Reordered,
}

/// Text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no condition: {reason}")]
pub struct ConditionError {
    text: String,
    reason: &'static str,
}

const FIGURES: [(&str, Figure); 21] = [
    ("min", Figure::Min),
    ("mean", Figure::Mean),
    ("p50", Figure::P50),
    ("p90", Figure::P90),
    ("p99", Figure::P99),
    ("p99.9", Figure::P99_9),
    ("p99.99", Figure::P99_99),
    ("max", Figure::Max),
    ("lag_p99", Figure::LagP99),
    ("connect_p99", Figure::ConnectP99),
    ("rate", Figure::Rate),
    ("errors", Figure::Errors),
    ("mismatches", Figure::Mismatches),
    ("lost", Figure::Lost),
    ("cut_off", Figure::CutOff),
    ("not_sent", Figure::NotSent),
    ("received", Figure::Received),
    ("loss", Figure::Loss),
    ("late", Figure::Late),
    ("duplicated", Figure::Duplicated),
    ("reordered", Figure::Reordered),
];

impl Figure {
    /// A time is given with its unit.
    fn is_time(self) -> bool {
        use Figure::{ConnectP99, LagP99, Max, Mean, Min, P50, P90, P99, P99_9, P99_99};
        matches!(self, Min | Mean | P50 | P90 | P99 | P99_9 | P99_99 | Max | LagP99 | ConnectP99)
    }

    /// The value in microseconds, percent or pieces; a time that nothing was measured of is endless.
    fn of(self, report: &Report) -> f64 {
        let latency =
            |value: fn(&super::report::Times) -> f64| report.latency_us.as_ref().map_or(f64::INFINITY, value);
        let datagrams = report.udp.unwrap_or_default();
        match self {
            Figure::Min => latency(|times| times.min),
            Figure::Mean => latency(|times| times.mean),
            Figure::P50 => latency(|times| times.p50),
            Figure::P90 => latency(|times| times.p90),
            Figure::P99 => latency(|times| times.p99),
            Figure::P99_9 => latency(|times| times.p99_9),
            Figure::P99_99 => latency(|times| times.p99_99),
            Figure::Max => latency(|times| times.max),
            Figure::LagP99 => report.generator.lag_us.p99,
            Figure::ConnectP99 => report.connect_us.as_ref().map_or(f64::INFINITY, |times| times.p99),
            Figure::Rate => report.rate,
            Figure::Errors => report.errors.total() as f64,
            Figure::Mismatches => report.errors.mismatch as f64,
            Figure::Lost => report.udp.map_or(report.connections.lost, |udp| udp.lost) as f64,
            Figure::CutOff => report.messages.cut_off as f64,
            Figure::NotSent => report.messages.not_sent as f64,
            Figure::Received => report.messages.received as f64,
            Figure::Loss => report.loss(),
            Figure::Late => datagrams.late as f64,
            Figure::Duplicated => datagrams.duplicated as f64,
            Figure::Reordered => datagrams.reordered as f64,
        }
    }
}

impl Condition {
    /// Says what is wrong if the condition holds.
    pub fn violated(&self, report: &Report) -> Option<String> {
        let value = self.figure.of(report);
        let holds = if self.above { value > self.bound } else { value < self.bound };
        holds.then(|| {
            let value = match (self.figure.is_time(), value.is_finite()) {
                (_, false) => "nothing was measured".into(),
                _ if self.figure == Figure::Loss => format!("{value:.3}%"),
                (true, true) => super::table::time(value),
                (false, true) => format!("{value:.0}"),
            };
            format!("{}: it is {value}", self.text)
        })
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        let error = |reason| ConditionError { text: text.into(), reason };
        let place =
            text.find(['<', '>']).ok_or(error("write FIGURE>VALUE or FIGURE<VALUE, as in p99>5ms"))?;
        let (name, value) = (text[..place].trim(), text[place + 1..].trim());
        let &(_, figure) = FIGURES.iter().find(|(known, _)| *known == name).ok_or(error(
            "the figures are min, mean, p50, p90, p99, p99.9, p99.99, max, lag_p99, connect_p99, rate, errors, \
             mismatches, lost, cut_off, not_sent, received; over UDP also loss, late, duplicated and reordered",
        ))?;
        let bound = if figure.is_time() {
            let time = humantime::parse_duration(value)
                .map_err(|_| error("a time is expected, such as 5ms or 800us"))?;
            time.as_secs_f64() * 1e6
        } else if figure == Figure::Loss {
            let share = value.strip_suffix('%').and_then(|number| number.trim().parse().ok());
            share.filter(|bound: &f64| bound.is_finite()).ok_or(error("a share is expected, such as 0.1%"))?
        } else {
            value.parse().ok().filter(|bound: &f64| bound.is_finite()).ok_or(error("a number is expected"))?
        };
        Ok(Condition { text: text.into(), figure, above: text[place..].starts_with('>'), bound })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_with_their_units() {
        let condition: Condition = "p99>5ms".parse().expect("a condition");
        assert_eq!((condition.figure, condition.above, condition.bound), (Figure::P99, true, 5000.0));
        let condition: Condition = "rate < 1e5".parse().expect("a condition");
        assert_eq!((condition.figure, condition.above, condition.bound), (Figure::Rate, false, 1e5));
        for (name, _) in FIGURES {
            assert!(
                ["1s", "1", "1%"].iter().any(|value| format!("{name}>{value}").parse::<Condition>().is_ok()),
                "{name}"
            );
        }
        for nonsense in
            ["", "p99", "p98>1ms", "p99>5", "errors>many", "errors>1ms", "rate>inf", "loss>1", "late>1%"]
        {
            assert!(nonsense.parse::<Condition>().is_err(), "{nonsense}");
        }
    }
}
