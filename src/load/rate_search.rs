//! `--find-rate`: the highest rate at which no condition holds.
//!
//! ```text
//!   double      from the first rate until a condition holds (or halve, if it does at once)
//!   bisect      between the best rate and the lowest that failed, until they are close enough
//!   confirm     three windows at the best rate pass, and the step above fails once more
//! ```
//!
//! Connections stay open from step to step, and each step settles before it is measured. Where the generator itself was
//! late, a condition that held says nothing about the server: the step is repeated, and if the generator is late again
//! and again, the search ends without an answer. A step in which no condition held counts all the same.

use std::fmt;

use serde::Serialize;

use super::plan::Plan;
use super::report::{
    Area, Condition, FORMAT_VERSION, LINE, Line, PlotError, Report, SECOND_LINE, Verdict, logarithmic,
    picture,
};
use super::times::text;

/// Windows that the answer has to pass at the end.
const WINDOWS: u32 = 3;
/// The most steps. Bisecting to a thousandth takes half of them.
const MOST_STEPS: usize = 60;
/// How often a step is tried in which the generator is late.
const ATTEMPTS: u32 = 3;
/// Below this rate no answer is looked for.
const LOWEST: f64 = 1.0;
/// A plan takes no higher rate.
const HIGHEST: f64 = 1e9;
/// The picture, in pixels.
const SIZE: (u32, u32) = (900, 450);

/// How a rate is searched for.
#[derive(Clone, Debug)]
pub struct RateSearch {
    /// The plan of each step but for its rate; its own rate is the first to be tried.
    pub plan: Plan,
    /// A rate is too high if one of them holds.
    pub conditions: Vec<Condition>,
    /// How close the best rate and the lowest failing one have to be, as a share of the best.
    pub precision: f64,
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
    /// Its results.
    pub report: Report,
}

/// The parts of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchPart {
    /// Twice or half the rate before.
    Double,
    /// Between a good and a failing rate.
    Bisect,
    /// At the rate that is to be the answer, or just above it.
    Confirm,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchEnding {
    /// The best rate was confirmed.
    Found,
    /// The generator was late, so that nothing is known of the server beyond the best rate.
    GeneratorLate,
    /// A condition holds at any rate.
    NoneIsGood,
    /// Nobody is there: no connection was established, or over UDP every message refused.
    Unreachable,
    /// A signal ended it: the best rate so far is not confirmed.
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
    /// All steps in their order.
    pub steps: Vec<SearchStep>,
    #[serde(skip)]
    title: String,
}

/// The steps so far, and what they say.
struct Search<R> {
    settings: RateSearch,
    run: R,
    steps: Vec<SearchStep>,
    /// The highest rate that passed, and the lowest that failed.
    best: f64,
    failing: Option<f64>,
}

/// Why a search goes no further.
enum Stop<E> {
    Ended(SearchEnding),
    Failed(E),
}

impl RateSearch {
    /// The conditions that a rate has to meet if nothing else is asked for.
    pub fn usual_conditions() -> Vec<Condition> {
        ["p99>10ms", "errors>0", "not_sent>0"].iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Searches. `run` carries out one step at a rate; it may end it early, which ends the search.
    ///
    /// # Errors
    /// When a run does not take place.
    pub fn find<E>(self, run: impl FnMut(f64) -> Result<Report, E>) -> Result<FoundRate, E> {
        let first = self.plan.rate().unwrap_or(1000.0);
        let mut search = Search { settings: self, run, steps: Vec::new(), best: 0.0, failing: None };
        let ending = match search.go(first) {
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Ended(ending)) => ending,
            Ok(()) => SearchEnding::Found,
        };
        let title = search.title();
        let rate = if ending == SearchEnding::Found { search.best } else { search.best_so_far() };
        Ok(FoundRate { version: FORMAT_VERSION, ending, rate, steps: search.steps, title })
    }
}

impl<E, R: FnMut(f64) -> Result<Report, E>> Search<R> {
    fn go(&mut self, first: f64) -> Result<(), Stop<E>> {
        self.double(first)?;
        loop {
            self.bisect()?;
            if self.confirm()? {
                return Ok(());
            }
        }
    }

    fn double(&mut self, first: f64) -> Result<(), Stop<E>> {
        let mut rate = first;
        while self.best == 0.0 || self.failing.is_none() {
            if self.step(SearchPart::Double, rate)? {
                rate = (rate * 2.0).min(HIGHEST);
            } else if rate <= LOWEST {
                return Err(Stop::Ended(SearchEnding::NoneIsGood));
            } else if self.best == 0.0 {
                rate = (rate / 2.0).max(LOWEST);
            }
        }
        Ok(())
    }

    fn bisect(&mut self) -> Result<(), Stop<E>> {
        while let Some(failing) =
            self.failing.filter(|failing| failing / self.best > 1.0 + self.settings.precision)
        {
            self.step(SearchPart::Bisect, (self.best + failing) / 2.0)?;
        }
        Ok(())
    }

    /// Whether the best rate passes again, and the step above fails again. Otherwise they give the new best, or the new
    /// lowest rate that fails.
    fn confirm(&mut self) -> Result<bool, Stop<E>> {
        let answer = self.best;
        for _ in 0..WINDOWS {
            if !self.step(SearchPart::Confirm, answer)? {
                self.best = self
                    .steps
                    .iter()
                    .filter(|step| step.failed.is_empty() && step.rate < answer)
                    .map(|step| step.rate)
                    .fold(answer / (1.0 + self.settings.precision).powi(2), f64::max);
                return Ok(false);
            }
        }
        let above = self.failing.unwrap_or(answer * (1.0 + self.settings.precision));
        if self.step(SearchPart::Confirm, above)? {
            self.failing = Some(above * (1.0 + self.settings.precision).powi(2));
            return Ok(false);
        }
        Ok(true)
    }

    /// Runs a step, again if it says nothing of the server: the generator was late, perhaps for a hiccup of this machine.
    /// True if no condition held.
    fn step(&mut self, part: SearchPart, rate: f64) -> Result<bool, Stop<E>> {
        for _ in 0..ATTEMPTS {
            let (good, late) = self.attempt(part, rate)?;
            if late {
                continue;
            }
            if good {
                self.best = self.best.max(rate);
            } else {
                self.failing = Some(self.failing.map_or(rate, |failing| failing.min(rate)));
            }
            return Ok(good);
        }
        Err(Stop::Ended(SearchEnding::GeneratorLate))
    }

    /// Whether no condition held, and whether the generator was too late for that to count.
    fn attempt(&mut self, part: SearchPart, rate: f64) -> Result<(bool, bool), Stop<E>> {
        if self.steps.len() >= MOST_STEPS {
            return Err(Stop::Ended(SearchEnding::Unsteady));
        }
        let report = (self.run)(rate).map_err(Stop::Failed)?;
        let conditions = self.settings.conditions.iter();
        let failed: Vec<String> = conditions.filter_map(|condition| condition.violated(&report)).collect();
        let step = SearchStep { part, rate, failed, report };
        let (good, late, report) = (step.failed.is_empty(), step.is_void(), &step.report);
        let interrupted = report.interrupted;
        // Over UDP, a server that loses everything may only be slow.
        let is_nobody_there = match Verdict::of(report, &[]) {
            Verdict::Refused => true,
            Verdict::TimedOut => report.udp.is_none(),
            _ => false,
        };
        self.steps.push(step);
        if interrupted {
            return Err(Stop::Ended(SearchEnding::Interrupted));
        }
        if is_nobody_there && self.best == 0.0 {
            return Err(Stop::Ended(SearchEnding::Unreachable));
        }
        Ok((good, late))
    }

    /// The highest rate that passed and did not fail as well, nor any below it.
    fn best_so_far(&self) -> f64 {
        let is_failed = |step: &&SearchStep| !step.failed.is_empty() && !step.is_void();
        let failed = self.steps.iter().filter(is_failed).map(|step| step.rate);
        let lowest = failed.fold(f64::INFINITY, f64::min);
        let good = self
            .steps
            .iter()
            .filter(|step| step.failed.is_empty() && !step.report.interrupted && !step.is_void());
        good.map(|step| step.rate).filter(|rate| *rate < lowest).fold(0.0, f64::max)
    }

    fn title(&self) -> String {
        let conditions: Vec<String> = self.settings.conditions.iter().map(ToString::to_string).collect();
        format!("the highest rate without {}", conditions.join(", "))
    }
}

impl SearchStep {
    /// Whether the step says nothing of the server, because the generator was late. One that sent everything and saw no
    /// condition hold has said enough: latencies count from the intended times, so lateness only makes them worse.
    fn is_void(&self) -> bool {
        let passed = self.failed.is_empty() && self.report.messages.not_sent == 0;
        self.report.generator.bottleneck && !passed
    }
}

impl SearchEnding {
    /// Its meaning in words, with a remedy.
    fn words(self) -> &'static str {
        match self {
            SearchEnding::Found => "confirmed by three windows, and by the step above failing again",
            SearchEnding::GeneratorLate => {
                "no answer: the generator was late, so this only says that the server takes that much (give the \
                 generator a core of its own, or several --processes)"
            }
            SearchEnding::NoneIsGood => "a condition held at every rate",
            SearchEnding::Unreachable => "no answer: nobody is there",
            SearchEnding::Interrupted => "the best so far, not confirmed: the search was ended by a signal",
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
            let verdict = match (step.is_void(), step.failed.is_empty()) {
                (true, _) => "the generator was late".into(),
                (false, true) => "good".into(),
                (false, false) => step.failed.join(", "),
            };
            writeln!(f, "  {verdict}")?;
        }
        writeln!(f, "\n  {:.0} messages/s: {}", self.rate, self.ending.words())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::figures::Figures;
    use super::super::plan::{Arrivals, Pace};
    use super::*;
    use crate::reactor::Moment;

    /// A report of a second at the rate of the plan: every message took so long.
    fn report(plan: &Plan, latency: Duration, lag: Duration) -> Report {
        let from = Moment::now();
        let mut figures = Figures::new(true, from);
        figures.begin(from);
        for _ in 0..100 {
            figures.sending(10, from, lag);
            figures.completed(10, from, from, from + latency);
        }
        figures.end_interval(from + Duration::from_secs(1));
        figures.ended = Some((from + Duration::from_secs(1), 100));
        Report::new(plan.clone(), figures)
    }

    fn search(first: f64, mut run: impl FnMut(f64, usize) -> (u64, u64)) -> FoundRate {
        let plan = Plan::new(vec![":7".parse().expect("an endpoint")]);
        let plan = Plan { pace: Pace::Open { rate: first, arrivals: Arrivals::Fixed }, ..plan };
        let at = |rate| plan.at_rate(rate).expect("a rate");
        let search =
            RateSearch { plan: at(first), conditions: RateSearch::usual_conditions(), precision: 0.02 };
        let mut steps = 0;
        let found = search.find(|rate| {
            steps += 1;
            let (latency, lag) = run(rate, steps);
            Ok::<_, std::convert::Infallible>(report(
                &at(rate),
                Duration::from_millis(latency),
                Duration::from_millis(lag),
            ))
        });
        found.expect("each run takes place")
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for (first, limit) in [(1000.0, 33_333.0), (1000.0, 70.0), (5.0, 1_000_000.0), (800.0, 801.0)] {
            let found = search(first, |rate, _| (if rate <= limit { 1 } else { 500 }, 0));
            assert_eq!(found.ending, SearchEnding::Found, "{found}");
            assert!(found.rate <= limit && found.rate >= limit / 1.021, "{limit}: {found}");
            let confirmed =
                found.steps.iter().filter(|step| step.part == SearchPart::Confirm && step.failed.is_empty());
            assert_eq!(confirmed.count(), 3, "{found}");
            assert!(!found.steps.last().expect("the step above").failed.is_empty(), "{found}");
        }
    }

    #[test]
    fn no_answer_where_the_generator_was_late_or_no_rate_is_good() {
        let found = search(1000.0, |rate, _| if rate > 5000.0 { (50, 50) } else { (1, 0) });
        assert_eq!((found.ending, found.rate), (SearchEnding::GeneratorLate, 4000.0), "{found}");
        assert!(found.to_string().contains("no answer: the generator was late"), "{found}");
        let late = found.steps.iter().filter(|step| step.report.generator.bottleneck).count();
        assert_eq!(late, ATTEMPTS as usize, "{found}");
        let found =
            search(1000.0, |rate, _| (if rate <= 5000.0 { 1 } else { 50 }, u64::from(rate <= 5000.0) * 5));
        assert_eq!(found.ending, SearchEnding::Found, "late, and good all the same: {found}");
        let hiccup =
            search(
                1000.0,
                |rate, step| if step == 3 { (50, 50) } else { (if rate <= 5000.0 { 1 } else { 50 }, 0) },
            );
        assert_eq!(hiccup.ending, SearchEnding::Found, "{hiccup}");
        let found = search(1000.0, |_, _| (500, 0));
        assert_eq!((found.ending, found.rate), (SearchEnding::NoneIsGood, 0.0), "{found}");
    }

    #[test]
    fn a_limit_that_moves_ends_the_search_without_an_answer() {
        // Good until it is to be confirmed, and never again below that.
        let found = search(1000.0, |rate, step| (if step % 3 == 0 || rate > 9000.0 { 500 } else { 1 }, 0));
        assert!(matches!(found.ending, SearchEnding::Unsteady), "{found}");
        assert_eq!(found.steps.len(), MOST_STEPS);
    }

    #[test]
    fn the_picture_and_the_json_hold_all_steps() {
        let found = search(1000.0, |rate, _| (if rate <= 3000.0 { 1 } else { 500 }, 0));
        assert!(found.plot().expect("it can be drawn").contains("<polyline"));
        let json = serde_json::to_value(&found).expect("JSON");
        assert_eq!(json["ending"], "found");
        assert_eq!(json["steps"].as_array().map(Vec::len), Some(found.steps.len()));
        assert_eq!(json["steps"][0]["part"], "double");
    }
}
