//! The result of a search for a rate: its end, its steps as a table and as a picture.

use std::fmt;

use serde::Serialize;

use super::report::{Area, LINE, Line, PlotError, Report, SECOND_LINE, logarithmic, picture};
use super::step::{SearchPart, SearchStep};
use super::times::text;

/// The picture, in pixels.
const SIZE: (u32, u32) = (900, 450);

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchEnding {
    /// The best rate was confirmed.
    Found,
    /// The generator was late, so nothing is known of the server beyond the best rate.
    GeneratorLate,
    /// A condition holds at any rate.
    NoneIsGood,
    /// No server is there: no connection was established, or over UDP every message was refused.
    Unreachable,
    /// A signal ended the search: the best rate so far is not confirmed.
    Interrupted,
    /// The best rate was never confirmed: results near it change from step to step.
    Unsteady,
}

/// The result of a search.
#[derive(Clone, Debug, Serialize)]
pub struct FoundRate {
    /// The version of the format, as in each report.
    pub version: u32,
    /// How it ended.
    pub ending: SearchEnding,
    /// The highest rate at which no condition held; 0 if there was none.
    pub rate: f64,
    /// The lowest rate that failed, if one did.
    pub failing: Option<f64>,
    /// All steps in their order.
    pub steps: Vec<SearchStep>,
    #[serde(skip)]
    pub(super) title: String,
}

impl SearchEnding {
    /// The ending in words, with a remedy.
    fn words(self) -> &'static str {
        match self {
            SearchEnding::Found => "confirmed by three windows",
            SearchEnding::GeneratorLate => {
                "no answer: the generator was late, so this only says that the server takes that much (give the \
                 generator a core of its own, or several --processes)"
            }
            SearchEnding::NoneIsGood => "a condition held at every rate",
            SearchEnding::Unreachable => "no answer: nobody is there",
            SearchEnding::Interrupted => "the best so far, not confirmed: a signal ended the search",
            SearchEnding::Unsteady => {
                "not confirmed: near this rate results change from step to step (try a longer --step)"
            }
        }
    }
}

impl FoundRate {
    /// Draws the percentiles over the rate, as SVG.
    ///
    /// # Errors
    /// When there is something that can't be drawn.
    pub fn plot(&self) -> Result<String, PlotError> {
        let mut steps: Vec<&SearchStep> = self.steps.iter().collect();
        steps.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        let path = |of: fn(&Report) -> Option<f64>| {
            vec![steps.iter().filter_map(|step| Some((step.rate, of(&step.report)?))).collect()]
        };
        let lines = [
            Line { name: "p50", paths: path(|report| Some(report.latency_us?.p50)), colour: LINE },
            Line { name: "p99", paths: path(|report| Some(report.latency_us?.p99)), colour: SECOND_LINE },
        ];
        let best = steps.iter().find(|step| step.rate == self.rate);
        let mark = best.and_then(|step| Some((step.rate, step.report.latency_us?.p99)));
        let marks: Vec<_> = mark.into_iter().map(|point| (point, format!("{:.0} /s", self.rate))).collect();
        let draw = |area: &Area<'_>| {
            logarithmic(
                area,
                "latency over messages a second",
                &lines,
                (&|rate| format!("{rate:.0}"), &text),
                &marks,
            )
        };
        picture(&self.title, SIZE, &[&draw])
    }
}

impl fmt::Display for FoundRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        writeln!(
            f,
            "  {:<8}{:>12}{:>12}{:>10}{:>10}{:>10}",
            "step", "asked /s", "reached /s", "p50", "p99", "lag p99"
        )?;
        for step in &self.steps {
            let part = match step.part {
                SearchPart::Double => "double",
                SearchPart::Climb => "climb",
                SearchPart::Bisect => "bisect",
                SearchPart::Confirm => "confirm",
            };
            let report = &step.report;
            let latency = report.latency_us;
            let time = |time: Option<f64>| time.map_or("-".into(), text);
            write!(f, "  {part:<8}{:>12.0}{:>12.0}", step.rate, report.rate)?;
            write!(f, "{:>10}", time(latency.map(|times| times.p50)))?;
            write!(f, "{:>10}", time(latency.map(|times| times.p99)))?;
            write!(f, "{:>10}", time(report.generator.lag_us.map(|times| times.p99)))?;
            let verdict = match (step.generator_late, step.failed.is_empty()) {
                (true, _) => "the generator was late".into(),
                (false, true) => "good".into(),
                (false, false) => step.failed.join(", "),
            };
            writeln!(f, "  {verdict}")?;
        }
        write!(f, "\n  {:.0} messages/s: {}", self.rate, self.ending.words())?;
        match self.failing {
            Some(failing) if self.ending == SearchEnding::Found => {
                writeln!(f, ", and by {failing:.0} failing again")
            }
            _ => writeln!(f),
        }
    }
}
