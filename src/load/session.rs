//! One client's messages: what it sends next, what it waits for, and whether what comes back is what was sent.
//!
//! A [`Session`] is the part of a client that is not its socket. While a connection is pumped, an [`Exchange`] of the
//! session with what all of them share is its service: input is compared and counted, and the answer is the next
//! message, taken straight from the table. Nothing is copied, and the clock is read once a completed reply; in a closed
//! loop that is also the moment at which the next message leaves.

use std::fmt;
use std::time::Duration;

use super::fault::Fault;
use super::flights::{Flight, Flights};
use super::greetings::Awaited;
use super::pattern::{Pattern, Place};
use super::schedule::Turn;
use super::shared::{Pacing, Run};
use super::targets::Choice;
use crate::net::{Answer, Service};
use crate::reactor::Moment;

/// One client between connect and close; in churn, over all of its connections.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: u32,
    /// The number of its connection, over all connections of the run.
    pub(super) number: u64,
    /// Where its connection goes, of the addresses of its endpoint.
    pub(super) choice: Choice,
    /// When its connect began; once it is established, when that was.
    pub(super) began: Moment,
    pub(super) connecting: bool,
    /// Something happened that the driver has to see to: see [`Session::take_attention`].
    attention: bool,
    /// Input needs nothing but comparing: no greeting is to be skipped, no difference was found.
    plain: bool,
    /// How often it may send when [`Pacing::OnCall`].
    pub(super) calls: u32,
    /// What the server is to say before anything is sent.
    greeting: Option<Box<Awaited>>,
    /// The greeting is complete, which the driver does not know yet.
    greeted: bool,
    write_at: Place,
    read_at: Place,
    /// Bytes of the oldest message under way that have not come back yet.
    missing: usize,
    /// Bytes of all messages under way that have not come back yet.
    outstanding: u64,
    /// Bytes that came back.
    returned: u64,
    flights: Flights,
    /// When there was room for another message.
    free_since: Moment,
    /// When a thinking client goes on.
    think_until: Moment,
    /// Its place in the schedule of an open loop.
    pub(super) turn: Option<Turn>,
    /// Replies that count.
    pub(super) completed: u64,
    pub(super) fault: Option<Box<Fault>>,
}

impl Session {
    pub(super) fn new(client: u32, now: Moment) -> Session {
        Session {
            client,
            number: 0,
            choice: Choice::default(),
            began: now,
            connecting: true,
            attention: false,
            plain: true,
            calls: 0,
            greeting: None,
            greeted: false,
            write_at: 0,
            read_at: 0,
            missing: 0,
            outstanding: 0,
            returned: 0,
            flights: Flights::new(now),
            free_since: now,
            think_until: now,
            turn: None,
            completed: 0,
            fault: None,
        }
    }

    /// Makes it ready for a new connection.
    pub(super) fn begin(&mut self, choice: Choice, greeting: u32, pattern: &Pattern, now: Moment) {
        let number = self.number;
        let beginning = pattern.beginning(number);
        *self = Session {
            number,
            choice,
            greeting: (greeting > 0).then(|| Box::new(Awaited::new(greeting as usize))),
            plain: greeting == 0,
            write_at: beginning,
            read_at: beginning,
            free_since: self.free_since,
            think_until: self.think_until,
            turn: self.turn.take(),
            completed: self.completed,
            ..Session::new(self.client, now)
        };
    }

    /// Its connection is there.
    pub(super) fn established(&mut self, now: Moment) {
        self.connecting = false;
        self.calls = 1;
        // It could send only now. If a message was due before, the time until the connect began was the generator's.
        let due = self.turn.as_ref().map_or(self.began, |turn| turn.due);
        self.free_since = now - self.began.since(due.max(self.free_since));
        self.began = now;
    }

    /// What should still come.
    pub(super) fn missing(&self) -> Missing {
        match self.missing_greeting() {
            Some(bytes) => Missing { bytes: bytes as u64, of: "the greeting" },
            None => Missing { bytes: self.outstanding, of: "replies" },
        }
    }

    /// Bytes of the greeting that have not come, if it is waited for.
    pub(super) fn missing_greeting(&self) -> Option<usize> {
        self.greeting.as_ref().map(|greeting| greeting.missing())
    }

    /// Whether the driver still has to be told that the greeting is complete.
    pub(super) fn is_ungreeted(&self) -> bool {
        self.greeting.is_some() || self.greeted
    }

    /// Whether the greeting has become complete since this was asked.
    pub(super) fn take_greeted(&mut self) -> bool {
        std::mem::take(&mut self.greeted)
    }

    /// Whether the driver has to look at it: a message is finished and the next one waits, or a difference was found.
    pub(super) fn take_attention(&mut self) -> bool {
        std::mem::take(&mut self.attention)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.flights.count()
    }

    /// Bytes that should still come back.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Since when the greeting, or the reply to the oldest message under way, has been waited for.
    pub(super) fn waiting_since(&self) -> Option<Moment> {
        if self.greeting.is_some() {
            return Some(self.began);
        }
        self.flights.oldest().map(|flight| flight.sent)
    }

    /// When the next message is to be sent, if it is time that is in its way.
    pub(super) fn wakes_at(&self, run: &Run) -> Option<Moment> {
        if self.flights.count() >= run.depth || run.budget == 0 || self.greeting.is_some() {
            return None;
        }
        match run.pacing {
            Pacing::AtOnce | Pacing::OnCall => None,
            Pacing::Thinking(_) => Some(self.think_until),
            Pacing::Scheduled(_) => {
                let due = self.turn.as_ref().map(|turn| turn.due);
                due.filter(|due| *due < run.due_until)
            }
        }
    }

    fn may_send(&self, run: &Run, now: Moment) -> bool {
        self.flights.count() < run.depth
            && run.budget > 0
            && match run.pacing {
                Pacing::AtOnce => true,
                Pacing::OnCall => self.calls > 0,
                Pacing::Thinking(_) => self.think_until <= now,
                Pacing::Scheduled(_) => {
                    self.turn.as_ref().is_some_and(|turn| turn.due <= now && turn.due < run.due_until)
                }
            }
    }

    /// The messages that may leave now: they are the stream's next bytes. What does not fit into one piece of the
    /// table is staged before it.
    pub(super) fn compose<'a>(&mut self, run: &'a mut Run, now: Moment, staged: &mut Vec<u8>) -> &'a [u8] {
        let (mut start, mut length) = (self.write_at, 0);
        if self.greeting.is_some() {
            return &[];
        }
        while self.may_send(run, now) {
            let size = run.next_size();
            if length + size > run.pattern.reach() {
                staged.extend_from_slice(run.pattern.bytes(start, length));
                start = run.pattern.advance(start, length);
                length = 0;
            }
            length += size;
            self.launch(run, size, now);
        }
        self.write_at = run.pattern.advance(start, length);
        run.pattern.bytes(start, length)
    }

    fn launch(&mut self, run: &mut Run, size: usize, now: Moment) {
        let (mut intended, mut lag) = (now, Duration::ZERO);
        match (&run.pacing, &mut self.turn) {
            (Pacing::Scheduled(schedule), Some(turn)) => {
                intended = turn.due;
                // The time in which the client could not send, because it waited for replies, is the server's.
                lag = now.since(intended.max(self.free_since));
                schedule.advance(turn);
            }
            (Pacing::OnCall, _) => self.calls -= 1,
            _ => {}
        }
        run.figures.sending(size, intended, lag);
        run.budget -= 1;
        run.in_flight += 1;
        self.outstanding += size as u64;
        if self.flights.count() == 0 {
            self.missing = size;
        }
        self.flights.push(Flight { intended, sent: now, size: size as u32 });
    }

    /// Takes bytes in that are known to be the right ones, and returns the time if they completed a reply.
    fn accept(&mut self, run: &mut Run, count: usize) -> Option<Moment> {
        self.returned += count as u64;
        self.outstanding -= count as u64;
        self.read_at = run.pattern.advance(self.read_at, count);
        if count < self.missing {
            self.missing -= count;
            return None;
        }
        let now = Moment::now();
        let was_full = self.flights.count() >= run.depth;
        let mut rest = count;
        while self.flights.count() > 0 && rest >= self.missing {
            rest -= self.missing;
            let Flight { intended, sent, size } = self.flights.pop();
            run.in_flight -= 1;
            if run.figures.completed(size as usize, intended, sent, now) {
                self.completed += 1;
            }
            self.missing = self.flights.oldest().map_or(0, |flight| flight.size as usize);
        }
        self.missing -= rest;
        if was_full {
            self.free_since = now;
        }
        if let Pacing::Thinking(time) = run.pacing {
            self.think_until = now + time;
        }
        // With nothing but `AtOnce` the driver has nothing to do: the next message is the answer.
        self.attention = run.churn || !matches!(run.pacing, Pacing::AtOnce);
        Some(now)
    }

    /// What is out of the ordinary: a greeting, a difference, more than was sent.
    #[cold]
    fn unusual<'a>(&mut self, run: &mut Run, mut chunk: &'a [u8]) -> &'a [u8] {
        chunk = self.take_greeting(run, chunk);
        self.plain = self.greeting.is_none() && self.fault.is_none();
        if chunk.is_empty() || (self.plain && self.is_right(run, chunk)) {
            return chunk;
        }
        if self.fault.is_none() {
            // What is right before the difference counts.
            let expected = chunk.len().min(usize::try_from(self.outstanding).unwrap_or(usize::MAX));
            let agreed =
                if run.verify { run.pattern.agreement(self.read_at, &chunk[..expected]) } else { expected };
            if agreed > 0 {
                self.accept(run, agreed);
                chunk = &chunk[agreed..];
            }
            let fault = Fault::new(self.number, self.returned, self.read_at, self.outstanding);
            self.fault = Some(Box::new(fault));
            self.plain = false;
        }
        if let Some(fault) = &mut self.fault {
            fault.add(chunk);
        }
        self.attention = true;
        &[]
    }

    /// Takes the greeting, or what has come of it, and returns the rest.
    fn take_greeting<'a>(&mut self, run: &mut Run, chunk: &'a [u8]) -> &'a [u8] {
        let Some(greeting) = &mut self.greeting else { return chunk };
        let rest = greeting.take(chunk);
        if greeting.missing() == 0 {
            if let Some(greeting) = self.greeting.take() {
                run.figures.greetings.count(*greeting);
            }
            self.greeted = true;
            self.attention = true;
            // It could send only now, and that is not the generator's doing.
            self.free_since = Moment::now();
        }
        rest
    }

    /// Whether these bytes are those that were sent.
    fn is_right(&self, run: &Run, chunk: &[u8]) -> bool {
        chunk.len() as u64 <= self.outstanding && (!run.verify || run.pattern.matches(self.read_at, chunk))
    }
}

/// What has not come of what should have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    bytes: u64,
    of: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.bytes, self.of)
    }
}

/// A session that is being pumped: what its connection takes for a service.
pub(super) struct Exchange<'a> {
    pub(super) session: &'a mut Session,
    pub(super) run: &'a mut Run,
}

impl Service for Exchange<'_> {
    /// Where a chunk ends is of no interest.
    fn chunk(&self) -> usize {
        usize::MAX
    }

    fn answer<'a>(&'a mut self, mut chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        let Exchange { session, run } = self;
        if !session.plain || !session.is_right(run, chunk) {
            chunk = session.unusual(run, chunk);
            if chunk.is_empty() {
                return Answer::default();
            }
        }
        match session.accept(run, chunk.len()) {
            Some(now) if !run.churn => Answer { bytes: session.compose(run, now, staged), last: false },
            _ => Answer::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::collections::VecDeque;

    use super::super::fault::LooksLike;
    use super::super::figures::Figures;
    use super::super::plan::Sizes;
    use super::*;

    fn run(sizes: Sizes, depth: u32, budget: u64) -> Run {
        let now = Moment::now();
        Run {
            pattern: Pattern::new(1, sizes.longest, depth as usize, 1000),
            figures: Figures::new(false, now),
            pacing: Pacing::AtOnce,
            sizes,
            random: fastrand::Rng::with_seed(1),
            depth,
            verify: true,
            churn: false,
            budget,
            due_until: now + Duration::from_secs(3600),
            in_flight: 0,
            ungreeted: 0,
        }
    }

    fn session(run: &Run, greeting: u32) -> Session {
        let mut session = Session::new(0, Moment::now());
        session.number = 3;
        session.begin(Choice::default(), greeting, &run.pattern, Moment::now());
        session
    }

    fn compose(session: &mut Session, run: &mut Run) -> Vec<u8> {
        let mut staged = Vec::new();
        let bytes = session.compose(run, Moment::now(), &mut staged).to_vec();
        staged.extend(bytes);
        staged
    }

    fn answer(session: &mut Session, run: &mut Run, chunk: &[u8]) -> Vec<u8> {
        let mut staged = Vec::new();
        let mut exchange = Exchange { session, run };
        let bytes = exchange.answer(chunk, &mut staged).bytes.to_vec();
        staged.extend(bytes);
        staged
    }

    #[test]
    fn the_answer_to_a_complete_reply_is_the_next_message() {
        let mut run = run(Sizes::fixed(10), 1, 3);
        let mut session = session(&run, 0);
        let first = compose(&mut session, &mut run);
        assert_eq!((first.len(), session.in_flight()), (10, 1));
        assert!(answer(&mut session, &mut run, &first[..9]).is_empty());
        let second = answer(&mut session, &mut run, &first[9..]);
        assert_eq!(second.len(), 10);
        assert_ne!(first, second);
        let third = answer(&mut session, &mut run, &second);
        assert!(answer(&mut session, &mut run, &third).is_empty(), "the budget is spent");
        assert_eq!((run.figures.sent, run.figures.received, run.in_flight), (3, 3, 0));
    }

    #[test]
    fn a_greeting_is_awaited_taken_off_at_any_split_and_counted() {
        for split in 0..5 {
            let mut run = run(Sizes::fixed(10), 1, 100);
            let mut session = session(&run, 5);
            assert!(compose(&mut session, &mut run).is_empty(), "nothing is sent before it");
            assert_eq!(session.missing_greeting(), Some(5));
            assert!(session.waiting_since().is_some() && !session.take_greeted());
            let (some, rest) = b"hello".split_at(split);
            assert!(answer(&mut session, &mut run, some).is_empty());
            assert!(answer(&mut session, &mut run, rest).is_empty());
            assert!(session.take_attention() && session.take_greeted() && !session.take_greeted());
            let message = compose(&mut session, &mut run);
            assert_eq!(message.len(), 10);
            assert_eq!(answer(&mut session, &mut run, &message).len(), 10);
            assert!(session.fault.is_none());
            assert_eq!(run.figures.greetings.by_text(), [("hello".to_owned(), 1)].into());
        }
    }

    #[test]
    fn what_is_said_beyond_the_greeting_is_a_difference() {
        let mut run = run(Sizes::fixed(10), 1, 100);
        let mut session = session(&run, 5);
        assert!(answer(&mut session, &mut run, b"hello!").is_empty());
        assert!(session.fault.is_some());
        assert_eq!(run.figures.greetings.by_text().len(), 1);
    }

    #[test]
    fn a_difference_ends_the_exchange_and_what_was_right_before_it_counts() {
        let mut run = run(Sizes::fixed(10), 2, 100);
        let mut session = session(&run, 0);
        let mut bytes = compose(&mut session, &mut run);
        assert_eq!(bytes.len(), 20);
        bytes[13] ^= 1;
        assert!(answer(&mut session, &mut run, &bytes).is_empty());
        assert!(session.take_attention());
        let mismatch = session.fault.as_ref().expect("a fault").judge(&run.pattern);
        assert_eq!((mismatch.offset, mismatch.looks_like), (13, LooksLike::Corruption));
        assert_eq!(run.figures.received, 1);
        assert!(answer(&mut session, &mut run, &bytes).is_empty(), "nothing is sent any more");
    }

    #[test]
    fn more_than_was_sent_is_a_difference_even_unverified() {
        for verify in [true, false] {
            let mut run = Run { verify, ..run(Sizes::fixed(10), 1, 1) };
            let mut session = session(&run, 0);
            let mut bytes = compose(&mut session, &mut run);
            bytes.extend_from_within(..4);
            assert!(answer(&mut session, &mut run, &bytes).is_empty());
            let mismatch = session.fault.as_ref().expect("a fault").judge(&run.pattern);
            assert_eq!((mismatch.offset, mismatch.looks_like), (10, LooksLike::Duplication));
        }
    }

    proptest! {
        /// An honest echo is never found at fault, however its replies are cut, and every message comes back.
        #[test]
        fn an_honest_echo_passes(
            cuts in proptest::collection::vec(1..700_usize, 1..60), shortest in 1..300_usize, more in 0..300_usize, depth in 1..9_u32,
        ) {
            let mut run = run(Sizes { shortest, longest: shortest + more }, depth, 200);
            let mut session = session(&run, 0);
            let mut wire: VecDeque<u8> = compose(&mut session, &mut run).into();
            let mut cuts = cuts.into_iter().cycle();
            while !wire.is_empty() {
                let count = cuts.next().unwrap_or(1).min(wire.len());
                let chunk: Vec<u8> = wire.drain(..count).collect();
                wire.extend(answer(&mut session, &mut run, &chunk));
                prop_assert!(session.fault.is_none());
                prop_assert_eq!(session.outstanding(), wire.len() as u64);
            }
            prop_assert_eq!((run.figures.received, run.in_flight, session.in_flight()), (200, 0, 0));
            prop_assert_eq!(run.figures.bytes_sent, run.figures.bytes_received);
        }
    }
}
