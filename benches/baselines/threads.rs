//! A thread a connection, on blocking sockets: the design that every tutorial begins with.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

pub(crate) const NAME: &str = "threads";

pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // A stack of 64 KiB is enough for the buffer, and lets there be thousands.
        thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            // The client sees that it is over; there is nobody else to tell.
            let _ = echo(stream);
        })?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
