//! Exercise 5, mended: a read ends anywhere. The server keeps the part of a line whose end has not come yet, and answers each
//! whole line. A client with a line above the bound loses its connection.
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
                    let key = clients.insert(Client { stream, part: Vec::new() });
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

/// The longest line: without a bound a client could fill our memory.
const LONGEST: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    /// The beginning of a line whose end has not come yet.
    part: Vec<u8>,
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
            for piece in buffer[..count].split_inclusive(|&byte| byte == b'\n') {
                self.part.extend_from_slice(piece);
                if self.part.len() > LONGEST {
                    return Err(ErrorKind::InvalidData.into());
                }
                if piece.ends_with(b"\n") {
                    writeln!(self.stream, "{}", self.part.trim_ascii_end().len())?;
                    self.part.clear();
                }
            }
        }
    }
}
