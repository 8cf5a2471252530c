//! tokio on one thread, as its documentation writes an echo server: a task a connection, `read` and `write_all`.

use std::io;
use std::net;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The names, and the size of each connection's buffer.
pub(crate) const NAMES: [(&str, usize); 2] = [("tokio, 4 KiB", 4 << 10), ("tokio, 64 KiB", 64 << 10)];

pub(crate) fn serve(listener: net::TcpListener, buffer: usize) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // The client sees that the connection is over; there is nobody else to tell.
                let _ = echo(stream, buffer).await;
            });
        }
    })
}

async fn echo(mut stream: TcpStream, buffer: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; buffer];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}
