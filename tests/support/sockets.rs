//! Sockets of the tests themselves, on loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use super::{DEADLINE, assert_same};

/// A listener on a port that the system picks, and its address.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// An address where nobody listens: it was free a moment ago.
pub(crate) fn deserted_address() -> SocketAddr {
    listener().1
}

/// A UDP socket that waits for a datagram no longer than the deadline.
pub(crate) fn udp_socket(address: impl Into<IpAddr>) -> UdpSocket {
    let socket = UdpSocket::bind((address.into(), 0)).expect("a loopback address");
    socket.set_read_timeout(Some(DEADLINE)).expect("a positive time");
    socket
}

/// The server answers with these bytes, in one datagram, from this address.
#[track_caller]
pub(crate) fn assert_answered(client: &UdpSocket, server: SocketAddr, bytes: &[u8]) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = client.recv_from(&mut buffer).expect("an answer comes");
    assert_same(&buffer[..length], bytes);
    assert_eq!(from, server, "the answer comes from the address that was asked");
}

/// True if loopback has an IPv6 address.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// An address of this machine that no other process is likely to use, not even another run of these tests.
pub(crate) fn own_address(number: u8) -> IpAddr {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, high, low, number).into()
}
