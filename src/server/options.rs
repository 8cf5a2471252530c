//! The settings of a server. The program has the same defaults.

use std::time::Duration;

use clap::ValueEnum;

use super::trace::TraceOptions;
use crate::net::{Endpoint, Limits, ListenerOptions, Timeouts};
use crate::server::echo::Protocol;
use crate::system::allowed_memory;

/// Bytes that one connection, or one UDP socket, may move in a turn before the others have their share: four full
/// reads.
pub(super) const TURN_BUDGET: usize = 256 * 1024;

/// The settings of a [`Server`](crate::Server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// The answers.
    pub protocol: Protocol,
    /// The most bytes that one read asks the kernel for. The server rounds this down to whole chunks, but never below
    /// one chunk.
    pub read_size: usize,
    /// With this many unsent bytes the server stops reading a connection.
    pub write_limit: usize,
    /// Whether bulk data passes through pipes in the kernel.
    pub splice: Splice,
    /// The memory of all read and write buffers together, in bytes; by default a quarter of what the process may use.
    pub buffer_limit: Option<usize>,
    /// The options of listening sockets.
    pub listener: ListenerOptions,
    /// The most connections at once; by default what the descriptor limit allows.
    pub max_connections: Option<usize>,
    /// The fate of a connection beyond that.
    pub when_full: WhenFull,
    /// Stop after this many connections have come and ended. A connection without its PROXY header counts.
    pub max_accepts: Option<u64>,
    /// Close a connection without a byte in either direction for so long.
    pub idle_timeout: Option<Duration>,
    /// Close a connection if bytes wait for its peer, and the peer takes none of them for so long.
    pub write_timeout: Option<Duration>,
    /// The time that a connection has to end, once we have ended our side.
    pub drain: Duration,
    /// Whether connections begin with a header that tells the client's address.
    pub proxy_protocol: ProxyProtocol,
    /// Close a connection whose header is not complete after this time.
    pub proxy_timeout: Duration,
    /// Whether the server answers datagrams from ports below 1024.
    pub udp_any_source: bool,
    /// The receive buffer of each UDP socket, in bytes; by default what the system gives.
    pub receive_buffer: Option<usize>,
    /// Poll without sleeping for so long after each event.
    pub busy_poll: Duration,
    /// The endpoint for figures and health over HTTP, if there is one.
    pub admin: Option<Endpoint>,
    /// Record the turns of the loop in a file.
    pub trace: Option<TraceOptions>,
}

/// Whether the kernel moves bulk data, or the server copies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Splice {
    /// The kernel moves bulk data when reads are full, and chunks pass unchanged and unlogged (Linux, TCP).
    Auto,
    /// The server copies every byte.
    Never,
}

/// The fate of a connection that comes when the limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WhenFull {
    /// It waits until another one ends.
    #[default]
    Wait,
    /// The server accepts it and closes it at once.
    Refuse,
}

/// Whether TCP and Unix connections speak the PROXY protocol. There is no third way: if the header were optional, any
/// client could claim any address, which the specification forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyProtocol {
    /// No header: all bytes are the client's own.
    Off,
    /// The server closes a connection that begins without a header.
    Require,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            protocol: Protocol::default(),
            read_size: 64 * 1024,
            write_limit: 64 * 1024,
            splice: Splice::Auto,
            buffer_limit: None,
            listener: ListenerOptions::default(),
            max_connections: None,
            when_full: WhenFull::default(),
            max_accepts: None,
            idle_timeout: None,
            write_timeout: Some(Duration::from_secs(5 * 60)),
            drain: Duration::from_secs(10),
            proxy_protocol: ProxyProtocol::Off,
            proxy_timeout: Duration::from_secs(5),
            udp_any_source: false,
            receive_buffer: None,
            busy_poll: Duration::ZERO,
            admin: None,
            trace: None,
        }
    }
}

impl ServerOptions {
    pub(super) fn limits(&self) -> Limits {
        let chunk = self.protocol.chunk.max(1);
        Limits {
            // Whole chunks, so that the end of a full read is the end of a chunk.
            read_size: (self.read_size / chunk).max(1) * chunk,
            write_limit: self.write_limit.max(1),
            turn_budget: TURN_BUDGET,
        }
    }

    /// The bound of all buffers together. The kernel's own buffers for the sockets take from the same memory.
    pub(super) fn buffer_limit(&self) -> usize {
        let default = || {
            let quarter = allowed_memory().map_or(u64::MAX, |bytes| bytes / 4);
            usize::try_from(quarter).unwrap_or(usize::MAX)
        };
        self.buffer_limit.unwrap_or_else(default)
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts { idle: self.idle_timeout, write: self.write_timeout, linger: self.drain }
    }

    /// How long a PROXY header may take, if one is required.
    pub(super) fn header_timeout(&self) -> Option<Duration> {
        (self.proxy_protocol == ProxyProtocol::Require).then_some(self.proxy_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_size_is_a_whole_number_of_chunks() {
        let read_size = |read_size, chunk| {
            let protocol = Protocol { chunk, ..Protocol::default() };
            ServerOptions { protocol, read_size, ..ServerOptions::default() }.limits().read_size
        };
        assert_eq!(read_size(65_536, 16), 65_536);
        assert_eq!(read_size(65_536, 1000), 65_000);
        assert_eq!(read_size(16, 16), 16);
        assert_eq!(read_size(1, 16), 16);
        assert_eq!(read_size(65_536, 100_000), 100_000);
    }
}
