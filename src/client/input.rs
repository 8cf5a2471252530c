//! Standard input as a source of the reactor, whatever it is: a pipe, a terminal, a file, `/dev/null`.
//!
//! Its flags are not ours to change. Descriptor 0 shares them with the shell and with everything else that was
//! started with the same terminal or pipe, and `O_NONBLOCK` set here would make *their* reads fail. So it stays
//! blocking, and is read once an event: an event says that there is something, and one read takes what is there
//! without waiting. Since such a read leaves no `WouldBlock` behind, the kernel is asked after each of them to report
//! anew whether there is more.
//!
//! A regular file can't be polled, `epoll(7)` refuses it; it needs no polling either, since it is always ready.

use std::fs::File;
use std::io::{ErrorKind, Read, stdin};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Source;
use super::outcome::ClientError;
use crate::reactor::{Context, Interest, Stage, Token};

/// Standard input. It is a duplicate of descriptor 0, read without the buffer of [`std::io::Stdin`], in which bytes
/// would wait of which no event tells.
pub(super) struct Input {
    file: File,
    polled: bool,
    ready: bool,
    ended: bool,
}

/// What a read of standard input brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Bytes(usize),
    /// Nothing is there now; an event will come.
    Nothing,
    End,
}

impl Input {
    /// Takes standard input into the loop.
    pub(super) fn insert(context: &mut Context<Source>) -> Result<Token, ClientError> {
        let open = |polled| -> Result<Source, ClientError> {
            let file = stdin().as_fd().try_clone_to_owned().map_err(ClientError::Input)?;
            Ok(Source::Input(Input { file: file.into(), polled, ready: !polled, ended: false }))
        };
        match context.insert(open(true)?, Interest::READABLE, Stage::Connections) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
                context.insert_unpolled(open(false)?, Stage::Connections).map_err(ClientError::Input)
            }
            inserted => inserted.map_err(ClientError::Input),
        }
    }

    /// An event came.
    pub(super) fn note_ready(&mut self) {
        self.ready = true;
    }

    /// Reads once. `true`: it has to be registered anew, or no further event comes.
    fn read(&mut self, buffer: &mut [u8]) -> Result<(Taken, bool), ClientError> {
        if !self.ready {
            return Ok((Taken::Nothing, false));
        }
        let result = loop {
            match self.file.read(buffer) {
                // Whatever can't be polled has no event that would bring us back: it is read again at once.
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
                Ok((Taken::Bytes(count), self.polled))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok((Taken::Nothing, true)),
            // Somebody else has made it nonblocking, and has read what was there.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready = !self.polled;
                Ok((Taken::Nothing, self.polled))
            }
            // A terminal whose other side has gone says so with this error; it is an end like any other.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                self.ended = true;
                Ok((Taken::End, false))
            }
            Err(error) => Err(ClientError::Input(error)),
        }
    }

    /// Reads what is there, if anything is.
    pub(super) fn take(
        context: &mut Context<Source>,
        token: Token,
        buffer: &mut [u8],
    ) -> Result<Taken, ClientError> {
        let Some(Source::Input(input)) = context.get_mut(token) else { return Ok(Taken::End) };
        let (taken, again) = input.read(buffer)?;
        if again {
            context.reregister(token, Interest::READABLE).map_err(ClientError::Input)?;
        }
        Ok(taken)
    }

    /// Whether its end was read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether there are bytes that were not read yet. Asked at the end, when there is no more use for them.
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
