//! When messages should leave in an open loop.
//!
//! Each client has its part of the schedule: it knows when its next message is due, and the one after that follows
//! from it. So a client that is behind needs no list of the messages that it owes, and the schedule takes no memory.

use std::time::Duration;

use super::plan::Arrivals;
use crate::reactor::Moment;

/// The schedule of all clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: Moment,
    clients: u64,
    /// The time from one message to the next, over all clients.
    nanoseconds: f64,
    arrivals: Arrivals,
}

/// So many messages that a client owes are counted by their own random gaps; for further ones the mean gap is exact enough.
const MOST_DRAWN: u64 = 1000;

/// A client's next place in the schedule.
#[derive(Debug)]
pub(super) struct Turn {
    /// When its next message is due.
    pub(super) due: Moment,
    number: u64,
    random: fastrand::Rng,
}

impl Turn {
    /// A turn outside any schedule.
    pub(super) fn at(due: Moment) -> Turn {
        Turn { due, number: 0, random: fastrand::Rng::with_seed(0) }
    }
}

impl Schedule {
    pub(super) fn new(start: Moment, clients: usize, rate: f64, arrivals: Arrivals) -> Schedule {
        Schedule { start, clients: clients as u64, nanoseconds: 1e9 / rate, arrivals }
    }

    /// Makes the first messages due from this moment on.
    pub(super) fn begin(&mut self, start: Moment) {
        self.start = start;
    }

    /// Changes the rate. Nothing else changes before the schedule begins again.
    pub(super) fn set_rate(&mut self, rate: f64) {
        self.nanoseconds = 1e9 / rate;
    }

    /// The first message of a client.
    pub(super) fn first(&self, client: u32, seed: u64) -> Turn {
        let mut seeds = fastrand::Rng::with_seed(seed ^ (u64::from(client) << 20));
        let random = fastrand::Rng::with_seed(seeds.u64(..));
        let mut turn = Turn { due: self.start, number: 0, random };
        match self.arrivals {
            Arrivals::Fixed => turn.due = self.fixed(client, 0),
            Arrivals::Poisson => self.advance(client, &mut turn),
        }
        turn
    }

    /// Moves a turn from one message of a client to its next.
    pub(super) fn advance(&self, client: u32, turn: &mut Turn) {
        turn.number += 1;
        turn.due = match self.arrivals {
            // Computed from the start, so that no rounding adds up.
            Arrivals::Fixed => self.fixed(client, turn.number),
            Arrivals::Poisson => turn.due + self.gap(&mut turn.random),
        };
    }

    /// Moves a turn to the client's first message that is due at this moment or later.
    pub(super) fn skip_to(&self, from: Moment, client: u32, turn: &mut Turn) {
        if turn.due >= from {
            return;
        }
        match self.arrivals {
            Arrivals::Fixed => {
                let missed =
                    from.since(turn.due).as_nanos() as f64 / (self.nanoseconds * self.clients as f64);
                turn.number += missed as u64;
                turn.due = self.fixed(client, turn.number);
                // Rounding may leave the turn one or two messages too early.
                while turn.due < from {
                    self.advance(client, turn);
                }
            }
            // Chance has no memory: the wait for the next message is the same from any moment.
            Arrivals::Poisson => turn.due = from + self.gap(&mut turn.random),
        }
    }

    /// Many independent clients with exponential gaps make one Poisson stream of the whole rate.
    fn gap(&self, random: &mut fastrand::Rng) -> Duration {
        let gap = -(1.0 - random.f64()).ln() * self.nanoseconds * self.clients as f64;
        Duration::from_nanos(gap as u64)
    }

    /// How many messages of a client were due from `from` until `end` and have not left.
    pub(super) fn owed(&self, turn: &Turn, from: Moment, end: Moment) -> u64 {
        self.due_before(turn, end) - self.due_before(turn, from.min(end))
    }

    fn due_before(&self, turn: &Turn, end: Moment) -> u64 {
        let gap = self.nanoseconds * self.clients as f64;
        let (mut due, mut drawn) = (turn.due, 0);
        if self.arrivals == Arrivals::Poisson {
            // The mean alone would be half a message off for each client.
            let mut random = turn.random.clone();
            while due < end && drawn < MOST_DRAWN {
                due = due + self.gap(&mut random);
                drawn += 1;
            }
        }
        if due >= end {
            return drawn;
        }
        drawn + (end.since(due).as_nanos() as f64 / gap).ceil() as u64
    }

    fn fixed(&self, client: u32, number: u64) -> Moment {
        let position = number * self.clients + u64::from(client);
        self.start + Duration::from_nanos((position as f64 * self.nanoseconds) as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn due(schedule: &Schedule, clients: u32, until: Duration) -> Vec<Duration> {
        let mut all = Vec::new();
        for client in 0..clients {
            let mut turn = schedule.first(client, 9);
            while turn.due.since(schedule.start) < until {
                all.push(turn.due.since(schedule.start));
                schedule.advance(client, &mut turn);
            }
        }
        all.sort();
        all
    }

    #[test]
    fn a_client_owes_the_very_messages_that_it_would_have_sent() {
        let start = Moment::now();
        let end = start + Duration::from_secs(1);
        for arrivals in [Arrivals::Fixed, Arrivals::Poisson] {
            let schedule = Schedule::new(start, 500, 4000.0, arrivals);
            for client in 0..500 {
                let mut turn = schedule.first(client, 7);
                let owed = schedule.owed(&turn, start, end);
                let mut sent = 0;
                while turn.due < end {
                    schedule.advance(client, &mut turn);
                    sent += 1;
                }
                assert_eq!(owed, sent, "{arrivals:?}, client {client}");
            }
        }
    }

    #[test]
    fn fixed_arrivals_are_equally_far_apart_over_all_clients() {
        let schedule = Schedule::new(Moment::now(), 7, 1000.0, Arrivals::Fixed);
        let due = due(&schedule, 7, Duration::from_secs(1));
        assert_eq!(due.len(), 1000);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(1)));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_chance() {
        let schedule = Schedule::new(Moment::now(), 10, 10_000.0, Arrivals::Poisson);
        let due = due(&schedule, 10, Duration::from_secs(2));
        assert!((19_400..20_600).contains(&due.len()), "{} arrivals, 20,000 ± 4 deviations", due.len());
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e4).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.9..1.1).contains(&variance), "gaps of chance vary as much as they are long: {variance}");
    }

    #[test]
    fn a_backlog_is_skipped_to_the_next_place_in_the_schedule() {
        let start = Moment::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let schedule = Schedule::new(start, 7, 1000.0, Arrivals::Fixed);
        let mut turn = schedule.first(3, 9);
        schedule.skip_to(at(500), 3, &mut turn);
        assert_eq!(turn.due, at(500), "client 3 of 7 has the places 3, 10, … 493, 500");
        schedule.skip_to(at(501), 3, &mut turn);
        assert_eq!(turn.due, at(507));
        let chance = Schedule::new(start, 7, 1000.0, Arrivals::Poisson);
        let mut turn = chance.first(3, 9);
        chance.skip_to(at(500), 3, &mut turn);
        assert!(turn.due >= at(500));
    }

    proptest! {
        /// A message is owed if it would have been sent.
        #[test]
        fn what_is_owed_is_counted(clients in 1..50_u32, rate in 1.0..50_000.0_f64, milliseconds in 0..2_000_u64) {
            let start = Moment::now();
            let schedule = Schedule::new(start, clients as usize, rate, Arrivals::Fixed);
            let end = start + Duration::from_millis(milliseconds);
            let owed: u64 = (0..clients).map(|client| schedule.owed(&schedule.first(client, 1), start, end)).sum();
            let expected = (rate * milliseconds as f64 / 1000.0).ceil();
            prop_assert!((owed as f64 - expected).abs() <= 1.0 + f64::from(clients), "{owed} {expected}");
        }
    }
}
