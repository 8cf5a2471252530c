//! IP_PKTINFO and IPV6_RECVPKTINFO: a client sends a datagram to one of our addresses, and the answer comes from there.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};

/// Room for control messages. Ours take 72 bytes at most. An inherited socket may have other options on, and their
/// messages come too and may come first: systemd's `Timestamping=` and `PassSecurity=`, or time to live, type of
/// service and IP options. All of them together fit, unless a security label is very long.
const CONTROL_SPACE: usize = 512;

/// Room for control messages, kept from one datagram to the next.
#[derive(Debug)]
pub(super) struct PacketInfo(Vec<u8>);

impl PacketInfo {
    /// Asks the kernel to send the control message with each datagram.
    pub(super) fn enable(socket: &socket2::Socket, is_ipv4: bool) -> io::Result<PacketInfo> {
        if is_ipv4 {
            setsockopt(socket, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
            if !socket.only_v6()? {
                // The socket takes IPv4 datagrams too. The kernel sends both messages with them, and only the IPv4
                // message shows a broadcast.
                setsockopt(socket, Ipv4PacketInfo, &true)?;
            }
        }
        Ok(PacketInfo(vec![0; CONTROL_SPACE]))
    }

    /// Receives one datagram: its length, its sender, and our address that the sender used, with `port`. `None`: the
    /// sender used a broadcast or multicast address, or the kernel does not tell.
    pub(super) fn receive(
        &mut self,
        socket: &impl AsRawFd,
        port: u16,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<SocketAddr>)> {
        let mut buffers = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut buffers,
            Some(&mut self.0),
            MsgFlags::empty(),
        )?;
        // An error here means that the kernel cut control messages. Then only the address is unknown: this datagram is
        // whole, and so is the next one.
        let to = match message.cmsgs() {
            Ok(mut messages) => messages.find_map(|control| destination(&control, port)).flatten(),
            Err(_) => None,
        };
        let from = message.address.and_then(|address| socket_address(&address));
        let from = from.ok_or_else(|| io::Error::other("a datagram came without a sender"))?;
        Ok((message.bytes, from, to))
    }

    /// Sends an answer from `source`, even if the routing table prefers another address. (nix allocates and frees a few
    /// bytes for each. Only sockets that are bound to every address pay this price.)
    pub(super) fn send(
        socket: &impl AsRawFd,
        bytes: &[u8],
        to: SocketAddr,
        source: SocketAddr,
    ) -> io::Result<()> {
        let (v4, v6);
        let control = match source {
            SocketAddr::V4(source) => {
                let address = in_addr { s_addr: u32::from_ne_bytes(source.ip().octets()) };
                v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: in_addr { s_addr: 0 } };
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            SocketAddr::V6(source) => {
                let address = in6_addr { s6_addr: source.ip().octets() };
                v6 = in6_pktinfo { ipi6_addr: address, ipi6_ifindex: source.scope_id() };
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        let to = SockaddrStorage::from(to);
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &[control], MsgFlags::empty(), Some(&to))?;
        Ok(())
    }
}

/// The address in a control message. `None`: the message is about something else. `Some(None)`: the sender used a
/// broadcast or multicast address.
fn destination(control: &ControlMessageOwned, port: u16) -> Option<Option<SocketAddr>> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            // The message has two addresses: the one in the datagram's header, and our address that an answer would
            // come from. They differ only if the sender used a broadcast or multicast address. If a datagram reached an
            // inherited socket before we asked for the message, the second is missing. Should the first not be ours
            // then, the kernel refuses to send an answer from it.
            let (header, ours) = (info.ipi_addr.s_addr, info.ipi_spec_dst.s_addr);
            let address = Ipv4Addr::from(header.to_ne_bytes());
            let to_us = header == ours || ours == 0 && !address.is_multicast() && !address.is_broadcast();
            Some(to_us.then(|| SocketAddrV4::new(address, port).into()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            if address.to_ipv4_mapped().is_some() {
                // The datagram came over IPv4, and the IPv4 message with it tells more.
                return None;
            }
            // Only a link-local address needs its interface; the kernel routes the others.
            let scope = if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            Some((!address.is_multicast()).then(|| SocketAddrV6::new(address, port, 0, scope).into()))
        }
        _ => None,
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*address).into());
    }
    let address = SocketAddrV6::from(*address.as_sockaddr_in6()?);
    // An IPv4 sender keeps its IPv4 address on an IPv6 socket too. The kernel accepts it there as a target.
    Some(match address.ip().to_ipv4_mapped() {
        Some(ip) => SocketAddrV4::new(ip, address.port()).into(),
        None => address.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use nix::cmsg_space;
    use nix::sys::socket::sockopt::ReceiveTimestamp;
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// A socket bound to every address, its address, and a client. The kernel puts the time of each datagram in front
    /// of our message.
    fn timestamped() -> (UdpSocket, SocketAddr, UdpSocket) {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        setsockopt(&socket, ReceiveTimestamp, &true).expect("Linux knows the option");
        let port = socket.local_addr().expect("it is bound").port();
        let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        (socket, (Ipv4Addr::LOCALHOST, port).into(), client)
    }

    /// Receives a datagram of the client.
    fn receive(
        packet_info: &mut PacketInfo,
        socket: &UdpSocket,
        to: SocketAddr,
        client: &UdpSocket,
    ) -> (usize, SocketAddr, Option<SocketAddr>) {
        client.send_to(b"abc", to).expect("loopback");
        poll(&mut [PollFd::new(socket, PollFlags::IN)], None).expect("it comes");
        packet_info.receive(socket, to.port(), &mut [0; 16]).expect("a datagram")
    }

    #[test]
    fn other_control_messages_leave_room_for_the_destination() {
        let (socket, to, client) = timestamped();
        let as_socket2 = socket2::Socket::from(socket.try_clone().expect("a descriptor"));
        let mut packet_info = PacketInfo::enable(&as_socket2, true).expect("Linux knows the option");
        for _ in 0..2 {
            let from = client.local_addr().expect("it is bound");
            let datagram = receive(&mut packet_info, &socket, to, &client);
            assert_eq!(datagram, (3, from, Some(to)));
        }
    }

    #[test]
    fn a_datagram_whose_control_messages_were_cut_has_no_known_destination() {
        let (socket, to, client) = timestamped();
        setsockopt(&socket, Ipv4PacketInfo, &true).expect("Linux knows the option");
        let mut too_little = PacketInfo(cmsg_space!(in_pktinfo));
        assert_eq!(receive(&mut too_little, &socket, to, &client).2, None);
    }
}
