//! The ladder, fourth step: ask the kernel who is ready. **It loses data.**
//!
//! ```text
//! cargo run -p ladder --bin 04_poll_once -- [ADDRESS]
//! ```
//!
//! One call waits for all clients at once, and the server sleeps until one of them has sent something. But mio's
//! events are edges: an event says that something *has come*, and does not repeat itself while it *is still there*. This
//! server reads once an event, so bytes that do not fit into its buffer stay in the kernel. **The failure:**
//!
//! ```text
//! echoloop send -t 1s localhost 'This is the message. It will be repeated.'      # This is the mess
//! ```
//!
//! The rest never comes unless the client sends more. The server also ignores the count that `write` returns, so it loses
//! the bytes that a full socket does not take.
//!
//! **Mended** by `05_poll_drained`: it reads until nothing is left, and keeps the bytes that it could not send. The same
//! command prints the whole message.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

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
                while let Ok((stream, peer)) = listener.accept() {
                    eprintln!("connection from {peer}");
                    let key = clients.insert(stream);
                    poll.registry().register(&mut clients[key], Token(key), Interest::READABLE)?;
                }
            } else if let Some(stream) = clients.get_mut(key) {
                match echo_once(stream) {
                    Ok(true) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    _ => drop(clients.remove(key)),
                }
            }
        }
    }
}

/// False at the end of input.
fn echo_once(stream: &mut TcpStream) -> io::Result<bool> {
    let mut buffer = [0; 16];
    let count = stream.read(&mut buffer)?;
    let _ = stream.write(&buffer[..count])?;
    Ok(count > 0)
}
