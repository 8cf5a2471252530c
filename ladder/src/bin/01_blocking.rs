//! The ladder, first step: one client at a time.
//!
//! ```text
//! cargo run -p ladder --bin 01_blocking -- [ADDRESS]
//! ```
//!
//! Every call waits until it is done. This is the shortest echo server there is, and it loses no byte. But while it
//! waits for one client, it serves none of the others. **The failure:**
//!
//! ```text
//! sleep 3 | echoloop send &               # a client that says nothing for three seconds
//! echoloop send -t 1s localhost hello     # "no byte moved for 1s": nobody reads the second client's bytes
//! ```
//!
//! The second client is connected: the kernel completes handshakes without asking the program. Its bytes arrive, too,
//! but the program does not read them.
//!
//! **Mended** by `02_threads`: each client has a thread that waits for it. The same two commands print `hello` at once.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

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

/// Returns when the client ends its input.
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
