//! The errors that end a server, each with the attempt, its object and the remedy.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::net::Endpoint;
use crate::system::describe;

/// The reason why the server can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address, or no name server answered.
    #[error(
        "cannot resolve {host}: {} (check the spelling; `echoloop --help` lists the commands)",
        describe(source)
    )]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's message.
        source: io::Error,
    },
    /// The server can't listen on an endpoint.
    #[error("cannot listen on {endpoint}: {reason}")]
    Listen {
        /// The endpoint, or the one of its addresses that failed.
        endpoint: String,
        /// The system's message, and the remedy.
        reason: String,
    },
    /// The server can't serve a socket from the service manager.
    #[error("cannot serve {sockets}: {reason}")]
    Inherited {
        /// The socket, or all of them.
        sockets: String,
        /// The kind of the socket, and the remedy.
        reason: String,
    },
    /// The list has the same address twice.
    #[error("{0} is listed twice (name it once)")]
    ListedTwice(String),
    /// The options ask for more connections than there are descriptors.
    #[error(
        "cannot hold {asked} connections: {limit} descriptors are allowed, which leaves {available} for connections \
         ({remedy})"
    )]
    TooManyConnections {
        /// The value of `--max-connections`.
        asked: usize,
        /// The descriptor limit in force.
        limit: u64,
        /// The connections that this limit leaves room for.
        available: usize,
        /// How to raise the limit.
        remedy: String,
    },
    /// The server can't record the turns of the loop.
    #[error("cannot record a trace in {path}: {reason}")]
    Trace {
        /// The file.
        path: String,
        /// The system's message, and the remedy.
        reason: String,
    },
    /// The loop itself can't go on.
    #[error("the event loop failed: {}", describe(.0))]
    Loop(#[from] io::Error),
    /// The last listener broke.
    #[error("the last listener broke, so nobody could connect any more: {}", describe(.0))]
    NoListener(io::Error),
    /// A second signal came before all connections had ended.
    #[error("stopped at once by a second signal: {connections} connections cut off with {bytes} bytes")]
    StoppedAtOnce {
        /// How many were still open.
        connections: usize,
        /// Bytes from their peers that we had not answered, and bytes of answers that the peers had not taken.
        bytes: u64,
    },
}

impl Error {
    pub(crate) fn listen(endpoint: &Endpoint, address: &impl ToString, error: &io::Error) -> Error {
        let reason = match (error.kind(), endpoint) {
            (
                ErrorKind::PermissionDenied,
                Endpoint::Tcp { port: 1..1024, .. } | Endpoint::Udp { port: 1..1024, .. },
            ) => "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)".into(),
            (ErrorKind::AddrInUse, Endpoint::Tcp { port, .. }) => {
                format!("address already in use (`ss -ltnp sport = :{port}` shows by whom)")
            }
            (ErrorKind::AddrInUse, Endpoint::Udp { port, .. }) => {
                format!("address already in use (`ss -lunp sport = :{port}` shows by whom)")
            }
            (ErrorKind::NotFound, Endpoint::Unix(_)) => "no such directory".into(),
            (ErrorKind::AddrNotAvailable, _) => {
                "this machine does not have that address (`ip addr` lists its own)".into()
            }
            _ => describe(error),
        };
        Error::Listen { endpoint: address.to_string(), reason }
    }

    pub(crate) fn trace(path: &Path, error: &io::Error) -> Error {
        let reason = match error.kind() {
            ErrorKind::NotFound => "no such directory".into(),
            ErrorKind::IsADirectory => "it is a directory (name a file in it)".into(),
            _ => describe(error),
        };
        Error::Trace { path: path.display().to_string(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_port_comes_with_its_remedy() {
        let endpoint: Endpoint = "0.0.0.0:80".parse().expect("an endpoint");
        let error = Error::listen(&endpoint, &"0.0.0.0:80", &ErrorKind::PermissionDenied.into());
        assert_eq!(
            error.to_string(),
            "cannot listen on 0.0.0.0:80: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
        );
    }
}
