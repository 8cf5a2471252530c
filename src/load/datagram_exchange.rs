//! Load over UDP: each message is a datagram with a number, and each ends as one of a few things.
//!
//! A datagram may be lost, doubled, overtaken or damaged, and each of these is another thing to know. So every message
//! begins with its number: of a client's first message the client's own, and from one message to its next the number
//! of clients, so that no two messages have the same one (unless a name has several addresses and nobody receives at the
//! first: then the client begins anew, on another socket, towards another one). The bytes behind it are the pattern, from a place
//! that follows from the number; so the whole of an answer is known from its first eight bytes.
//!
//! - An answer is **received** if it is the first one to its message and comes in time. If an answer to a later
//!   message of the socket came before it, it is **reordered** too (RFC 4737: its number is smaller than expected).
//! - A message without an answer within the timeout is **lost**, and the next one may leave. Should its answer come
//!   after all, the message was not lost but **late**; it is not counted as received, and has no latency.
//! - A further answer to a message is **duplicated**.
//! - Other bytes behind the right number are **corrupted**: the message is answered, and wrongly.
//! - A datagram with a number that was not sent, or with that of a message which was answered but with other bytes, is
//!   **unknown**. If it was the damaged answer to a message, that one will be lost.
//!
//! So `sent = received + lost + late + corrupted + cut off`: nothing disappears from the figures.

use std::collections::VecDeque;

use super::shared::Run;
use crate::reactor::Moment;

/// The number at the beginning of each message, most significant byte first.
pub(super) const NUMBER_SIZE: usize = size_of::<u64>();
/// Of so many lost messages a client knows the numbers, to recognise their answers when they come late. An answer that
/// is later than that many losses counts as duplicated.
const LOST_REMEMBERED: usize = 1024;

/// What a client has sent, and what that means for what it receives.
#[derive(Debug)]
pub(super) struct DatagramExchange {
    /// The number of the next message, and how far it is from one to the next.
    next: u64,
    step: u64,
    /// An answer with a smaller number than this was overtaken.
    expected: u64,
    /// Messages with this number or a greater one count.
    counted_from: u64,
    /// At most as many as may be under way, in the order of their numbers.
    flights: VecDeque<Flight>,
    /// The numbers of messages that were given up, in the order in which they were.
    lost: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) intended: Moment,
    pub(super) sent: Moment,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// To this message, right, and the first one.
    Right(Flight, Order),
    /// To this message, and wrong.
    Corrupted,
    Late,
    Duplicated,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Kept,
    Overtaken,
}

impl DatagramExchange {
    pub(super) fn new(client: u32, clients: usize) -> DatagramExchange {
        DatagramExchange {
            next: client.into(),
            step: clients as u64,
            expected: 0,
            counted_from: u64::MAX,
            flights: VecDeque::new(),
            lost: VecDeque::new(),
        }
    }

    /// Nothing that was sent so far counts, whatever comes of it yet.
    pub(super) fn forget(&mut self) {
        self.counted_from = u64::MAX;
    }

    /// How many are under way.
    pub(super) fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Those that were under way, which they are no longer.
    pub(super) fn take_back(&mut self) -> impl Iterator<Item = Flight> {
        self.flights.drain(..)
    }

    /// The next message, in a buffer that has room for it.
    pub(super) fn compose(&self, run: &Run, size: usize, message: &mut Vec<u8>) {
        message.clear();
        message.extend_from_slice(&self.next.to_be_bytes());
        message.extend_from_slice(run.pattern.bytes(run.pattern.beginning(self.next), size - NUMBER_SIZE));
    }

    /// The next message has left.
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

    /// Finds out what a datagram is, and takes the message out that it answers.
    pub(super) fn judge(&mut self, run: &Run, bytes: &[u8]) -> Answer {
        let Some((number, behind)) = bytes.split_first_chunk() else { return Answer::Unknown };
        let number = u64::from_be_bytes(*number);
        if !self.was_sent(number) {
            return Answer::Unknown;
        }
        let right = !run.verify
            || behind.len() <= run.pattern.reach()
                && run.pattern.matches(run.pattern.beginning(number), behind);
        match self.flights.binary_search_by_key(&number, |flight| flight.number) {
            Ok(place) => {
                let Some(flight) = self.flights.remove(place) else { return Answer::Unknown };
                if !right || flight.size != bytes.len() {
                    return Answer::Corrupted;
                }
                let order = if number < self.expected { Order::Overtaken } else { Order::Kept };
                self.expected = self.expected.max(number + 1);
                Answer::Right(flight, order)
            }
            Err(_) if !right => Answer::Unknown,
            Err(_) => match self.lost.iter().position(|lost| *lost == number) {
                Some(place) => {
                    self.lost.remove(place);
                    Answer::Late
                }
                None => Answer::Duplicated,
            },
        }
    }

    /// Gives the oldest message up if it was sent by then.
    pub(super) fn give_up(&mut self, sent_until: Moment) -> Option<Flight> {
        let flight = self.flights.front().copied().filter(|flight| flight.sent <= sent_until)?;
        self.flights.pop_front();
        if self.lost.len() == LOST_REMEMBERED {
            self.lost.pop_front();
        }
        self.lost.push_back(flight.number);
        Some(flight)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::figures::Figures;
    use super::super::pattern::Pattern;
    use super::super::plan::Sizes;
    use super::super::shared::Pacing;
    use super::*;

    const SIZE: usize = 40;

    fn run() -> Run {
        let now = Moment::now();
        Run {
            pattern: Pattern::new(1, SIZE, 1, SIZE),
            figures: Figures::new(false, now),
            pacing: Pacing::AtOnce,
            sizes: Sizes::fixed(SIZE),
            random: fastrand::Rng::with_seed(1),
            depth: 1,
            verify: true,
            churn: false,
            budget: 0,
            due_until: now,
            in_flight: 0,
            ungreeted: 0,
        }
    }

    /// Sends so many messages, all of which count.
    fn sent(run: &Run, count: usize) -> (DatagramExchange, Vec<Vec<u8>>) {
        let mut exchange = DatagramExchange::new(2, 3);
        let now = Moment::now();
        let message = |_| {
            let mut message = Vec::new();
            exchange.compose(run, SIZE, &mut message);
            exchange.launch(SIZE, now, now, true);
            message
        };
        let messages = (0..count).map(message).collect();
        (exchange, messages)
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let run = run();
        let (mut exchange, messages) = sent(&run, 5);
        assert_eq!(messages.iter().map(|message| message[7]).collect::<Vec<_>>(), [2, 5, 8, 11, 14]);
        let mut judge =
            |bytes: &[u8]| format!("{:?}", exchange.judge(&run, bytes)).split('(').next().map(str::to_owned);
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
        let run = run();
        let (mut exchange, messages) = sent(&run, 2);
        let now = Moment::now();
        assert!(exchange.give_up(now - Duration::from_secs(1)).is_none(), "not yet");
        assert_eq!(exchange.give_up(now).map(|flight| flight.number), Some(2));
        assert!(matches!(exchange.judge(&run, &messages[0]), Answer::Late));
        assert!(matches!(exchange.judge(&run, &messages[0]), Answer::Duplicated));
        assert!(matches!(exchange.judge(&run, &messages[1]), Answer::Right(_, Order::Kept)));
        assert_eq!(exchange.under_way(), 0);
    }

    proptest! {
        /// However a network loses, doubles and reorders, the counts are those that a list of arrivals gives.
        #[test]
        fn any_order_of_arrivals_is_counted(arrivals in proptest::collection::vec(0..50_usize, 0..200)) {
            let run = run();
            let (mut exchange, messages) = sent(&run, 50);
            let (mut seen, mut largest) = (std::collections::HashSet::new(), None);
            for &arrival in &arrivals {
                let expected = match (seen.insert(arrival), largest < Some(arrival)) {
                    (false, _) => None,
                    (true, true) => Some(Order::Kept),
                    (true, false) => Some(Order::Overtaken),
                };
                largest = largest.max(Some(arrival));
                let order = match exchange.judge(&run, &messages[arrival]) {
                    Answer::Right(_, order) => Some(order),
                    Answer::Duplicated => None,
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(order, expected);
            }
            prop_assert_eq!(exchange.under_way(), 50 - seen.len());
        }
    }
}
