//! Standard output: bytes that arrived, written at once, as they are; on a terminal, so that they can't drive the terminal.
//!
//! The writes block, which is the backpressure of this program: as long as nobody takes its output, it reads nothing more
//! from the socket, the kernel's window closes, and the server has to wait. A poll of standard output would need flags
//! that other processes share, and a client with one connection keeps nobody waiting.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write, stdout};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

use super::hex::{Direction, HexDump};
use super::outcome::ClientError;
use super::plain::PlainText;
use crate::reactor::Moment;

/// Standard output of a conversation.
pub(super) struct Output {
    /// A duplicate of descriptor 1: the buffer of [`std::io::Stdout`] would hold bytes back until a newline comes.
    file: File,
    terminal: bool,
    /// The last byte was a newline, or nothing was written yet.
    at_line_start: bool,
    hex: Option<HexDump>,
    /// Standard output is a terminal, and the user did not ask for the bytes themselves.
    plain: Option<PlainText>,
    /// The first prompt was shown.
    asked: bool,
    start: Moment,
}

impl Output {
    /// Opens standard output. The times of a dump count from now on.
    pub(super) fn standard(hex: bool, raw: bool) -> Result<Output, ClientError> {
        let stdout = stdout();
        let file = stdout.as_fd().try_clone_to_owned().map_err(ClientError::Output)?;
        Ok(Output {
            file: file.into(),
            terminal: stdout.is_terminal(),
            at_line_start: true,
            hex: hex.then(HexDump::default),
            plain: (!raw && stdout.is_terminal()).then(PlainText::default),
            asked: false,
            start: Moment::now(),
        })
    }

    /// Shows bytes that came from the server.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.hex.is_some() {
            return self.dump(Direction::Received, bytes);
        }
        match &mut self.plain {
            Some(plain) => {
                let text = plain.of(bytes);
                self.write(text.as_bytes())
            }
            None => self.write(bytes),
        }
    }

    /// Shows bytes that go to the server, if both directions are shown.
    pub(super) fn sent(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.hex.is_some() { self.dump(Direction::Sent, bytes) } else { Ok(()) }
    }

    /// Whether output is a dump, which also shows bytes outside replies.
    pub(super) fn is_dump(&self) -> bool {
        self.hex.is_some()
    }

    /// Asks a person for a line.
    pub(super) fn ask(&mut self) -> Result<(), ClientError> {
        if !std::mem::replace(&mut self.asked, true) {
            self.prompt("An empty line ends the conversation.\n")?;
        }
        self.prompt("> ")
    }

    /// A message for a person, if one is looking.
    pub(super) fn prompt(&mut self, text: &str) -> Result<(), ClientError> {
        if self.terminal {
            self.end_line()?;
            self.write(text.as_bytes())?;
        }
        Ok(())
    }

    /// The cursor is at the start of a line because the user typed a newline.
    pub(super) fn note_typed_line(&mut self) {
        self.at_line_start = true;
    }

    /// On a terminal, ends the line, so that the next output has a line of its own.
    pub(super) fn end_line(&mut self) -> Result<(), ClientError> {
        if let Some(plain) = &mut self.plain {
            let text = plain.rest();
            self.write(text.as_bytes())?;
        }
        if self.terminal && !self.at_line_start { self.write(b"\n") } else { Ok(()) }
    }

    fn dump(&mut self, direction: Direction, bytes: &[u8]) -> Result<(), ClientError> {
        let after = Moment::now().since(self.start);
        let lines = self.hex.as_mut().map(|hex| hex.lines(direction, bytes, after)).unwrap_or_default();
        self.write(lines.as_bytes())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        if let Some(&last) = bytes.last() {
            self.at_line_start = last == b'\n';
        }
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(ClientError::Output(ErrorKind::WriteZero.into())),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the file description made it nonblocking, so waiting takes a call of its
                // own.
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait()?,
                Err(error) => return Err(ClientError::Output(error)),
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), ClientError> {
        match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None) {
            Err(error) if error != rustix::io::Errno::INTR => {
                Err(ClientError::Output(io::Error::from(error)))
            }
            _ => Ok(()),
        }
    }
}
