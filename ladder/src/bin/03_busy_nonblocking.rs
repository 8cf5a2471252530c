//! The ladder, third step: one thread that never waits.
//!
//! ```text
//! cargo run -p ladder --bin 03_busy_nonblocking -- [ADDRESS]
//! ```
//!
//! A nonblocking call that would have to wait returns at once and says `WouldBlock`. So one thread can ask every client
//! in turn, for ever. No client waits for another, and no byte is lost: the server keeps the bytes that the kernel does
//! not take at once, and tries again. A client costs four words (its socket, and the vector of unsent bytes), and sixteen
//! bytes once it has said something. But the server also asks when there is nothing to be had. **The failure:**
//!
//! ```text
//! top -p $(pgrep 03_busy)                               # 100 % of a core, without one client
//! timeout -s INT 1 strace -c -p $(pgrep 03_busy)        # all of it for accept4
//! ```
//!
//! **Mended** by `04_poll_once`: the kernel says when there is something. `top -p $(pgrep 04_poll)` shows 0 %, and
//! `strace` a single call that waits.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    let mut clients = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                eprintln!("connection from {peer}");
                stream.set_nonblocking(true)?;
                clients.push(Client { stream, unsent: Vec::new() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        clients.retain_mut(|client| match client.step() {
            Ok(more) => more,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        });
    }
}

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Client {
    /// Reads if nothing is unsent, then sends what is unsent. False at the end of input.
    fn step(&mut self) -> io::Result<bool> {
        if self.unsent.is_empty() {
            let mut buffer = [0; 16];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(false);
            }
            self.unsent.extend_from_slice(&buffer[..count]);
        }
        let count = self.stream.write(&self.unsent)?;
        self.unsent.drain(..count);
        Ok(true)
    }
}
