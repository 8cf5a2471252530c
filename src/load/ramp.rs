//! The pace at which connections begin: a limit on new ones in a second, and a limit on those under way.

use std::time::Duration;

use crate::reactor::Moment;

/// Lets connects through.
#[derive(Debug)]
pub(super) struct Ramp {
    under_way: usize,
    most_under_way: usize,
    gap: Duration,
    next: Moment,
}

impl Ramp {
    pub(super) fn new(most_under_way: usize, rate: Option<f64>, now: Moment) -> Ramp {
        let gap = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64((1.0 / rate).min(1e6)));
        Ramp { under_way: 0, most_under_way, gap, next: now }
    }

    /// Asks to begin one connection. True: it may begin now.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        if self.under_way >= self.most_under_way || now < self.next {
            return false;
        }
        self.under_way += 1;
        if !self.gap.is_zero() {
            // Count from the moment at which this connect was due, so that late wake-ups don't slow the ramp down. But
            // don't make up for connects that nobody wanted.
            self.next = self.next.max(now - Duration::from_secs(1)) + self.gap;
        }
        true
    }

    /// The moment at which the next connect may begin, if only time is in its way.
    pub(super) fn waits_until(&self) -> Option<Moment> {
        (self.under_way < self.most_under_way).then_some(self.next)
    }

    /// Notes that a connect has ended, well or not.
    pub(super) fn ended(&mut self) {
        self.under_way -= 1;
    }

    /// The number of connects under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_under_way() {
        let now = Moment::now();
        let mut ramp = Ramp::new(2, None, now);
        assert!(ramp.take(now) && ramp.take(now) && !ramp.take(now));
        assert_eq!(ramp.waits_until(), None, "an end is waited for, not a time");
        ramp.ended();
        assert!(ramp.take(now) && !ramp.take(now));
        assert_eq!(ramp.under_way(), 2);
    }

    #[test]
    fn only_so_many_are_begun_in_a_second() {
        let start = Moment::now() + Duration::from_secs(5);
        let mut ramp = Ramp::new(1000, Some(100.0), start);
        let begun = |ramp: &mut Ramp, at: u64| {
            let now = start + Duration::from_millis(at);
            (0..).take_while(|_| ramp.take(now)).count()
        };
        assert_eq!(begun(&mut ramp, 0), 1);
        assert_eq!(ramp.waits_until(), Some(start + Duration::from_millis(10)));
        assert_eq!(begun(&mut ramp, 9), 0);
        assert_eq!(begun(&mut ramp, 500), 50, "what a late wake-up missed is made up for");
        assert_eq!(begun(&mut ramp, 60_000), 101, "a minute of idleness is not");
    }
}
