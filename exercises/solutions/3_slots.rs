//! Exercise 3, mended: the list still held an event of the client that the server had just thrown out, and its key had gone
//! to the newcomer. So a key is not free before the list has come to its end: a client that has to go leaves an empty slot,
//! which the server frees after the batch. (A generation in the token works as well. So does a server that believes no
//! event, and reads.)
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
        let mut freed = Vec::new();
        for event in &events {
            let Token(key) = event.token();
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    if ages.len() == MOST
                        && let Some(oldest) = ages.pop_front()
                    {
                        clients[oldest] = None;
                        freed.push(oldest);
                    }
                    let key = clients.insert(Some(stream));
                    ages.push_back(key);
                    if let Some(stream) = &mut clients[key] {
                        poll.registry().register(stream, Token(key), Interest::READABLE)?;
                    }
                }
            } else if let Some(Some(stream)) = clients.get_mut(key)
                && (event.is_read_closed() || !echo(stream).unwrap_or(false))
            {
                clients[key] = None;
                freed.push(key);
                ages.retain(|&other| other != key);
            }
        }
        for key in freed {
            clients.remove(key);
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
