//! Connections that a proxy announces: nobody is served before it is known for whom the proxy speaks.
//!
//! The header is looked at where it lies, in the socket's receive buffer (`MSG_PEEK`), and taken out only once it is
//! complete, to its last byte. So a half of it takes no memory of ours, and what the client has sent behind it is read
//! like any other input. Whatever the size of its pieces, nothing is lost for want of an event: data that was peeked at
//! is still unread, and more of it is a new edge.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use super::{Client, Source, State};
use crate::net::proxy::{self, Header, HeaderError, LONGEST_HEADER};
use crate::net::{Peer, Socket, Transport};
use crate::reactor::{Context, Handler, Moment, Readiness, Token};
use crate::server::admin::Ending;
use crate::system::describe;

/// An accepted connection whose header is not complete.
pub(super) struct Announced {
    /// Taken only when it becomes the connection that replaces this in its slot.
    socket: Option<Socket>,
    peer: Peer,
    opened: Moment,
}

/// Why a connection is not served.
enum Refusal {
    Header(HeaderError),
    Ended,
    Late,
    Stopped,
    Broken(io::Error),
}

impl AsFd for Announced {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("it is taken only when this is replaced").as_fd()
    }
}

impl Announced {
    /// The header, if it is complete; then it has been taken from the socket.
    fn header(&mut self, ended: bool) -> Result<Option<Header>, Refusal> {
        let Some(socket) = &mut self.socket else { return Ok(None) };
        let mut bytes = [0; LONGEST_HEADER];
        let result = socket.peek(&mut bytes);
        log::trace!("socket {}: peek of {} bytes: {result:?}", socket.number(), bytes.len());
        let count = match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            result => result.map_err(Refusal::Broken)?,
        };
        match proxy::parse(&bytes[..count]).map_err(Refusal::Header)? {
            None if ended || count == 0 => Err(Refusal::Ended),
            None => Ok(None),
            Some(header) => {
                // These very bytes have just been seen, and nobody else reads.
                let taken = socket.read(&mut bytes[..header.length]).map_err(Refusal::Broken)?;
                if taken < header.length {
                    return Err(Refusal::Broken(ErrorKind::UnexpectedEof.into()));
                }
                Ok(Some(header))
            }
        }
    }
}

impl State {
    /// A connection was accepted whose header is to come. A proxy sends it at once, so it is looked for at once.
    pub(super) fn await_header(&mut self, context: &mut Context<Source>, socket: Socket, peer: Peer) {
        let now = context.now();
        let source = Source::Announced(Announced { socket: Some(socket), peer, opened: now });
        let Some(token) = self.take_in(context, source, peer) else { return };
        context.set_deadline(token, now + self.options.proxy_timeout);
        self.look_for_header(context, token, false);
    }

    /// Serves the connection if its header is complete; refuses it if there will be none.
    pub(super) fn look_for_header(&mut self, context: &mut Context<Source>, token: Token, ended: bool) {
        let now = context.now();
        let Some(source) = context.get_mut(token) else { return };
        let Source::Announced(announced) = source else { return };
        let header = match announced.header(ended) {
            Ok(Some(header)) => header,
            Ok(None) => return,
            Err(refusal) => return self.refuse(context, token, &refusal),
        };
        let (proxy, opened) = (announced.peer, announced.opened);
        let Some(socket) = announced.socket.take() else { return };
        let (peer, by_way) = match header.client {
            Some(address) => (Peer::from(address), Some(proxy)),
            None => (proxy, None),
        };
        let mut client = Client { opened, ..Client::new(socket, peer, now) };
        // What the events said of the socket was not kept: more may be there, and its end, and urgent bytes.
        client.connection.note(Readiness::READABLE | Readiness::PRIORITY);
        *source = Source::Connection(client);
        context.clear_deadline(token);
        // In a health check of version 1 HAProxy gives its own address instead of none.
        let by_way = by_way.filter(|proxy| *proxy != peer);
        if !self.begin_serving(context, token, by_way) {
            return;
        }
        if self.stopping {
            self.begin_to_end(context, token);
        } else {
            self.resume(context, token);
        }
    }

    /// The time for the header is over.
    pub(super) fn header_is_late(&mut self, context: &mut Context<Source>, token: Token) {
        // It may have come with this very turn.
        self.look_for_header(context, token, false);
        self.refuse(context, token, &Refusal::Late);
    }

    /// The time to drain is over.
    pub(super) fn give_header_up(&mut self, context: &mut Context<Source>, token: Token) {
        self.refuse(context, token, &Refusal::Stopped);
    }

    /// Closes a connection that is not announced.
    fn refuse(&mut self, context: &mut Context<Source>, token: Token, refusal: &Refusal) {
        let Some(Source::Announced(announced)) = context.get(token) else { return };
        let time = context.now().since(announced.opened);
        log::info!("{}: no PROXY header: {refusal}, {time:.1?}", announced.peer);
        if let Refusal::Stopped = refusal {
            // Its header might still have come: it is we who don't wait for it.
            self.summary.cut_off += 1;
            self.watch.closed.count(Ending::DrainTimeout);
        } else {
            self.summary.unannounced += 1;
            self.watch.closed.count(Ending::NoProxyHeader);
        }
        context.remove(token);
        self.open -= 1;
        self.descriptor_freed();
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Header(error) => error.fmt(f),
            Refusal::Ended => f.write_str("the connection ended before it was complete"),
            Refusal::Late => f.write_str("it was not complete in time"),
            Refusal::Stopped => f.write_str("the time to drain is over"),
            Refusal::Broken(error) => write!(f, "broken: {}", describe(error)),
        }
    }
}
