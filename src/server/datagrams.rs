//! UDP: every datagram comes back whole, to its sender, from the address that it was sent to (RFC 862); or not at all.
//!
//! A sender's address can be forged. So an answer is never longer than the question, and a datagram is not answered at
//! all where that could make two services talk to each other for ever (CERT CA-1996-01, CVE-2024-2169) or many machines
//! answer one; the rules are [`rule_against`].

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use super::options::TURN_BUDGET;
use crate::net::Host;
use crate::net::{Datagram, DatagramSocket, LONGEST_DATAGRAM};
use crate::reactor::Token;
use crate::system::Escaped;
use crate::system::describe;

/// Datagrams that one socket may take in a turn, before it is the others' turn; bytes are bounded as a connection's.
const DATAGRAMS_PER_TURN: u64 = 64;
/// Datagrams that are received before they are answered. Answers wait for no more than that, some microseconds.
const BATCH: usize = 16;
/// Room for a batch of all but very long datagrams; of those, for the longest and what came before it.
const BATCH_BYTES: usize = 2 * LONGEST_DATAGRAM;
/// What had arrived when the sockets are to be closed is answered, at most in so many turns' worth.
const LAST_TURNS: usize = 16;
/// After a failed receive, which no peer can cause, try again in this time: never a spin.
const RETRY: Duration = Duration::from_millis(100);

/// What all UDP sockets of the server have in common. Without any, it holds nothing.
#[derive(Default)]
pub(super) struct Datagrams {
    sockets: Vec<Token>,
    own: Vec<SocketAddr>,
    buffer: Vec<u8>,
    /// What is sent when the batch has been received.
    answers: Vec<Answer>,
    any_source: bool,
    receiving_failed: bool,
    counts: DatagramCounts,
}

/// An answer that is to be sent: where its bytes are in the buffer, and between which addresses it goes.
struct Answer {
    bytes: Range<usize>,
    to: SocketAddr,
    source: SocketAddr,
}

/// How far the datagrams of a socket were answered.
pub(super) enum Served {
    /// Nothing waits.
    All,
    /// More may wait, and no event will tell: the budget of the turn is spent.
    Some,
    /// Receiving failed: try again after this time.
    Failed { retry: Duration },
}

/// What became of the datagrams that were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounts {
    /// Those that were received.
    pub received: u64,
    /// Those that were sent back.
    pub answered: u64,
    /// Those that are never answered, for safety.
    pub ignored: u64,
    /// Those whose answer the kernel did not take, because its send buffer was full or no way leads there.
    pub dropped: u64,
}

impl Datagrams {
    pub(super) fn new(any_source: bool) -> Datagrams {
        Datagrams { any_source, ..Datagrams::default() }
    }

    pub(super) fn add(&mut self, token: Token, local: SocketAddr) {
        self.buffer.resize(BATCH_BYTES, 0);
        self.answers.reserve_exact(BATCH);
        self.sockets.push(token);
        self.own.push(local);
        if !local.ip().is_loopback() {
            log::warn!(
                "udp://{local} answers whoever can reach it, and senders can be forged: keep it behind a firewall"
            );
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The sockets.
    pub(super) fn sockets(&self) -> &[Token] {
        &self.sockets
    }

    /// Forgets all sockets, and returns them for the loop to close.
    pub(super) fn close(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.sockets)
    }

    pub(super) fn counts(&self) -> DatagramCounts {
        self.counts
    }

    /// Answers until nothing waits or the budget of a turn is spent.
    pub(super) fn serve(&mut self, socket: &mut DatagramSocket) -> Served {
        let (mut bytes, received) = (0, self.counts.received);
        while bytes < TURN_BUDGET && self.counts.received - received < DATAGRAMS_PER_TURN {
            match self.echo_batch(socket, &mut bytes) {
                Ok(true) => {
                    self.receiving_failed = false;
                    return Served::All;
                }
                Ok(false) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.receiving_failed, true) {
                        log::warn!(
                            "cannot receive on udp://{}: {}",
                            socket.local_address(),
                            describe(&error)
                        );
                    }
                    return Served::Failed { retry: RETRY };
                }
            }
        }
        Served::Some
    }

    /// Before a socket is closed: answers what has arrived, as far as a flood lets it.
    pub(super) fn serve_last(&mut self, socket: &mut DatagramSocket) {
        let _ = (0..LAST_TURNS).any(|_| !matches!(self.serve(socket), Served::Some));
    }

    /// Receives as many datagrams as one batch holds, then answers them. True: nothing waits any more.
    ///
    /// One kind of work at a time is cheaper than both in turn, by a few percent; with packet information, which takes
    /// more code on both ways, by nearly a tenth. (One call for several, sendmmsg, gains nothing beyond that.)
    fn echo_batch(&mut self, socket: &mut DatagramSocket, bytes: &mut usize) -> io::Result<bool> {
        self.answers.clear();
        let mut used = 0;
        let mut outcome = Ok(false);
        for _ in 0..BATCH {
            match socket.receive(&mut self.buffer[used..]) {
                Ok(Some(datagram)) => {
                    self.note(used, datagram);
                    *bytes += datagram.length;
                    used += datagram.length;
                }
                Ok(None) => outcome = Ok(true),
                Err(error) => outcome = Err(error),
            }
            if !matches!(outcome, Ok(false)) || used + LONGEST_DATAGRAM > self.buffer.len() {
                break;
            }
        }
        for Answer { bytes, to, source } in &self.answers {
            match socket.send(&self.buffer[bytes.clone()], *to, *source) {
                Ok(()) => {
                    self.counts.answered += 1;
                    log::debug!("udp {to}: sending {} bytes back", bytes.len());
                }
                Err(error) => {
                    self.counts.dropped += 1;
                    log::debug!("udp {to}: the answer was dropped: {}", describe(&error));
                }
            }
        }
        outcome
    }

    /// Decides whether a datagram is answered, and from where.
    fn note(&mut self, place: usize, datagram: Datagram) {
        let Datagram { length, from, to } = datagram;
        let bytes = place..place + length;
        self.counts.received += 1;
        log::debug!("udp {from}: received {}", Escaped(&self.buffer[bytes.clone()]));
        match (rule_against(from, &self.own, self.any_source), to) {
            (None, Some(source)) => self.answers.push(Answer { bytes, to: from, source }),
            (rule, _) => {
                self.counts.ignored += 1;
                log::debug!(
                    "udp {from}: not answered: {}",
                    rule.unwrap_or("it is not known to be for this machine alone")
                );
            }
        }
    }
}

/// Why a sender is never answered, if so.
fn rule_against(from: SocketAddr, own: &[SocketAddr], any_source: bool) -> Option<&'static str> {
    let ip = from.ip();
    let is_own = |own: &&SocketAddr| {
        // Every IPv6 address may be every IPv4 address too, if the socket is inherited.
        let every = own.ip().is_unspecified() && (own.is_ipv6() || from.is_ipv4());
        let same_address = own.ip() == ip || every;
        own.port() == from.port() && same_address
    };
    if from.port() == 0 {
        Some("nobody receives on port 0")
    } else if ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
        Some("its sender is no single machine")
    } else if own.iter().any(|one| is_own(&one)) {
        Some("its sender is this server, or one on the same port")
    } else if from.port() < 1024 && !any_source {
        Some("its sender is a service on a port below 1024 (--udp-any-source answers these too)")
    } else {
        None
    }
}

/// Where to bind for a host. Every interface takes two sockets, since those that we bind are of one family each.
pub(super) fn addresses(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host {
        Host::Any => Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), ([0, 0, 0, 0], port).into()]),
        host => host.addresses(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_that_could_keep_it_going_for_ever_are_not_answered() {
        let own: Vec<SocketAddr> = ["127.0.0.1:7000", "0.0.0.0:8000", "[::]:9000"]
            .map(|text| text.parse().expect("an address"))
            .into();
        for (from, any_source, answered) in [
            ("127.0.0.1:5000", false, true),
            ("192.0.2.1:1024", false, true),
            ("192.0.2.1:1023", false, false),
            ("192.0.2.1:7", false, false),
            ("192.0.2.1:7", true, true),
            ("192.0.2.1:0", true, false),
            ("127.0.0.1:7000", true, false),
            ("127.0.0.2:7000", false, true),
            ("127.0.0.1:8000", true, false),
            ("192.0.2.1:8000", true, false),
            ("[::1]:8000", false, true),
            ("[::1]:9000", true, false),
            ("192.0.2.1:9000", true, false),
            ("255.255.255.255:5000", true, false),
            ("224.0.0.1:5000", true, false),
            ("[ff02::1]:5000", true, false),
            ("0.0.0.0:5000", true, false),
        ] {
            let sender = from.parse().expect("an address");
            assert_eq!(rule_against(sender, &own, any_source).is_none(), answered, "{from} {any_source}");
        }
    }
}
