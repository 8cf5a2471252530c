//! The sources of events that the reactor keeps for the generator.

use std::os::fd::{AsFd, BorrowedFd};

use super::client::Client;
use super::datagram_client::DatagramClient;
use super::stream::Stream;
use crate::net::{Connection, Socket};
use crate::reactor::{Context, Token};
use crate::system::StopSignal;

/// One source of events.
pub(super) enum Slot {
    Stream(StreamClient),
    Datagrams(DatagramClient),
    /// The request to end the run early.
    Stop(StopSignal),
}

/// A client with its connection.
pub(super) struct StreamClient {
    pub(super) connection: Connection<Socket>,
    pub(super) stream: Stream,
    pub(super) client: Client,
    /// Whether the client sends nothing any more, and only awaits its peer's end and bytes that should not come.
    pub(super) is_ending: bool,
}

impl AsFd for Slot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Slot::Stream(client) => client.connection.transport().as_fd(),
            Slot::Datagrams(client) => client.socket().as_fd(),
            Slot::Stop(stop) => stop.as_fd(),
        }
    }
}

/// The client over a stream that an event is for.
pub(super) fn stream(context: &mut Context<Slot>, token: Token) -> Option<&mut StreamClient> {
    if let Slot::Stream(client) = context.get_mut(token)? { Some(client) } else { None }
}

/// The client over UDP that an event is for.
pub(super) fn datagrams(context: &mut Context<Slot>, token: Token) -> Option<&mut DatagramClient> {
    if let Slot::Datagrams(client) = context.get_mut(token)? { Some(client) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Moment;

    #[test]
    fn what_is_kept_of_a_connection_is_at_most_384_bytes() {
        // The slot, its place among the deadlines, a deadline, and the memory that the queue may keep for the client.
        let slot = Context::<Slot>::BYTES_PER_SOURCE + size_of::<(Moment, u32)>();
        assert!(slot <= 384, "{slot} bytes");
    }
}
