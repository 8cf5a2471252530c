//! A connection's messages while it is pumped.
//!
//! An [`Exchange`] is the service of a client's connection: it compares and counts input, and its answer is the next
//! message, taken straight from the table. Nothing is copied, and the clock is read once for each completed reply. In
//! a closed loop the next message leaves at that same moment.

use super::client::Client;
use super::replies::Replies;
use super::stream::Stream;
use super::traffic::Traffic;
use crate::net::{Answer, Service};

/// A stream that is being pumped: the service of its connection.
pub(super) struct Exchange<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) client: &'a mut Client,
    pub(super) traffic: &'a mut Traffic,
}

impl Service for Exchange<'_> {
    /// A chunk may end anywhere.
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
    use super::super::replies::Requests;
    use super::super::sizes::Sizes;
    use super::*;
    use crate::reactor::Moment;

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

        /// A fixture in which one message to a service that does not echo has left.
        fn of(replies: Replies) -> Fixture {
            let mut fixture = Fixture::new(Sizes::fixed(10), 1, 1, 0);
            let Traffic { sizes, seed, .. } = fixture.traffic;
            fixture.traffic =
                Traffic { replies, requests: Requests::new(None, sizes, seed), ..fixture.traffic };
            assert_eq!(fixture.compose().len(), 10);
            fixture
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

    #[test]
    fn a_surplus_line_is_shown_from_its_beginning_however_it_is_cut() {
        for cut in 4..19 {
            let mut fixture = Fixture::of(Replies::Line);
            let (one, other) = b"one\nand another\nnext".split_at(cut);
            for piece in [one, other] {
                assert!(fixture.answer(piece).is_empty());
            }
            let mismatch = fixture.stream.fault.as_ref().expect("a fault").judge(&fixture.traffic.pattern);
            assert_eq!(mismatch.says.as_deref(), Some("and another"), "cut at {cut}");
            assert_eq!((mismatch.offset, fixture.counts()), (4, (1, 1, 0)));
        }
    }

    #[test]
    fn further_pieces_of_a_reply_count_as_bytes() {
        let mut fixture = Fixture::of(Replies::Any);
        for piece in [&b"a piece"[..], b", another", b", and the last"] {
            assert!(fixture.answer(piece).is_empty());
        }
        assert!(fixture.stream.fault.is_none());
        assert_eq!((fixture.counts(), fixture.traffic.figures.bytes.received), ((1, 1, 0), 30));
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
