//! The ladder, second step: a thread a client.
//!
//! ```text
//! cargo run --example 02_threads -- [ADDRESS]
//! ```
//!
//! The code of a client is that of `01_blocking`, and nobody waits for anybody. But a client that only holds its
//! connection open now costs a thread, with a stack of its own and a place in the scheduler:
//!
//! ```text
//! for i in $(seq 500); do nc localhost 10000 & done
//! grep -E 'Threads|VmSize' /proc/$(pgrep 02_threads)/status
//! ```
//!
//! When there is room for no more threads the server dies, and takes those that it was serving with it:
//!
//! ```text
//! cargo build --example 02_threads
//! (ulimit -v 200000; target/debug/examples/02_threads)
//! ```
//!
//! `03_busy_nonblocking` serves them all in one thread.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to whoever runs it")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let listener = TcpListener::bind(address)?;
    println!("listening on tcp://{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept()?;
        eprintln!("connection from {peer}");
        thread::spawn(move || match echo(stream) {
            Ok(()) => eprintln!("no data from {peer}"),
            Err(error) => eprintln!("{peer}: {error}"),
        });
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
