//! Standard error, written to without ever waiting for its reader.
//!
//! The shell and every other program on a terminal share its file description, and `O_NONBLOCK` is a flag of the
//! description: setting it would change the others' reads and writes. So descriptor 2 gets a description of its own.

use std::io::{self, IsTerminal, stderr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{retry_on_intr, write};
use rustix::net::{SendFlags, send};
use rustix::stdio::dup2_stderr;
use rustix::termios::tcgetsid;

/// Standard error, by the way to write to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandardError {
    /// A terminal or a pipe through a nonblocking description of our own, or a file, which never waits for a reader.
    Descriptor,
    /// A socket, as systemd's journal gives one. It can't be opened again, but each call may say that it won't wait.
    Socket,
    /// A terminal or a pipe that can't be opened again: another user's, or on a system without `/proc`. There a write
    /// may wait even after a poll: another writer was faster, or the terminal has room for only half a line.
    Shared,
}

impl StandardError {
    /// Finds out the kind of standard error, and makes descriptor 2 nonblocking for this process alone.
    pub(super) fn take() -> StandardError {
        let kind = fstat(stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Socket) => StandardError::Socket,
            Ok(FileType::Fifo) => StandardError::replaced_by(&reopened()),
            Ok(FileType::CharacterDevice) if stderr().is_terminal() => {
                StandardError::replaced_by(&reopened().or_else(|_| controlling_terminal()))
            }
            _ => StandardError::Descriptor,
        }
    }

    fn replaced_by(opened: &rustix::io::Result<OwnedFd>) -> StandardError {
        match opened {
            Ok(description) if dup2_stderr(description).is_ok() => StandardError::Descriptor,
            _ => StandardError::Shared,
        }
    }

    /// Writes as much as can be written at once.
    pub(super) fn write(self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = stderr();
        let taken = match self {
            StandardError::Socket => {
                retry_on_intr(|| send(&stderr, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))?
            }
            _ => retry_on_intr(|| write(&stderr, bytes))?,
        };
        Ok(taken)
    }

    /// Waits until standard error has room, or until `at_most` has passed.
    pub(super) fn wait(self, at_most: Duration) -> bool {
        let stderr = stderr();
        let mut descriptors = [PollFd::new(&stderr, PollFlags::OUT)];
        // An interrupted wait counts as one without room.
        let ready = poll(&mut descriptors, Timespec::try_from(at_most).ok().as_ref()).is_ok();
        ready && descriptors[0].revents() == PollFlags::OUT
    }
}

/// The file behind descriptor 2, opened once more.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reopened() -> rustix::io::Result<OwnedFd> {
    open(
        "/proc/self/fd/2",
        OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Elsewhere, opening `/dev/fd/2` duplicates the descriptor, and the description stays the same.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reopened() -> rustix::io::Result<OwnedFd> {
    Err(rustix::io::Errno::OPNOTSUPP)
}

/// The terminal of this session, which everyone in it may open, also after `su`.
fn controlling_terminal() -> rustix::io::Result<OwnedFd> {
    // The call fails for every terminal but the controlling one.
    tcgetsid(stderr())?;
    open("/dev/tty", OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}
