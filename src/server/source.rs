//! The kinds of sources that the server has in the reactor.

use std::os::fd::{AsFd, BorrowedFd};

use super::admin::Scraper;
use super::connections::Client;
use super::proxy_header::AwaitingHeader;
use crate::net::{DatagramSocket, Listener};
use crate::system::{ReportSignal, StopSignal};

/// A slot of the reactor. All sources except connections are boxed. There are few of them, and they must not enlarge
/// the slots of many connections.
pub(super) enum Source {
    Connection(Client),
    AwaitingHeader(AwaitingHeader),
    Listener(Box<Listener>),
    Datagrams(Box<DatagramSocket>),
    Stop(Box<StopSignal>),
    Report(Box<ReportSignal>),
    AdminListener(Box<Listener>),
    Scraper(Box<Scraper>),
}

impl Source {
    /// Whether it counts as a connection of the server.
    pub(super) fn is_connection(&self) -> bool {
        matches!(self, Source::Connection(_) | Source::AwaitingHeader(_))
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Connection(client) => client.socket().as_fd(),
            Source::AwaitingHeader(awaiting) => awaiting.as_fd(),
            Source::Listener(listener) | Source::AdminListener(listener) => listener.as_fd(),
            Source::Datagrams(socket) => socket.as_fd(),
            Source::Stop(signal) => signal.as_fd(),
            Source::Report(signal) => signal.as_fd(),
            Source::Scraper(scraper) => scraper.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Context;

    #[test]
    fn an_idle_connection_costs_at_most_128_bytes() {
        let bytes = Context::<Source>::BYTES_PER_SOURCE;
        assert!(bytes <= 128, "{bytes} bytes");
    }
}
