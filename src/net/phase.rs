//! Where a connection stands, and how it ends.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

/// Where a connection stands; the diagram is at the top of `net/connection.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The handshake is under way.
    Connecting,
    /// Bytes go both ways.
    Open,
    /// We send no more than the unsent bytes. When they have gone, we shut our sending side down.
    HalfClosing,
    /// Our sending side is shut down. The service goes on to get input until the peer ends.
    HalfClosed,
    /// The peer's input has ended, and the service has had all of it. The connection ends when its unsent bytes have
    /// gone.
    Draining,
    /// We end the connection: it answers `quota` more bytes of input, then sends its unsent bytes.
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
    /// The system had no memory for its bytes.
    NoMemory(io::Error),
    /// It was never established.
    NotConnected(io::Error),
}

/// The end of a connection on which a call failed.
impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        let has_no_memory = error.kind() == ErrorKind::OutOfMemory;
        if has_no_memory || Errno::from_io_error(&error) == Some(Errno::NOBUFS) {
            End::NoMemory(error)
        } else {
            End::Reset(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_memory_is_not_booked_as_the_peers_reset() {
        for (errno, lacks_memory) in
            [(Errno::NOMEM, true), (Errno::NOBUFS, true), (Errno::CONNRESET, false), (Errno::TIMEDOUT, false)]
        {
            let end = End::from(io::Error::from(errno));
            assert_eq!(matches!(end, End::NoMemory(_)), lacks_memory, "{end:?}");
            assert_eq!(matches!(end, End::Reset(_)), !lacks_memory, "{end:?}");
        }
    }
}
