//! `--fail-if`: conditions on the figures, for automated runs.

use std::fmt;
use std::str::FromStr;

use super::super::plan::Plan;
use super::json::Report;
use super::measures::Measure;

/// A figure that is too large or too small: `p99>5ms`, `errors>0`, `rate<1000`.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    measure: Measure,
    comparison: Comparison,
    bound: f64,
}

/// Text that is no condition, or a condition that says nothing about its run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// The text can't be read as a condition.
    #[error("`{text}` is no condition: {reason}")]
    Text {
        /// The text.
        text: String,
        /// The form that was expected.
        reason: String,
    },
    /// The condition can be read, but its answer is known before the run.
    #[error("--fail-if '{condition}' {fate}: {reason}")]
    Pointless {
        /// The condition.
        condition: String,
        /// `can never hold` or `always holds`.
        fate: &'static str,
        /// The reason.
        reason: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
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
            Measure::names()
        )
    }

    /// Refuses a condition whose answer is known before the run.
    ///
    /// # Errors
    /// When the condition can never hold, or always holds.
    pub fn check(&self, plan: &Plan) -> Result<(), ConditionError> {
        let pointless =
            |fate, reason| Err(ConditionError::Pointless { condition: self.text.clone(), fate, reason });
        if let Some(reason) = self.measure.obstacle(plan) {
            return pointless("can never hold", reason);
        }
        let (most, reason) = self.measure.ceiling(plan);
        let reason = if self.bound <= 0.0 { self.measure.floor() } else { reason };
        match (self.comparison.holds(0.0, self.bound), self.comparison.holds(most, self.bound)) {
            (true, true) => pointless("always holds", reason),
            (false, false) => pointless("can never hold", reason),
            _ => Ok(()),
        }
    }

    /// The reason in words if the condition holds.
    pub fn violated(&self, report: &Report) -> Option<String> {
        let value = self.measure.of(report);
        self.comparison
            .holds(value, self.bound)
            .then(|| format!("{}: it is {}", self.text, self.measure.show(value)))
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
        let measure = Measure::named(name.trim())
            .ok_or_else(|| error(&format!("no such figure. {}", Measure::names())))?;
        let bound = measure.read(value).map_err(error)?;
        Ok(Condition { text: text.into(), measure, comparison, bound })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::plan::{Arrivals, Pace, Usage};
    use super::super::super::replies::Replies;
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
            (
                &Plan { messages: Some(50), ..open(Arrivals::Fixed) },
                "not_sent>0",
                "waits until all of them are sent",
            ),
            (&counted, "received>=0", "always holds: no count is below 0"),
            (
                &plan("udp://localhost:7"),
                "reordered>0",
                "can never hold: each client has one message under way",
            ),
            (&any, "mismatches>0", "can never hold: where any bytes are a reply"),
            (&plan("udp://localhost:7"), "connect_p99>1s", "can never hold: over UDP"),
            (&plan("udp://localhost:7"), "loss>100%", "can never hold: no share is above 100%"),
        ] {
            let error = condition(text).check(plan).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains(part), "{error}");
        }
        for (plan, text) in [
            (&closed, "p99>5ms"),
            (&closed, "rate<1000"),
            (&closed, "lost>0"),
            (&open(Arrivals::Fixed), "rate<1000"),
            (&Plan { duration: Duration::from_micros(1_500_500), ..open(Arrivals::Fixed) }, "rate>1000"),
            (&open(Arrivals::Poisson), "rate>1000"),
            (&open(Arrivals::Fixed), "lag_max>=1ms"),
            (&counted, "received<50"),
            (&Plan { depth: 2, ..plan("udp://localhost:7") }, "reordered>0"),
            (&held, "connect_max>1s"),
        ] {
            assert_eq!(condition(text).check(plan), Ok(()), "{text}");
        }
    }
}
