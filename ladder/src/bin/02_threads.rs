//! The ladder, second step: a thread a client.
//!
//! ```text
//! cargo run -p ladder --bin 02_threads -- [ADDRESS]
//! ```
//!
//! Each thread runs the code of `01_blocking` for one client, and no client waits for another. But a client that only
//! holds its connection open now costs a thread, with a stack and a place in the scheduler. **The failure:**
//!
//! ```text
//! echoloop load --hold --clients 500 --duration 5s &
//! sleep 4; grep Threads /proc/$(pgrep 02_threads)/status      # Threads: 501
//! ```
//!
//! When there is no room for another thread, the server dies, and with it every connection:
//!
//! ```text
//! (ulimit -v 200000; target/debug/02_threads) &
//! echoloop load --hold --clients 500 --duration 5s            # "failed to spawn thread"
//! ```
//!
//! **Mended** by `03_busy_nonblocking`: one thread serves all of them. The same commands, with `03_busy_nonblocking` in
//! the place of `02_threads`, show `Threads: 1`, and a server that holds 500 clients within the same 200 MB.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

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
