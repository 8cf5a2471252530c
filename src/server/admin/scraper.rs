//! A connection to the admin endpoint: one request, one response.

use std::os::fd::{AsFd, BorrowedFd};

use super::figures::Figures;
use super::http::RequestHead;
use super::pages;
use crate::net::{Answer, Connection, Next, Peer, Service, Socket, Workspace};
use crate::reactor::{Moment, Readiness};

/// A connection to the admin endpoint.
pub(crate) struct Scraper {
    connection: Connection<Socket>,
    head: RequestHead,
    /// Its request is complete, or the endpoint has refused it.
    has_asked: bool,
    peer: Peer,
}

impl Scraper {
    pub(super) fn new(socket: Socket, peer: Peer, now: Moment) -> Scraper {
        let mut connection = Connection::new(socket, now);
        // The request may have arrived while the connection waited in the backlog.
        connection.note(Readiness::READABLE);
        Scraper { connection, head: RequestHead::default(), has_asked: false, peer }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// Remembers the readiness that an event reported.
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.connection.note(readiness);
    }

    /// Lets the connection do what it can without waiting.
    ///
    /// This asks for the figures when the request is complete, and not for each piece that drips in.
    pub(super) fn pump(
        &mut self,
        figures: &mut dyn FnMut() -> Figures,
        workspace: &mut Workspace,
        now: Moment,
    ) -> Next {
        let has_asked = &mut self.has_asked;
        let mut service = Answering { head: &mut self.head, has_asked, figures, peer: &self.peer };
        self.connection.pump(&mut service, workspace, now)
    }

    /// Gives the buffers back, before the reactor removes the scraper.
    pub(super) fn abandon(&mut self, workspace: &mut Workspace) {
        self.connection.abandon(workspace);
    }
}

impl AsFd for Scraper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.transport().as_fd()
    }
}

/// The service of one [`Scraper`], for the time of one pump.
struct Answering<'a> {
    head: &'a mut RequestHead,
    has_asked: &'a mut bool,
    figures: &'a mut dyn FnMut() -> Figures,
    peer: &'a Peer,
}

impl Service for Answering<'_> {
    fn chunk(&self) -> usize {
        usize::MAX
    }

    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        let Some(result) = self.head.add(chunk) else { return Answer::default() };
        *self.has_asked = true;
        let response = pages::respond(&result, &(self.figures)());
        log::debug!("admin {}: {}", self.peer, response.status);
        response.write(staged, chrono::Utc::now());
        Answer { bytes: &[], last: true }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::server::admin::figures::tests::figures as sample;

    #[test]
    fn the_figures_are_asked_for_once_when_the_request_is_complete() {
        let asked = Cell::new(0);
        let mut figures = || {
            asked.set(asked.get() + 1);
            sample()
        };
        let (mut head, mut has_asked, peer) = (RequestHead::default(), false, Peer::Unix { place: 1 });
        let mut service =
            Answering { head: &mut head, has_asked: &mut has_asked, figures: &mut figures, peer: &peer };
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
