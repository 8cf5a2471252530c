//! Exercise 6: a client sends a lot, ends its input, then reads. A part of the answer comes. The rest stays in the server.
//!
//! As long as the client goes on sending, all is well: at each event the server sends a part of what is unsent. (Nothing
//! bounds what it keeps. That is a fault as well, but not the one in question.)
//!
//! ```text
//! cargo run -p exercises -- 6
//! ```
//!
//! Hint: after the end of input, which event could come?
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
                while let Ok((stream, _)) = listener.accept() {
                    let key = clients.insert(Client { stream, unsent: VecDeque::new(), ended: false });
                    poll.registry().register(&mut clients[key].stream, Token(key), Interest::READABLE)?;
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
