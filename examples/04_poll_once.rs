//! The ladder, fourth step: ask the kernel who is ready. **It loses data.**
//!
//! ```text
//! cargo run --example 04_poll_once -- [ADDRESS]
//! ```
//!
//! One call waits for all clients at once, and the server sleeps until one of them has sent something. But mio's
//! events are edges: one tells that something *has come*, and none tells that something *is still there*. This server
//! reads once an event, as one would with level-triggered events, so what does not fit into its buffer stays in the
//! kernel:
//!
//! ```text
//! (printf 'This is the message. It will be repeated.'; sleep 5) | nc localhost 10000      # This is the mess
//! ```
//!
//! The rest never comes unless the client sends more. And the result of `write` is ignored, which loses what the
//! kernel does not take. `05_poll_drained` reads until there is nothing left, and keeps what it could not send.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to whoever runs it")]

use std::collections::HashMap;
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
                while let Ok((mut stream, peer)) = listener.accept() {
                    eprintln!("connection from {peer}");
                    let token = tokens.next().expect("numbers do not end");
                    poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    clients.insert(token, stream);
                }
            } else if let Some(stream) = clients.get_mut(&event.token())
                && let Ok(false) = echo_once(stream)
            {
                clients.remove(&event.token());
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
