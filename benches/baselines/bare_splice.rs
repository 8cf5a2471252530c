//! A bare loop that splices bulk data through pipes in the kernel: ours without limits, fairness, logs and an orderly end.

use std::io::{self, ErrorKind};
use std::net;
use std::os::fd::OwnedFd;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use slab::Slab;

pub(crate) const NAME: &str = "bare splice";
const LISTENER: Token = Token(usize::MAX - 1);
/// The capacity of a pipe; where the kernel refuses it, the pipe has the usual one.
const PIPE: usize = 1 << 20;

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

struct Client {
    stream: TcpStream,
    /// The pipe, while it holds bytes, and how many.
    unsent: Option<(Pipe, usize)>,
}

/// The end of a client's turn.
enum Turn {
    Waits,
    IsOver,
}

pub(crate) fn serve(listener: net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut clients: Slab<Client> = Slab::new();
    // Empty pipes. An idle client has none, so there are as many as there are clients that do not read.
    let mut pipes = Vec::new();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let entry = clients.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                    entry.insert(Client { stream, unsent: None });
                }
                continue;
            }
            let key = event.token().0;
            let Some(client) = clients.get_mut(key) else { continue };
            if let Turn::IsOver = client.echo(&mut pipes)? {
                clients.remove(key);
            }
        }
    }
}

impl Client {
    /// Moves bytes until the socket has no more, or takes no more. An error is one of pipes, and the end of the server.
    fn echo(&mut self, pipes: &mut Vec<Pipe>) -> io::Result<Turn> {
        loop {
            // A pipe is filled only when it is empty. So "again" on reading means the socket, never a full pipe.
            let (pipe, mut held) = match self.unsent.take() {
                Some(unsent) => unsent,
                None => (pipes.pop().map_or_else(Pipe::new, Ok)?, 0),
            };
            if held == 0 {
                match moved(&self.stream, &pipe.writer, PIPE) {
                    Ok(count @ 1..) => held = count,
                    Err(Errno::AGAIN) => {
                        pipes.push(pipe);
                        return Ok(Turn::Waits);
                    }
                    Ok(0) | Err(_) => {
                        pipes.push(pipe);
                        return Ok(Turn::IsOver);
                    }
                }
            }
            while held > 0 {
                match moved(&pipe.reader, &self.stream, held) {
                    Ok(count) => held -= count,
                    Err(Errno::AGAIN) => {
                        self.unsent = Some((pipe, held));
                        return Ok(Turn::Waits);
                    }
                    // The pipe goes with its bytes.
                    Err(_) => return Ok(Turn::IsOver),
                }
            }
            pipes.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Pipe> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Without the right to a larger one it is a pipe of the usual size.
        let _ = fcntl_setpipe_size(&writer, PIPE);
        Ok(Pipe { reader, writer })
    }
}

fn moved(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> rustix::io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    rustix::io::retry_on_intr(|| splice(&from, None, &to, None, most, flags))
}
