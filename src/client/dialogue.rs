//! A dialogue is one of three ways of talking to a server. The conversation asks it for the next step.

use super::outcome::ClientError;
use super::output::Output;

/// The next step on the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// End our sending side when all is sent.
    HalfClose,
    /// Take more of standard input.
    ReadInput,
    /// Wait for the server.
    Wait,
    /// Close: the dialogue is over.
    Done,
}

/// One way to use a connection: messages and replies, a prompt, a stream.
pub(super) trait Dialogue {
    /// Bytes came from the server.
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), ClientError>;

    /// Bytes came from standard input; returns the bytes to send at once.
    fn input(&mut self, bytes: Vec<u8>, output: &mut Output) -> Vec<u8> {
        let _ = output;
        bytes
    }

    /// Standard input has ended.
    fn input_ended(&mut self) {}

    /// The next step. The dialogue has all input by now; the connection has yet to write `unsent` bytes.
    fn step(&mut self, unsent: usize, output: &mut Output) -> Result<Step, ClientError>;

    /// Whether it is the server's turn, so that its silence counts.
    fn awaits_server(&self) -> bool;

    /// The part that is missing if the connection ends now; `None` if the dialogue is complete. `input_left`: whether
    /// bytes of standard input were not sent.
    fn missing(&self, input_left: bool) -> Option<String>;

    /// The server has closed, and nothing is missing.
    fn closed(&mut self, output: &mut Output) -> Result<(), ClientError> {
        output.end_line()
    }
}

/// Converts text for protocols whose lines end with CR LF: a line feed alone gets a carriage return.
#[derive(Debug, Default)]
pub(super) struct CrLf {
    after_cr: bool,
}

impl CrLf {
    /// The bytes, each line feed with its carriage return.
    pub(super) fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut converted = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == b'\n' && !self.after_cr {
                converted.push(b'\r');
            }
            converted.push(byte);
            self.after_cr = byte == b'\r';
        }
        converted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_gets_its_carriage_return_once() {
        let mut convert = CrLf::default();
        assert_eq!(convert.convert(b"a\nb\r\nc\r"), b"a\r\nb\r\nc\r");
        assert_eq!(convert.convert(b"\n\n"), b"\n\r\n", "the pair may come in two reads");
    }
}
