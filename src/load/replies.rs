//! Services that answer with other bytes than they were sent: how a reply ends, and the messages for them.
//!
//! Their replies are timed and counted, and compared with nothing.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::sizes::Sizes;
use crate::system::Text;

/// The most bytes kept of a line that comes in pieces, to show a line that answers no message.
const LONGEST_BEGINNING: usize = 256;

/// The end of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Replies {
    /// A reply is an echo: as long as its message.
    #[default]
    Echo,
    /// A reply is a line.
    Line,
    /// A reply is the bytes of one read. The pieces that follow belong to it, until the next message leaves.
    Any,
}

impl Replies {
    /// Why replies of this kind verify no bytes; `None` for echoes.
    pub(super) fn not_verified(self) -> Option<&'static str> {
        match self {
            Replies::Echo => None,
            Replies::Line => Some("not verified: any line is a reply"),
            Replies::Any => Some("not verified: any bytes are a reply"),
        }
    }
}

/// The messages for a service that does not echo.
#[derive(Debug)]
pub(super) struct Requests {
    /// The longest message. A shorter message is its end, and so ends with a line feed as well.
    text: Box<[u8]>,
}

impl Requests {
    /// The given message, or else printable lines.
    pub(super) fn new(message: Option<&Text>, sizes: Sizes, seed: u64) -> Requests {
        if let Some(Text(bytes)) = message {
            return Requests { text: bytes.as_slice().into() };
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text: Box<[u8]> = (0..sizes.longest).map(|_| random.alphanumeric() as u8).collect();
        if let Some(last) = text.last_mut() {
            *last = b'\n';
        }
        Requests { text }
    }

    /// A message of this length.
    pub(super) fn of(&self, size: usize) -> &[u8] {
        &self.text[self.text.len() - size..]
    }
}

/// The replies of one connection, as they come in.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// How many bytes of an unfinished line have come, and the first of these bytes.
    begun: usize,
    beginning: Vec<u8>,
}

impl Incoming {
    /// Takes the next reply off the front, or its beginning. Returns its length if it is complete, and the rest.
    pub(super) fn take<'a>(&mut self, replies: Replies, bytes: &'a [u8]) -> (Option<usize>, &'a [u8]) {
        let end = match replies {
            Replies::Line => bytes.iter().position(|byte| *byte == b'\n').map(|last| last + 1),
            Replies::Any | Replies::Echo => Some(bytes.len()),
        };
        let taken = end.unwrap_or(bytes.len());
        let length = self.begun.saturating_add(taken);
        if self.begun == 0 {
            self.beginning.clear();
        }
        if end.is_none() {
            let room = LONGEST_BEGINNING - self.beginning.len();
            self.beginning.extend_from_slice(&bytes[..taken.min(room)]);
        }
        self.begun = if end.is_some() { 0 } else { length };
        (end.map(|_| length), &bytes[taken..])
    }

    /// The first bytes of the reply that was taken last, if they came in earlier reads.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_printable_lines_or_the_one_that_was_given() {
        let requests = Requests::new(None, Sizes { shortest: 1, longest: 50 }, 7);
        for size in [1, 2, 50] {
            let (last, rest) = requests.of(size).split_last().expect("it is not empty");
            assert_eq!((rest.len() + 1, *last), (size, b'\n'));
            assert!(rest.iter().all(u8::is_ascii_alphanumeric));
        }
        let requests = Requests::new(Some(&Text(b"PING\r\n".to_vec())), Sizes::fixed(6), 7);
        assert_eq!(requests.of(6), b"PING\r\n");
    }

    #[test]
    fn lines_are_found_however_they_are_cut() {
        let text = b"one\r\n\n a third\nunfinished";
        for cut in 1..text.len() {
            let (mut incoming, mut lengths) = (Incoming::default(), Vec::new());
            for mut piece in text.chunks(cut) {
                while !piece.is_empty() {
                    let (length, rest) = incoming.take(Replies::Line, piece);
                    lengths.extend(length);
                    piece = rest;
                }
            }
            assert_eq!((lengths, incoming.begun), (vec![5, 1, 9], 10), "pieces of {cut}");
        }
        assert_eq!(Incoming::default().take(Replies::Any, b"a\nb"), (Some(3), &[][..]));
    }
}
