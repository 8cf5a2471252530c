//! The other end of a connection, as people write it.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The other end of a connection, in 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp {
        /// Its address; an IPv4 peer of a dual-stack listener is an IPv4 address here.
        address: IpAddr,
        /// Its port.
        port: u16,
        /// The interface of a link-local IPv6 address, else 0.
        scope: u32,
    },
    /// A Unix peer. It has no address, so the listener numbers its peers.
    Unix {
        /// Its number, from 1 on.
        place: u32,
    },
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        let scope = match address {
            SocketAddr::V6(address) => address.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        Peer::Tcp { address: address.ip().to_canonical(), port: address.port(), scope }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Peer::Tcp { address: IpAddr::V4(address), port, .. } => write!(f, "{address}:{port}"),
            Peer::Tcp { address: IpAddr::V6(address), port, scope } => {
                SocketAddrV6::new(address, port, 0, scope).fmt(f)
            }
            Peer::Unix { place } => write!(f, "unix client {place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_shown_as_people_write_it() {
        let shown = |text: &str| Peer::from(text.parse::<SocketAddr>().expect("an address")).to_string();
        assert_eq!(shown("127.0.0.1:65141"), "127.0.0.1:65141");
        assert_eq!(shown("[::ffff:127.0.0.1]:65141"), "127.0.0.1:65141");
        assert_eq!(shown("[::1]:7"), "[::1]:7");
        assert_eq!(Peer::Unix { place: 3 }.to_string(), "unix client 3");
    }
}
