//! Standard input as a source of the reactor: a pipe, a terminal, a file, `/dev/null`.
//!
//! Its flags are not ours to change. Descriptor 0 shares them with the shell and with every other program on the same
//! terminal or pipe, and `O_NONBLOCK` set here would make *their* reads fail. So descriptor 0 stays blocking, and each
//! event allows one read: the event says that bytes are there, and the read takes them without waiting. Such a read
//! never ends in `WouldBlock`, so after each of them we register the descriptor anew, and the kernel reports whether
//! there is more.
//!
//! `epoll(7)` refuses a regular file. A file needs no polling either, since it is always ready.

use std::fs::File;
use std::io::{ErrorKind, Read, stdin};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::outcome::ClientError;

/// The most bytes of one read.
const READ_SIZE: usize = 64 * 1024;

/// Standard input: a duplicate of descriptor 0, read without the buffer of [`std::io::Stdin`], whose bytes raise no
/// event.
pub(super) struct Input {
    file: File,
    buffer: Vec<u8>,
    polled: bool,
    ready: bool,
    ended: bool,
}

/// The result of a read.
pub(super) enum Taken {
    Bytes(Vec<u8>),
    /// Nothing is there now; an event will come.
    Nothing,
    End,
}

impl Input {
    /// Standard input. If the reactor does not poll it, it is always ready.
    pub(super) fn open(polled: bool) -> Result<Input, ClientError> {
        let file = stdin().as_fd().try_clone_to_owned().map_err(ClientError::Input)?;
        Ok(Input { file: file.into(), buffer: vec![0; READ_SIZE], polled, ready: !polled, ended: false })
    }

    /// An event came.
    pub(super) fn note_ready(&mut self) {
        self.ready = true;
    }

    /// Reads once. `true`: register the descriptor anew, or no further event comes.
    pub(super) fn read(&mut self) -> Result<(Taken, bool), ClientError> {
        if !self.ready {
            return Ok((Taken::Nothing, false));
        }
        let result = loop {
            match self.file.read(&mut self.buffer) {
                // An input that can't be polled raises no event that would bring us back: read it again at once.
                Err(error) if error.kind() == ErrorKind::Interrupted && !self.polled => {}
                result => break result,
            }
        };
        match result {
            Ok(0) => {
                self.ended = true;
                Ok((Taken::End, false))
            }
            Ok(count) => {
                self.ready = !self.polled;
                Ok((Taken::Bytes(self.buffer[..count].to_vec()), self.polled))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok((Taken::Nothing, true)),
            // Another process has made standard input nonblocking, and has read the bytes.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready = !self.polled;
                Ok((Taken::Nothing, self.polled))
            }
            // This error says that the other side of a terminal has gone; it is an end like any other.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                self.ended = true;
                Ok((Taken::End, false))
            }
            Err(error) => Err(ClientError::Input(error)),
        }
    }

    /// Whether the end of input was read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether unread bytes are left. The look may consume a byte, so it is only for the end, when nobody wants the
    /// input any more.
    pub(super) fn has_more(&mut self) -> bool {
        if self.polled {
            let mut descriptors = [PollFd::new(&self.file, PollFlags::IN)];
            let polled = poll(&mut descriptors, Some(&Timespec::default()));
            if polled.is_err() || !descriptors[0].revents().contains(PollFlags::IN) {
                return false;
            }
        }
        // The end of input is readable as well: only a byte is proof.
        matches!(self.file.read(&mut [0]), Ok(1))
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
