//! What is told about a running server over HTTP: its figures for Prometheus, and whether it lives and accepts.
//!
//! It is served by the same loop, connection and buffers as the echo, and can't disturb it: there are few of these
//! connections at a time, each has one request, one response and [`EXCHANGE`] for both, and its bytes have a budget a
//! turn like anybody's.
//!
//! **One request a connection.** A scrape comes every few seconds, so a connection that is kept for the next one saves
//! nothing; and one that ends with its response can't be held, has no queue of further requests, and needs one
//! deadline. Requests that follow in the same connection are not answered, as RFC 9112 (9.3) allows to a server that
//! says `Connection: close`.
//!
//! | file | what it holds |
//! |---|---|
//! | `request.rs` | bytes, however torn → a request, or the reason to refuse it |
//! | `response.rs` | what is answered to what |
//! | `figures.rs` | what is counted, and how it is said in the log |
//! | `exposition.rs` | the figures as OpenMetrics and as Prometheus text |
//! | `histogram.rs` | how long turns take, in a few counters |

mod exposition;
mod figures;
mod histogram;
mod request;
mod response;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::net::{Answer, Connection, Limits, Next, Peer, Service, Socket, Workspace};
use crate::reactor::{Moment, Readiness};

use self::request::{LONGEST_HEAD, RequestHead};

pub(crate) use self::figures::{Closed, ConnectionFigures, Ending, Figures, LoopFigures, ProcessFigures};

/// Connections at a time; those beyond are closed. One monitor needs one, and whoever looks by hand another.
pub(crate) const MOST_SCRAPERS: usize = 16;
/// From being accepted to being closed. A scraper that has not asked, listened and ended by then is cut off.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(10);

/// The bounds of these connections. A response is staged whole and is far smaller than the limit for what is unsent.
pub(crate) const LIMITS: Limits =
    Limits { read_size: LONGEST_HEAD, write_limit: 64 * 1024, turn_budget: 64 * 1024 };

/// What the pages say.
pub(crate) struct Status {
    pub(crate) figures: Figures,
    /// Why connections are not accepted, if so.
    pub(crate) not_accepting: Option<NotAccepting>,
}

/// Why connections are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAccepting {
    /// The server was asked to stop.
    Stopping,
    /// It was to accept so many, and has.
    Enough,
    /// There are no descriptors, or there is no memory.
    Exhausted,
    /// There are as many connections as there may be: further ones wait, or are refused.
    Full { limit: usize },
}

/// A connection to the admin endpoint.
pub(crate) struct Scraper {
    connection: Connection<Socket>,
    head: RequestHead,
    peer: Peer,
}

impl Scraper {
    pub(crate) fn new(socket: Socket, peer: Peer, now: Moment) -> Scraper {
        Scraper { connection: Connection::new(socket, now), head: RequestHead::default(), peer }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Remembers what an event said.
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.connection.note(readiness);
    }

    /// Does what can be done without waiting.
    ///
    /// The status is asked for when the request is complete, and not for each piece of it that drips in.
    pub(crate) fn pump(
        &mut self,
        status: &mut dyn FnMut() -> Status,
        workspace: &mut Workspace,
        now: Moment,
    ) -> Next {
        let mut service = Answering { head: &mut self.head, status, peer: &self.peer };
        self.connection.pump(&mut service, workspace, now)
    }

    /// Gives the buffers back, before it is removed.
    pub(crate) fn abandon(&mut self, workspace: &mut Workspace) {
        self.connection.abandon(workspace);
    }
}

impl AsFd for Scraper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.transport().as_fd()
    }
}

/// The service of one [`Scraper`], for as long as it is pumped.
struct Answering<'a> {
    head: &'a mut RequestHead,
    status: &'a mut dyn FnMut() -> Status,
    peer: &'a Peer,
}

impl Service for Answering<'_> {
    fn chunk(&self) -> usize {
        usize::MAX
    }

    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        let Some(result) = self.head.add(chunk) else { return Answer::default() };
        let response = response::to(&result, &(self.status)());
        log::debug!("admin {}: {}", self.peer, response.status);
        response.write(staged, chrono::Utc::now());
        Answer { bytes: &[], last: true }
    }
}

impl fmt::Display for NotAccepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAccepting::Stopping => f.write_str("stopping"),
            NotAccepting::Enough => f.write_str("as many connections as were asked for were accepted"),
            NotAccepting::Exhausted => f.write_str("accepting is paused: out of descriptors or memory"),
            NotAccepting::Full { limit } => write!(f, "the limit of {limit} connections is reached"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_figures_are_asked_for_once_when_the_request_is_complete() {
        let asked = Cell::new(0);
        let mut status = || {
            asked.set(asked.get() + 1);
            Status { figures: figures::tests::figures(), not_accepting: None }
        };
        let (mut head, peer) = (RequestHead::default(), Peer::Unix { number: 1 });
        let mut service = Answering { head: &mut head, status: &mut status, peer: &peer };
        let mut staged = Vec::new();
        let (last, bytes) = b"GET /metrics HTTP/1.0\r\n\r\n".split_last().expect("bytes");
        for byte in bytes {
            assert!(!service.answer(&[*byte], &mut staged).last);
        }
        assert_eq!(asked.get(), 0);
        assert!(service.answer(&[*last], &mut staged).last);
        assert_eq!(asked.get(), 1);
    }
}
