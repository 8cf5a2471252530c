//! Exercise 4, mended: a client has a limited number of reads in a turn. Then the others have theirs. No event will report
//! the rest, so the server keeps a queue of clients that are not done, and does not sleep while the queue holds one.
#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// No client has this token: a client's token is its key in the table, and keys count from 0.
const LISTENER: Token = Token(usize::MAX);

/// Enough that a turn is worth its poll, few enough that others hardly notice.
const READS_A_TURN: usize = 64;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    let mut listener = TcpListener::from_std(listener);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut clients, mut queue) = (Slab::new(), VecDeque::new());
    loop {
        match poll.poll(&mut events, (!queue.is_empty()).then_some(Duration::ZERO)) {
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
            } else if !queue.contains(&key) {
                queue.push_back(key);
            }
        }
        // Each once: a client that is not done goes to the end, behind the others.
        for _ in 0..queue.len() {
            let Some(key) = queue.pop_front() else { break };
            match clients.get_mut(key).map(Client::echo) {
                Some(Ok(true)) => queue.push_back(key),
                Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
                None => {}
                Some(_) => drop(clients.remove(key)),
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Client {
    /// Echoes. True when the budget is spent, false at the end of input.
    fn echo(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16];
        for _ in 0..READS_A_TURN {
            while !self.unsent.is_empty() {
                let count = self.stream.write(&self.unsent)?;
                self.unsent.drain(..count);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Ok(false),
                count => self.unsent.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(true)
    }
}
