//! The kind of a difference: bytes lost, doubled, in another order, or changed.
//!
//! The first differing byte alone says little. So the generator collects the bytes behind it, until all have come or the
//! connection ends, and looks for them in the rest of the stream.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::pattern::{Pattern, Place};

/// The most bytes that are collected to judge a difference by.
const MOST_EVIDENCE: usize = 64 * 1024;
/// Fewer bytes than this may stand in the pattern by chance.
const FEWEST_BYTES: usize = 4;
/// How many bytes the search compares: more bytes are hardly surer, and pieces that were moved may be short.
const NEEDLE: usize = 8;
/// How many bytes a report shows.
const SHOWN: usize = 16;
/// How many characters of a text a report shows.
const LONGEST_LINE: usize = 60;
/// Shorter texts may be bytes that look like one by chance.
const SHORTEST_LINE: usize = 4;

/// A difference between what was sent and what came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The number of the connection: connections are numbered from 0, in the order in which they began.
    pub connection: u64,
    /// The offset of the first differing byte in the connection's stream, without a greeting; over UDP in its
    /// datagram.
    pub offset: u64,
    /// The bytes expected from there on, in hex; empty if none were.
    pub expected: String,
    /// The bytes that came instead, in hex.
    pub received: String,
    /// Its kind, as far as the bytes tell.
    pub looks_like: LooksLike,
    /// How many bytes were lost or doubled, or how far they were moved.
    pub bytes: u64,
    /// The first line of the bytes that came, if they are text: the service speaks another language.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub says: Option<String>,
}

/// The kind of a [`Mismatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LooksLike {
    /// Later bytes came instead, and the expected bytes never.
    Loss,
    /// Bytes came that had come already.
    Duplication,
    /// Later bytes came first, and the expected bytes behind them.
    Reordering,
    /// Bytes came that stand nowhere near, or that were never sent.
    Corruption,
    /// A line came that answers no message, from a service whose replies are lines.
    Surplus,
}

/// A difference whose evidence is being collected.
#[derive(Debug)]
pub(super) struct Fault {
    connection: u64,
    offset: u64,
    /// Where in the pattern the first differing byte should have been.
    place: Place,
    /// The number of bytes that were sent and are still to come, with the first differing byte.
    expected: u64,
    evidence: Vec<u8>,
    /// Whether a reply answers no message, so that there is nothing to compare.
    is_surplus: bool,
}

impl Fault {
    pub(super) fn new(connection: u64, offset: u64, place: Place, expected: u64) -> Fault {
        Fault { connection, offset, place, expected, evidence: Vec::new(), is_surplus: false }
    }

    /// A reply that answers no message, with all that came with it.
    pub(super) fn surplus(connection: u64, offset: u64, bytes: &[u8]) -> Fault {
        let mut fault = Fault { is_surplus: true, ..Fault::new(connection, offset, 0, 0) };
        fault.add(bytes);
        fault
    }

    /// The number of the connection.
    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = MOST_EVIDENCE - self.evidence.len();
        self.evidence.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Whether all evidence has come.
    pub(super) fn is_complete(&self) -> bool {
        self.evidence.len() as u64 >= self.expected.min(MOST_EVIDENCE as u64)
    }

    pub(super) fn judge(&self, pattern: &Pattern) -> Mismatch {
        let (looks_like, bytes) = if self.is_surplus {
            (LooksLike::Surplus, self.evidence.len() as u64)
        } else {
            self.looks_like(pattern)
        };
        let shown = SHOWN.min(usize::try_from(self.expected).unwrap_or(SHOWN));
        Mismatch {
            connection: self.connection,
            offset: self.offset,
            expected: hex(pattern.bytes(self.place, shown)),
            received: hex(&self.evidence[..self.evidence.len().min(SHOWN)]),
            looks_like,
            bytes,
            says: self.first_line(pattern, looks_like),
        }
    }

    /// The first line of the connection, or of the surplus. It begins before the first difference, since a byte or two
    /// of another language may match by chance.
    fn first_line(&self, pattern: &Pattern, looks_like: LooksLike) -> Option<String> {
        let agreed = usize::try_from(self.offset).ok().filter(|agreed| *agreed < FEWEST_BYTES);
        match (looks_like, agreed) {
            (LooksLike::Surplus, _) => first_line(&self.evidence),
            (LooksLike::Corruption, Some(agreed)) => {
                let beginning = pattern.bytes(pattern.beginning(self.connection), agreed);
                first_line(&[beginning, &self.evidence].concat())
            }
            _ => None,
        }
    }

    fn looks_like(&self, pattern: &Pattern) -> (LooksLike, u64) {
        let came = self.evidence.len() as u64;
        if self.evidence.len() >= FEWEST_BYTES
            && let Some(moved) = self.moved(pattern)
        {
            return moved;
        }
        // Most bytes behind the first one are where they belong.
        let in_place = self.bytes_in_place(pattern);
        if in_place > 0 && in_place * 2 >= self.evidence.len() - 1 {
            return (LooksLike::Corruption, came - in_place as u64);
        }
        // The bytes are too few to find in the pattern, or stand nowhere in it: only their number tells.
        if came < self.expected && self.evidence.len() < FEWEST_BYTES {
            (LooksLike::Loss, self.expected - came)
        } else if came > self.expected && self.evidence.len() < FEWEST_BYTES {
            (LooksLike::Duplication, came - self.expected)
        } else {
            (LooksLike::Corruption, came)
        }
    }

    fn bytes_in_place(&self, pattern: &Pattern) -> usize {
        let mut place = self.place;
        let mut same = 0;
        for piece in self.evidence.chunks(pattern.reach()) {
            same += piece.iter().zip(pattern.bytes(place, piece.len())).filter(|(a, b)| a == b).count();
            place = pattern.advance(place, piece.len());
        }
        same
    }

    /// The nearest place, later or earlier, from which the bytes may come.
    fn moved(&self, pattern: &Pattern) -> Option<(LooksLike, u64)> {
        let needle = &self.evidence[..self.evidence.len().min(NEEDLE)];
        let period = pattern.period() as u64;
        let later = |place: usize| (place as u64 + period - u64::from(self.place)) % period;
        let candidates = pattern.places_of(needle).flat_map(|place| {
            let later = later(place);
            let forward = (later < self.expected).then_some((later, true));
            let back = (period - later <= self.offset).then_some((period - later, false));
            [forward, back]
        });
        let (distance, is_later) = candidates.flatten().min()?;
        if !is_later {
            return Some((LooksLike::Duplication, distance));
        }
        // Later bytes came first. Are the missing bytes behind them?
        let from = pattern.advance(self.place, (distance % period) as usize);
        let behind = &self.evidence[pattern.agreement(from, &self.evidence)..];
        let behind = &behind[..behind.len().min(NEEDLE)];
        if behind.len() >= FEWEST_BYTES && pattern.agreement(self.place, behind) >= FEWEST_BYTES {
            return Some((LooksLike::Reordering, distance));
        }
        Some((LooksLike::Loss, distance))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Mismatch {
    /// A datagram with other bytes than expected. Nothing was expected if no message had its number.
    pub(super) fn of_datagram(connection: u64, expected: &[u8], received: &[u8]) -> Mismatch {
        let same = expected.iter().zip(received).filter(|(a, b)| a == b).count();
        let offset = expected.iter().zip(received).take_while(|(a, b)| a == b).count();
        let shown = |bytes: &[u8]| hex(&bytes[offset..bytes.len().min(offset + SHOWN)]);
        let looks_like = match offset {
            offset if offset == received.len() && !expected.is_empty() => LooksLike::Loss,
            offset if offset == expected.len() && !expected.is_empty() => LooksLike::Duplication,
            _ => LooksLike::Corruption,
        };
        Mismatch {
            connection,
            offset: offset as u64,
            expected: shown(expected),
            received: shown(received),
            looks_like,
            bytes: (expected.len().max(received.len()) - same) as u64,
            says: if expected.is_empty() { first_line(received) } else { None },
        }
    }
}

/// The first line of these bytes, if they are text.
fn first_line(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let line = std::str::from_utf8(&bytes[..end]).ok().filter(|line| !line.contains(char::is_control))?;
    let is_long_enough = line.chars().count() >= SHORTEST_LINE;
    is_long_enough.then(|| match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    })
}

impl fmt::Display for LooksLike {
    /// The same word as in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { connection, offset, expected, received, looks_like, bytes, says } = self;
        // Leave out the connection, so that a thousand connections with the same failure give one text.
        match says {
            Some(line) if *looks_like == LooksLike::Surplus => {
                return write!(
                    f,
                    "`{line}` answers no message: the service sends more lines than it gets messages (if it says \
                     goodbye: --reset; if its replies have several lines: --expect any)"
                );
            }
            Some(line) => {
                return write!(
                    f,
                    "it answers `{line}`: this is no echo server (or one that greets: --greeting LENGTH); --expect \
                     line or any loads it without verifying"
                );
            }
            None => {}
        }
        let or_nothing = |bytes: &String| if bytes.is_empty() { "nothing".into() } else { bytes.clone() };
        let (expected, received) = (or_nothing(expected), or_nothing(received));
        write!(f, "connection {connection}, offset {offset}: expected {expected}, received {received}; ")?;
        write!(f, "looks like {looks_like} ({bytes} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Judges the damage that `change` does to `sent` bytes behind `before` good bytes.
    fn judge(before: usize, sent: usize, change: impl Fn(&mut Vec<u8>)) -> Option<Mismatch> {
        let pattern = Pattern::new(1, 1024, 4, 1, 4096);
        let start = pattern.beginning(5);
        let bytes = |offset| pattern.bytes(pattern.advance(start, offset), 1)[0];
        let mut stream: Vec<u8> = (0..before + sent).map(bytes).collect();
        change(&mut stream);
        let agreed = pattern.agreement(start, &stream[..stream.len().min(before + sent)]);
        if agreed == stream.len() {
            return None;
        }
        let place = pattern.advance(start, agreed);
        let mut fault = Fault::new(5, agreed as u64, place, (before + sent - agreed) as u64);
        fault.add(&stream[agreed..]);
        Some(fault.judge(&pattern))
    }

    fn kind(mismatch: Option<Mismatch>) -> (LooksLike, u64, u64) {
        let mismatch = mismatch.expect("a difference");
        (mismatch.looks_like, mismatch.offset, mismatch.bytes)
    }

    #[test]
    fn each_kind_is_named() {
        use LooksLike::{Corruption, Duplication, Loss, Reordering};
        assert_eq!(kind(judge(100, 400, |stream| stream[150] ^= 1)), (Corruption, 150, 1));
        assert_eq!(kind(judge(100, 64, |stream| stream[163] ^= 1)), (Corruption, 163, 1));
        assert_eq!(kind(judge(100, 400, |stream| drop(stream.drain(120..150)))), (Loss, 120, 30));
        assert_eq!(kind(judge(100, 400, |stream| drop(stream.drain(100..101)))), (Loss, 100, 1));
        let twice = |stream: &mut Vec<u8>| {
            let copy = stream[120..150].to_vec();
            stream.splice(150..150, copy);
        };
        assert_eq!(kind(judge(100, 400, twice)), (Duplication, 150, 30));
        assert_eq!(kind(judge(100, 400, |stream| stream[120..152].rotate_left(16))), (Reordering, 120, 16));
        assert_eq!(kind(judge(0, 2048, |stream| stream.rotate_left(1024))), (Reordering, 0, 1024));
        assert_eq!(kind(judge(64, 64, |stream| stream[64..].fill(b'x'))), (Corruption, 64, 64));
        let more = |stream: &mut Vec<u8>| stream.extend_from_within(100..);
        assert_eq!(kind(judge(100, 64, more)), (Duplication, 164, 64));
        assert_eq!(kind(judge(100, 64, |stream| stream.push(7))), (Duplication, 164, 1));
    }

    #[test]
    fn it_is_reported_in_hex_with_its_place() {
        let text = judge(3, 5, |stream| stream[6..].fill(0xff)).expect("a difference").to_string();
        assert!(text.starts_with("connection 5, offset 6: expected "), "{text}");
        assert!(text.contains(", received ffff; looks like corruption (2 bytes)"), "{text}");
        let text = judge(4, 4, |stream| stream.push(1)).expect("a difference").to_string();
        assert!(text.contains("offset 8: expected nothing, received 01;"), "{text}");
    }

    #[test]
    fn a_service_of_another_language_is_named_by_its_words() {
        let answer = |text: &'static str| {
            move |stream: &mut Vec<u8>| {
                stream.clear();
                stream.extend_from_slice(text.as_bytes());
            }
        };
        let mismatch =
            judge(0, 400, answer("HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")).expect("a difference");
        assert_eq!(mismatch.says.as_deref(), Some("HTTP/1.1 400 Bad Request"));
        assert!(
            mismatch.to_string().contains("`HTTP/1.1 400 Bad Request`: this is no echo server"),
            "{mismatch}"
        );
        for text in ["ab\n", "a\u{1}bcdef"] {
            assert_eq!(judge(0, 400, answer(text)).and_then(|mismatch| mismatch.says), None, "{text:?}");
        }
    }

    #[test]
    fn a_first_byte_that_is_right_by_chance_belongs_to_the_words() {
        let words = b"HTTP/1.1 400 Bad Request\r\n";
        let begins_alike = |pattern: &Pattern| pattern.agreement(pattern.beginning(5), words) == 1;
        let pattern = (0..).map(|seed| Pattern::new(seed, 1024, 4, 1, 4096)).find(begins_alike);
        let pattern = pattern.expect("one of some hundred");
        let mut fault = Fault::new(5, 1, pattern.advance(pattern.beginning(5), 1), 63);
        fault.add(&words[1..]);
        assert_eq!(fault.judge(&pattern).says.as_deref(), Some("HTTP/1.1 400 Bad Request"));
    }

    #[test]
    fn a_datagram_that_was_cut_short_is_a_loss() {
        let mismatch = Mismatch::of_datagram(5, b"12345678abcd", b"12345678ab");
        assert_eq!(
            mismatch.to_string(),
            "connection 5, offset 10: expected 6364, received nothing; looks like loss (2 bytes)"
        );
        let mismatch = Mismatch::of_datagram(5, b"12345678", b"123456789");
        assert_eq!((mismatch.looks_like, mismatch.bytes), (LooksLike::Duplication, 1));
    }

    proptest! {
        /// Any bytes are judged without a panic, and a long enough piece that is missing is called a loss.
        #[test]
        fn anything_is_judged(before in 0..3000_usize, sent in 1..3000_usize, at: prop::sample::Index, cut in 1..900_usize) {
            let (from, until) = (before + at.index(sent), before + sent);
            let end = (from + cut).min(until);
            if let Some(mismatch) = judge(before, sent, |stream| drop(stream.drain(from..end)))
                && until - end > 40
            {
                prop_assert_eq!(mismatch.looks_like, LooksLike::Loss);
                prop_assert_eq!(mismatch.bytes, (end - from) as u64);
            }
            let random = |stream: &mut Vec<u8>| for (place, byte) in stream[from..end].iter_mut().enumerate() {
                *byte = (place * 7) as u8;
            };
            let _ = judge(before, sent, random);
        }
    }
}
