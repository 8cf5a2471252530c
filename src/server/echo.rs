//! The answers of the server: plain echo, or echo with a prefix, a timestamp, a greeting.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};
use log::Level;

use crate::net::{Answer, Peer, Service, Socket};
use crate::server::greeting::{Greeter, Greeting};
use crate::system::Escaped;

/// The answers of a server. The default echoes every byte, sixteen at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The most bytes that the server answers, and logs, as one chunk.
    pub chunk: usize,
    /// Goes before each chunk.
    pub prefix: Vec<u8>,
    /// Whether each chunk gets the local time in front of it, as `[Thu Dec 11 08:47:58 2014] `.
    pub timestamp: bool,
    /// The first bytes to every client.
    pub greeting: Greeting,
    /// Whether a connection ends after its first answer.
    pub once: bool,
}

impl Default for Protocol {
    fn default() -> Protocol {
        Protocol {
            chunk: 16,
            prefix: Vec::new(),
            timestamp: false,
            greeting: Greeting::default(),
            once: false,
        }
    }
}

/// Answers the chunks of all connections by one [`Protocol`].
#[derive(Debug)]
pub(crate) struct Echo {
    protocol: Protocol,
    greeter: Greeter,
    /// The protocol answers every byte with itself, and nothing else.
    is_plain: bool,
    /// The time as text, and the second that it stands for.
    stamp: (u64, String),
}

impl Echo {
    pub(crate) fn new(protocol: Protocol) -> Echo {
        let is_plain = protocol.prefix.is_empty() && !protocol.timestamp && !protocol.once;
        let greeter = Greeter::new(protocol.greeting.clone());
        Echo { protocol, greeter, is_plain, stamp: (0, String::new()) }
    }

    /// The first bytes to this client.
    pub(crate) fn greeting(&mut self, peer: &Peer, socket: &Socket) -> &[u8] {
        self.greeter.greet(peer, socket)
    }

    /// The service of one connection, for the time of one pump.
    pub(crate) fn with<'a>(&'a mut self, peer: &'a Peer) -> EchoTo<'a> {
        let whole_reads = self.is_plain && !log::log_enabled!(Level::Debug);
        EchoTo { echo: self, peer, whole_reads }
    }

    /// The time as text. This makes it once a second, and not once a chunk.
    fn stamp(&mut self) -> &str {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if self.stamp.0 != second || self.stamp.1.is_empty() {
            self.stamp = (second, format!("[{}] ", ctime(now.into())));
        }
        &self.stamp.1
    }
}

/// As C's `ctime(3)`, without its newline.
fn ctime(time: DateTime<Local>) -> String {
    time.format("%a %b %e %H:%M:%S %Y").to_string()
}

/// [`Echo`], talking to one peer.
pub(crate) struct EchoTo<'a> {
    echo: &'a mut Echo,
    peer: &'a Peer,
    /// Only the detailed log shows the chunks of a plain echo. Unless it does, one write answers a whole read, straight
    /// from the buffer of the read.
    whole_reads: bool,
}

impl Service for EchoTo<'_> {
    #[inline]
    fn chunk(&self) -> usize {
        if self.whole_reads { usize::MAX } else { self.echo.protocol.chunk }
    }

    fn is_echo(&self) -> bool {
        self.whole_reads
    }

    #[inline]
    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        if self.whole_reads { Answer { bytes: chunk, last: false } } else { self.answer_chunk(chunk, staged) }
    }
}

impl EchoTo<'_> {
    #[inline(never)] // A plain echo never comes here.
    fn answer_chunk(&mut self, chunk: &[u8], staged: &mut Vec<u8>) -> Answer<'static> {
        let before = staged.len();
        staged.extend_from_slice(&self.echo.protocol.prefix);
        if self.echo.protocol.timestamp {
            staged.extend_from_slice(self.echo.stamp().as_bytes());
        }
        staged.extend_from_slice(chunk);
        log::debug!("{}: received {}", self.peer, Escaped(chunk));
        log::debug!("{}: sending {} bytes back", self.peer, staged.len() - before);
        Answer { bytes: &[], last: self.echo.protocol.once }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn answer(protocol: Protocol, chunk: &[u8]) -> (Vec<u8>, bool) {
        let mut staged = Vec::new();
        let mut echo = Echo::new(protocol);
        let mut service = echo.with(&Peer::Unix { place: 1 });
        let answer = service.answer(chunk, &mut staged);
        let last = answer.last;
        let bytes = answer.bytes.to_vec();
        staged.extend(bytes);
        (staged, last)
    }

    #[test]
    fn a_plain_echo_returns_the_chunk_itself() {
        assert_eq!(answer(Protocol::default(), b"spam"), (b"spam".to_vec(), false));
    }

    #[test]
    fn a_prefix_goes_before_the_chunk() {
        let protocol = Protocol { prefix: b"Echo=>".to_vec(), ..Protocol::default() };
        assert_eq!(answer(protocol, b"spam"), (b"Echo=>spam".to_vec(), false));
    }

    #[test]
    fn once_is_the_last_answer() {
        let protocol = Protocol { once: true, ..Protocol::default() };
        assert_eq!(answer(protocol, b"spam"), (b"spam".to_vec(), true));
    }

    #[test]
    fn the_timestamp_is_that_of_ctime() {
        let time =
            |day, hour| Local.with_ymd_and_hms(2014, 12, day, hour, 47, 58).single().expect("no gap there");
        assert_eq!(ctime(time(11, 8)), "Thu Dec 11 08:47:58 2014");
        assert_eq!(ctime(time(5, 23)), "Fri Dec  5 23:47:58 2014", "the day is padded with a space");
        let (bytes, _) = answer(Protocol { timestamp: true, ..Protocol::default() }, b"hello");
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.starts_with('[') && text.ends_with("] hello") && text.len() == 26 + 6, "{text}");
    }
}
