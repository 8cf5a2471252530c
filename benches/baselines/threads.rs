//! A thread a connection, on blocking sockets: the design that every tutorial begins with.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// The names, and the size of each connection's buffer.
pub(crate) const NAMES: [(&str, usize); 2] = [("threads, 4 KiB", 4 << 10), ("threads, 64 KiB", 64 << 10)];

pub(crate) fn serve(listener: &TcpListener, buffer: usize) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // The buffer is not on the stack: a stack of 64 KiB is enough then, and there can be thousands of threads.
        thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            // The client sees that the connection is over; there is nobody else to tell.
            let _ = echo(stream, buffer);
        })?;
    }
}

fn echo(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; buffer];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
