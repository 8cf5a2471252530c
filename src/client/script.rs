//! Messages and their replies: the client sends one message, awaits and shows its reply, then sends the next.

use std::collections::VecDeque;

use super::dialogue::{Dialogue, Step};
use super::outcome::ClientError;
use super::output::Output;
use super::reply::{Expect, Reply, judge_surplus};

/// The messages that the command line gave.
pub(super) struct Script {
    messages: VecDeque<Vec<u8>>,
    expect: Expect,
    verify: bool,
    /// Whether our sending side ends after the last message, and the client then reads to the server's end.
    half_close: bool,
    half_closed: bool,
    reply: Option<Reply>,
}

impl Script {
    /// `greeting`: the server speaks first.
    pub(super) fn new(
        messages: Vec<Vec<u8>>,
        expect: Expect,
        greeting: bool,
        verify: bool,
        half_close: bool,
    ) -> Script {
        let messages = match expect {
            // The server sends one reply to all messages together.
            Expect::Close => [messages.concat()].into(),
            _ => messages.into(),
        };
        let reply = greeting.then(|| Reply::greeting(expect));
        Script { messages, expect, verify, half_close, half_closed: false, reply }
    }

    fn reply_is_complete(&self) -> bool {
        self.reply.as_ref().is_none_or(Reply::is_complete)
    }
}

impl Dialogue for Script {
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), ClientError> {
        let taken = match &mut self.reply {
            Some(reply) => {
                // Show the reply before judging it: the user should see a difference.
                let shown = if output.is_dump() { bytes.len() } else { reply.length_in(bytes) };
                output.received(&bytes[..shown])?;
                let taken = reply.take(bytes)?;
                if reply.is_complete() && taken > 0 {
                    output.end_line()?;
                }
                taken
            }
            None => {
                if output.is_dump() {
                    output.received(bytes)?;
                }
                0
            }
        };
        judge_surplus(&bytes[taken..], self.verify)
    }

    fn step(&mut self, _: usize, _: &mut Output) -> Result<Step, ClientError> {
        if self.messages.is_empty() && self.half_close && !self.half_closed {
            self.half_closed = true;
            return Ok(Step::HalfClose);
        }
        if !self.reply_is_complete() {
            return Ok(Step::Wait);
        }
        match self.messages.pop_front() {
            Some(message) => {
                self.reply = Some(Reply::to(&message, self.expect, self.verify));
                Ok(Step::Send(message))
            }
            None if self.half_closed => Ok(Step::Wait),
            None => Ok(Step::Done),
        }
    }

    fn awaits_server(&self) -> bool {
        true
    }

    fn missing(&self, _: bool) -> Option<String> {
        let unsent = match self.messages.len() {
            0 => String::new(),
            count => format!(", and {count} messages were not sent"),
        };
        match &self.reply {
            Some(reply) if !reply.ends_with_close() => Some(reply.missing() + &unsent),
            _ if !self.messages.is_empty() => Some(format!("{} messages were not sent", self.messages.len())),
            _ => None,
        }
    }
}
