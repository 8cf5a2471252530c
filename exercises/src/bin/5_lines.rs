//! Exercise 5: the server should answer each line with its length: `hello` with `5`. It answers some lines of slow clients
//! twice, and some lines of fast clients not at all.
//!
//! ```text
//! cargo run -p exercises -- 5
//! ```
//!
//! Hint: TCP keeps the order of the bytes. What else does it promise about how they were sent? (And put a bound on all that
//! you keep.)
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
                    let key = clients.insert(Client { stream });
                    poll.registry().register(&mut clients[key].stream, Token(key), Interest::READABLE)?;
                }
            } else if let Some(client) = clients.get_mut(key) {
                match client.answer() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    _ => drop(clients.remove(key)),
                }
            }
        }
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    /// Answers until the end of input, or until nothing is left.
    fn answer(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let line = buffer[..count].trim_ascii_end();
            writeln!(self.stream, "{}", line.len())?;
        }
    }
}
