//! A point in time in eight bytes.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A point on the monotonic clock, like [`Instant`] but half its size: a connection keeps two of them, and ten
/// thousand connections have to share a cache. It counts nanoseconds from the first moment that the process asked for,
/// and has room for five centuries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The present moment, from the clock. A handler rather asks [`Context::now`](super::Context::now): the loop reads
    /// the clock for it once a turn.
    pub fn now() -> Moment {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        Moment(nanoseconds(FIRST.get_or_init(Instant::now).elapsed()))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(nanoseconds(duration)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(nanoseconds(duration)))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ordered_and_apart() {
        let first = Moment::now();
        let later = first + Duration::from_micros(1500);
        assert!(later > first);
        assert_eq!(later.since(first), Duration::from_micros(1500));
        assert_eq!(first.since(later), Duration::ZERO);
        assert_eq!(later - Duration::from_micros(1500), first);
        assert!(Moment::now() >= first);
        assert_eq!(first + Duration::MAX, later + Duration::MAX, "for ever is for ever");
    }
}
