//! A conversation by hand: a prompt, a line, its reply, the next prompt.

use super::dialogue::{Dialogue, Step};
use super::outcome::ClientError;
use super::output::Output;
use super::reply::{Expect, Reply, judge_surplus};

/// A terminal gives at most 4096 bytes as one line (`termios(3)`); a longer line without an end goes out in pieces.
const LONGEST_LINE: usize = 64 * 1024;

/// The lines that a person types.
pub(super) struct Prompt {
    expect: Expect,
    verify: bool,
    crlf: bool,
    half_close: bool,
    half_closed: bool,
    /// Typed bytes that were not sent yet: at most one read.
    typed: Vec<u8>,
    input_ended: bool,
    over: bool,
    reply: Option<Reply>,
    prompted: bool,
}

impl Prompt {
    pub(super) fn new(expect: Expect, verify: bool, crlf: bool, half_close: bool) -> Prompt {
        Prompt {
            expect,
            verify,
            crlf,
            half_close,
            half_closed: false,
            typed: Vec::new(),
            input_ended: false,
            over: false,
            reply: None,
            prompted: false,
        }
    }

    /// The next line, without its end; at the end of input, the rest.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let length = match self.typed.iter().position(|&byte| byte == b'\n') {
            Some(end) => end + 1,
            None if (self.input_ended && !self.typed.is_empty()) || self.typed.len() >= LONGEST_LINE => {
                self.typed.len()
            }
            None => return None,
        };
        let mut line: Vec<u8> = self.typed.drain(..length).collect();
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Some(line)
    }

    fn end(&mut self) -> Step {
        self.over = true;
        if !self.half_close {
            Step::Done
        } else if self.half_closed {
            Step::Wait
        } else {
            self.half_closed = true;
            Step::HalfClose
        }
    }
}

impl Dialogue for Prompt {
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), ClientError> {
        // Bytes behind a prompt begin on a line of their own, and a new prompt follows.
        output.end_line()?;
        self.prompted = false;
        output.received(bytes)?;
        // Bytes before the first line are the greeting. Bytes behind a reply are news from the server, or with --verify a
        // surplus.
        let Some(reply) = self.reply.as_mut().filter(|reply| self.verify || !reply.is_complete()) else {
            return Ok(());
        };
        let taken = reply.take(bytes)?;
        judge_surplus(&bytes[taken..], self.verify)
    }

    fn input(&mut self, bytes: Vec<u8>, output: &mut Output) -> Vec<u8> {
        self.typed.extend_from_slice(&bytes);
        if bytes.ends_with(b"\n") {
            output.note_typed_line();
        }
        Vec::new()
    }

    fn input_ended(&mut self) {
        self.input_ended = true;
    }

    fn step(&mut self, _: usize, output: &mut Output) -> Result<Step, ClientError> {
        if self.over {
            return Ok(self.end());
        }
        if self.awaits_server() {
            return Ok(Step::Wait);
        }
        if let Some(mut line) = self.next_line() {
            if line.is_empty() {
                return Ok(self.end());
            }
            line.extend_from_slice(if self.crlf { b"\r\n" } else { b"\n" });
            self.reply = Some(Reply::to(&line, self.expect, self.verify));
            self.prompted = false;
            return Ok(Step::Send(line));
        }
        if self.input_ended {
            output.end_line()?;
            return Ok(self.end());
        }
        if !self.prompted {
            output.ask()?;
            self.prompted = true;
        }
        Ok(Step::ReadInput)
    }

    fn awaits_server(&self) -> bool {
        self.over || self.reply.as_ref().is_some_and(|reply| !reply.is_complete())
    }

    fn closed(&mut self, output: &mut Output) -> Result<(), ClientError> {
        output.prompt("The server has closed the connection.\n")
    }

    fn missing(&self, _: bool) -> Option<String> {
        self.reply.as_ref().filter(|reply| !reply.ends_with_close()).map(Reply::missing)
    }
}
