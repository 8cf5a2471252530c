//! The loop of both bare servers: a poll, a slab, and nothing else.

use std::io::{self, ErrorKind};
use std::net;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX - 1);

/// A client of a bare server.
pub(super) trait Client: From<TcpStream> {
    /// Memory that all clients share.
    type Shared;

    /// Moves bytes until the socket has no more, or takes no more. False when the connection is over; an error ends the
    /// server.
    fn echo(&mut self, shared: &mut Self::Shared, event: &Event) -> io::Result<bool>;
}

pub(super) fn serve<C: Client>(listener: net::TcpListener, mut shared: C::Shared) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut clients: Slab<C> = Slab::new();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let entry = clients.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                    entry.insert(C::from(stream));
                }
                continue;
            }
            let key = event.token().0;
            let Some(client) = clients.get_mut(key) else { continue };
            if !client.echo(&mut shared, event)? {
                clients.remove(key);
            }
        }
    }
}
