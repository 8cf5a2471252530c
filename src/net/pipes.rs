//! Pipes in the kernel. Bytes pass through a pipe from a socket and back to it, and nobody copies them.

use std::io;
use std::os::fd::OwnedFd;

/// The capacity to ask for. With the usual 64 KiB a transfer takes sixteen times as many calls, which costs half of the
/// gain.
const CAPACITY: usize = 1 << 20;

/// A pipe with the number of bytes in it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
    pub(super) capacity: usize,
    pub(super) held: usize,
}

/// Empty pipes, which connections borrow for as long as bytes are in them.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    in_use: usize,
    most: usize,
}

impl Pipes {
    /// Sets the most pipes at a time.
    pub(super) fn allow(&mut self, most: usize) {
        self.most = most;
    }

    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// The number of descriptors of all pipes, also of the empty ones.
    pub(super) fn descriptors(&self) -> usize {
        2 * (self.in_use + self.free.len())
    }

    /// `None`: all of them are in use, or there is no descriptor or memory for another one. Then the connection copies.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if self.in_use >= self.most {
            return None;
        }
        let pipe = self.free.pop().or_else(|| Pipe::new().ok())?;
        self.in_use += 1;
        Some(pipe)
    }

    /// Takes a pipe back. A pipe that still holds bytes is closed, since the next connection must not find them.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        self.in_use -= 1;
        if pipe.held == 0 {
            self.free.push(pipe);
        }
    }
}

impl Pipe {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn new() -> io::Result<Pipe> {
        use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // The kernel refuses users who have many pages in pipes (`/proc/sys/fs/pipe-user-pages-soft`). Then the pipe
        // stays small, so ask for the size that it has.
        let _refused = fcntl_setpipe_size(&writer, CAPACITY);
        let capacity = fcntl_getpipe_size(&writer)?;
        Ok(Pipe { reader, writer, capacity, held: 0 })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn new() -> io::Result<Pipe> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// `splice(2)` can't be asked not to raise SIGPIPE when the peer has gone. A Rust program ignores the signal from its
/// start; a library in another program can't rely on that.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn is_broken_pipe_harmless() -> bool {
    const SIGPIPE: u32 = 13;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_set = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (SIGPIPE - 1) & 1 == 1)
    };
    is_set("SigIgn:") || is_set("SigCgt:")
}

/// Other systems have no `splice(2)`.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn is_broken_pipe_harmless() -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_given_back_empty_or_closed() {
        let mut pipes = Pipes::default();
        assert!(pipes.take().is_none(), "none are allowed yet");
        pipes.allow(2);
        let one = pipes.take().expect("a pipe");
        let mut other = pipes.take().expect("a pipe");
        assert!(pipes.take().is_none());
        rustix::io::write(&other.writer, b"left").expect("room");
        other.held = 4;
        pipes.give_back(one);
        pipes.give_back(other);
        assert_eq!((pipes.free.len(), pipes.in_use(), pipes.descriptors()), (1, 0, 2));
        assert!(pipes.free.iter().all(|pipe| rustix::io::ioctl_fionread(&pipe.reader) == Ok(0)));
        pipes.allow(0);
        assert!(pipes.take().is_none());
    }

    #[test]
    fn a_rust_program_ignores_broken_pipes() {
        assert!(is_broken_pipe_harmless());
    }
}
