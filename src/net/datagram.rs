//! Datagram sockets: what was sent to which of our addresses, and an answer that comes from there.
//!
//! A socket that is bound to one address answers from that address, whatever happens. One that is bound to every
//! address would answer from the one that the routing table prefers, and the client would not know it; so it asks the
//! kernel where each datagram was sent to (IP_PKTINFO, IPV6_RECVPKTINFO), and says so when it answers.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, SockRef, Type};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::packet_info::PacketInfo;

/// No datagram is longer than this, so that a buffer of this size cuts none.
pub const LONGEST_DATAGRAM: usize = 65_535;
/// A port for questions about an address, to which nothing is sent.
const DISCARD: u16 = 9;
/// The most bytes that can be sent in a datagram over both families: what IPv4 leaves beside its header and that of UDP.
pub const LONGEST_PAYLOAD: usize = 65_535 - 20 - 8;

/// A UDP socket, nonblocking, of one address family.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UdpSocket,
    local: SocketAddr,
    /// Only for a socket that is bound to every address.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    packet_info: Option<PacketInfo>,
}

/// What [`DatagramSocket::receive`] brought; the bytes are in the buffer that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes it has, which may be none.
    pub length: usize,
    /// Who sent it, or is said to.
    pub from: SocketAddr,
    /// The address of ours that it was sent to; `None` if it was sent to many at once, by broadcast or multicast, or if
    /// that is not known.
    pub to: Option<SocketAddr>,
}

impl DatagramSocket {
    /// Binds to an address. An IPv6 socket takes no IPv4 datagrams, since the two families differ in what is broadcast.
    ///
    /// # Errors
    /// As `socket(2)` and `bind(2)`; [`ErrorKind::InvalidInput`] for an address that stands for many machines; and where
    /// the system doesn't tell what a datagram was sent to, [`ErrorKind::Unsupported`] for "every address".
    pub fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<DatagramSocket> {
        refuse_many_machines(address)?;
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // No SO_REUSEADDR: for datagrams it would let another program take the port over.
        if reuse_port {
            socket.set_reuse_port(true)?;
        }
        // Before it is bound: what comes at once comes with the address that it was sent to.
        let prepared = Prepared::new(&socket, address)?;
        socket.bind(&address.into())?;
        prepared.finish(socket)
    }

    /// Takes over a socket that is bound already, and on which datagrams may wait. An IPv6 one may take IPv4 datagrams
    /// too, which whoever bound it decided.
    pub(super) fn inherited(socket: socket2::Socket) -> io::Result<DatagramSocket> {
        let local = socket.local_addr()?.as_socket();
        let local = local.ok_or_else(|| io::Error::other("it has no address"))?;
        refuse_many_machines(local)?;
        Prepared::new(&socket, local)?.finish(socket)
    }

    /// Asks for a receive buffer of so many bytes; returns how many the kernel granted.
    ///
    /// # Errors
    /// As `setsockopt(2)` and `getsockopt(2)`.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<usize> {
        let socket = SockRef::from(self);
        socket.set_recv_buffer_size(bytes)?;
        let reported = socket.recv_buffer_size()?;
        // Linux reports twice what it grants: half is for its own bookkeeping (`socket(7)`).
        Ok(if cfg!(any(target_os = "linux", target_os = "android")) { reported / 2 } else { reported })
    }

    /// The address that is really bound, port and all.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Receives one datagram, or `None` if there is none. What does not fit the buffer is cut off, so let it have room
    /// for [`LONGEST_DATAGRAM`].
    ///
    /// # Errors
    /// As `recvmsg(2)`; an error that a datagram of ours caused elsewhere is not among them.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
        loop {
            match self.receive_once(buffer) {
                Ok(datagram) => return Ok(Some(datagram)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn receive_once(&mut self, buffer: &mut [u8]) -> io::Result<Datagram> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(packet_info) = &mut self.packet_info {
            return packet_info.receive(&self.socket, self.local.port(), buffer);
        }
        let (length, from) = self.socket.recv_from(buffer)?;
        // What is sent to one address can't have been sent to many.
        Ok(Datagram { length, from, to: Some(self.local) })
    }

    /// Sends bytes to an address, from the address `source` of ours: that of [`Datagram::to`].
    ///
    /// # Errors
    /// As `sendmsg(2)`; [`ErrorKind::WouldBlock`] when the send buffer is full.
    pub fn send(&self, bytes: &[u8], to: SocketAddr, source: SocketAddr) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.packet_info.is_some() {
            return PacketInfo::send(&self.socket, bytes, to, source);
        }
        let _ = source;
        self.socket.send_to(bytes, to).map(drop)
    }
}

/// What a socket that is bound to an address, or is to be, needs beside itself.
struct Prepared {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    packet_info: Option<PacketInfo>,
}

impl Prepared {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn new(socket: &socket2::Socket, address: SocketAddr) -> io::Result<Prepared> {
        socket.set_nonblocking(true)?;
        let of_every_address = address.ip().is_unspecified();
        let packet_info =
            of_every_address.then(|| PacketInfo::enable(socket, address.is_ipv4())).transpose()?;
        Ok(Prepared { packet_info })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn new(socket: &socket2::Socket, address: SocketAddr) -> io::Result<Prepared> {
        socket.set_nonblocking(true)?;
        if address.ip().is_unspecified() {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "this system doesn't tell which address a datagram was sent to: name the addresses",
            ));
        }
        Ok(Prepared {})
    }

    fn finish(self, socket: socket2::Socket) -> io::Result<DatagramSocket> {
        let socket = UdpSocket::from_std(socket.into());
        Ok(DatagramSocket {
            local: socket.local_addr()?,
            socket,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            packet_info: self.packet_info,
        })
    }
}

/// A socket that is bound to a broadcast or multicast address would answer what was sent to many machines.
fn refuse_many_machines(address: SocketAddr) -> io::Result<()> {
    let many = match address.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || is_broadcast_of_a_network(ip)?,
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if !many {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "it stands for many machines, not for this one"))
}

/// Whether an address is the broadcast address of one of this machine's networks (192.168.1.255, 127.255.255.255). The
/// kernel knows: only a socket that has asked for broadcasts may connect to one. Connecting sends nothing.
fn is_broadcast_of_a_network(address: Ipv4Addr) -> io::Result<bool> {
    let probe = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let target = SocketAddr::from((address, DISCARD)).into();
    let refused = probe.connect(&target).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    if refused {
        probe.set_broadcast(true)?;
    }
    Ok(refused && probe.connect(&target).is_ok())
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
