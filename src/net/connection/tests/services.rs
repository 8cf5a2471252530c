//! Services for the scripted connection. [`Expected`] makes their answers a second time, in a plainer way.

use proptest::prelude::*;

use super::kernel::byte_at;
use crate::net::{Answer, Service};

/// The answer to a chunk.
#[derive(Clone, Debug)]
pub(super) enum Answers {
    /// The chunk itself, without a copy.
    Plain,
    /// A prefix and the chunk, staged.
    Prefixed(Vec<u8>),
    /// Bytes of the service's own, behind a staged one.
    FromTable(Vec<u8>),
    /// No answer.
    Nothing,
    /// The chunk itself, and then the end.
    Once,
    /// The chunk itself, after a greeting at the beginning of the connection.
    Greeted(Vec<u8>),
}

pub(super) fn answers() -> impl Strategy<Value = Answers> {
    let bytes = |most: usize| proptest::collection::vec(any::<u8>(), 0..most);
    prop_oneof![
        3 => Just(Answers::Plain),
        2 => bytes(20).prop_map(Answers::Prefixed),
        1 => bytes(1100).prop_map(Answers::Prefixed),
        1 => bytes(50).prop_map(Answers::FromTable),
        1 => Just(Answers::Nothing),
        1 => Just(Answers::Once),
        1 => bytes(3000).prop_map(Answers::Greeted),
    ]
}

/// A service that remembers whether it has ended the connection.
#[derive(Debug)]
pub(super) struct Recorded {
    chunk: usize,
    answers: Answers,
    ended: bool,
}

impl Recorded {
    pub(super) fn new(chunk: usize, answers: Answers) -> Recorded {
        Recorded { chunk, answers, ended: false }
    }

    pub(super) fn greeting(&self) -> &[u8] {
        if let Answers::Greeted(greeting) = &self.answers { greeting } else { &[] }
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn largest_answer(&self, read_size: usize) -> usize {
        let chunk = self.chunk.min(read_size);
        match &self.answers {
            Answers::Plain | Answers::Once | Answers::Greeted(_) => chunk,
            Answers::Prefixed(prefix) => prefix.len() + chunk,
            Answers::FromTable(table) => 1 + table.len(),
            Answers::Nothing => 1,
        }
    }
}

/// The answer that the service should have given to the input that it got, made a second time and in a plainer way.
#[derive(Debug, Default)]
pub(super) struct Expected {
    answer: Vec<u8>,
    consumed: u64,
    /// The index of the next read, and the number of its bytes that the service has had.
    read: usize,
    within: usize,
}

impl Expected {
    pub(super) fn new(greeting: &[u8]) -> Expected {
        Expected { answer: greeting.to_vec(), ..Expected::default() }
    }

    pub(super) fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// Extends the answer to cover the first `consumed` bytes of the stream, which came in these reads.
    pub(super) fn extend(&mut self, service: &Recorded, reads: &[usize], consumed: u64) {
        while self.consumed < consumed {
            let chunk = (reads[self.read] - self.within).min(service.chunk);
            let position = self.consumed;
            let bytes = (position..position + chunk as u64).map(byte_at);
            match &service.answers {
                Answers::Plain | Answers::Greeted(_) => self.answer.extend(bytes),
                Answers::Once if position == 0 => self.answer.extend(bytes),
                Answers::Once | Answers::Nothing => {}
                Answers::Prefixed(prefix) => self.answer.extend(prefix.iter().copied().chain(bytes)),
                Answers::FromTable(table) => self.answer.extend(b"<".iter().chain(table)),
            }
            self.consumed += chunk as u64;
            self.within += chunk;
            if self.within == reads[self.read] {
                (self.read, self.within) = (self.read + 1, 0);
            }
        }
        assert_eq!(self.consumed, consumed, "input is consumed in whole chunks");
    }
}

impl Service for Recorded {
    fn is_echo(&self) -> bool {
        matches!(self.answers, Answers::Plain | Answers::Greeted(_))
    }

    fn chunk(&self) -> usize {
        self.chunk
    }

    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        assert!(!chunk.is_empty() && chunk.len() <= self.chunk.max(1));
        assert!(!self.ended, "nothing is answered after the last answer");
        match &self.answers {
            Answers::Plain | Answers::Greeted(_) => Answer { bytes: chunk, last: false },
            Answers::Nothing => Answer::default(),
            Answers::Prefixed(prefix) => {
                staged.extend_from_slice(prefix);
                staged.extend_from_slice(chunk);
                Answer::default()
            }
            Answers::FromTable(table) => {
                staged.push(b'<');
                Answer { bytes: table, last: false }
            }
            Answers::Once => {
                self.ended = true;
                Answer { bytes: chunk, last: true }
            }
        }
    }
}
