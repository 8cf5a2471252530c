//! The end of a reply in a protocol without frames, and its comparison with the message.

use clap::ValueEnum;

use super::outcome::ClientError;
use crate::system::Escaped;

/// How a reply ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Expect {
    /// After as many bytes as were sent.
    Same,
    /// After whatever one read brings.
    Any,
    /// After a line feed.
    Line,
    /// When the server closes; all messages are sent at once.
    Close,
}

/// A reply that is on its way.
#[derive(Debug)]
pub(super) struct Reply {
    expect: Expect,
    sent: Vec<u8>,
    verify: bool,
    received: usize,
    complete: bool,
}

impl Reply {
    /// The reply to a message. With [`Expect::Same`] the reply to an empty message is complete at once.
    pub(super) fn to(sent: &[u8], expect: Expect, verify: bool) -> Reply {
        let complete = expect == Expect::Same && sent.is_empty();
        Reply { expect, sent: sent.to_vec(), verify, received: 0, complete }
    }

    /// The greeting of a server that speaks first.
    pub(super) fn greeting(expect: Expect) -> Reply {
        let expect = if expect == Expect::Line { Expect::Line } else { Expect::Any };
        Reply { expect, sent: Vec::new(), verify: false, received: 0, complete: false }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The number of bytes of one read that belong to the reply.
    pub(super) fn length_in(&self, bytes: &[u8]) -> usize {
        if self.complete {
            return 0;
        }
        match self.expect {
            Expect::Same => bytes.len().min(self.sent.len() - self.received),
            Expect::Line => {
                bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |place| place + 1)
            }
            Expect::Any | Expect::Close => bytes.len(),
        }
    }

    /// Takes the bytes of one read that belong to the reply, and returns their number. The other bytes are beyond the
    /// reply.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, ClientError> {
        if self.complete || bytes.is_empty() {
            return Ok(0);
        }
        let count = self.length_in(bytes);
        self.complete = match self.expect {
            Expect::Same => self.received + count == self.sent.len(),
            Expect::Any => true,
            Expect::Line => bytes[..count].ends_with(b"\n"),
            Expect::Close => false,
        };
        if self.verify {
            compare(&bytes[..count], &self.sent[self.received..], self.received as u64)?;
        }
        self.received += count;
        match self.sent.get(self.received) {
            missing @ Some(_) if self.verify && self.complete => {
                Err(ClientError::differs(self.received as u64, None, missing))
            }
            _ => Ok(count),
        }
    }

    /// Whether the reply is complete now that the server has closed.
    pub(super) fn ends_with_close(&self) -> bool {
        let whole = !self.verify || self.received == self.sent.len();
        self.complete || (self.expect == Expect::Close && whole)
    }

    /// The part that is still to come.
    pub(super) fn missing(&self) -> String {
        match self.expect {
            Expect::Same => format!("{} of {} bytes of the reply came", self.received, self.sent.len()),
            Expect::Any => "no reply came".into(),
            Expect::Line if self.received == 0 => "no line came in reply".into(),
            Expect::Line => format!("{} bytes of a line without its end came in reply", self.received),
            Expect::Close if self.verify => {
                format!("{} of {} bytes of the reply came", self.received, self.sent.len())
            }
            Expect::Close => format!("{} bytes of the reply came", self.received),
        }
    }
}

/// Compares bytes of a reply with the bytes that are expected from this offset on, and names the first difference.
pub(super) fn compare(bytes: &[u8], expected: &[u8], offset: u64) -> Result<(), ClientError> {
    if expected.starts_with(bytes) {
        return Ok(());
    }
    Err(match bytes.iter().zip(expected).position(|(got, expected)| got != expected) {
        Some(place) => ClientError::differs(offset + place as u64, bytes.get(place), expected.get(place)),
        None => ClientError::Surplus { bytes: (bytes.len() - expected.len()) as u64 },
    })
}

/// Warns of bytes beyond a reply. If the reply was to be verified, they are a failure as well.
pub(super) fn judge_surplus(bytes: &[u8], verify: bool) -> Result<(), ClientError> {
    if bytes.is_empty() {
        return Ok(());
    }
    log::warn!("{} bytes came beyond the reply: {}", bytes.len(), Escaped(bytes));
    if verify { Err(ClientError::Surplus { bytes: bytes.len() as u64 }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(reply: &mut Reply, reads: &[&[u8]]) -> Vec<usize> {
        reads.iter().map(|bytes| reply.take(bytes).expect("nothing is compared")).collect()
    }

    #[test]
    fn each_way_to_end_ends_where_it_should() {
        let mut same = Reply::to(b"four", Expect::Same, false);
        assert_eq!(taken(&mut same, &[b"fo", b"urth", b"x"]), [2, 2, 0]);
        let mut any = Reply::to(b"x", Expect::Any, false);
        assert_eq!(taken(&mut any, &[b"whatever", b"more"]), [8, 0]);
        let mut line = Reply::to(b"x", Expect::Line, false);
        assert_eq!(taken(&mut line, &[b"+O", b"K\r\n.", b"more\n"]), [2, 3, 0]);
        let mut close = Reply::to(b"x", Expect::Close, false);
        assert_eq!(taken(&mut close, &[b"some\n", b"more\n"]), [5, 5]);
        assert!(same.is_complete() && any.is_complete() && line.is_complete() && !close.is_complete());
        assert!(close.ends_with_close());
    }

    #[test]
    fn the_first_difference_is_named() {
        let differs = |expect, reads: &[&[u8]]| {
            let mut reply = Reply::to(b"spam", expect, true);
            let error = reads.iter().find_map(|bytes| reply.take(bytes).err()).expect("it differs");
            match error {
                ClientError::Differs { offset, got, expected } => (offset, got.0, expected.0),
                other => panic!("{other}"),
            }
        };
        assert_eq!(differs(Expect::Same, &[b"sp", b"im"]), (2, Some(b'i'), Some(b'a')));
        assert_eq!(differs(Expect::Any, &[b"spa"]), (3, None, Some(b'm')));
        assert_eq!(differs(Expect::Line, &[b"spa\n"]), (3, Some(b'\n'), Some(b'm')));
    }

    #[test]
    fn more_than_what_was_sent_is_no_difference_but_beyond_it() {
        let error = |expect, reads: &[&[u8]]| {
            let mut reply = Reply::to(b"spam", expect, true);
            reads.iter().find_map(|bytes| reply.take(bytes).err()).expect("there is more")
        };
        for error in [
            error(Expect::Any, &[b"spam!"]),
            error(Expect::Line, &[b"spam", b"\n"]),
            error(Expect::Close, &[b"spam", b"!"]),
        ] {
            assert!(matches!(error, ClientError::Surplus { bytes: 1 }), "{error}");
        }
    }

    proptest! {
        /// However the network cuts a reply into reads, it ends at the same byte.
        #[test]
        fn where_a_reply_ends_does_not_depend_on_the_reads(
            length in 1..50_usize, stream in proptest::collection::vec(0..20_u8, 50), cuts in proptest::collection::vec(1..9_usize, 60)
        ) {
            for expect in [Expect::Same, Expect::Line] {
                let mut reply = Reply::to(&stream[..length], expect, false);
                let (mut rest, mut total) = (&stream[..], 0);
                for cut in &cuts {
                    let (read, behind) = rest.split_at((*cut).min(rest.len()));
                    total += reply.take(read).expect("nothing is compared");
                    rest = behind;
                }
                let end = stream.iter().position(|&byte| byte == b'\n').map_or(50, |at| at + 1);
                prop_assert_eq!(total, if expect == Expect::Same { length } else { end });
            }
        }
    }
}
