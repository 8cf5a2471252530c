//! Load over UDP: each message is a datagram with a number, and meets one of a few fates.
//!
//! A network may lose, duplicate, reorder or damage a datagram, and users want to know which. So every message begins
//! with a number. A client's first message has the client's own number, and each further message has a number that is
//! larger by the number of clients. So no two messages have the same number. (A name may have several addresses, and
//! nobody may receive at the first: then the client begins anew, on another socket, towards the next address.) The
//! bytes behind the number are the pattern, from a place that follows from the number. So the first eight bytes of an
//! answer determine the rest.
//!
//! - An answer is **received** if it is the first one to its message and comes within the timeout. If an answer to a later
//!   message of the socket came before it, it is **reordered** too (RFC 4737: its number is smaller than expected).
//! - A message without an answer within the timeout is **lost**, and the next one may leave. Should its answer come
//!   after all, the message was not lost but **late**; it is not counted as received, and has no latency.
//! - A further answer to a message is **duplicated**.
//! - Other bytes behind the right number are **corrupted**: the message has an answer, but a wrong one.
//! - A datagram is **unknown** if its number was not sent, or if the message with its number is no longer under way and
//!   the bytes differ. If it was the damaged answer to another message, that message will be lost.
//!
//! So `sent = received + lost + late + corrupted + cut off`: nothing disappears from the figures.

use std::collections::VecDeque;

use super::plan::NUMBER_SIZE;
use super::traffic::Traffic;
use crate::reactor::Moment;

/// A client remembers the numbers of this many messages that it gave up, to recognise late answers. An answer that
/// comes after this many further losses counts as duplicated.
const GIVEN_UP_REMEMBERED: usize = 1024;

/// The messages of one client, and the meaning of the datagrams that it receives.
#[derive(Debug)]
pub(super) struct Datagrams {
    /// The number of the next message, and the distance from one number to the next.
    next: u64,
    step: u64,
    /// An answer with a smaller number than this was overtaken.
    expected: u64,
    /// Messages with this number or a greater one count.
    counted_from: u64,
    /// The messages under way, in the order of their numbers.
    flights: VecDeque<Flight>,
    /// The numbers of messages that were given up, oldest first.
    given_up: VecDeque<GivenUp>,
}

/// A message that was given up, and may still be answered.
#[derive(Clone, Copy, Debug)]
struct GivenUp {
    number: u64,
    /// Whether the message was counted as lost, and not as cut off.
    was_lost: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) intended: Moment,
    pub(super) sent: Moment,
}

/// The meaning of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// The first answer to this message, with the right bytes.
    Right(Flight, Order),
    /// An answer to a message under way, with wrong bytes.
    Corrupted,
    /// An answer to a message under way, with the right bytes, but too late.
    Overdue,
    /// An answer to a message that was given up; true if the message was counted as lost.
    Late(bool),
    Duplicated,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Kept,
    Overtaken,
}

impl Datagrams {
    pub(super) fn new(client: u32, clients: usize) -> Datagrams {
        Datagrams {
            next: client.into(),
            step: clients as u64,
            expected: 0,
            counted_from: u64::MAX,
            flights: VecDeque::new(),
            given_up: VecDeque::new(),
        }
    }

    /// Stops counting the messages sent so far, even if answers to them come later.
    pub(super) fn forget(&mut self) {
        self.counted_from = u64::MAX;
    }

    /// The number of messages under way.
    #[cfg(test)]
    fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Takes back all messages under way.
    pub(super) fn take_back(&mut self) -> impl Iterator<Item = Flight> {
        self.flights.drain(..)
    }

    /// Writes the next message into the buffer, and returns its length.
    pub(super) fn compose(&self, traffic: &Traffic, message: &mut Vec<u8>) -> usize {
        write_message(traffic, self.next, message);
        message.len()
    }

    /// The message with this number.
    pub(super) fn message(traffic: &Traffic, number: u64) -> Vec<u8> {
        let mut message = Vec::new();
        write_message(traffic, number, &mut message);
        message
    }

    /// Notes that the next message has left.
    pub(super) fn launch(&mut self, size: usize, intended: Moment, sent: Moment, counts: bool) {
        if counts && self.counted_from == u64::MAX {
            self.counted_from = self.next;
        }
        self.flights.push_back(Flight { number: self.next, size, intended, sent });
        self.next += self.step;
    }

    pub(super) fn was_sent(&self, number: u64) -> bool {
        number < self.next && number % self.step == self.next % self.step
    }

    pub(super) fn counts(&self, number: u64) -> bool {
        number >= self.counted_from
    }

    /// Judges a datagram, and removes the message that it answers. An answer is too old if its message was sent before
    /// `sent_after`.
    pub(super) fn judge(&mut self, traffic: &Traffic, bytes: &[u8], sent_after: Moment) -> Answer {
        let Some((number, behind)) = bytes.split_first_chunk() else { return Answer::Unknown };
        let number = u64::from_be_bytes(*number);
        if !self.was_sent(number) {
            return Answer::Unknown;
        }
        let right = !traffic.verify
            || behind.len() <= traffic.pattern.reach()
                && traffic.pattern.matches(traffic.pattern.beginning(number), behind);
        match self.flights.binary_search_by_key(&number, |flight| flight.number) {
            Ok(place) => {
                let Some(flight) = self.flights.remove(place) else { return Answer::Unknown };
                if !right || flight.size != bytes.len() {
                    return Answer::Corrupted;
                }
                if flight.sent < sent_after {
                    return Answer::Overdue;
                }
                let order = if number < self.expected { Order::Overtaken } else { Order::Kept };
                self.expected = self.expected.max(number + 1);
                Answer::Right(flight, order)
            }
            Err(_) if !right => Answer::Unknown,
            Err(_) => match self.given_up.iter().position(|given_up| given_up.number == number) {
                Some(place) => {
                    Answer::Late(self.given_up.remove(place).is_some_and(|message| message.was_lost))
                }
                None => Answer::Duplicated,
            },
        }
    }

    /// Gives up the oldest message if it was sent until this moment.
    pub(super) fn give_up(&mut self, sent_until: Moment) -> Option<Flight> {
        let flight = self.flights.front().copied().filter(|flight| flight.sent <= sent_until)?;
        self.flights.pop_front();
        self.remember(flight.number, true);
        Some(flight)
    }

    /// Gives up everything under way, because the peer refused some of it.
    pub(super) fn cut_off(&mut self) {
        while let Some(flight) = self.flights.pop_front() {
            self.remember(flight.number, false);
        }
    }

    fn remember(&mut self, number: u64, was_lost: bool) {
        if self.given_up.len() == GIVEN_UP_REMEMBERED {
            self.given_up.pop_front();
        }
        self.given_up.push_back(GivenUp { number, was_lost });
    }
}

/// A message follows from its number alone.
fn write_message(traffic: &Traffic, number: u64, message: &mut Vec<u8>) {
    let size = traffic.sizes.draw(&mut traffic.lengths(number));
    let beginning = traffic.pattern.beginning(number);
    message.clear();
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(traffic.pattern.bytes(beginning, size - NUMBER_SIZE));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::plan::Plan;
    use super::super::sizes::Sizes;
    use super::*;

    const SIZE: usize = 40;

    fn traffic() -> Traffic {
        let endpoint = "udp://127.0.0.1:7".parse().expect("an endpoint");
        let plan = Plan { sizes: Sizes::fixed(SIZE), seed: 1, ..Plan::new(vec![endpoint]) };
        Traffic::new(&plan, Moment::now())
    }

    /// Sends this many messages. All of them count.
    fn sent(traffic: &Traffic, count: usize) -> (Datagrams, Vec<Vec<u8>>) {
        let mut datagrams = Datagrams::new(2, 3);
        let now = Moment::now();
        let message = |_| {
            let mut message = Vec::new();
            datagrams.compose(traffic, &mut message);
            datagrams.launch(SIZE, now, now, true);
            message
        };
        let messages = (0..count).map(message).collect();
        (datagrams, messages)
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let traffic = traffic();
        let ever = Moment::now() - Duration::from_secs(60);
        let (mut datagrams, messages) = sent(&traffic, 5);
        assert_eq!(messages.iter().map(|message| message[7]).collect::<Vec<_>>(), [2, 5, 8, 11, 14]);
        let mut judge = |bytes: &[u8]| {
            format!("{:?}", datagrams.judge(&traffic, bytes, ever)).split('(').next().map(str::to_owned)
        };
        let mut is = |bytes: &[u8], kind: &str| assert_eq!(judge(bytes).as_deref(), Some(kind));
        is(&messages[1], "Right");
        is(&messages[1], "Duplicated");
        let changed = |message: &[u8], place: usize| {
            let mut bytes = message.to_vec();
            bytes[place] ^= 1;
            bytes
        };
        is(&changed(&messages[1], 8), "Unknown");
        is(&changed(&messages[0], 7), "Unknown");
        is(&changed(&messages[0], 39), "Corrupted");
        is(&messages[0], "Duplicated");
        is(&messages[2][..39], "Corrupted");
        is(&messages[3][..7], "Unknown");
        is(&[&messages[3][..], &[0; 99]].concat(), "Corrupted");
        is(&[0, 0, 0, 0, 0, 0, 0, 17], "Unknown");
    }

    #[test]
    fn what_is_given_up_may_still_come_late_and_only_once() {
        let traffic = traffic();
        let ever = Moment::now() - Duration::from_secs(60);
        let (mut datagrams, messages) = sent(&traffic, 2);
        let now = Moment::now();
        assert!(datagrams.give_up(now - Duration::from_secs(1)).is_none(), "not yet");
        assert_eq!(datagrams.give_up(now).map(|flight| flight.number), Some(2));
        assert!(matches!(datagrams.judge(&traffic, &messages[0], ever), Answer::Late(true)));
        assert!(matches!(datagrams.judge(&traffic, &messages[0], ever), Answer::Duplicated));
        assert!(matches!(datagrams.judge(&traffic, &messages[1], ever), Answer::Right(_, Order::Kept)));
        assert_eq!(datagrams.under_way(), 0);
    }

    #[test]
    fn an_answer_is_judged_by_its_age_and_a_refusal_cuts_off() {
        let traffic = traffic();
        let (mut datagrams, messages) = sent(&traffic, 2);
        let later = Moment::now() + Duration::from_secs(1);
        assert!(matches!(datagrams.judge(&traffic, &messages[0], later), Answer::Overdue));
        datagrams.cut_off();
        assert_eq!(datagrams.under_way(), 0);
        assert!(matches!(datagrams.judge(&traffic, &messages[1], later), Answer::Late(false)));
    }

    proptest! {
        /// A network may lose, double and reorder at will: a list of the arrivals gives the same counts.
        #[test]
        fn any_order_of_arrivals_is_counted(arrivals in proptest::collection::vec(0..50_usize, 0..200)) {
            let traffic = traffic();
            let ever = Moment::now() - Duration::from_secs(60);
            let (mut datagrams, messages) = sent(&traffic, 50);
            let (mut seen, mut largest) = (std::collections::HashSet::new(), None);
            for &arrival in &arrivals {
                let expected = match (seen.insert(arrival), largest < Some(arrival)) {
                    (false, _) => None,
                    (true, true) => Some(Order::Kept),
                    (true, false) => Some(Order::Overtaken),
                };
                largest = largest.max(Some(arrival));
                let order = match datagrams.judge(&traffic, &messages[arrival], ever) {
                    Answer::Right(_, order) => Some(order),
                    Answer::Duplicated => None,
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(order, expected);
            }
            prop_assert_eq!(datagrams.under_way(), 50 - seen.len());
        }
    }
}
