//! Exercise 2, mended: only `WouldBlock` means that nobody waits. After any other failure somebody may still be in the
//! backlog, and no event will say so. So the server looks again by itself: after each turn, and at the latest in 100 ms,
//! since a descriptor may become free anywhere on the machine. (A server for others would log once, and wait longer each
//! time.)
#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// No client has this token: a client's token is its key in the table, and keys count from 0.
const LISTENER: Token = Token(usize::MAX);

/// A waiting client waits at most this long for the next attempt.
const RETRY: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    let mut listener = TcpListener::from_std(listener);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients = Slab::new();
    let mut someone_waits = false;
    loop {
        match poll.poll(&mut events, someone_waits.then_some(RETRY)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let Token(key) = event.token();
            if event.token() == LISTENER {
                someone_waits = true;
            } else if let Some(stream) = clients.get_mut(key) {
                match echo(stream) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    _ => drop(clients.remove(key)),
                }
            }
        }
        // After the clients, whose descriptors may just have become free.
        while someone_waits {
            match listener.accept() {
                Ok((stream, _)) => {
                    let key = clients.insert(stream);
                    poll.registry().register(&mut clients[key], Token(key), Interest::READABLE)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => someone_waits = false,
                Err(_) => break,
            }
        }
    }
}

/// Echoes until the end of input, or until nothing is left.
fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
