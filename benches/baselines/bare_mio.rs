//! A bare mio loop: our server without limits, deadlines, fairness, logs and an orderly end.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::TcpStream;

use super::bare_loop::Client;

pub(crate) const NAME: &str = "bare mio";

pub(super) struct Copying {
    stream: TcpStream,
    /// Bytes that the kernel did not take. Without them the loop would lose bytes, and a wrong server is not fast.
    unsent: Vec<u8>,
}

impl From<TcpStream> for Copying {
    fn from(stream: TcpStream) -> Copying {
        Copying { stream, unsent: Vec::new() }
    }
}

impl Client for Copying {
    /// The buffer of every read.
    type Shared = Vec<u8>;

    fn echo(&mut self, buffer: &mut Vec<u8>, event: &Event) -> io::Result<bool> {
        let to_the_end = event.is_read_closed() || event.is_error();
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(taken) => drop(self.unsent.drain(..taken)),
                    Err(error) => return Ok(error.kind() == ErrorKind::WouldBlock),
                }
            }
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    match self.stream.write(&buffer[..count]) {
                        Ok(taken) => self.unsent.extend_from_slice(&buffer[taken..count]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            self.unsent.extend_from_slice(&buffer[..count]);
                        }
                        Err(_) => return Ok(false),
                    }
                    if count < buffer.len() && !to_the_end && self.unsent.is_empty() {
                        return Ok(true);
                    }
                }
                Err(error) => return Ok(error.kind() == ErrorKind::WouldBlock),
            }
        }
    }
}
