//! Signs that the generator itself was kept from working, so that its figures say less about the server.
//!
//! A starved generator looks like a slow server: a reply that waits unread in the socket keeps its connection busy, and
//! no message is late then. So the loop also watches itself. The kernel tells how long the process was ready to run and
//! had no core, and how much processor time others kept from it. A loop that wakes long after it asked to be woken was
//! stopped, or blocked. And a loop that neither sleeps nor ever finds its poll empty does not catch up with its work.

use std::fs;
use std::time::Duration;

use super::cores::{Withheld, quota};
use crate::reactor::Moment;
use crate::system::cpu_time;

/// The loop asks to be woken at least this often, to notice that it was not.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(100);
/// A loop that wakes this late was held up; a busy machine alone takes less.
const LATE: Duration = Duration::from_millis(50);
/// The loop judges after each of these times whether it caught up with its work in it.
const LONG: Duration = Duration::from_millis(200);
/// A loop that worked, or waited for a core, for this share of the time did not sleep.
const SLEEPLESS: f64 = 0.9;

/// The signs, of the measured part.
#[derive(Debug)]
pub(super) struct Starvation {
    /// CPU time that the process took.
    pub(super) cpu_time: Duration,
    /// The time in which it was ready to run and had no core.
    pub(super) waited: Duration,
    /// The processor time that a hypervisor or a quota kept from it.
    pub(super) withheld: Withheld,
    /// The share of a core that its quota allows.
    pub(super) quota: f64,
    /// By how much the loop was woken too late, all in all and at most.
    pub(super) held_up: Duration,
    pub(super) longest: Duration,
    /// How long the loop did not catch up.
    pub(super) behind: Duration,
    /// The first three figures are those at the beginning.
    is_measuring: bool,
    /// When the loop asked to be woken.
    wake: Option<Moment>,
    /// The time that is judged next: when it began, the working time before it, and whether a poll in it was empty.
    span_began: Moment,
    worked_before: Duration,
    had_nothing_to_do: bool,
}

impl Starvation {
    pub(super) fn new(now: Moment) -> Starvation {
        Starvation {
            cpu_time: Duration::ZERO,
            waited: Duration::ZERO,
            withheld: Withheld::default(),
            quota: 1.0,
            held_up: Duration::ZERO,
            longest: Duration::ZERO,
            behind: Duration::ZERO,
            is_measuring: false,
            wake: None,
            span_began: now,
            worked_before: Duration::ZERO,
            had_nothing_to_do: false,
        }
    }

    /// The measured part is about to begin. This reads several files, so the caller looks at the clock after it. Until
    /// [`Starvation::end`] the first three figures are those of the time before.
    pub(super) fn begin(&mut self, now: Moment) {
        let (withheld, quota) = (Withheld::so_far(), quota());
        let (cpu_time, waited) = (cpu_time(), run_queue_delay());
        let worked_before = cpu_time + waited;
        *self = Starvation {
            cpu_time,
            waited,
            withheld,
            quota,
            worked_before,
            is_measuring: true,
            ..Starvation::new(now)
        };
    }

    /// A turn of the loop began at `now`, and found nothing to do if it is idle. `worked` reads [`working_time`].
    pub(super) fn turn(&mut self, now: Moment, is_idle: bool, worked: impl FnOnce() -> Duration) {
        if let Some(late) = self.wake.take().map(|wake| now.since(wake)).filter(|late| *late >= LATE) {
            self.held_up += late;
            self.longest = self.longest.max(late);
        }
        self.had_nothing_to_do |= is_idle;
        if now.since(self.span_began) >= LONG {
            self.judge(now, worked());
        }
    }

    /// The loop wants to be woken at this moment.
    pub(super) fn wakes_at(&mut self, wake: Moment) {
        self.wake = Some(wake);
    }

    /// The measured part ends. There is nothing to tell of one that never began.
    pub(super) fn end(&mut self, now: Moment) {
        if !std::mem::take(&mut self.is_measuring) {
            return;
        }
        if now.since(self.span_began) >= LONG {
            self.judge(now, working_time());
        }
        self.cpu_time = cpu_time().saturating_sub(self.cpu_time);
        self.waited = run_queue_delay().saturating_sub(self.waited);
        self.withheld = Withheld::so_far().since(self.withheld);
        self.wake = None;
    }

    /// A loop that never slept and never had nothing to do was behind with its work. (One that waits for a slow server
    /// sleeps, although each of its polls brings something.)
    fn judge(&mut self, now: Moment, worked: Duration) {
        let span = now.since(self.span_began);
        let is_sleepless = worked.saturating_sub(self.worked_before) >= span.mul_f64(SLEEPLESS);
        if is_sleepless && !self.had_nothing_to_do {
            self.behind += span;
        }
        (self.span_began, self.worked_before, self.had_nothing_to_do) = (now, worked, false);
    }
}

/// The time in which this process ran, or was ready to run.
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
        let Starvation { cpu_time, waited, withheld, .. } = starvation;
        assert_eq!(
            (cpu_time, waited, withheld),
            (Duration::ZERO, Duration::ZERO, Withheld::default()),
            "and not all since the process began"
        );
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
        assert_eq!(
            (starvation.held_up, starvation.longest),
            (Duration::from_secs(2), Duration::from_secs(2))
        );
        assert_eq!(starvation.behind, Duration::ZERO);
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
            let expected = if is_behind { Duration::from_secs(1) } else { Duration::ZERO };
            assert_eq!(starvation.behind, expected, "{microseconds} {is_sometimes_idle}");
        }
    }

    #[test]
    fn the_kernel_counts_the_time_without_a_core() {
        if fs::read_to_string("/proc/self/schedstat").is_ok_and(|text| !text.starts_with("0 0")) {
            assert!(run_queue_delay() > Duration::ZERO);
        }
    }
}
