//! Exercise 6, mended: room in the send buffer makes an event of its own, and the server had not registered for it. Now it
//! registers each client for both, once and for ever. (It could also register for writability whenever something is
//! unsent, which costs a system call each time.)
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
