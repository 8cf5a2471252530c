//! The two addresses of a socket: in a header of the PROXY protocol, and in the log.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::net::Socket;
use crate::net::proxy::{self, ProxyVersion};

/// The header by which a socket announces its own two addresses. A Unix socket has none.
pub(super) fn announcement(version: ProxyVersion, socket: &Socket) -> Vec<u8> {
    let ends = match socket {
        Socket::Tcp(stream) => stream.local_addr().ok().zip(stream.peer_addr().ok()),
        Socket::Unix(_) => None,
    };
    proxy::header(version, ends)
}

/// Family, type and protocol of a socket and its two addresses, in the names of `socket(2)`.
pub(super) fn describe_socket(socket: &Socket) -> String {
    let mut text = String::new();
    let stream = match socket {
        Socket::Tcp(stream) => stream,
        Socket::Unix(_) => return "family AF_UNIX, type SOCK_STREAM, protocol 0".into(),
    };
    let (local, peer) = (stream.local_addr(), stream.peer_addr());
    let family = match &peer {
        Ok(SocketAddr::V6(_)) => "AF_INET6",
        _ => "AF_INET",
    };
    // Writing to a string can't fail.
    let _ = write!(text, "family {family}, type SOCK_STREAM, protocol IPPROTO_TCP");
    for (name, address) in [("local", local), ("peer", peer)] {
        let _ = match address {
            Ok(address) => write!(text, ", {name} {address}"),
            Err(error) => write!(text, ", {name} unknown ({error})"),
        };
    }
    text
}
