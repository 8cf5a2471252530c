//! Exercise 3: a server for four clients. When a fifth one comes, the oldest has to go. Now and then the server throws the
//! new client out instead, just after it has accepted it.
//!
//! ```text
//! cargo run -p exercises -- 3
//! ```
//!
//! Hint: `poll` returned a list of events. While the server goes through it, whose event is the next one? And what does
//! `Slab::insert` do with a key that `Slab::remove` has just given back?
#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// No client has this token: a client's token is its key in the table, and keys count from 0.
const LISTENER: Token = Token(usize::MAX);

/// The most clients at once; for one more the oldest has to go.
const MOST: usize = 4;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    let mut listener = TcpListener::from_std(listener);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut clients, mut ages) = (Slab::new(), VecDeque::new());
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let Token(key) = event.token();
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    if clients.len() == MOST
                        && let Some(oldest) = ages.pop_front()
                    {
                        clients.remove(oldest);
                    }
                    let key = clients.insert(stream);
                    ages.push_back(key);
                    poll.registry().register(&mut clients[key], Token(key), Interest::READABLE)?;
                }
            } else if let Some(stream) = clients.get_mut(key)
                && (event.is_read_closed() || !echo(stream).unwrap_or(false))
            {
                clients.remove(key);
                ages.retain(|&other| other != key);
            }
        }
    }
}

/// Echoes until nothing is left. False at the end of input.
fn echo(stream: &mut TcpStream) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => stream.write_all(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
