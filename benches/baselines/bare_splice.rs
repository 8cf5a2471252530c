//! A bare loop that splices bulk data through pipes in the kernel: our server without limits, fairness, logs and an
//! orderly end.

use std::io;
use std::os::fd::OwnedFd;

use mio::event::Event;
use mio::net::TcpStream;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::bare_loop::Client;

pub(crate) const NAME: &str = "bare splice";
/// The capacity of a pipe. If the kernel refuses it, the pipe has the usual capacity.
const PIPE: usize = 1 << 20;

pub(super) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

pub(super) struct Splicing {
    stream: TcpStream,
    /// The pipe, while it holds bytes, and how many.
    unsent: Option<(Pipe, usize)>,
}

impl From<TcpStream> for Splicing {
    fn from(stream: TcpStream) -> Splicing {
        Splicing { stream, unsent: None }
    }
}

impl Client for Splicing {
    /// Empty pipes. An idle client has none, so there are as many as there are clients that do not read.
    type Shared = Vec<Pipe>;

    /// Fails only if a pipe fails.
    fn echo(&mut self, pipes: &mut Vec<Pipe>, _: &Event) -> io::Result<bool> {
        loop {
            // The loop fills a pipe only when the pipe is empty. So "again" on reading means the socket, never a full
            // pipe.
            let (pipe, mut held) = match self.unsent.take() {
                Some(unsent) => unsent,
                None => (pipes.pop().map_or_else(Pipe::new, Ok)?, 0),
            };
            if held == 0 {
                match moved(&self.stream, &pipe.writer, PIPE) {
                    Ok(count @ 1..) => held = count,
                    Err(Errno::AGAIN) => {
                        pipes.push(pipe);
                        return Ok(true);
                    }
                    Ok(0) | Err(_) => {
                        pipes.push(pipe);
                        return Ok(false);
                    }
                }
            }
            while held > 0 {
                match moved(&pipe.reader, &self.stream, held) {
                    Ok(count) => held -= count,
                    Err(Errno::AGAIN) => {
                        self.unsent = Some((pipe, held));
                        return Ok(true);
                    }
                    // The pipe goes with its bytes.
                    Err(_) => return Ok(false),
                }
            }
            pipes.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Pipe> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Without the right to a larger pipe it has the usual size.
        let _ = fcntl_setpipe_size(&writer, PIPE);
        Ok(Pipe { reader, writer })
    }
}

fn moved(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> rustix::io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    rustix::io::retry_on_intr(|| splice(&from, None, &to, None, most, flags))
}
