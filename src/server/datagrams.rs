//! UDP: the server sends every datagram back whole, to its sender, from the address that the sender used (RFC 862); or
//! not at all.
//!
//! Anybody can forge a sender's address. So an answer is never longer than the question. And the server gives none
//! where an answer could make two services talk to each other for ever (CERT CA-1996-01, CVE-2024-2169), or make many
//! machines answer one datagram. [`rule_against`] has the rules.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use super::options::TURN_BUDGET;
use crate::net::{Datagram, DatagramSocket, Host, LONGEST_DATAGRAM, Overflow};
use crate::reactor::{Moment, Token};
use crate::system::{Escaped, describe};

/// The least price of a datagram. A socket takes 64 of them in a turn, or as many bytes as a connection.
const LEAST_PRICE: usize = TURN_BUDGET / 64;
/// Datagrams that the server receives before it answers them. This delays an answer by some microseconds.
const BATCH: usize = 16;
/// Room for a batch of usual datagrams, or for a very long datagram behind some others.
const BATCH_BYTES: usize = 2 * LONGEST_DATAGRAM;
/// Before the server closes a socket, it answers the datagrams that have arrived, with at most so many turns' budgets.
const LAST_TURNS: usize = 16;
/// No peer can make a receive fail. If one fails all the same, try again after this time, and never spin.
const RETRY: Duration = Duration::from_millis(100);

/// The UDP sockets of the server. Without any, it takes no memory.
#[derive(Default)]
pub(super) struct Datagrams {
    sockets: Vec<Token>,
    /// The ports of the sockets. A sender on one of these may be this server.
    own_ports: Vec<u16>,
    buffer: Vec<u8>,
    /// The answers to the batch in the buffer.
    answers: Vec<Answer>,
    any_source: bool,
    /// The size to ask the kernel for; `None`: its default.
    receive_buffer: Option<usize>,
    receiving_failed: bool,
    counts: DatagramCounts,
    overflow: Overflow,
}

/// An answer to send: the place of its bytes in the buffer, and its addresses.
struct Answer {
    bytes: Range<usize>,
    to: SocketAddr,
    source: SocketAddr,
}

/// The outcome of serving a socket.
pub(super) enum Served {
    /// Nothing waits.
    All,
    /// The budget of the turn is spent. More datagrams may wait, and no event will tell.
    Some,
    /// Receiving failed: try again after this time.
    Failed { retry: Duration },
}

/// Datagrams, counted by their fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounts {
    /// The server received them.
    pub received: u64,
    /// The server sent them back.
    pub answered: u64,
    /// The server never answers such datagrams, for safety.
    pub ignored: u64,
    /// The kernel did not take the answer: the send buffer was full, or there is no route to the sender.
    pub dropped: u64,
    /// The kernel dropped them before the server could receive them, because the receive buffer was full. `None`: the
    /// system doesn't tell.
    pub overflowed: Option<u64>,
}

impl Datagrams {
    pub(super) fn new(any_source: bool, receive_buffer: Option<usize>) -> Datagrams {
        Datagrams { any_source, receive_buffer, ..Datagrams::default() }
    }

    /// Prepares a socket for its place in the loop.
    pub(super) fn prepare(&mut self, socket: &DatagramSocket) {
        let local = socket.local_address();
        self.buffer.resize(BATCH_BYTES, 0);
        self.answers.reserve_exact(BATCH);
        self.own_ports.push(local.port());
        self.overflow.watch(socket);
        if let Some(asked) = self.receive_buffer {
            log_receive_buffer(socket, asked);
        }
        if !local.ip().is_loopback() {
            log::warn!(
                "udp://{local} answers anybody who can reach it, and senders can be forged: keep it behind a firewall"
            );
        }
    }

    /// Takes over a prepared socket, by its name in the loop.
    pub(super) fn add(&mut self, token: Token) {
        self.sockets.push(token);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The counts so far. The count of datagrams that the kernel dropped may be a second old.
    pub(super) fn counts(&mut self, now: Moment) -> DatagramCounts {
        DatagramCounts { overflowed: self.overflow.recent(now), ..self.counts }
    }

    /// The counts once the sockets are closed.
    pub(super) fn final_counts(&self) -> DatagramCounts {
        self.counts
    }

    /// Answers until nothing waits or the budget of a turn is spent.
    pub(super) fn serve(&mut self, socket: &mut DatagramSocket) -> Served {
        let mut budget = TURN_BUDGET;
        let outcome = loop {
            match self.echo_batch(socket, &mut budget) {
                Ok(false) if budget > 0 => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(true) => {
                self.receiving_failed = false;
                Served::All
            }
            Ok(false) => Served::Some,
            Err(error) => {
                if !std::mem::replace(&mut self.receiving_failed, true) {
                    let (local, error) = (socket.local_address(), describe(&error));
                    log::warn!("cannot receive on udp://{local}, and tries again every {RETRY:?}: {error}");
                }
                Served::Failed { retry: RETRY }
            }
        }
    }

    /// Answers the datagrams that have arrived, before the server closes the socket. A flood can't make this endless.
    pub(super) fn serve_last(&mut self, socket: &mut DatagramSocket) {
        let _ = (0..LAST_TURNS).any(|_| !matches!(self.serve(socket), Served::Some));
    }

    /// The sockets.
    pub(super) fn sockets(&self) -> &[Token] {
        &self.sockets
    }

    /// Forgets all sockets, and returns them for the loop to close.
    pub(super) fn close(&mut self) -> Vec<Token> {
        self.counts.overflowed = self.overflow.exact();
        std::mem::take(&mut self.sockets)
    }

    /// Receives as many datagrams as one batch holds, then answers them. True: no datagram waits any more.
    ///
    /// Receiving many and then sending many is a few percent faster than taking turns; with packet information, which
    /// runs more code for both, by nearly a tenth. (One call for several, sendmmsg, gains nothing beyond that.)
    fn echo_batch(&mut self, socket: &mut DatagramSocket, budget: &mut usize) -> io::Result<bool> {
        self.answers.clear();
        let mut used = 0;
        let mut outcome = Ok(false);
        for _ in 0..BATCH {
            match socket.receive(&mut self.buffer[used..]) {
                Ok(Some(datagram)) => {
                    self.note(used, datagram);
                    *budget = budget.saturating_sub(datagram.length.max(LEAST_PRICE));
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
                    log::debug!("udp {to}: cannot send the answer, and drops it: {}", describe(&error));
                }
            }
        }
        outcome
    }

    /// Decides whether to answer a datagram, and from which address.
    fn note(&mut self, place: usize, datagram: Datagram) {
        let Datagram { length, from, to } = datagram;
        let bytes = place..place + length;
        self.counts.received += 1;
        log::debug!("udp {from}: received {}", Escaped(&self.buffer[bytes.clone()]));
        match (rule_against(from, &self.own_ports, self.any_source), to) {
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

/// The reason why the server never answers a sender; `None`: it may answer.
///
/// The server answers no sender on one of its own ports, whatever the address. Such a sender may be one of our own
/// sockets under another address of this machine, or a server like this one on another machine. Either would answer the
/// answer.
fn rule_against(from: SocketAddr, own_ports: &[u16], any_source: bool) -> Option<&'static str> {
    let ip = from.ip();
    if from.port() == 0 {
        Some("nobody receives on port 0")
    } else if ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
        Some("its sender is no single machine")
    } else if own_ports.contains(&from.port()) {
        Some("its sender is this server, or one on the same port")
    } else if from.port() < 1024 && !any_source {
        Some("its sender is a service on a port below 1024 (--udp-any-source answers these too)")
    } else {
        None
    }
}

/// Asks for a receive buffer, and tells how large it became.
fn log_receive_buffer(socket: &DatagramSocket, asked: usize) {
    let local = socket.local_address();
    match socket.set_receive_buffer(asked) {
        Ok(granted) if granted < asked => log::warn!(
            "udp://{local}: the system grants a receive buffer of {granted} bytes instead of {asked}: `sysctl -w \
             net.core.rmem_max={asked}` raises it"
        ),
        Ok(granted) => log::info!("udp://{local}: receive buffer of {granted} bytes"),
        Err(error) => log::warn!("udp://{local}: cannot set the receive buffer: {}", describe(&error)),
    }
}

/// The addresses to bind for a host. "Every interface" takes two sockets, one for each family.
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
        let own = [7000, 8000];
        for (from, any_source, answered) in [
            ("127.0.0.1:5000", false, true),
            ("192.0.2.1:1024", false, true),
            ("192.0.2.1:1023", false, false),
            ("192.0.2.1:7", false, false),
            ("192.0.2.1:7", true, true),
            ("192.0.2.1:0", true, false),
            ("127.0.0.1:7000", true, false),
            ("127.0.0.2:7000", true, false),
            ("192.0.2.1:8000", true, false),
            ("[::1]:8000", true, false),
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
