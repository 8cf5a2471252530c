//! Signs that the generator itself was kept from working, so that its figures say less about the server.
//!
//! A starved generator looks like a slow server: a reply that waits unread in the socket keeps its connection busy, and
//! no message is late then. So the loop also watches itself. The kernel tells how long the process was ready to run and
//! had no core, and how much processor time others kept from it. A loop that wakes long after it asked to be woken was
//! stopped, or blocked. And a loop that neither sleeps nor ever finds its poll empty does not catch up with its work.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cores::{Withheld, quota};
use super::plan::Pace;
use super::times::Times;
use crate::reactor::Moment;
use crate::system::cpu_time;

/// The loop asks to be woken at least this often, so that it notices a late wake-up.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(100);
/// A loop that wakes this late was held up; a busy machine alone takes less.
const LATE: Duration = Duration::from_millis(50);
/// The loop judges after each of these times whether it caught up with its work in it.
const LONG: Duration = Duration::from_millis(200);
/// A loop that worked, or waited for a core, for this share of the time did not sleep.
const SLEEPLESS: f64 = 0.9;

/// A generator that took more than this share of a core may have limited the run itself.
const BUSY: f64 = 0.9;
/// A generator may have limited the run if for more than this share of it the generator waited for a core, never caught
/// up with its work, or lost its processors to other machines of its hypervisor.
pub(super) const STARVED: f64 = 0.1;
/// The same share for a generator that was stopped, blocked or throttled: all messages that were due then waited for
/// it.
pub(super) const HELD_UP: f64 = 0.01;
/// An open loop that was this late with one message of a hundred was not on time.
const LATE_US: f64 = 1000.0;

/// The generator's own cost, and signs that something kept it from working.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generator {
    /// CPU time of the measured part.
    pub cpu_seconds: f64,
    /// Open loop: how late messages left although their connection was free. `null` in a closed loop.
    pub lag_us: Option<Times>,
    /// How long the process was ready to run and had no core, in seconds.
    pub waited_for_core_s: f64,
    /// How long a hypervisor ran other machines on its processors, on average over these, in seconds.
    pub stolen_s: f64,
    /// How long its control groups had used up their quota, added up over all processors, in seconds.
    pub throttled_s: f64,
    /// The share of one core that hypervisor and quota left to it.
    pub core_share: f64,
    /// By how much its loop was woken too late, in seconds: the process was stopped, or a call blocked it.
    pub held_up_s: f64,
    /// The longest of these delays, in seconds.
    pub longest_hold_up_s: f64,
    /// Open loop: how long the loop had no moment without work, in seconds.
    pub behind_s: f64,
    /// Whether the generator, and not the server, limited the run.
    pub bottleneck: bool,
}

/// The signs, while the measured part lasts.
#[derive(Debug)]
pub(super) struct Starvation {
    /// The figures so far. The kernel's own figures come at the end.
    pub(super) generator: Generator,
    /// The kernel's figures at the beginning: CPU time, time without a core, time that others withheld. `None` outside
    /// the measured part.
    before: Option<(Duration, Duration, Withheld)>,
    /// When the loop asked to be woken.
    wake: Option<Moment>,
    /// The time that is judged next: when it began, the working time before it, and whether a poll in it was empty.
    span_began: Moment,
    worked_before: Duration,
    had_nothing_to_do: bool,
}

impl Default for Generator {
    /// A generator with a whole core that took nothing of it. Reports of earlier versions lack some of these figures.
    fn default() -> Generator {
        Generator {
            cpu_seconds: 0.0,
            lag_us: None,
            waited_for_core_s: 0.0,
            stolen_s: 0.0,
            throttled_s: 0.0,
            core_share: 1.0,
            held_up_s: 0.0,
            longest_hold_up_s: 0.0,
            behind_s: 0.0,
            bottleneck: false,
        }
    }
}

impl Generator {
    /// The longest delay that the generator can have caused a message, in seconds: the sum of all its delays.
    pub(super) fn longest_delay(&self) -> f64 {
        let late = self.lag_us.map_or(0.0, |lag| lag.max / 1e6);
        late + self.waited_for_core_s + self.stolen_s + self.throttled_s + self.held_up_s + self.behind_s
    }

    /// Whether the generator's own work took too long in so much of a run of `seconds` that another run would hardly
    /// differ.
    pub(super) fn is_behind(&self, seconds: f64) -> bool {
        self.behind_s > seconds * STARVED
    }
}

impl Starvation {
    pub(super) fn new(now: Moment) -> Starvation {
        Starvation {
            generator: Generator::default(),
            before: None,
            wake: None,
            span_began: now,
            worked_before: Duration::ZERO,
            had_nothing_to_do: false,
        }
    }

    /// Call it just before the measured part begins. It reads several files, so the caller looks at the clock after
    /// it.
    pub(super) fn begin(&mut self, now: Moment) {
        let (withheld, core_share) = (Withheld::so_far(), quota());
        let (cpu_time, waited) = (cpu_time(), run_queue_delay());
        *self = Starvation {
            generator: Generator { core_share, ..Generator::default() },
            before: Some((cpu_time, waited, withheld)),
            worked_before: cpu_time + waited,
            ..Starvation::new(now)
        };
    }

    /// Notes a turn of the loop that began at `now`, and found nothing to do if it is idle. `worked` reads
    /// [`working_time`].
    pub(super) fn turn(&mut self, now: Moment, is_idle: bool, worked: impl FnOnce() -> Duration) {
        if let Some(late) = self.wake.take().map(|wake| now.since(wake)).filter(|late| *late >= LATE) {
            let late = late.as_secs_f64();
            self.generator.held_up_s += late;
            self.generator.longest_hold_up_s = self.generator.longest_hold_up_s.max(late);
        }
        self.had_nothing_to_do |= is_idle;
        if now.since(self.span_began) >= LONG {
            self.judge(now, worked());
        }
    }

    /// Notes that the loop wants to be woken at this moment.
    pub(super) fn wakes_at(&mut self, wake: Moment) {
        self.wake = Some(wake);
    }

    /// Ends the measured part. A part that never began has no figures.
    pub(super) fn end(&mut self, now: Moment) {
        let Some((before, waited_before, withheld_before)) = self.before.take() else { return };
        if now.since(self.span_began) >= LONG {
            self.judge(now, working_time());
        }
        let withheld = Withheld::so_far().since(withheld_before);
        self.generator.cpu_seconds = cpu_time().saturating_sub(before).as_secs_f64();
        self.generator.waited_for_core_s = run_queue_delay().saturating_sub(waited_before).as_secs_f64();
        self.generator.stolen_s = withheld.stolen.as_secs_f64();
        self.generator.throttled_s = withheld.throttled.as_secs_f64();
        self.wake = None;
    }

    /// The figures of a measured part of `seconds`, and whether the generator limited it.
    pub(super) fn judged(self, pace: Pace, seconds: f64, lag_us: Option<Times>) -> Generator {
        let Generator { cpu_seconds, waited_for_core_s, stolen_s, throttled_s, held_up_s, .. } =
            self.generator;
        let is_open = matches!(pace, Pace::Open { .. });
        let share = |time: f64| if seconds > 0.0 { time / seconds } else { 0.0 };
        let core_share = self.generator.core_share.min(1.0 - share(stolen_s)).max(0.0);
        let behind_s = if is_open { self.generator.behind_s } else { 0.0 };
        let was_starved = share(waited_for_core_s) > STARVED
            || share(stolen_s) > STARVED
            || share(throttled_s) > HELD_UP
            || share(held_up_s) > HELD_UP;
        let bottleneck = was_starved
            || if is_open {
                lag_us.is_some_and(|lag| lag.p99 > LATE_US) || share(behind_s) > STARVED
            } else {
                share(cpu_seconds + waited_for_core_s) > BUSY * core_share
            };
        Generator { lag_us, core_share, behind_s, bottleneck, ..self.generator }
    }

    /// A loop that never slept and never had nothing to do was behind with its work. (One that waits for a slow server
    /// sleeps, although each of its polls brings something.)
    fn judge(&mut self, now: Moment, worked: Duration) {
        let span = now.since(self.span_began);
        let is_sleepless = worked.saturating_sub(self.worked_before) >= span.mul_f64(SLEEPLESS);
        if is_sleepless && !self.had_nothing_to_do {
            self.generator.behind_s += span.as_secs_f64();
        }
        (self.span_began, self.worked_before, self.had_nothing_to_do) = (now, worked, false);
    }
}

/// The time for which this process ran, or was ready to run.
pub(super) fn working_time() -> Duration {
    cpu_time() + run_queue_delay()
}

/// How long this process has been ready to run without a core to run on. Nothing where the kernel does not count it.
fn run_queue_delay() -> Duration {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_part_that_never_began_has_no_times() {
        let start = Moment::now();
        let mut starvation = Starvation::new(start);
        starvation.end(start + LONG * 2);
        assert_eq!(starvation.generator, Generator::default(), "and not all since the process began");
    }

    #[test]
    fn a_loop_that_wakes_late_was_held_up() {
        let start = Moment::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut starvation = Starvation::new(start);
        for (wake, woke) in [(100, 101), (200, 249), (300, 2300), (2400, 2410)] {
            starvation.wakes_at(at(wake));
            starvation.turn(at(woke), true, || Duration::ZERO);
        }
        let Generator { held_up_s, longest_hold_up_s, behind_s, .. } = starvation.generator;
        assert_eq!((held_up_s, longest_hold_up_s, behind_s), (2.0, 2.0, 0.0));
    }

    #[test]
    fn a_loop_is_behind_if_it_neither_sleeps_nor_has_nothing_to_do() {
        let start = Moment::now();
        // Working time in each millisecond, and whether polls are empty now and then.
        for (microseconds, is_sometimes_idle, is_behind) in
            [(1000, false, true), (950, false, true), (400, false, false), (1000, true, false)]
        {
            let mut starvation = Starvation::new(start);
            for millisecond in 1..=1000 {
                let now = start + Duration::from_millis(millisecond);
                let is_idle = is_sometimes_idle && millisecond % 100 == 0;
                starvation.turn(now, is_idle, || Duration::from_micros(microseconds * millisecond));
            }
            let behind = starvation.generator.behind_s.round();
            assert_eq!(behind, f64::from(u8::from(is_behind)), "{microseconds} {is_sometimes_idle}");
        }
    }

    #[test]
    fn the_kernel_counts_the_time_without_a_core() {
        if fs::read_to_string("/proc/self/schedstat").is_ok_and(|text| !text.starts_with("0 0")) {
            assert!(run_queue_delay() > Duration::ZERO);
        }
    }
}
