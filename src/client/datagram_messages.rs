//! The messages of `echoloop send udp://…`: each argument, or each line of standard input, is a datagram.
//!
//! A line goes out with its line feed, so that the output equals the input. Memory is bounded: the client reads
//! standard input only while it has no whole line, and a line that does not fit a datagram ends the conversation.

use std::collections::VecDeque;
use std::io::{IsTerminal, stdin};

use super::dialogue::CrLf;
use super::options::SendOptions;
use super::outcome::ClientError;
use super::output::Output;
use crate::net::LONGEST_PAYLOAD;

/// The messages, wherever they come from.
pub(super) enum Messages {
    /// From the command line.
    Given(VecDeque<Vec<u8>>),
    /// From standard input.
    Typed(Lines),
}

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Message(Vec<u8>),
    /// The client has to read standard input first.
    Input,
    /// Nothing is left to send.
    End,
}

/// Lines of standard input.
#[derive(Default)]
pub(super) struct Lines {
    /// Whether a person types the lines: then there is a prompt, and an empty line ends the conversation.
    by_hand: bool,
    crlf: bool,
    /// Input that was not sent yet: less than a datagram plus one read.
    waiting: Vec<u8>,
    ended: bool,
    prompted: bool,
}

impl Messages {
    pub(super) fn of(options: &SendOptions) -> Messages {
        if options.messages.is_empty() {
            let by_hand = stdin().is_terminal();
            return Messages::Typed(Lines { by_hand, crlf: options.crlf, ..Lines::default() });
        }
        Messages::Given(options.ended_messages().collect())
    }

    /// Bytes of standard input.
    pub(super) fn input(&mut self, bytes: &[u8], output: &mut Output) {
        if let Messages::Typed(lines) = self {
            lines.waiting.extend_from_slice(bytes);
            if lines.by_hand && bytes.ends_with(b"\n") {
                output.note_typed_line();
            }
        }
    }

    /// Standard input has ended.
    pub(super) fn input_ended(&mut self) {
        if let Messages::Typed(lines) = self {
            lines.ended = true;
        }
    }

    /// The next thing to do, once the last message is answered.
    pub(super) fn next(&mut self, output: &mut Output) -> Result<Next, ClientError> {
        let next = match self {
            Messages::Given(messages) => messages.pop_front().map_or(Next::End, Next::Message),
            Messages::Typed(lines) => lines.next()?,
        };
        match (self, &next) {
            (Messages::Typed(lines), Next::Input) if lines.by_hand && !lines.prompted => {
                lines.prompted = true;
                output.ask()?;
            }
            (_, Next::End) => output.end_line()?,
            _ => {}
        }
        match next {
            Next::Message(message) if message.len() > LONGEST_PAYLOAD => {
                Err(ClientError::DatagramTooLong { length: message.len() })
            }
            next => Ok(next),
        }
    }
}

impl Lines {
    fn next(&mut self) -> Result<Next, ClientError> {
        let length = match self.waiting.iter().position(|&byte| byte == b'\n') {
            Some(end) => end + 1,
            None if self.waiting.len() > LONGEST_PAYLOAD => {
                return Err(ClientError::DatagramTooLong { length: self.waiting.len() });
            }
            None if !self.ended => return Ok(Next::Input),
            None if self.waiting.is_empty() => return Ok(Next::End),
            None => self.waiting.len(),
        };
        let mut line: Vec<u8> = self.waiting.drain(..length).collect();
        self.prompted = false;
        if self.by_hand && matches!(&*line, b"\n" | b"\r\n") {
            return Ok(Next::End);
        }
        if self.crlf {
            line = CrLf::default().convert(&line);
        }
        Ok(Next::Message(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: Lines, reads: &[&[u8]]) -> Result<Vec<String>, ClientError> {
        let mut lines = lines;
        let (mut found, mut reads) = (Vec::new(), reads.iter());
        loop {
            match lines.next()? {
                Next::Message(line) => found.push(line.escape_ascii().to_string()),
                Next::Input => match reads.next() {
                    Some(read) => lines.waiting.extend_from_slice(read),
                    None => lines.ended = true,
                },
                Next::End => return Ok(found),
            }
        }
    }

    #[test]
    fn a_line_is_a_datagram_with_its_line_feed() {
        let found = |by_hand, crlf, reads: &[&[u8]]| {
            lines(Lines { by_hand, crlf, ..Lines::default() }, reads).expect("they are short")
        };
        assert_eq!(found(false, false, &[b"a\nb", b"c\n\nend"]), ["a\\n", "bc\\n", "\\n", "end"]);
        assert_eq!(found(false, true, &[b"a\nb\r\n"]), ["a\\r\\n", "b\\r\\n"]);
        assert_eq!(found(true, false, &[b"a\n\n", b"not any more\n"]), ["a\\n"], "an empty line ends it");
        assert!(found(false, false, &[]).is_empty());
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_refused_before_its_end_is_read() {
        let long = vec![b'x'; LONGEST_PAYLOAD + 1];
        let error = lines(Lines::default(), &[&long]).expect_err("it is too long");
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("65508 bytes") && error.to_string().contains("at most 65507"));
        assert_eq!(lines(Lines::default(), &[&long[1..]]).expect("it just fits").len(), 1);
    }
}
