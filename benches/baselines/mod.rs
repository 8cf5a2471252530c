//! Echo servers that you would have written instead, to measure beside ours. Each is right (it returns every byte, also
//! to a client that reads slowly), and each is the plain form of its kind.

mod bare_loop;
mod bare_mio;
mod bare_splice;
mod threads;
mod tokio_idiom;

use std::io;
use std::net::TcpListener;

/// Listens on a port that the system chooses, names it on standard output, as the program itself does, and serves until
/// it is killed.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    // The same backlog as ours, or the connection storm would measure the backlog.
    socket.listen(4096)?;
    let listener = TcpListener::from(socket);
    println!("listening on tcp://{}", listener.local_addr()?);
    let size =
        |names: [(&str, usize); 2]| names.into_iter().find(|(other, _)| *other == name).map(|(_, size)| size);
    if name == bare_mio::NAME {
        bare_loop::serve::<bare_mio::Copying>(listener, vec![0; 64 * 1024])
    } else if name == bare_splice::NAME {
        bare_loop::serve::<bare_splice::Splicing>(listener, Vec::new())
    } else if let Some(buffer) = size(threads::NAMES) {
        threads::serve(&listener, buffer)
    } else if let Some(buffer) = size(tokio_idiom::NAMES) {
        tokio_idiom::serve(listener, buffer)
    } else {
        Err(io::Error::other(format!("there is no baseline called {name}")))
    }
}
