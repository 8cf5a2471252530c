//! The ladder, fifth step: read until nothing is left, and keep all unsent bytes.
//!
//! ```text
//! cargo run -p ladder --bin 05_poll_drained -- [ADDRESS]
//! ```
//!
//! Now every byte comes back, however slowly its client reads. But nothing bounds the bytes that the server keeps for a
//! client that sends and does not read. **The first failure** (in Bash, whose `/dev/tcp` is a client that never reads):
//!
//! ```text
//! (exec 3<>/dev/tcp/localhost/10000; head -c 200M /dev/zero >&3; sleep 9) &
//! sleep 3; grep VmRSS /proc/$(pgrep 05_poll)/status      # about 200 MB
//! ```
//!
//! And nothing bounds how long one client holds the loop: `read_all` goes on as long as bytes come. **The second
//! failure:** a small client waits, while the large one sends.
//!
//! ```text
//! (exec 3<>/dev/tcp/localhost/10000; head -c 1G /dev/zero >&3) &
//! time echoloop send --expect line localhost 'served?\n'      # up to half a second
//! ```
//!
//! **Mended** by `06_reactor`: it stops reading when too much is unsent, and gives each client its turn. With it
//! `VmRSS` stays at some megabytes, and the small client has its answer within some milliseconds.
#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// No client has this token: a client's token is its key in the table, and keys count from 0.
const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    let mut listener = TcpListener::from_std(listener);

    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients = Slab::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let Token(key) = event.token();
            if event.token() == LISTENER {
                // It also stops at "too many open files", and then no event comes: see the guide, "descriptors".
                while let Ok((stream, _)) = listener.accept() {
                    let key = clients.insert(Client { stream, unsent: VecDeque::new(), ended: false });
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut clients[key].stream, Token(key), interest)?;
                }
            } else if let Some(client) = clients.get_mut(key) {
                match client.read_all().and_then(|()| client.write_all()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(()) if !client.ended => {}
                    _ => drop(clients.remove(key)),
                }
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    unsent: VecDeque<u8>,
    ended: bool,
}

impl Client {
    fn read_all(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while !self.ended {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.unsent.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_all(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = self.stream.write(self.unsent.as_slices().0)?;
            self.unsent.drain(..count);
        }
        Ok(())
    }
}
