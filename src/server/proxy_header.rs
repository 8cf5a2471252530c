//! Connections that wait for their PROXY header. The server serves none before it knows for whom the proxy speaks.
//!
//! The server peeks at the header in the socket's receive buffer (`MSG_PEEK`). Once the header is complete, the server
//! reads it to its last byte, and no further. So half a header takes no memory of ours, and the client's bytes behind
//! the header are input like any other. However small the pieces of a header, each one raises an event: the peeked
//! bytes stay unread, and the arrival of more is a new edge.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use log::Level;

use super::counters::{Counters, Ending};
use crate::net::proxy::{self, Header, HeaderError, LONGEST_HEADER};
use crate::net::{Peer, Socket, Transport};
use crate::reactor::Moment;
use crate::system::describe;

/// An accepted connection whose header is not complete.
pub(super) struct AwaitingHeader {
    /// `None` only for the moment in which the connection becomes an [`Introduced`] one.
    socket: Option<Socket>,
    peer: Peer,
    opened: Moment,
}

/// A connection whose header the server has read.
pub(super) struct Introduced {
    pub(super) socket: Socket,
    /// The client that the header names, or the proxy itself if it names none.
    pub(super) peer: Peer,
    /// The proxy, unless it speaks for itself, as in a health check.
    pub(super) proxy: Option<Peer>,
    pub(super) opened: Moment,
}

/// The reason why the server does not serve a connection.
pub(super) enum Refusal {
    Header(HeaderError),
    Ended {
        /// A part of a header had come.
        begun: bool,
    },
    Late,
    Stopped,
    Broken(io::Error),
}

impl AwaitingHeader {
    pub(super) fn new(socket: Socket, peer: Peer, now: Moment) -> AwaitingHeader {
        AwaitingHeader { socket: Some(socket), peer, opened: now }
    }

    /// Reads the header if it is complete; `ended`: no more input follows. `None`: more of the header has to come.
    ///
    /// # Errors
    /// When no header will come.
    pub(super) fn read(&mut self, ended: bool) -> Result<Option<Introduced>, Refusal> {
        let Some(header) = self.header(ended)? else { return Ok(None) };
        let proxy = self.peer;
        let peer = header.client.map_or(proxy, Peer::from);
        Ok(self.socket.take().map(|socket| Introduced {
            socket,
            peer,
            // In a health check of version 1 HAProxy gives its own address instead of none.
            proxy: Some(proxy).filter(|proxy| *proxy != peer),
            opened: self.opened,
        }))
    }

    /// Counts and logs a connection that the server closes without a header.
    pub(super) fn refuse(&self, refusal: &Refusal, counters: &mut Counters, now: Moment) {
        let level = if refusal.is_usual() { Level::Debug } else { Level::Info };
        log::log!(level, "{}: no PROXY header: {refusal}, {:.1?}", self.peer, now.since(self.opened));
        if let Refusal::Stopped = refusal {
            // The header might still have come, but we no longer wait for it.
            counters.lost(0);
            counters.ended(Ending::DrainTimeout);
        } else {
            counters.ended(Ending::NoProxyHeader);
        }
    }

    /// Takes the header from the socket, if it is complete.
    fn header(&mut self, ended: bool) -> Result<Option<Header>, Refusal> {
        let Some(socket) = &mut self.socket else { return Ok(None) };
        let mut bytes = [0; LONGEST_HEADER];
        let result = socket.peek(&mut bytes);
        log::trace!("socket {}: peek of {} bytes: {result:?}", socket.descriptor(), bytes.len());
        let count = match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            result => result.map_err(Refusal::Broken)?,
        };
        match proxy::parse(&bytes[..count]).map_err(Refusal::Header)? {
            None if ended || count == 0 => Err(Refusal::Ended { begun: count > 0 }),
            None => Ok(None),
            Some(header) => {
                // We have just seen these very bytes, and nobody else reads.
                let taken = socket.read(&mut bytes[..header.length]).map_err(Refusal::Broken)?;
                if taken < header.length {
                    return Err(Refusal::Broken(ErrorKind::UnexpectedEof.into()));
                }
                Ok(Some(header))
            }
        }
    }
}

impl AsFd for AwaitingHeader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("the slot is replaced as soon as the socket is taken").as_fd()
    }
}

impl Refusal {
    /// Whether this is everyday traffic: a balancer's health check may connect, and end or reset the connection at
    /// once.
    fn is_usual(&self) -> bool {
        matches!(self, Refusal::Ended { begun: false } | Refusal::Broken(_))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Header(error) => error.fmt(f),
            Refusal::Ended { .. } => f.write_str("the connection ended before it was complete"),
            Refusal::Late => f.write_str("it was not complete in time"),
            Refusal::Stopped => f.write_str("the time to drain is over"),
            Refusal::Broken(error) => write!(f, "broken: {}", describe(error)),
        }
    }
}
