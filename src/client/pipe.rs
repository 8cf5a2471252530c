//! Standard input to the server and its answer to standard output, both at once, until the server closes.
//!
//! The pipe's memory is bounded in both directions: it reads standard input only while nothing waits to be sent, and
//! the socket only as fast as standard output takes the bytes.

use std::collections::VecDeque;

use super::dialogue::{CrLf, Dialogue, Step};
use super::outcome::ClientError;
use super::output::Output;
use super::reply::compare;

/// The most bytes that the comparison remembers: bytes that were sent and have not come back.
const VERIFY_WINDOW: usize = 1 << 20;

/// A stream in both directions.
pub(super) struct Pipe {
    half_close: bool,
    half_closed: bool,
    input_ended: bool,
    crlf: Option<CrLf>,
    echo: Option<Echo>,
    /// Whether the last step was to wait for the server although there may be input.
    server_is_slow: bool,
}

impl Pipe {
    pub(super) fn new(verify: bool, crlf: bool, half_close: bool) -> Pipe {
        Pipe {
            half_close,
            half_closed: false,
            input_ended: false,
            crlf: crlf.then(CrLf::default),
            echo: verify.then(Echo::default),
            server_is_slow: false,
        }
    }
}

impl Dialogue for Pipe {
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), ClientError> {
        output.received(bytes)?;
        self.echo.as_mut().map_or(Ok(()), |echo| echo.compare(bytes))
    }

    fn input(&mut self, bytes: Vec<u8>, _: &mut Output) -> Vec<u8> {
        let bytes = match &mut self.crlf {
            Some(crlf) => crlf.convert(&bytes),
            None => bytes,
        };
        if let Some(echo) = &mut self.echo {
            echo.expected.extend(&bytes);
        }
        bytes
    }

    fn input_ended(&mut self) {
        self.input_ended = true;
    }

    fn step(&mut self, unsent: usize, _: &mut Output) -> Result<Step, ClientError> {
        if self.input_ended {
            if self.half_close && !self.half_closed {
                self.half_closed = true;
                return Ok(Step::HalfClose);
            }
            return Ok(Step::Wait);
        }
        let window_full = self.echo.as_ref().is_some_and(|echo| echo.expected.len() >= VERIFY_WINDOW);
        self.server_is_slow = unsent > 0 || window_full;
        Ok(if self.server_is_slow { Step::Wait } else { Step::ReadInput })
    }

    fn awaits_server(&self) -> bool {
        self.input_ended || self.server_is_slow
    }

    fn missing(&self, input_left: bool) -> Option<String> {
        let outstanding = self.echo.as_ref().map_or(0, |echo| echo.expected.len());
        if input_left {
            Some("not all of the input was sent".into())
        } else if outstanding > 0 {
            Some(format!("{outstanding} bytes of the reply did not come"))
        } else {
            None
        }
    }
}

/// Bytes that were sent and have not come back.
#[derive(Debug, Default)]
struct Echo {
    expected: VecDeque<u8>,
    offset: u64,
}

impl Echo {
    fn compare(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let (front, back) = self.expected.as_slices();
        let (first, second) = bytes.split_at(bytes.len().min(front.len()));
        compare(first, front, self.offset)?;
        compare(second, back, self.offset + first.len() as u64)?;
        self.expected.drain(..bytes.len());
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Byte;
    use super::*;

    #[test]
    fn the_first_difference_in_a_stream_is_named() {
        let mut echo = Echo::default();
        echo.expected.extend(b"0123456789");
        echo.compare(b"0123").expect("the same");
        match echo.compare(b"45x7") {
            Err(ClientError::Differs { offset: 6, got: Byte(Some(b'x')), expected: Byte(Some(b'6')) }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_difference_behind_the_fold_of_the_ring_has_its_offset() {
        let mut echo = Echo { expected: VecDeque::with_capacity(8), offset: 0 };
        echo.expected.extend(b"012345");
        echo.compare(b"01234").expect("the same");
        echo.expected.extend(b"6789a");
        assert!(!echo.expected.as_slices().1.is_empty(), "it has two parts");
        match echo.compare(b"5678x") {
            Err(ClientError::Differs { offset: 9, got: Byte(Some(b'x')), expected: Byte(Some(b'9')) }) => {}
            other => panic!("{other:?}"),
        }
        echo.compare(b"56789a").expect("the same");
    }

    #[test]
    fn a_byte_that_was_never_sent_is_beyond_the_reply() {
        let mut echo = Echo::default();
        echo.expected.extend(b"ab");
        match echo.compare(b"abc") {
            Err(ClientError::Surplus { bytes: 1 }) => {}
            other => panic!("{other:?}"),
        }
    }
}
