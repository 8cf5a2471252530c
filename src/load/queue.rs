//! The clients without a connection: before their first connection, between two, and after their last. The queue also
//! says when the next client may begin to connect.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::client::Client;
use super::plan::{Plan, Reconnect};
use super::ramp::Ramp;
use super::traffic::Traffic;
use crate::reactor::Moment;

/// All clients without a connection.
pub(super) struct Queue {
    /// The numbers of clients that have not begun to connect yet, the next one last.
    fresh: Vec<u32>,
    /// Clients with an appointment, the earliest first; at the same moment, in the order of their numbers.
    waiting: BTreeMap<Appointment, Attempt>,
    /// Clients whose first connection failed. They try again when all others have had their first.
    held_back: Vec<(Appointment, Attempt)>,
    /// Clients that get no connection any more, and below the numbers of clients that never began to connect.
    gone: Vec<Client>,
    never_begun: Vec<u32>,
    /// Counts the connects under way. A connect that this queue hands out goes on until [`Ramp::ended`].
    pub(super) ramp: Ramp,
    reconnect: Reconnect,
    /// The number of clients in `waiting` that go on with a connect that they have begun.
    trying: usize,
    /// The number of connections begun so far.
    numbers: u64,
    random: fastrand::Rng,
}

/// A client that begins to connect.
pub(super) struct Attempt {
    pub(super) client: Client,
    /// When the attempt that this one continues began; `None` for a new attempt.
    pub(super) since: Option<Moment>,
}

/// When a client is to connect, and its number. A client has one appointment at most.
type Appointment = (Moment, u32);

impl Queue {
    pub(super) fn new(plan: &Plan, now: Moment) -> Queue {
        Queue {
            fresh: (0..u32::try_from(plan.clients).unwrap_or(u32::MAX)).rev().collect(),
            waiting: BTreeMap::new(),
            held_back: Vec::new(),
            gone: Vec::new(),
            never_begun: Vec::new(),
            ramp: Ramp::new(plan.connecting, plan.connect_rate, now),
            reconnect: plan.reconnect.unwrap_or_default(),
            trying: 0,
            numbers: 0,
            // Not from the seed: several generators of one seed must not come back in step.
            random: fastrand::Rng::new(),
        }
    }

    /// The next client that may begin to connect now.
    pub(super) fn take(&mut self, traffic: &Traffic, now: Moment) -> Option<Attempt> {
        let is_due = !self.fresh.is_empty() || self.earliest().is_some_and(|at| at <= now);
        if !is_due || !self.ramp.take(now) {
            return None;
        }
        let mut attempt = match self.fresh.pop() {
            Some(client) => {
                Attempt { client: Client::new(client, &traffic.pacing, traffic.seed, now), since: None }
            }
            None => self.waiting.pop_first()?.1,
        };
        if attempt.since.is_some() {
            self.trying -= 1;
        } else {
            attempt.client.number = self.numbers;
            self.numbers += 1;
        }
        Some(attempt)
    }

    /// The moment at which the next client may begin to connect, if only time is in its way.
    pub(super) fn wakes_at(&self) -> Option<Moment> {
        let may_begin = self.ramp.waits_until()?;
        if !self.fresh.is_empty() {
            return Some(may_begin);
        }
        Some(self.earliest()?.max(may_begin))
    }

    /// The moment of the earliest appointment.
    fn earliest(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Queues the client for another connection at this time.
    pub(super) fn push(&mut self, client: Client, at: Moment) {
        self.waiting.insert((at, client.pacer.client()), Attempt { client, since: None });
    }

    /// Queues the client to go on at this time with a connect that it has begun.
    pub(super) fn go_on(&mut self, client: Client, at: Moment, since: Moment) {
        self.trying += 1;
        self.waiting.insert((at, client.pacer.client()), Attempt { client, since: Some(since) });
    }

    /// Lets the client try again when all others have had their first connection.
    pub(super) fn hold_back(&mut self, client: Client, at: Moment) {
        self.held_back.push(((at, client.pacer.client()), Attempt { client, since: None }));
    }

    /// Lets the clients that were held back try again.
    pub(super) fn release(&mut self) {
        self.waiting.extend(self.held_back.drain(..));
    }

    /// Lets all clients wait, each for its first message.
    pub(super) fn await_first_messages(&mut self, traffic: &Traffic, now: Moment) {
        for client in std::mem::take(&mut self.fresh).into_iter().rev() {
            let client = Client::new(client, &traffic.pacing, traffic.seed, now);
            let at = client.pacer.due();
            self.push(client, at);
        }
    }

    /// Gives the client no connection any more.
    pub(super) fn give_up(&mut self, client: Client) {
        self.gone.push(client);
    }

    /// Gives up every client that still waits for a connection.
    pub(super) fn give_all_up(&mut self) {
        self.give_fresh_up();
        self.trying = 0;
        self.release();
        self.gone.extend(std::mem::take(&mut self.waiting).into_values().map(|attempt| attempt.client));
    }

    /// Keeps clients that have never begun to connect from beginning.
    pub(super) fn give_fresh_up(&mut self) {
        self.never_begun.append(&mut self.fresh);
    }

    /// Lets all clients that were given up begin anew.
    pub(super) fn revive(&mut self) {
        self.fresh.append(&mut self.never_begun);
        self.fresh.extend(self.gone.drain(..).map(|client| client.pacer.client()));
        self.fresh.sort_unstable_by_key(|client| Reverse(*client));
    }

    /// Whether each client has had its first connection, or has failed to get it.
    pub(super) fn all_have_tried(&self) -> bool {
        self.fresh.is_empty() && self.ramp.under_way() == 0 && self.trying == 0
    }

    /// Whether no client will get a connection.
    pub(super) fn is_empty(&self) -> bool {
        self.all_have_tried() && self.waiting.is_empty() && self.held_back.is_empty()
    }

    /// When a client connects again, after `tries` failures since its last reply: at once the first time, then after a
    /// delay that doubles. Chance picks a moment in the second half of the delay, so that clients that lost their
    /// connections together do not come back together.
    pub(super) fn again_at(&mut self, tries: u32, now: Moment) -> Moment {
        let Some(doublings) = tries.checked_sub(1) else { return now };
        let Reconnect { first, longest } = self.reconnect;
        let delay = first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest);
        now + delay.mul_f64(0.5 + self.random.f64() / 2.0).max(Duration::from_micros(1))
    }

    /// All clients without a connection.
    pub(super) fn clients(&self) -> impl Iterator<Item = &Client> {
        let held_back = self.held_back.iter().map(|(_, attempt)| attempt);
        self.waiting.values().chain(held_back).map(|attempt| &attempt.client).chain(&self.gone)
    }

    /// Applies a change to each client without a connection.
    pub(super) fn for_each(&mut self, change: impl FnMut(&mut Client)) {
        let held_back = self.held_back.iter_mut().map(|(_, attempt)| attempt);
        let attempts = self.waiting.values_mut().chain(held_back);
        attempts.map(|attempt| &mut attempt.client).chain(&mut self.gone).for_each(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_are_spread_and_their_distance_doubles_up_to_a_bound() {
        let now = Moment::now();
        let mut queue = Queue::new(&Plan::new(vec![crate::Endpoint::default()]), now);
        let mut delays =
            |tries| -> Vec<Duration> { (0..200).map(|_| queue.again_at(tries, now).since(now)).collect() };
        assert!(delays(0).iter().all(Duration::is_zero), "the first time at once");
        for (tries, milliseconds) in [(1, 10), (2, 20), (4, 80), (8, 1000), (40, 1000)] {
            let delays = delays(tries);
            let longest = Duration::from_millis(milliseconds);
            assert!(delays.iter().all(|delay| (longest / 2..=longest).contains(delay)), "{delays:?}");
            let distinct: std::collections::HashSet<_> = delays.iter().collect();
            assert!(distinct.len() > 190, "never in step: {} of 200 differ", distinct.len());
        }
    }
}
