//! Requests from outside, to stop or to report, as something that the reactor can poll.
//!
//! A signal handler may do next to nothing, but it may write a byte. So a signal (or a [`StopHandle`]) writes one into a
//! socket pair, and the loop reads it like any other input. There is no flag that a signal could set just before the poll
//! goes to sleep, and no system call to interrupt.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// A socket pair: each byte in it is one request.
#[derive(Debug)]
struct Requests {
    receiver: UnixStream,
    sender: UnixStream,
}

/// A request to stop.
#[derive(Debug)]
pub struct StopSignal(Requests);

/// A request to log the figures so far.
#[derive(Debug)]
pub struct ReportSignal(Requests);

impl StopSignal {
    /// A signal without a request yet.
    ///
    /// # Errors
    /// As `socketpair(2)`.
    pub fn new() -> io::Result<StopSignal> {
        Requests::new().map(StopSignal)
    }

    /// A handle that makes the request, by signals or from within the program.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub fn handle(&self) -> io::Result<StopHandle> {
        Ok(StopHandle { sender: self.0.sender.try_clone()?, at_once: Arc::new(AtomicBool::new(true)) })
    }

    /// The number of requests that came since the last call.
    pub(crate) fn received(&mut self) -> usize {
        self.0.received()
    }
}

impl ReportSignal {
    /// A signal without a request yet.
    ///
    /// # Errors
    /// As `socketpair(2)`.
    pub fn new() -> io::Result<ReportSignal> {
        Requests::new().map(ReportSignal)
    }

    /// Makes SIGUSR1 request a report, instead of ending the process.
    ///
    /// # Errors
    /// As `sigaction(2)`.
    pub fn on_user_signal(&self) -> io::Result<()> {
        pipe::register(SIGUSR1, self.0.sender.try_clone()?)?;
        Ok(())
    }

    /// The number of requests that came since the last call.
    pub(crate) fn received(&mut self) -> usize {
        self.0.received()
    }
}

impl Requests {
    fn new() -> io::Result<Requests> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        // A request must never wait for us, least of all in a signal handler.
        sender.set_nonblocking(true)?;
        Ok(Requests { receiver, sender })
    }

    fn received(&mut self) -> usize {
        let mut requests = 0;
        let mut bytes = [0; 64];
        loop {
            match self.receiver.read(&mut bytes) {
                Ok(count) if count > 0 => requests += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No more requests. The socket pair never ends, since we hold the other side as well.
                _ => return requests,
            }
        }
    }
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.receiver.as_fd()
    }
}

impl AsFd for ReportSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.receiver.as_fd()
    }
}

/// Asks a loop to stop, from another thread or from the same one. The first request lets it finish what it has begun,
/// the second ends it at once.
#[derive(Debug)]
pub struct StopHandle {
    sender: UnixStream,
    /// Whether a signal ends the process at once.
    at_once: Arc<AtomicBool>,
}

impl StopHandle {
    /// Lets SIGINT, SIGTERM and SIGHUP end the process at once until [`StopHandle::heed_signals`], as they end a process
    /// without a handler. (Without this, a process with the number 1, as in a container, would not notice them.) An ignored
    /// SIGHUP, as under `nohup`, stays ignored. Only Linux tells whether it is; elsewhere this leaves SIGHUP alone.
    ///
    /// # Errors
    /// As `sigaction(2)`.
    pub fn on_signals(&self) -> io::Result<()> {
        let hangup = (is_ignored(SIGHUP) == Some(false)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            flag::register_conditional_default(signal, Arc::clone(&self.at_once))?;
            pipe::register(signal, self.sender.try_clone()?)?;
        }
        Ok(())
    }

    /// From now on the signals make the request. Call it when nothing is left to do but to run the loop: only a running loop
    /// reads requests, and nothing but the end of the process interrupts the resolution of a name.
    pub fn heed_signals(&self) {
        self.at_once.store(false, Ordering::SeqCst);
    }

    /// Makes the request. It never blocks, and does nothing when the loop has gone.
    pub fn stop(&self) {
        // Full or closed: enough requests wait, or the loop has gone.
        let _ = (&self.sender).write(b"S");
    }
}

/// Whether this process ignores the signal; `None` if the system does not tell.
fn is_ignored(signal: i32) -> Option<bool> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask >> (signal - 1) & 1 == 1)
}

/// Lets a write fail that goes beyond the largest file of this process (RLIMIT_FSIZE). By default such a write ends the
/// process (SIGXFSZ).
///
/// # Errors
/// As `sigaction(2)`.
pub fn survive_file_size_limit() -> io::Result<()> {
    // With any handler the write fails instead. Nobody looks at the flag.
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once() {
        let mut signal = StopSignal::new().expect("a socket pair");
        let handle = signal.handle().expect("a descriptor");
        assert_eq!(signal.received(), 0);
        handle.stop();
        handle.stop();
        assert_eq!(signal.received(), 2);
        assert_eq!(signal.received(), 0);
    }
}
