//! One client's messages: what it sends next, what it waits for, and whether what comes back is what was sent.
//!
//! A [`Stream`] is the part of a client that goes over one connection. While the connection is pumped, an [`Exchange`]
//! is its service: it compares and counts input, and its answer is the next message, taken straight from the table.
//! Nothing is copied, and the clock is read once a completed reply. In a closed loop the next message leaves at that
//! same moment.

use std::fmt;

use super::client::Client;
use super::flights::{Flight, Flights};
use super::greetings::Awaited;
use super::mismatch::Fault;
use super::pattern::Place;
use super::replies::{Incoming, Replies};
use super::traffic::Traffic;
use crate::net::{Answer, Service};
use crate::reactor::Moment;

/// The messages and replies of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    /// The connection was established, or until then the connect began, at this moment.
    pub(super) began: Moment,
    pub(super) connecting: bool,
    /// The driver has to look: see [`Stream::take_attention`].
    attention: bool,
    /// Input only needs comparing: no greeting is awaited, and no difference was found.
    plain: bool,
    /// The server's greeting, which comes before anything is sent.
    greeting: Option<Box<Awaited>>,
    /// The greeting is complete, and the driver does not know yet.
    greeted: bool,
    write_at: Place,
    read_at: Place,
    /// Bytes of the oldest message under way that have not come back yet.
    missing: usize,
    /// Bytes of all messages under way that have not come back yet.
    outstanding: u64,
    /// Bytes that came back.
    returned: u64,
    /// Replies that are not echoes.
    incoming: Incoming,
    flights: Flights,
    /// Where the lengths of messages come from.
    lengths: fastrand::Rng,
    pub(super) fault: Option<Box<Fault>>,
}

impl Stream {
    /// The stream of the connection with this number, which begins to connect.
    pub(super) fn new(number: u64, greeting: u32, traffic: &Traffic, now: Moment) -> Stream {
        let beginning = traffic.pattern.beginning(number);
        Stream {
            number,
            began: now,
            connecting: true,
            attention: false,
            plain: greeting == 0,
            greeting: (greeting > 0).then(|| Box::new(Awaited::new(greeting as usize))),
            greeted: false,
            write_at: beginning,
            read_at: beginning,
            missing: 0,
            outstanding: 0,
            returned: 0,
            incoming: Incoming::default(),
            flights: Flights::new(now),
            lengths: traffic.lengths(number),
            fault: None,
        }
    }

    /// Its connection is there.
    pub(super) fn established(&mut self, now: Moment) {
        self.connecting = false;
        self.began = now;
    }

    /// Bytes or replies that should still come.
    pub(super) fn missing(&self, replies: Replies) -> Missing {
        match self.missing_greeting() {
            Some(bytes) => Missing { count: bytes as u64, of: "bytes of the greeting" },
            None if replies == Replies::Echo => Missing { count: self.outstanding, of: "bytes of replies" },
            None => Missing { count: self.flights.len().into(), of: "replies" },
        }
    }

    /// Bytes of the greeting that have not come, if it is awaited.
    pub(super) fn missing_greeting(&self) -> Option<usize> {
        self.greeting.as_ref().map(|greeting| greeting.missing())
    }

    /// Whether the greeting is incomplete, or the driver does not know that it is complete.
    pub(super) fn is_ungreeted(&self) -> bool {
        self.greeting.is_some() || self.greeted
    }

    /// Whether the greeting has become complete since this was asked.
    pub(super) fn take_greeted(&mut self) -> bool {
        std::mem::take(&mut self.greeted)
    }

    /// Whether the driver has to look: a reply is complete and the next message waits, or a difference was found.
    pub(super) fn take_attention(&mut self) -> bool {
        std::mem::take(&mut self.attention)
    }

    /// Whether no message is under way.
    pub(super) fn is_done(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether replies that are not echoes have come, and all that were awaited.
    pub(super) fn is_replied_to(&self) -> bool {
        self.returned > 0 && self.is_done() && self.fault.is_none() && self.greeting.is_none()
    }

    /// Since when the greeting, or the reply to the oldest message under way, has been awaited.
    pub(super) fn waiting_since(&self) -> Option<Moment> {
        if self.greeting.is_some() {
            return Some(self.began);
        }
        self.flights.oldest().map(|flight| flight.sent)
    }

    /// The messages that may leave now: they are the stream's next bytes. Messages that do not fit into one piece of
    /// the table are staged before it.
    pub(super) fn compose<'a>(
        &mut self,
        client: &mut Client,
        traffic: &'a mut Traffic,
        now: Moment,
        staged: &mut Vec<u8>,
    ) -> &'a [u8] {
        if self.greeting.is_some() {
            return &[];
        }
        if traffic.replies != Replies::Echo {
            self.stage_requests(client, traffic, now, staged);
            return &[];
        }
        let (mut start, mut length) = (self.write_at, 0);
        while client.pacer.may_send(&traffic.pacing, now) {
            let size = traffic.sizes.draw(&mut self.lengths);
            if length + size > traffic.pattern.reach() {
                staged.extend_from_slice(traffic.pattern.bytes(start, length));
                start = traffic.pattern.advance(start, length);
                length = 0;
            }
            length += size;
            self.launch(client, traffic, size, now);
        }
        self.write_at = traffic.pattern.advance(start, length);
        traffic.pattern.bytes(start, length)
    }

    /// The messages that may leave now, to a service that does not echo.
    fn stage_requests(
        &mut self,
        client: &mut Client,
        traffic: &mut Traffic,
        now: Moment,
        staged: &mut Vec<u8>,
    ) {
        while client.pacer.may_send(&traffic.pacing, now) {
            let size = traffic.sizes.draw(&mut self.lengths);
            staged.extend_from_slice(traffic.requests.of(size));
            self.launch(client, traffic, size, now);
        }
    }

    fn launch(&mut self, client: &mut Client, traffic: &mut Traffic, size: usize, now: Moment) {
        let departure = client.pacer.sent(&mut traffic.pacing, now);
        traffic.figures.sending(size, departure.intended, departure.lag);
        self.outstanding += size as u64;
        if self.flights.is_empty() {
            self.missing = size;
        }
        self.flights.push(Flight { intended: departure.intended, sent: now, size: size as u32 });
    }

    /// Takes in bytes that are known to be the right ones, and returns the time if they completed a reply.
    fn accept(&mut self, client: &mut Client, traffic: &mut Traffic, count: usize) -> Option<Moment> {
        self.returned += count as u64;
        self.outstanding -= count as u64;
        self.read_at = traffic.pattern.advance(self.read_at, count);
        if count < self.missing {
            self.missing -= count;
            return None;
        }
        let now = Moment::now();
        let mut rest = count;
        while !self.flights.is_empty() && rest >= self.missing {
            rest -= self.missing;
            let Flight { intended, sent, size } = self.flights.pop();
            client.replied(traffic, size as usize, (intended, sent), now);
            self.missing = self.flights.oldest().map_or(0, |flight| flight.size as usize);
        }
        self.missing -= rest;
        // In a plain closed loop the driver has nothing to do: the next message is the answer.
        self.attention = traffic.churn || !traffic.pacing.is_at_once();
        Some(now)
    }

    /// Takes replies that are not echoes, and returns the time if any is complete.
    fn take_replies(&mut self, client: &mut Client, traffic: &mut Traffic, chunk: &[u8]) -> Option<Moment> {
        let mut rest = self.take_greeting(client, traffic, chunk);
        let now = Moment::now();
        let mut completed = None;
        while !rest.is_empty() && self.fault.is_none() {
            if self.is_done() && traffic.replies == Replies::Any {
                // Another piece of the reply before.
                break;
            }
            let (length, behind) = self.incoming.take(traffic.replies, rest);
            match length {
                Some(length) if !self.is_done() => {
                    let Flight { intended, sent, .. } = self.flights.pop();
                    client.replied(traffic, length, (intended, sent), now);
                    completed = Some(now);
                }
                Some(_) => {
                    self.fault = Some(Box::new(Fault::surplus(self.number, self.returned, rest)));
                }
                None => {}
            }
            self.returned += length.unwrap_or(0) as u64;
            rest = behind;
        }
        self.attention |= self.fault.is_some() || traffic.churn || !traffic.pacing.is_at_once();
        if self.fault.is_some() { None } else { completed }
    }

    /// Handles whatever is out of the ordinary: a greeting, a difference, more than was sent.
    #[cold]
    fn unusual<'a>(&mut self, client: &mut Client, traffic: &mut Traffic, mut chunk: &'a [u8]) -> &'a [u8] {
        chunk = self.take_greeting(client, traffic, chunk);
        self.plain = self.greeting.is_none() && self.fault.is_none();
        if chunk.is_empty() || (self.plain && self.is_right(traffic, chunk)) {
            return chunk;
        }
        if self.fault.is_none() {
            // Bytes that are right before the difference count.
            let expected = chunk.len().min(usize::try_from(self.outstanding).unwrap_or(usize::MAX));
            let agreed = if traffic.verify {
                traffic.pattern.agreement(self.read_at, &chunk[..expected])
            } else {
                expected
            };
            if agreed > 0 {
                self.accept(client, traffic, agreed);
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

    /// Takes the greeting, or as much of it as came, and returns the rest.
    fn take_greeting<'a>(&mut self, client: &mut Client, traffic: &mut Traffic, chunk: &'a [u8]) -> &'a [u8] {
        let Some(greeting) = &mut self.greeting else { return chunk };
        let rest = greeting.take(chunk);
        if greeting.missing() == 0 {
            if let Some(greeting) = self.greeting.take() {
                traffic.figures.greetings.count(*greeting);
            }
            self.greeted = true;
            self.attention = true;
            // The server, not the generator, kept the client from sending until now.
            client.pacer.connected(None, Moment::now());
        }
        rest
    }

    /// Whether these are the bytes that were sent.
    fn is_right(&self, traffic: &Traffic, chunk: &[u8]) -> bool {
        chunk.len() as u64 <= self.outstanding
            && (!traffic.verify || traffic.pattern.matches(self.read_at, chunk))
    }
}

/// Bytes or replies that should have come and have not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    count: u64,
    of: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.of)
    }
}

/// A stream that is being pumped: the service of its connection.
pub(super) struct Exchange<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) client: &'a mut Client,
    pub(super) traffic: &'a mut Traffic,
}

impl Service for Exchange<'_> {
    /// Chunks may end anywhere.
    fn chunk(&self) -> usize {
        usize::MAX
    }

    fn answer<'a>(&'a mut self, mut chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        let Exchange { stream, client, traffic } = self;
        if traffic.replies != Replies::Echo {
            return match stream.take_replies(client, traffic, chunk) {
                Some(now) if !traffic.churn => {
                    Answer { bytes: stream.compose(client, traffic, now, staged), last: false }
                }
                _ => Answer::default(),
            };
        }
        if !stream.plain || !stream.is_right(traffic, chunk) {
            chunk = stream.unusual(client, traffic, chunk);
            if chunk.is_empty() {
                return Answer::default();
            }
        }
        match stream.accept(client, traffic, chunk.len()) {
            Some(now) if !traffic.churn => {
                Answer { bytes: stream.compose(client, traffic, now, staged), last: false }
            }
            _ => Answer::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::collections::VecDeque;

    use super::super::mismatch::LooksLike;
    use super::super::pacer::FOREVER;
    use super::super::plan::Plan;
    use super::super::sizes::Sizes;
    use super::*;

    struct Fixture {
        traffic: Traffic,
        client: Client,
        stream: Stream,
    }

    impl Fixture {
        fn new(sizes: Sizes, depth: u32, budget: u64, greeting: u32) -> Fixture {
            let now = Moment::now();
            let plan = Plan { sizes, depth, seed: 1, ..Plan::new(vec![crate::Endpoint::default()]) };
            let mut traffic = Traffic::new(&plan, now);
            traffic.pacing.allow(budget, now + FOREVER);
            let client = Client::new(0, &traffic.pacing, 1, now);
            let stream = Stream::new(3, greeting, &traffic, now);
            Fixture { traffic, client, stream }
        }

        fn compose(&mut self) -> Vec<u8> {
            let mut staged = Vec::new();
            let Fixture { traffic, client, stream } = self;
            let bytes = stream.compose(client, traffic, Moment::now(), &mut staged).to_vec();
            staged.extend(bytes);
            staged
        }

        fn answer(&mut self, chunk: &[u8]) -> Vec<u8> {
            let mut staged = Vec::new();
            let Fixture { traffic, client, stream } = self;
            let mut exchange = Exchange { stream, client, traffic };
            let bytes = exchange.answer(chunk, &mut staged).bytes.to_vec();
            staged.extend(bytes);
            staged
        }

        fn counts(&self) -> (u64, u64, u64) {
            let Traffic { figures, pacing, .. } = &self.traffic;
            (figures.messages.sent, figures.messages.received, pacing.in_flight())
        }
    }

    #[test]
    fn the_answer_to_a_complete_reply_is_the_next_message() {
        let mut fixture = Fixture::new(Sizes::fixed(10), 1, 3, 0);
        let first = fixture.compose();
        assert_eq!((first.len(), fixture.client.pacer.under_way()), (10, 1));
        assert!(fixture.answer(&first[..9]).is_empty());
        let second = fixture.answer(&first[9..]);
        assert_eq!(second.len(), 10);
        assert_ne!(first, second);
        let third = fixture.answer(&second);
        assert!(fixture.answer(&third).is_empty(), "the budget is spent");
        assert_eq!(fixture.counts(), (3, 3, 0));
    }

    #[test]
    fn a_greeting_is_awaited_taken_off_at_any_split_and_counted() {
        for split in 0..5 {
            let mut fixture = Fixture::new(Sizes::fixed(10), 1, 100, 5);
            assert!(fixture.compose().is_empty(), "nothing is sent before it");
            assert_eq!(fixture.stream.missing_greeting(), Some(5));
            assert!(fixture.stream.waiting_since().is_some() && !fixture.stream.take_greeted());
            let (some, rest) = b"hello".split_at(split);
            assert!(fixture.answer(some).is_empty());
            assert!(fixture.answer(rest).is_empty());
            assert!(
                fixture.stream.take_attention()
                    && fixture.stream.take_greeted()
                    && !fixture.stream.take_greeted()
            );
            let message = fixture.compose();
            assert_eq!(message.len(), 10);
            assert_eq!(fixture.answer(&message).len(), 10);
            assert!(fixture.stream.fault.is_none());
            assert_eq!(fixture.traffic.figures.greetings.by_text(), [("hello".to_owned(), 1)].into());
        }
    }

    #[test]
    fn what_is_said_beyond_the_greeting_is_a_difference() {
        let mut fixture = Fixture::new(Sizes::fixed(10), 1, 100, 5);
        assert!(fixture.answer(b"hello!").is_empty());
        assert!(fixture.stream.fault.is_some());
        assert_eq!(fixture.traffic.figures.greetings.by_text().len(), 1);
    }

    #[test]
    fn a_difference_ends_the_exchange_and_what_was_right_before_it_counts() {
        let mut fixture = Fixture::new(Sizes::fixed(10), 2, 100, 0);
        let mut bytes = fixture.compose();
        assert_eq!(bytes.len(), 20);
        bytes[13] ^= 1;
        assert!(fixture.answer(&bytes).is_empty());
        assert!(fixture.stream.take_attention());
        let mismatch = fixture.stream.fault.as_ref().expect("a fault").judge(&fixture.traffic.pattern);
        assert_eq!((mismatch.offset, mismatch.looks_like), (13, LooksLike::Corruption));
        assert_eq!(fixture.traffic.figures.messages.received, 1);
        assert!(fixture.answer(&bytes).is_empty(), "nothing is sent any more");
    }

    #[test]
    fn more_than_was_sent_is_a_difference_even_unverified() {
        for verify in [true, false] {
            let mut fixture = Fixture::new(Sizes::fixed(10), 1, 1, 0);
            fixture.traffic.verify = verify;
            let mut bytes = fixture.compose();
            bytes.extend_from_within(..4);
            assert!(fixture.answer(&bytes).is_empty());
            let mismatch = fixture.stream.fault.as_ref().expect("a fault").judge(&fixture.traffic.pattern);
            assert_eq!((mismatch.offset, mismatch.looks_like), (10, LooksLike::Duplication));
        }
    }

    proptest! {
        /// An honest echo is never found at fault, however its replies are cut, and every message comes back.
        #[test]
        fn an_honest_echo_passes(
            cuts in proptest::collection::vec(1..700_usize, 1..60), shortest in 1..300_usize, more in 0..300_usize, depth in 1..9_u32,
        ) {
            let mut fixture = Fixture::new(Sizes { shortest, longest: shortest + more }, depth, 200, 0);
            let mut wire: VecDeque<u8> = fixture.compose().into();
            let mut cuts = cuts.into_iter().cycle();
            while !wire.is_empty() {
                let count = cuts.next().unwrap_or(1).min(wire.len());
                let chunk: Vec<u8> = wire.drain(..count).collect();
                wire.extend(fixture.answer(&chunk));
                prop_assert!(fixture.stream.fault.is_none());
                prop_assert_eq!(fixture.stream.outstanding, wire.len() as u64);
            }
            prop_assert_eq!((fixture.counts(), fixture.client.pacer.under_way()), ((200, 200, 0), 0));
            prop_assert_eq!(fixture.traffic.figures.bytes.sent, fixture.traffic.figures.bytes.received);
        }
    }
}
