//! When a client may send: one rule for all, one [`Pacer`] for each client, the same over TCP and UDP.
//!
//! In every loop a client has a moment at which its next message is due: long past if it sends as fast as it can, after a
//! pause if it thinks, by the schedule in an open loop. It may send once that moment has come and fewer than `depth`
//! messages are under way. A client that loses its connection keeps its pacer, so messages that were due meanwhile keep
//! the moments at which they should have left.

use std::time::Duration;

use super::plan::{Pace, Plan, Usage};
use super::schedule::{Schedule, Turn};
use crate::reactor::Moment;

/// So far ahead that only another event makes the message due.
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The rule that all clients follow, and the messages left to send.
#[derive(Debug)]
pub(super) struct Pacing {
    rule: Rule,
    /// The most messages that one client has under way.
    depth: u32,
    /// Messages that may still be sent.
    budget: u64,
    /// Messages due from here on are not sent.
    until: Moment,
    /// Messages under way, over all clients.
    in_flight: u64,
}

/// The cause that makes a message due.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Room for another message.
    AtOnce,
    /// The time since the last reply.
    Thinking(Duration),
    /// Its place in the schedule.
    Scheduled(Schedule),
    /// A call: see [`Pacer::call`].
    OnCall,
}

/// The state of one client under that rule.
#[derive(Debug)]
pub(super) struct Pacer {
    /// When the next message is due. Only a schedule uses the other fields.
    turn: Turn,
    client: u32,
    under_way: u32,
    /// The moment from which on only the generator keeps the client from sending.
    free_since: Moment,
    /// How late the last message left because of the generator.
    lag: Duration,
}

/// A message that leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    /// When it should have left.
    pub(super) intended: Moment,
    /// How much of its delay is the generator's.
    pub(super) lag: Duration,
}

impl Pacing {
    /// A pacing without a budget: nothing may leave before [`Pacing::allow`].
    pub(super) fn new(plan: &Plan, now: Moment) -> Pacing {
        let rule = match (plan.usage, plan.pace) {
            (Usage::Hold, _) => Rule::OnCall,
            (_, Pace::Closed { think: Duration::ZERO }) => Rule::AtOnce,
            (_, Pace::Closed { think }) => Rule::Thinking(think),
            (_, Pace::Open { rate, arrivals }) => {
                Rule::Scheduled(Schedule::new(now, plan.clients, rate, arrivals))
            }
        };
        Pacing { rule, depth: plan.depth, budget: 0, until: now + FOREVER, in_flight: 0 }
    }

    /// Begins the schedule, if there is one, at this moment.
    pub(super) fn begin(&mut self, start: Moment) {
        if let Rule::Scheduled(schedule) = &mut self.rule {
            schedule.begin(start);
        }
    }

    /// Sets the rate of an open loop, for when the schedule begins again.
    pub(super) fn set_rate(&mut self, rate: f64) {
        if let Rule::Scheduled(schedule) = &mut self.rule {
            schedule.set_rate(rate);
        }
    }

    /// Allows this many messages, if they are due before `until`.
    pub(super) fn allow(&mut self, budget: u64, until: Moment) {
        self.budget = budget;
        self.until = until;
    }

    /// Messages that may still be sent.
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// Messages under way, over all clients.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether a schedule says when messages leave.
    pub(super) fn is_scheduled(&self) -> bool {
        matches!(self.rule, Rule::Scheduled(_))
    }

    /// Whether a reply alone makes the next message due.
    pub(super) fn is_at_once(&self) -> bool {
        matches!(self.rule, Rule::AtOnce)
    }

    /// Takes back a message that was sent: the client may send another one instead.
    pub(super) fn refund(&mut self) {
        self.budget = self.budget.saturating_add(1);
    }
}

impl Pacer {
    pub(super) fn new(client: u32, pacing: &Pacing, seed: u64, now: Moment) -> Pacer {
        let mut turn = Turn::at(now);
        match &pacing.rule {
            Rule::Scheduled(schedule) => turn = schedule.first(client, seed),
            Rule::OnCall => turn.due = now + FOREVER,
            Rule::AtOnce | Rule::Thinking(_) => {}
        }
        Pacer { turn, client, under_way: 0, free_since: now, lag: Duration::ZERO }
    }

    /// The client's number, from 0.
    pub(super) fn client(&self) -> u32 {
        self.client
    }

    /// Messages under way.
    pub(super) fn under_way(&self) -> u32 {
        self.under_way
    }

    /// When the next message is due.
    pub(super) fn due(&self) -> Moment {
        self.turn.due
    }

    /// Moves the client back to its first place in the schedule, if there is one.
    pub(super) fn reschedule(&mut self, pacing: &Pacing, seed: u64) {
        if let Rule::Scheduled(schedule) = &pacing.rule {
            self.turn = schedule.first(self.client, seed);
        }
    }

    /// Drops messages that were due before this moment and have not left.
    pub(super) fn skip_to(&mut self, from: Moment, pacing: &Pacing) {
        if let Rule::Scheduled(schedule) = &pacing.rule {
            schedule.skip_to(from, self.client, &mut self.turn);
        }
    }

    /// Makes one more message due now, if messages leave on call.
    pub(super) fn call(&mut self, pacing: &Pacing, now: Moment) {
        if let Rule::OnCall = pacing.rule {
            self.turn.due = now;
        }
    }

    /// Whether the next message may leave.
    pub(super) fn may_send(&self, pacing: &Pacing, now: Moment) -> bool {
        self.under_way < pacing.depth
            && pacing.budget > 0
            && self.turn.due <= now
            && self.turn.due < pacing.until
    }

    /// When the next message may leave, if only time is in its way.
    pub(super) fn wakes_at(&self, pacing: &Pacing) -> Option<Moment> {
        let has_room = self.under_way < pacing.depth && pacing.budget > 0;
        let at_a_time = matches!(pacing.rule, Rule::Thinking(_) | Rule::Scheduled(_));
        (has_room && at_a_time && self.turn.due < pacing.until).then_some(self.turn.due)
    }

    /// Notes that the next message leaves.
    pub(super) fn sent(&mut self, pacing: &mut Pacing, now: Moment) -> Departure {
        let mut departure = Departure { intended: now, lag: Duration::ZERO };
        match &pacing.rule {
            Rule::Scheduled(schedule) => {
                departure.intended = self.turn.due;
                // While the client waited for the server, the server caused the delay.
                departure.lag = now.since(self.turn.due.max(self.free_since));
                self.lag = departure.lag;
                schedule.advance(self.client, &mut self.turn);
            }
            Rule::OnCall => self.turn.due = now + FOREVER,
            Rule::AtOnce | Rule::Thinking(_) => {}
        }
        pacing.budget -= 1;
        pacing.in_flight += 1;
        self.under_way += 1;
        departure
    }

    /// Notes that a message is no longer under way.
    pub(super) fn landed(&mut self, pacing: &mut Pacing, now: Moment) {
        pacing.in_flight -= 1;
        if self.under_way >= pacing.depth {
            // Had the generator sent the last message in time, there would have been room that much earlier. So all
            // messages that queue up behind one that left late are late because of the generator.
            self.free_since = now - self.lag;
        }
        self.under_way -= 1;
        if let Rule::Thinking(time) = pacing.rule {
            self.turn.due = now + time;
        }
    }

    /// Cuts off all messages under way, and returns their number.
    pub(super) fn cut_off(&mut self, pacing: &mut Pacing) -> u32 {
        pacing.in_flight -= u64::from(self.under_way);
        std::mem::take(&mut self.under_way)
    }

    /// Notes that the client can send from now on. If a message began the connect, the generator caused the delay from
    /// the message's due time until the connect began.
    pub(super) fn connected(&mut self, began: Option<Moment>, now: Moment) {
        let waited = began.map_or(Duration::ZERO, |began| began.since(self.turn.due.max(self.free_since)));
        self.free_since = now - waited;
        self.lag = Duration::ZERO;
    }

    /// The number of messages due from `from` until `end` that have not left.
    pub(super) fn owed(&self, pacing: &Pacing, from: Moment, end: Moment) -> u64 {
        match &pacing.rule {
            Rule::Scheduled(schedule) => schedule.owed(&self.turn, from, end),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Arrivals;
    use super::*;

    fn pacing(pace: Pace, depth: u32, now: Moment) -> Pacing {
        let endpoints = vec![crate::Endpoint::default()];
        let mut pacing = Pacing::new(&Plan { clients: 1, depth, pace, ..Plan::new(endpoints) }, now);
        pacing.allow(1000, now + FOREVER);
        pacing
    }

    fn open(rate: f64) -> Pace {
        Pace::Open { rate, arrivals: Arrivals::Fixed }
    }

    #[test]
    fn a_closed_loop_sends_when_there_is_room_and_within_its_budget() {
        let now = Moment::now();
        let mut pacing = pacing(Pace::Closed { think: Duration::ZERO }, 2, now);
        pacing.allow(3, now + FOREVER);
        let mut pacer = Pacer::new(0, &pacing, 1, now);
        for _ in 0..2 {
            assert!(pacer.may_send(&pacing, now));
            pacer.sent(&mut pacing, now);
        }
        assert!(!pacer.may_send(&pacing, now), "two are under way");
        pacer.landed(&mut pacing, now);
        assert!(pacer.may_send(&pacing, now));
        pacer.sent(&mut pacing, now);
        pacer.landed(&mut pacing, now);
        assert!(!pacer.may_send(&pacing, now), "the budget is spent");
        assert_eq!((pacing.in_flight(), pacer.cut_off(&mut pacing), pacing.in_flight()), (1, 1, 0));
    }

    #[test]
    fn a_client_thinks_after_each_reply() {
        let now = Moment::now();
        let think = Duration::from_secs(5);
        let mut pacing = pacing(Pace::Closed { think }, 1, now);
        let mut pacer = Pacer::new(0, &pacing, 1, now);
        pacer.sent(&mut pacing, now);
        assert_eq!(pacer.wakes_at(&pacing), None, "a reply is in the way, not time");
        pacer.landed(&mut pacing, now);
        assert_eq!(pacer.wakes_at(&pacing), Some(now + think));
        assert!(!pacer.may_send(&pacing, now) && pacer.may_send(&pacing, now + think));
    }

    #[test]
    fn the_whole_backlog_of_a_late_loop_is_its_lag_and_that_of_a_slow_server_is_not() {
        let start = Moment::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for generator_is_late in [true, false] {
            let mut pacing = pacing(open(100.0), 1, start);
            let mut pacer = Pacer::new(0, &pacing, 1, start);
            let mut lags = Vec::new();
            if !generator_is_late {
                // The reply to the first message takes a second.
                pacer.sent(&mut pacing, start);
                pacer.landed(&mut pacing, at(1000));
            }
            // A second late, the backlog leaves one by one, each with its reply a millisecond later.
            for message in 0..50 {
                let now = at(1000 + message);
                assert!(pacer.may_send(&pacing, now));
                lags.push(pacer.sent(&mut pacing, now).lag);
                pacer.landed(&mut pacing, at(1001 + message));
            }
            if generator_is_late {
                assert_eq!(lags[0], Duration::from_millis(1000));
                // The message that was due at 490 ms left at 1049 ms.
                assert_eq!(lags[49], Duration::from_millis(559));
            } else {
                assert!(lags.iter().all(Duration::is_zero), "{lags:?}");
            }
        }
    }

    #[test]
    fn messages_keep_their_moment_while_there_is_no_connection() {
        let start = Moment::now();
        let mut pacing = pacing(open(10.0), 1, start);
        let mut pacer = Pacer::new(0, &pacing, 1, start);
        pacer.sent(&mut pacing, start);
        assert_eq!(pacer.cut_off(&mut pacing), 1);
        let back = start + Duration::from_secs(2);
        pacer.connected(None, back);
        let departure = pacer.sent(&mut pacing, back);
        assert_eq!(departure.intended, start + Duration::from_millis(100));
        assert_eq!(departure.lag, Duration::ZERO, "the generator could not have sent it earlier");
        pacer.landed(&mut pacing, back);
        assert_eq!(pacer.owed(&pacing, start, back + Duration::from_secs(1)), 28);
        pacer.skip_to(back, &pacing);
        assert_eq!(pacer.owed(&pacing, start, back + Duration::from_secs(1)), 10);
    }
}
