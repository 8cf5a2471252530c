//! sendmmsg: several datagrams in one system call.
//!
//! Receiving several in one call (recvmmsg) was measured as well and gains nothing: a receive is cheap where bytes wait.
//! Sending is where the kernel works, and what is sent in one go wakes a receiver once.

use std::array;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::slice;

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::datagram::Outgoing;

/// The most that go in one call: their headers are on the stack, and what one call costs is next to nothing by then.
const MOST: usize = 16;

/// Sends them in their order, and tells of each that the kernel did not take.
pub(super) fn send(
    socket: impl AsFd,
    buffer: &[u8],
    datagrams: &[Outgoing],
    mut dropped: impl FnMut(&Outgoing, &io::Error),
) {
    for datagrams in datagrams.chunks(MOST) {
        // An array has a fixed length: behind the last datagram it is repeated, and not sent again.
        let nth = |place: usize| &datagrams[place.min(datagrams.len() - 1)];
        let bytes: [IoSlice; MOST] = array::from_fn(|place| IoSlice::new(&buffer[nth(place).bytes.clone()]));
        let addresses: [_; MOST] = array::from_fn(|place| nth(place).to.as_any());
        let mut controls: [SendAncillaryBuffer; MOST] = array::from_fn(|_| SendAncillaryBuffer::default());
        let mut places = 0..;
        let mut headers = controls.each_mut().map(|control| {
            let place = places.next().unwrap_or_default();
            MMsgHdr::new_with_addr(&addresses[place], slice::from_ref(&bytes[place]), control)
        });
        let mut sent = 0;
        while sent < datagrams.len() {
            match sendmmsg(&socket, &mut headers[sent..datagrams.len()], SendFlags::empty()) {
                // Never none: that would be an error, which is that of the first one.
                Ok(count) => sent += count.max(1),
                Err(Errno::INTR) => {}
                Err(error) => {
                    dropped(&datagrams[sent], &error.into());
                    sent += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_are_sent_in_order_and_one_that_fails_is_told() {
        let [from, to] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));
        to.set_read_timeout(Some(Duration::from_secs(60))).expect("a positive time");
        let (source, receiver) = (from.local_addr().expect("bound"), to.local_addr().expect("bound"));
        let buffer: Vec<u8> = (0..100).collect();
        // To port 0 nothing can be sent.
        let nowhere: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let datagrams: Vec<Outgoing> = (0..40)
            .map(|place| {
                let to = if [0, 20, 39].contains(&place) { nowhere } else { receiver };
                Outgoing { bytes: place..2 * place, to, source }
            })
            .collect();
        let mut dropped = Vec::new();
        send(&from, &buffer, &datagrams, |datagram, _| dropped.push(datagram.bytes.start));
        assert_eq!(dropped, [0, 20, 39]);
        for place in (1..39).filter(|place| *place != 20) {
            let mut received = [0; 100];
            let length = to.recv(&mut received).expect("it comes");
            assert_eq!(received[..length], buffer[place..2 * place]);
        }
    }
}
