//! A client's datagram socket. It is connected, so only its peer's datagrams arrive, and the peer's machine can report
//! that nobody listens there.
//!
//! Connecting sends nothing. It sets the address that datagrams go to and may come from, and lets the kernel match an
//! ICMP refusal to this socket. The kernel reports the refusal at the next call. If that call sends a datagram, the
//! kernel reports the refusal instead of sending it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Type};

use super::datagram::unless_blocked;

/// A UDP socket with one peer, nonblocking.
#[derive(Debug)]
pub struct ConnectedDatagramSocket {
    socket: UdpSocket,
    peer: SocketAddr,
}

impl ConnectedDatagramSocket {
    /// A socket for datagrams to and from `peer`, from the address `source` if one is given.
    ///
    /// # Errors
    /// As `socket(2)`, `bind(2)` and `connect(2)`: no route leads there, or no port or descriptor is left.
    /// [`ErrorKind::ConnectionRefused`] if the socket would be its own peer: the system may pick the very port of this
    /// machine that the socket connects to, which proves that nobody else has this port.
    pub fn connect(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<ConnectedDatagramSocket> {
        let socket = socket2::Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect(&peer.into())?;
        if socket.local_addr()?.as_socket() == Some(peer) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(ConnectedDatagramSocket { socket: UdpSocket::from_std(socket.into()), peer })
    }

    /// The only sender whose datagrams the socket takes.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address and port that its datagrams come from.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram. False: there is no room for it now, and an event will tell when there is.
    ///
    /// # Errors
    /// As `send(2)`; [`ErrorKind::ConnectionRefused`] if nobody took an earlier datagram.
    pub fn send(&self, bytes: &[u8]) -> io::Result<bool> {
        Ok(unless_blocked(|| self.socket.send(bytes))?.is_some())
    }

    /// Receives one datagram and returns its length, or `None` if there is none. The kernel cuts a datagram that does
    /// not fit the buffer, so give it room for [`LONGEST_DATAGRAM`](super::LONGEST_DATAGRAM).
    ///
    /// # Errors
    /// As `recv(2)`; [`ErrorKind::ConnectionRefused`] if nobody took an earlier datagram.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        unless_blocked(|| self.socket.recv(buffer))
    }
}

impl AsFd for ConnectedDatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The system picks among some 30,000 ports, so one of these attempts meets the port that is connected to.
    const ATTEMPTS: usize = 1_000_000;

    #[test]
    fn no_socket_is_its_own_peer() {
        // An address that no other test uses, so that its ports are free.
        let host = IpAddr::from([127, 93, 17, 201]);
        let port = std::net::UdpSocket::bind((host, 0))
            .and_then(|socket| socket.local_addr())
            .expect("loopback")
            .port();
        let peer = SocketAddr::new(host, port);
        let refused = (0..ATTEMPTS).any(|_| match ConnectedDatagramSocket::connect(peer, Some(host)) {
            Ok(socket) => {
                assert_ne!(socket.local_address().expect("it is bound"), peer);
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                true
            }
        });
        assert!(refused, "the system never picked port {port}");
    }
}
