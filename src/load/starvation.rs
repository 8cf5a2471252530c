//! Signs that the generator itself was kept from working, so that its figures say less about the server.
//!
//! A starved generator looks like a slow server: a reply that waits unread in the socket keeps its connection busy, and
//! no message is late then. So the loop also watches itself. The kernel tells how long the process was ready to run and
//! had no core. A loop that wakes long after it asked to be woken was stopped, or blocked. And a loop that never finds
//! its poll empty never catches up.

use std::fs;
use std::time::Duration;

use crate::reactor::Moment;
use crate::system::cpu_time;

/// The loop asks to be woken at least this often, to notice that it was not.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(100);
/// A loop that wakes this late was held up; a busy machine alone takes less.
const LATE: Duration = Duration::from_millis(50);
/// A loop that never found its poll empty for so long did not catch up.
const LONG: Duration = Duration::from_millis(200);

/// The signs, of the measured part.
#[derive(Debug)]
pub(super) struct Starvation {
    /// CPU time that the process took.
    pub(super) cpu_time: Duration,
    /// The time in which it was ready to run and had no core.
    pub(super) waited: Duration,
    /// By how much the loop was woken too late, all in all and at most.
    pub(super) held_up: Duration,
    pub(super) longest: Duration,
    /// How long the loop did not catch up.
    pub(super) behind: Duration,
    /// When the loop asked to be woken.
    wake: Option<Moment>,
    /// When it last found nothing to do.
    caught_up: Moment,
}

impl Starvation {
    pub(super) fn new(now: Moment) -> Starvation {
        Starvation {
            cpu_time: Duration::ZERO,
            waited: Duration::ZERO,
            held_up: Duration::ZERO,
            longest: Duration::ZERO,
            behind: Duration::ZERO,
            wake: None,
            caught_up: now,
        }
    }

    /// The measured part begins. Until [`Starvation::end`] the first two figures are those of the time before.
    pub(super) fn begin(&mut self, now: Moment) {
        let (cpu_time, waited) = (cpu_time(), run_queue_delay());
        *self = Starvation { cpu_time, waited, ..Starvation::new(now) };
    }

    /// A turn of the loop began at `now`, and found nothing to do if it is idle.
    pub(super) fn turn(&mut self, now: Moment, is_idle: bool) {
        if let Some(late) = self.wake.take().map(|wake| now.since(wake)).filter(|late| *late >= LATE) {
            self.held_up += late;
            self.longest = self.longest.max(late);
        }
        if is_idle {
            self.catch_up(now);
        }
    }

    /// The loop wants to be woken at this moment.
    pub(super) fn wakes_at(&mut self, wake: Moment) {
        self.wake = Some(wake);
    }

    /// The measured part ends.
    pub(super) fn end(&mut self, now: Moment) {
        self.cpu_time = cpu_time().saturating_sub(self.cpu_time);
        self.waited = run_queue_delay().saturating_sub(self.waited);
        self.catch_up(now);
        self.wake = None;
    }

    fn catch_up(&mut self, now: Moment) {
        let busy = now.since(self.caught_up);
        if busy >= LONG {
            self.behind += busy;
        }
        self.caught_up = now;
    }
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
    fn a_loop_that_wakes_late_was_held_up_and_one_that_never_rests_is_behind() {
        let start = Moment::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut starvation = Starvation::new(start);
        for (wake, woke) in [(100, 101), (200, 249), (300, 2300), (2400, 2410)] {
            starvation.wakes_at(at(wake));
            starvation.turn(at(woke), true);
        }
        assert_eq!(
            (starvation.held_up, starvation.longest),
            (Duration::from_secs(2), Duration::from_secs(2))
        );
        let behind = starvation.behind;
        for milliseconds in 2411..3000 {
            starvation.turn(at(milliseconds), false);
        }
        starvation.turn(at(3000), true);
        assert_eq!(starvation.behind - behind, Duration::from_millis(590));
    }

    #[test]
    fn the_kernel_counts_the_time_without_a_core() {
        if fs::read_to_string("/proc/self/schedstat").is_ok_and(|text| !text.starts_with("0 0")) {
            assert!(run_queue_delay() > Duration::ZERO);
        }
    }
}
