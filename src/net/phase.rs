//! Where a connection stands, and how it ends.

use std::io;

/// Where a connection stands; the diagram is at the top of `net/connection.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The handshake is under way.
    Connecting,
    /// Bytes go both ways.
    Open,
    /// We have nothing more to send than what is unsent. When it is gone our sending side is shut down.
    HalfClosing,
    /// Our sending side is shut down; input goes on, and is handed to the service, until the peer ends.
    HalfClosed,
    /// The peer's input has ended. The service answers the rest of it, then the connection ends.
    Draining,
    /// We end the connection: `quota` more bytes of input are answered, then what is unsent goes out.
    Stopping {
        /// Bytes that had arrived when we decided to stop, and were not read yet.
        quota: u32,
    },
    /// Our sending side is shut down. Input is read and thrown away until the peer ends as well: closing a socket
    /// with unread input resets the connection, which can destroy answers that the peer has not read yet.
    Lingering,
    /// Nothing more happens here.
    Ended,
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The peer's input ended and everything was answered and sent.
    Finished,
    /// We ended it, and the peer followed.
    Lingered,
    /// The peer reset it, or the network gave up.
    Reset(io::Error),
    /// It was never established.
    NotConnected(io::Error),
}
