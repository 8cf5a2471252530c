//! The ladder, fifth step: read until there is nothing left, and keep what could not be sent.
//!
//! ```text
//! cargo run --example 05_poll_drained -- [ADDRESS]
//! ```
//!
//! Now every byte comes back, whatever its client's pace. But there is no bound to what is kept for a client that sends
//! and does not read, and no bound to how long one that sends without a pause holds the loop:
//!
//! ```text
//! # in Bash
//! (exec 3<>/dev/tcp/localhost/10000; head -c 200M /dev/zero >&3; sleep 60) &
//! grep VmRSS /proc/$(pgrep 05_poll)/status      # grows to about 200 MB
//! ```
//!
//! `06_reactor` stops reading when too much is unsent, and gives each client its turn.
#![allow(clippy::print_stdout, reason = "it talks to whoever runs it")]

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    let mut listener = TcpListener::from_std(listener);

    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients = HashMap::new();
    let mut tokens = (1..).map(Token);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let token = tokens.next().expect("numbers do not end");
                    poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                    clients.insert(token, Client { stream, unsent: VecDeque::new(), ended: false });
                }
            } else if let Some(client) = clients.get_mut(&event.token()) {
                match client.read_all().and_then(|()| client.write_all()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(()) if !client.ended => {}
                    _ => drop(clients.remove(&event.token())),
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
