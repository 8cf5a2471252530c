//! IP_PKTINFO and IPV6_RECVPKTINFO: which of our addresses a datagram was sent to, and which one an answer comes from.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};

use super::datagram::Datagram;

/// Room for what the kernel tells beside the bytes, kept from one datagram to the next.
#[derive(Debug)]
pub(super) struct PacketInfo(Vec<u8>);

impl PacketInfo {
    /// Asks the kernel to tell.
    pub(super) fn enable(socket: &socket2::Socket, is_ipv4: bool) -> io::Result<PacketInfo> {
        if is_ipv4 {
            setsockopt(socket, Ipv4PacketInfo, &true)?;
            return Ok(PacketInfo(cmsg_space!(in_pktinfo)));
        }
        setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
        if socket.only_v6()? {
            return Ok(PacketInfo(cmsg_space!(in6_pktinfo)));
        }
        // One that takes IPv4 datagrams too. Of those it tells both, and only what it tells as IPv4 shows a broadcast.
        setsockopt(socket, Ipv4PacketInfo, &true)?;
        Ok(PacketInfo(cmsg_space!(in6_pktinfo, in_pktinfo)))
    }

    pub(super) fn receive(
        &mut self,
        socket: &impl AsRawFd,
        port: u16,
        buffer: &mut [u8],
    ) -> io::Result<Datagram> {
        let mut buffers = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut buffers,
            Some(&mut self.0),
            MsgFlags::empty(),
        )?;
        let to = message.cmsgs()?.find_map(|control| destination(&control, port)).flatten();
        let from = message.address.and_then(|address| socket_address(&address));
        let from = from.ok_or_else(|| io::Error::other("a datagram came without a sender"))?;
        Ok(Datagram { length: message.bytes, from, to })
    }

    /// The answer comes from `source`, whatever the routing table prefers. (nix takes a few bytes of memory for that,
    /// and gives them back: this is the price of "every address", not of a socket that is bound to one.)
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

/// `None`: the message is about something else. `Some(None)`: the datagram was sent to many.
fn destination(control: &ControlMessageOwned, port: u16) -> Option<Option<SocketAddr>> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            // The address in its header, and the one of ours that an answer would come from. They are the same unless
            // it was sent to a broadcast or multicast address. What came before the kernel was asked, to an inherited
            // socket, has only the first; no answer is sent then from an address that is not ours.
            let (header, ours) = (info.ipi_addr.s_addr, info.ipi_spec_dst.s_addr);
            let address = Ipv4Addr::from(header.to_ne_bytes());
            let to_us = header == ours || ours == 0 && !address.is_multicast() && !address.is_broadcast();
            Some(to_us.then(|| SocketAddrV4::new(address, port).into()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            if address.to_ipv4_mapped().is_some() {
                // It came over IPv4, and there is a second message, which tells more.
                return None;
            }
            // Only a link-local address needs its interface; others are routed.
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
    // An IPv4 sender is one, whatever the socket; the kernel takes such an address from either.
    Some(match address.ip().to_ipv4_mapped() {
        Some(ip) => SocketAddrV4::new(ip, address.port()).into(),
        None => address.into(),
    })
}
