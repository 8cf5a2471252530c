//! Exercise 4: one client sends without a pause. The others wait until all of it has come back.
//!
//! This server loses nothing and bounds what it keeps: it reads only when nothing is unsent.
//!
//! ```text
//! cargo run -p exercises -- 4
//! ```
//!
//! Hint: how long does `echo` go on? Who comes back to a client for which no further event will come?
#![allow(clippy::print_stdout, reason = "it talks to its user")]

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
                    let key = clients.insert(Client { stream, unsent: Vec::new() });
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut clients[key].stream, Token(key), interest)?;
                }
            } else if let Some(client) = clients.get_mut(key) {
                match client.echo() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    _ => drop(clients.remove(key)),
                }
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Client {
    /// Echoes until the end of input, or until nothing can be read or written.
    fn echo(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16];
        loop {
            while !self.unsent.is_empty() {
                let count = self.stream.write(&self.unsent)?;
                self.unsent.drain(..count);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.unsent.extend_from_slice(&buffer[..count]),
            }
        }
    }
}
