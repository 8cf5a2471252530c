//! The ladder, first step: one client at a time.
//!
//! ```text
//! cargo run --example 01_blocking -- [ADDRESS]
//! ```
//!
//! Every call waits until it is done. It is the shortest echo server there is, and no byte is lost. But while it waits
//! for one client, it waits for none of the others:
//!
//! ```text
//! nc localhost 10000 &                    # says nothing, and stays
//! echo hello | nc -N localhost 10000      # no echo until the first one has gone
//! ```
//!
//! The second one is connected: the kernel completes handshakes without asking the program. Its bytes arrive, too.
//! Only nobody reads them. `02_threads` gives each client somebody who does.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to whoever runs it")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = TcpListener::bind(address)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept()?;
        eprintln!("connection from {peer}");
        match echo(stream) {
            Ok(()) => eprintln!("no data from {peer}"),
            Err(error) => eprintln!("{peer}: {error}"),
        }
    }
}

/// Until the client ends its input.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
