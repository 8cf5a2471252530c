//! Datagram sockets. An answer comes from the address that the client sent to.
//!
//! A socket that is bound to one address always answers from that address. A socket that is bound to every address
//! would answer from the address that the routing table prefers, which the client may not know. So such a socket asks
//! the kernel where each datagram was sent to (IP_PKTINFO, IPV6_RECVPKTINFO), and names that address when it answers.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, SockRef, Type};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::packet_info::PacketInfo;

/// No datagram is longer than this, so that a buffer of this size cuts none.
pub const LONGEST_DATAGRAM: usize = 65_535;
/// A port for questions to the kernel about an address. Nothing goes there.
const DISCARD: u16 = 9;
/// The most bytes that fit a datagram of either family: 65,535 less the headers of IPv4 and UDP.
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

/// A datagram from [`DatagramSocket::receive`], whose bytes are in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The number of its bytes; there may be none.
    pub length: usize,
    /// Its sender, which may be forged.
    pub from: SocketAddr,
    /// Our address that the sender used. `None`: the sender used a broadcast or multicast address, or the kernel does
    /// not tell.
    pub to: Option<SocketAddr>,
}

impl DatagramSocket {
    /// Binds to an address. An IPv6 socket takes no IPv4 datagrams, since the two families know different broadcasts.
    ///
    /// # Errors
    /// As `socket(2)` and `bind(2)`; [`ErrorKind::InvalidInput`] for an address that stands for many machines;
    /// [`ErrorKind::Unsupported`] for "every address" on a system that doesn't tell which address a sender used.
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
        // Prepare before binding, so that the kernel tells the address of the first datagram too.
        let prepared = Prepared::new(&socket, address)?;
        socket.bind(&address.into())?;
        prepared.finish(socket)
    }

    /// Takes over a bound socket, on which datagrams may wait. An IPv6 socket may take IPv4 datagrams too: the process
    /// that bound it has decided that.
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

    /// Receives one datagram, or `None` if there is none. The kernel cuts a datagram that does not fit the buffer, so
    /// give it room for [`LONGEST_DATAGRAM`].
    ///
    /// # Errors
    /// As `recvmsg(2)`. The socket is not connected, so the kernel reports no error that an answer caused elsewhere.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
        unless_blocked(|| self.receive_once(buffer))
    }

    fn receive_once(&mut self, buffer: &mut [u8]) -> io::Result<Datagram> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(packet_info) = &mut self.packet_info {
            let (length, from, to) = packet_info.receive(&self.socket, self.local.port(), buffer)?;
            return Ok(Datagram { length, from, to });
        }
        let (length, from) = self.socket.recv_from(buffer)?;
        // The socket is bound to an address of one machine.
        Ok(Datagram { length, from, to: Some(self.local) })
    }

    /// Sends bytes to an address, from our address `source`, which is the question's [`Datagram::to`].
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

/// The preparations for a socket that is bound to an address, or will be.
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

/// Makes a call on a socket, and repeats it if a signal interrupts it. `None`: the call would block.
pub(super) fn unless_blocked<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.map(Some),
        }
    }
}

/// A socket that is bound to a broadcast or multicast address would answer datagrams that were sent to many machines.
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
