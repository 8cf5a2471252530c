//! `--find-rate`: the highest rate at which no condition holds.
//!
//! ```text
//!   double      from the first rate until a condition holds (or halve, if it does at once)
//!   bisect      between the best rate and the lowest that failed, until they are close enough
//!   confirm     three windows at the best rate pass, and the step above fails once more; if it passes, climb from there
//! ```
//!
//! Connections stay open from step to step, and each step settles before it is measured.
//!
//! A machine that stands still for some milliseconds must not decide. So a rate that is close to the answer fails only if
//! two steps fail, the second twice as long as the first: the queue of a server that can't keep up grows with the step,
//! and a pause does not. Where the generator itself was late, a condition that held counts if it would have held without
//! any delay of the generator's, see `step.rs`. Otherwise the step says nothing of the server and is repeated, a
//! bounded number of times, and then the search ends without an answer. A step in which no condition held counts in any
//! case, since lateness only makes latencies worse.

use std::time::Duration;

use super::found_rate::{FoundRate, SearchEnding};
use super::plan::Plan;
use super::report::{Condition, FORMAT_VERSION, Report, Verdict};
use super::step::{SearchPart, SearchStep, StepPlan};

/// Windows that the best rate has to pass at the end.
const WINDOWS: u32 = 3;
/// The most steps. Bisecting to a thousandth takes a quarter of them.
const MOST_STEPS: usize = 100;
/// The most attempts at a step while the generator is late. Chance may make it late, unless its own work takes too
/// long.
const ATTEMPTS: usize = 10;
const ATTEMPTS_BEHIND: usize = 3;
/// Where closer steps pass and fail by chance, or the generator is too late for them, the answer may be as coarse as this.
/// The result names the rate that fails above it.
const COARSEST: f64 = 0.05;
/// A step lasts until this many messages were due, so that its 99th percentile is not its maximum; but not more than
/// [`LONGEST`] times as long as asked.
const FEWEST_MESSAGES: f64 = 300.0;
const LONGEST: u32 = 4;
/// The search tries no lower rate.
const LOWEST: f64 = 1.0;
/// A plan takes no higher rate.
const HIGHEST: f64 = 1e9;
/// The settings of a search for a rate.
#[derive(Clone, Debug)]
pub struct RateSearch {
    /// The plan of each step but for its rate; its own rate is the first to be tried.
    pub plan: Plan,
    /// The conditions. A rate is too high if any of them holds.
    pub conditions: Vec<Condition>,
    /// How close the best rate and the lowest failing one have to be, as a share of the best.
    pub precision: f64,
}

/// The steps so far, and what they say.
struct Search<R> {
    settings: RateSearch,
    run: R,
    steps: Vec<SearchStep>,
    /// The highest rate that passed, and the lowest that failed.
    best: f64,
    failing: Option<f64>,
    /// The highest rate that passed in all windows.
    confirmed: f64,
}

/// The reason why a search goes no further.
enum Stop<E> {
    Ended(SearchEnding),
    Failed(E),
}

impl RateSearch {
    /// The conditions that make a rate too high, unless the user names others.
    pub fn usual_conditions() -> Vec<Condition> {
        ["p99>10ms", "errors>0", "not_sent>0"].iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Searches. `run` carries out one step. An interrupt that ends a step early ends the search.
    ///
    /// # Errors
    /// When a run does not take place.
    pub fn find<E>(self, run: impl FnMut(StepPlan) -> Result<Report, E>) -> Result<FoundRate, E> {
        let first = self.plan.rate().unwrap_or(1000.0);
        let mut search =
            Search { settings: self, run, steps: Vec::new(), best: 0.0, failing: None, confirmed: 0.0 };
        let ending = match search.go(first) {
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Ended(ending)) => ending,
            Ok(()) => SearchEnding::Found,
        };
        let title = search.title();
        let rate = if ending == SearchEnding::Found { search.best } else { search.best_below(f64::INFINITY) };
        let failing = search.failing;
        Ok(FoundRate { version: FORMAT_VERSION, ending, rate, failing, steps: search.steps, title })
    }
}

impl<E, R: FnMut(StepPlan) -> Result<Report, E>> Search<R> {
    fn go(&mut self, first: f64) -> Result<(), Stop<E>> {
        self.double(first)?;
        loop {
            self.bisect()?;
            if self.confirm()? {
                return Ok(());
            }
            self.climb()?;
        }
    }

    fn double(&mut self, first: f64) -> Result<(), Stop<E>> {
        let mut rate = first;
        while self.best == 0.0 || self.failing.is_none() {
            if self.passes(SearchPart::Double, rate, 1)? {
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
            match self.passes(SearchPart::Bisect, (self.best + failing) / 2.0, 2) {
                // Close to the limit, a server that is too slow looks much like a late generator.
                Err(Stop::Ended(SearchEnding::GeneratorLate)) if failing / self.best <= 1.0 + COARSEST => {
                    break;
                }
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// Confirms that the best rate passes again, and that the step above fails again. If the best rate fails, it
    /// becomes the lowest failing rate. If the step above passes, it becomes the best rate, and no failing rate is
    /// known any more.
    fn confirm(&mut self) -> Result<bool, Stop<E>> {
        let answer = self.best;
        for _ in 0..WINDOWS {
            if !self.passes(SearchPart::Confirm, answer, 2)? {
                // Just above the limit a step passes or fails by chance, however often it is tried.
                if answer <= self.confirmed * (1.0 + COARSEST) {
                    self.best = self.confirmed;
                    return Ok(true);
                }
                let least = answer / (1.0 + self.settings.precision).powi(2);
                self.best = self.best_below(answer).max(least);
                return Ok(false);
            }
        }
        self.confirmed = self.confirmed.max(answer);
        // Closer to the limit a step may pass by chance.
        let known = self.failing.take();
        let above = known.unwrap_or(0.0).max(answer * (1.0 + self.settings.precision));
        let passes = match self.passes(SearchPart::Confirm, above, 2) {
            Err(Stop::Ended(SearchEnding::GeneratorLate)) => {
                self.passes(SearchPart::Confirm, answer * (1.0 + COARSEST), 2)
            }
            result => result,
        };
        if passes.is_err() {
            // The search ends here, and a rate that failed is no best one.
            self.failing = known;
        }
        Ok(!passes?)
    }

    /// Climbs from the best rate in steps that double, while no failing rate above it is known.
    fn climb(&mut self) -> Result<(), Stop<E>> {
        let mut factor = 1.0 + self.settings.precision;
        while self.failing.is_none() {
            factor *= factor;
            self.passes(SearchPart::Climb, (self.best * factor).min(HIGHEST), 2)?;
        }
        Ok(())
    }

    /// Whether a rate is good: in one step no condition holds. The rate is too high if a condition holds in `failures`
    /// steps, or if the server falls behind. Steps that say nothing of the server are repeated.
    fn passes(&mut self, part: SearchPart, rate: f64, failures: u32) -> Result<bool, Stop<E>> {
        let (mut failed, mut void, mut behind) = (0, 0, 0);
        while void < ATTEMPTS && behind < ATTEMPTS_BEHIND {
            let step = self.attempt(part, rate, 1 << failed)?;
            if step.generator_late {
                void += 1;
                behind += usize::from(step.report.generator.is_behind(step.report.seconds));
            } else if step.failed.is_empty() {
                self.best = self.best.max(rate);
                return Ok(true);
            } else {
                failed += 1;
                if failed == failures || step.falls_behind() {
                    self.failing = Some(self.failing.map_or(rate, |failing| failing.min(rate)));
                    return Ok(false);
                }
            }
        }
        Err(Stop::Ended(SearchEnding::GeneratorLate))
    }

    fn attempt(&mut self, part: SearchPart, rate: f64, times: u32) -> Result<&SearchStep, Stop<E>> {
        if self.steps.len() >= MOST_STEPS {
            return Err(Stop::Ended(SearchEnding::Unsteady));
        }
        let duration = length(self.settings.plan.duration, rate, times);
        let report = (self.run)(StepPlan { rate, duration }).map_err(Stop::Failed)?;
        let step = SearchStep::new(part, rate, report, &self.settings.conditions);
        let report = &step.report;
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
        self.steps.last().ok_or(Stop::Ended(SearchEnding::Unsteady))
    }

    /// The highest rate that passed below `bound` and below the lowest failing rate; 0 if there is none.
    fn best_below(&self, bound: f64) -> f64 {
        let bound = self.failing.map_or(bound, |failing| failing.min(bound));
        let is_good = |step: &&SearchStep| {
            step.failed.is_empty() && !step.generator_late && !step.report.interrupted && step.rate < bound
        };
        self.steps.iter().filter(is_good).map(|step| step.rate).fold(0.0, f64::max)
    }

    fn title(&self) -> String {
        let conditions: Vec<String> = self.settings.conditions.iter().map(ToString::to_string).collect();
        format!("the highest rate without {}", conditions.join(", "))
    }
}

/// The length of a step: the time asked for, or longer for enough messages, and all this `times` times.
fn length(asked: Duration, rate: f64, times: u32) -> Duration {
    let long_enough = Duration::try_from_secs_f64(FEWEST_MESSAGES / rate).unwrap_or(asked);
    asked.max(long_enough).saturating_mul(times).min(asked.saturating_mul(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::super::plan::{Arrivals, Pace};
    use super::*;
    use crate::reactor::Moment;

    /// A report of a second at the rate of the plan, in which every message took `latency`.
    fn report(plan: &Plan, latency: Duration, lag: Duration) -> Report {
        let from = Moment::now();
        let mut figures = Figures::new(true, from);
        figures.begin(from);
        for _ in 0..100 {
            figures.sending(10, from, lag);
            figures.completed(10, from, from, from + latency);
        }
        figures.end_interval(from + Duration::from_secs(1));
        figures.ended = Some((from + Duration::from_secs(1), plan.rate().expect("an open loop") as u64));
        Report::new(plan.clone(), figures)
    }

    /// A search over a simulated server. For a rate and the number of a step, `run` gives the latency and the
    /// generator's lag, in milliseconds.
    fn search(first: f64, mut run: impl FnMut(f64, usize) -> (u64, u64)) -> FoundRate {
        let plan = Plan::new(vec![":7".parse().expect("an endpoint")]);
        let plan = Plan { pace: Pace::Open { rate: first, arrivals: Arrivals::Fixed }, ..plan };
        let at = |rate| plan.at_rate(rate).expect("a rate");
        let search =
            RateSearch { plan: at(first), conditions: RateSearch::usual_conditions(), precision: 0.02 };
        let mut steps = 0;
        let found = search.find(|StepPlan { rate, .. }| {
            steps += 1;
            let (latency, lag) = run(rate, steps);
            let (latency, lag) = (Duration::from_millis(latency), Duration::from_millis(lag));
            Ok::<_, std::convert::Infallible>(report(&at(rate), latency, lag))
        });
        found.expect("each run takes place")
    }

    #[track_caller]
    fn assert_found(found: &FoundRate, limit: f64) {
        assert_eq!(found.ending, SearchEnding::Found, "{found}");
        assert!(found.rate <= limit && found.rate >= limit / 1.021, "{limit}: {found}");
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for (first, limit) in [(1000.0, 33_333.0), (1000.0, 70.0), (5.0, 1_000_000.0), (800.0, 801.0)] {
            let found = search(first, |rate, _| (if rate <= limit { 1 } else { 500 }, 0));
            assert_found(&found, limit);
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
        assert_eq!(found.steps.iter().filter(|step| step.generator_late).count(), ATTEMPTS, "{found}");
        let found = search(1000.0, |_, _| (500, 0));
        assert_eq!((found.ending, found.rate), (SearchEnding::NoneIsGood, 0.0), "{found}");
    }

    #[test]
    fn the_best_so_far_is_no_rate_that_failed() {
        let mut tries = 0;
        let found = search(1000.0, |rate, _| match rate {
            ..=3000.0 => (1, 0),
            // It passes by chance, once.
            ..3050.0 => {
                tries += 1;
                (if tries == 1 { 1 } else { 500 }, 0)
            }
            3060.0..=3061.0 | 3150.0..=3151.0 => (50, 50),
            _ => (500, 0),
        });
        assert_eq!((found.ending, found.rate), (SearchEnding::GeneratorLate, 3000.0), "{found}");
        assert_eq!(found.failing, Some(3031.25), "{found}");
    }

    #[test]
    fn a_late_generator_says_nothing_unless_the_server_was_slow_or_fast_without_it() {
        let limit = 5000.0;
        for (good, bad) in [((1, 5), (500, 0)), ((1, 0), (500, 12)), ((9, 8), (60, 40))] {
            assert_found(&search(1000.0, |rate, _| if rate <= limit { good } else { bad }), limit);
        }
        let late_now_and_then = |rate, step| {
            if step % 3 == 0 { (50, 50) } else { (if rate <= limit { 1 } else { 50 }, 0) }
        };
        assert_found(&search(1000.0, late_now_and_then), limit);
    }

    #[test]
    fn where_the_generator_is_late_close_to_the_limit_the_answer_is_coarser() {
        let found = search(1000.0, |rate, _| match rate {
            ..=5000.0 => (1, 0),
            ..5200.0 => (50, 50),
            _ => (500, 10),
        });
        assert_eq!(found.ending, SearchEnding::Found, "{found}");
        let failing = found.failing.expect("a rate fails");
        assert!(found.rate > 4900.0 && failing > 5200.0 && failing <= found.rate * 1.05, "{found}");
        assert!(found.to_string().contains(&format!("and by {failing:.0} failing again")), "{found}");
    }

    #[test]
    fn where_steps_pass_and_fail_by_chance_the_answer_is_the_rate_that_always_passed() {
        for period in 2..7 {
            let found = search(1000.0, |rate, step| match rate {
                ..=5000.0 => (1, 0),
                ..5200.0 => (if step / period % 2 == 0 { 1 } else { 500 }, 0),
                _ => (500, 0),
            });
            assert_eq!(found.ending, SearchEnding::Found, "{period}: {found}");
            let failing = found.failing.expect("a rate fails");
            assert!(found.rate > 4900.0 && found.rate < 5200.0, "{period}: {found}");
            assert!(failing > 5000.0 && failing <= found.rate * 1.05, "{period}: {found}");
        }
    }

    #[test]
    fn a_pause_of_the_machine_decides_nothing() {
        for limit in [5000.0, 33_333.0] {
            for pause in 1..20 {
                let paused = |rate, step| (if rate <= limit && step != pause { 1 } else { 50 }, 0);
                assert_found(&search(1000.0, paused), limit);
            }
        }
    }

    #[test]
    fn a_limit_that_moves_ends_the_search_without_an_answer() {
        // No rate is good in three windows.
        let found = search(1000.0, |rate, step| (if step % 4 >= 2 || rate > 9000.0 { 500 } else { 1 }, 0));
        assert_eq!(found.ending, SearchEnding::Unsteady, "{found}");
        assert_eq!(found.steps.len(), MOST_STEPS);
    }

    #[test]
    fn a_step_is_long_enough_for_its_messages_and_bounded() {
        for (rate, times, seconds) in
            [(1e6, 1, 3.0), (1e6, 2, 6.0), (1e6, 8, 12.0), (50.0, 1, 6.0), (50.0, 2, 12.0), (10.0, 1, 12.0)]
        {
            let length = length(Duration::from_secs(3), rate, times);
            assert_eq!(length.as_secs_f64(), seconds, "{rate} messages a second");
        }
        assert_eq!(length(Duration::MAX, 1e6, 2), Duration::MAX);
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
