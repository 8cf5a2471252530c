//! The ways in which a conversation can fail, and the exit status by which a script tells them apart.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::{LONGEST_PAYLOAD, Target};
use crate::system::describe;

/// The failure of a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The name has no address, or no resolver could be asked.
    #[error("cannot resolve {host}: {} (check the spelling, or give an address)", describe(source))]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// The host has addresses, but none of the chosen family.
    #[error("{host} has no {family} address, the only family that the options allow")]
    NoAddress {
        /// The host, as it was given.
        host: String,
        /// `IPv4` or `IPv6`.
        family: Family,
    },
    /// The endpoint is for datagrams.
    #[error(
        "cannot connect to {endpoint}: this is for streams, tcp:// and unix: (`echoloop send` talks UDP)"
    )]
    Datagrams {
        /// The endpoint, as it was given.
        endpoint: String,
    },
    /// No address could be connected to.
    #[error("cannot connect to {endpoint}: {}", listed(failures))]
    Connect {
        /// The endpoint, as it was given.
        endpoint: String,
        /// The failure of each address.
        failures: Vec<Failure>,
    },
    /// No address answered in time.
    #[error(
        "cannot connect to {endpoint}: no answer within {}{}",
        humantime::format_duration(*after),
        failures.iter().map(|failure| format!("; {failure}")).collect::<String>()
    )]
    ConnectTimeout {
        /// The endpoint, as it was given.
        endpoint: String,
        /// The timeout.
        after: Duration,
        /// The failures of the addresses that answered.
        failures: Vec<Failure>,
    },
    /// The server was silent for too long.
    #[error("{peer} was silent for {}: {missing}", humantime::format_duration(*after))]
    Timeout {
        /// The server's address.
        peer: String,
        /// The timeout.
        after: Duration,
        /// The event that did not come.
        missing: String,
    },
    /// No answer to a datagram came.
    #[error(
        "no answer from {peer} within {}: UDP is not acknowledged, so the datagram, the answer or both were lost, or \
         nobody listens there, or the answer came from another address than the one asked",
        humantime::format_duration(*after)
    )]
    Unanswered {
        /// The address that the datagram went to.
        peer: SocketAddr,
        /// The timeout.
        after: Duration,
    },
    /// The system can't send a datagram, or the machine at the other end refused it.
    #[error("cannot send to {peer}: {}{}", describe(source), why_undeliverable(source))]
    Undeliverable {
        /// The address that the datagram went to.
        peer: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A message is longer than any datagram.
    #[error(
        "a message of {length} bytes does not fit a datagram: at most {LONGEST_PAYLOAD} do (tcp:// knows no such limit)"
    )]
    DatagramTooLong {
        /// The length, as far as the message was read.
        length: usize,
    },
    /// The server ended the connection in an orderly way, but too early.
    #[error("{peer} closed the connection: {missing}")]
    Closed {
        /// The server's address.
        peer: String,
        /// The missing part.
        missing: String,
    },
    /// The connection broke.
    #[error("the connection to {peer} broke ({}): {missing}", describe(source))]
    Reset {
        /// The server's address.
        peer: String,
        /// The system's reason.
        source: io::Error,
        /// The missing part.
        missing: String,
    },
    /// More bytes came after a complete reply.
    #[error("{bytes} bytes came beyond the reply")]
    Surplus {
        /// The number of these bytes.
        bytes: u64,
    },
    /// The reply differs from its message.
    #[error("the reply differs from the message at offset {offset}: {got} instead of {expected}")]
    Differs {
        /// The first byte that is different, counted from 0.
        offset: u64,
        /// The byte of the reply.
        got: Byte,
        /// The byte that was sent.
        expected: Byte,
    },
    /// The server has ended its side of the connection, and everything that it sent was read.
    #[error("{peer} has ended its side of the connection")]
    EndOfInput {
        /// The server's address.
        peer: String,
    },
    /// The server sent a line that is too long.
    #[error("{peer} sent a line of more than {limit} bytes")]
    LineTooLong {
        /// The server's address.
        peer: String,
        /// The longest line that the client accepts.
        limit: usize,
    },
    /// The server sends without end, and does not read.
    #[error("{peer} sent more than {limit} bytes, and read none of ours meanwhile")]
    ReadAhead {
        /// The server's address.
        peer: String,
        /// The most bytes that the client keeps.
        limit: usize,
    },
    /// Standard input can't be read.
    #[error("cannot read standard input: {}", describe(.0))]
    Input(io::Error),
    /// Standard output can't be written to.
    #[error("cannot write to standard output: {}", describe(.0))]
    Output(io::Error),
    /// The loop itself can't go on.
    #[error("the event loop failed: {}", describe(.0))]
    Loop(#[from] io::Error),
}

impl ClientError {
    /// `None` stands for the end of a reply that is shorter, or longer, than it should be.
    pub(super) fn differs(offset: u64, got: Option<&u8>, expected: Option<&u8>) -> ClientError {
        ClientError::Differs { offset, got: Byte(got.copied()), expected: Byte(expected.copied()) }
    }

    /// The exit status by which a script tells the failures apart: 3 name not resolved, 4 refused, 5 timed out, 6
    /// closed or reset before the reply was complete (with `verify` also if more than the reply came), 7 the reply
    /// differs, 1 everything else. (2 is wrong usage, which the command line finds.)
    ///
    /// ```
    /// use echoloop::client::ClientError;
    ///
    /// assert_eq!(ClientError::EndOfInput { peer: "[::1]:7".into() }.exit_code(), 6);
    /// ```
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Datagrams { .. } => 2,
            ClientError::Resolve { .. } | ClientError::NoAddress { .. } => 3,
            ClientError::Connect { failures, .. } => {
                let any = |kind| failures.iter().any(|failure| failure.error.kind() == kind);
                if any(ErrorKind::ConnectionRefused) {
                    4
                } else if any(ErrorKind::TimedOut) {
                    5
                } else {
                    1
                }
            }
            ClientError::Undeliverable { source, .. } if source.kind() == ErrorKind::ConnectionRefused => 4,
            ClientError::ConnectTimeout { .. }
            | ClientError::Timeout { .. }
            | ClientError::Unanswered { .. } => 5,
            ClientError::Closed { .. }
            | ClientError::Reset { .. }
            | ClientError::Surplus { .. }
            | ClientError::EndOfInput { .. } => 6,
            ClientError::Differs { .. } => 7,
            ClientError::Undeliverable { .. }
            | ClientError::LineTooLong { .. }
            | ClientError::ReadAhead { .. }
            | ClientError::DatagramTooLong { .. }
            | ClientError::Input(_)
            | ClientError::Output(_)
            | ClientError::Loop(_) => 1,
        }
    }
}

/// Explains a refused datagram: the machine refused it, because no program receives on that port.
fn why_undeliverable(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            " (its machine answered by ICMP that nobody receives on that port; is a UDP server listening there?)"
        }
        _ => "",
    }
}

/// The version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// A failed attempt to connect to one address.
#[derive(Debug)]
pub struct Failure {
    /// The address.
    pub target: Target,
    /// The system's reason.
    pub error: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.error.kind(), &self.target) {
            (ErrorKind::ConnectionRefused, Target::Tcp(address)) => {
                write!(f, "{address}: connection refused (is a server listening there?)")
            }
            (ErrorKind::ConnectionRefused, Target::Unix(_)) => {
                f.write_str("connection refused (is a server listening there?)")
            }
            (ErrorKind::NotFound, Target::Unix(_)) => {
                f.write_str("there is no such file (is a server listening there?)")
            }
            (ErrorKind::WouldBlock, Target::Unix(_)) => {
                f.write_str("the server's queue of connections is full")
            }
            // The message names the endpoint already, and here the endpoint is the path.
            (_, Target::Unix(_)) => f.write_str(&describe(&self.error)),
            (ErrorKind::AddrNotAvailable, _) => {
                write!(f, "{}: no port is left, or --source is no address of this machine", self.target)
            }
            _ => write!(f, "{}: {}", self.target, describe(&self.error)),
        }
    }
}

fn listed(failures: &[Failure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A byte of a reply; `None` stands for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Byte(pub Option<u8>);

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(byte) => write!(f, "0x{byte:02x} ('{}')", byte.escape_ascii()),
            None => f.write_str("the end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(kinds: &[ErrorKind]) -> ClientError {
        let target = Target::Tcp(([127, 0, 0, 1], 7).into());
        let failures =
            kinds.iter().map(|&kind| Failure { target: target.clone(), error: kind.into() }).collect();
        ClientError::Connect { endpoint: "tcp://localhost:7".into(), failures }
    }

    #[test]
    fn one_refusal_is_enough_for_refused() {
        assert_eq!(connect(&[ErrorKind::NetworkUnreachable, ErrorKind::ConnectionRefused]).exit_code(), 4);
        assert_eq!(connect(&[ErrorKind::NetworkUnreachable, ErrorKind::TimedOut]).exit_code(), 5);
        assert_eq!(connect(&[ErrorKind::NetworkUnreachable]).exit_code(), 1);
        assert_eq!(connect(&[]).exit_code(), 1);
    }

    #[test]
    fn a_failure_says_what_was_tried_and_on_what() {
        assert_eq!(
            connect(&[ErrorKind::ConnectionRefused]).to_string(),
            "cannot connect to tcp://localhost:7: 127.0.0.1:7: connection refused (is a server listening there?)"
        );
        let differs = ClientError::Differs { offset: 3, got: Byte(Some(b'x')), expected: Byte(None) };
        assert_eq!(
            differs.to_string(),
            "the reply differs from the message at offset 3: 0x78 ('x') instead of the end"
        );
    }
}
