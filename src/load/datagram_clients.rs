//! The clients over UDP: their sockets, refusals, and the addresses of a name. [`DatagramClient`] is the traffic of one
//! socket.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use rustix::io::Errno;

use super::cause::{Cause, remedy};
use super::client::Client;
use super::datagram_client::DatagramClient;
use super::figures::MOST_DESCRIBED;
use super::slot::{Slot, datagrams};
use super::surroundings::Surroundings;
use crate::net::{ConnectedDatagramSocket, LONGEST_DATAGRAM, Target};
use crate::reactor::{Interest, Moment, Stage, Token};
use crate::system::describe;

/// The most datagrams that one socket takes in a turn, before the other sockets have their turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// How many bytes a socket may move before the others have their turn.
const TURN_BUDGET: usize = 256 * 1024;

/// The clients with a datagram socket.
pub(super) struct DatagramClients {
    /// A buffer for one incoming datagram; empty in a run over streams.
    incoming: Vec<u8>,
    /// The outgoing datagram.
    outgoing: Vec<u8>,
    /// Clients that were refused and try again.
    refused: usize,
}

impl DatagramClients {
    pub(super) fn new(over_udp: bool) -> DatagramClients {
        let incoming = if over_udp { vec![0; LONGEST_DATAGRAM] } else { Vec::new() };
        DatagramClients { incoming, outgoing: Vec::new(), refused: 0 }
    }

    /// Clients that were refused and try again.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// Gives the client a socket. The socket is ready at once, since UDP sends nothing to connect.
    pub(super) fn add(&mut self, around: &mut Surroundings<'_>, mut client: Client) {
        client.was_open = true;
        if insert(around, client).is_some() {
            around.traffic.figures.connections.opened += 1;
            around.traffic.figures.open += 1;
        }
    }

    /// Sends all messages that the client may send now.
    pub(super) fn send(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let Some(client) = datagrams(around.context, token) else { return };
        match client.send(around.traffic, &mut self.outgoing) {
            Ok(true) => around.set_alarm(token),
            Ok(false) => {}
            Err(error) => self.unreachable(around, token, &error),
        }
    }

    /// Takes the datagrams that have come, and sends the messages that may leave because of them.
    pub(super) fn receive(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let mut bytes = 0;
        for _ in 0..DATAGRAMS_PER_TURN {
            let timeout = around.dialler.plan.timeout;
            let Some(client) = datagrams(around.context, token) else { return };
            let received = match client.receive(around.traffic, &mut self.incoming, timeout) {
                Ok(Some(received)) => received,
                // The event may also report room for messages that did not fit before.
                Ok(None) => return self.send(around, token),
                Err(error) => return self.unreachable(around, token, &error),
            };
            if received.is_first {
                around.dialler.heard();
                around.dialler.targets.prove(client.client.pacer.client().into());
            }
            if received.is_back {
                self.refused -= 1;
                around.traffic.figures.connections.opened += 1;
                around.traffic.figures.open += 1;
                around.traffic.figures.outages.reconnected(around.context.now());
            }
            if received.is_wrong {
                self.wrong(around, token, received.length);
            }
            self.send(around, token);
            bytes += received.length;
            if bytes >= TURN_BUDGET {
                break;
            }
        }
        // More datagrams may wait, and no event will report them.
        around.context.run_again(token);
    }

    /// Counts a datagram with other bytes than were sent, and describes the first few.
    #[cold]
    fn wrong(&mut self, around: &mut Surroundings<'_>, token: Token, length: usize) {
        let Some(client) = datagrams(around.context, token) else { return };
        let described = (around.traffic.figures.mismatches.len() < MOST_DESCRIBED)
            .then(|| client.describe_mismatch(around.traffic, &self.incoming[..length]));
        let figures = &mut around.traffic.figures;
        let words = figures.keep_mismatch(client.client.number, described);
        figures.fail(Cause::Mismatch, || words);
    }

    /// Gives up messages whose answer takes too long.
    pub(super) fn sweep(&mut self, around: &mut Surroundings<'_>, now: Moment) {
        let sent_until = now - around.dialler.plan.timeout;
        for token in around.context.tokens().collect::<Vec<_>>() {
            let Some(Slot::Datagrams(client)) = around.context.get_mut(token) else { continue };
            if client.give_up(around.traffic, sent_until, now) {
                self.send(around, token);
            }
        }
    }

    /// Handles a socket that can't be used, or whose peer's machine says that nobody receives there.
    fn unreachable(&mut self, around: &mut Surroundings<'_>, token: Token, error: &io::Error) {
        let Some(client) = datagrams(around.context, token) else { return };
        let (traffic, dialler) = (&mut *around.traffic, &mut *around.dialler);
        let now = Moment::now();
        let peer = client.socket().peer();
        let place = u64::from(client.client.pacer.client());
        let is_refusal = error.kind() == ErrorKind::ConnectionRefused;
        if is_refusal && !client.was_heard() && dialler.targets.try_next(place, &Target::Udp(peer)) {
            return self.try_other_address(around, token);
        }
        let (cause, was_refused) = (Cause::of(error), client.is_refused());
        if is_refusal && dialler.plan.reconnect.is_some() && !dialler.is_ending() {
            let until = dialler.queue.again_at(client.client.tries, now);
            client.client.tries = client.client.tries.saturating_add(1);
            client.refused(traffic, until);
            if client.was_heard() && client.client.silenced(now) {
                traffic.figures.outages.lost(cause, now, now);
            }
            around.set_alarm(token);
        } else {
            let gone = client.client.take(&mut traffic.pacing, now);
            dialler.queue.give_up(gone);
            self.refused -= usize::from(was_refused);
            around.context.remove(token);
        }
        let figures = &mut around.traffic.figures;
        if was_refused {
            figures.outages.reconnect_failed();
            return;
        }
        self.refused += usize::from(around.context.get(token).is_some());
        figures.open -= 1;
        figures.connections.lost += 1;
        let why = if is_refusal { " (its machine says that nobody receives on that port)" } else { "" };
        figures.fail(cause, || cannot_send(peer, error, why));
    }

    /// Moves the client to another address of the name. Nobody received its messages, so it sends other messages
    /// instead.
    fn try_other_address(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let now = around.context.now();
        let ends_at_a_time = around.dialler.plan.messages.is_none();
        let Some(datagrams) = datagrams(around.context, token) else { return };
        datagrams.take_back(around.traffic, ends_at_a_time);
        let client = datagrams.client.take(&mut around.traffic.pacing, now);
        around.context.remove(token);
        match insert(around, client) {
            Some(token) => self.send(around, token),
            None => around.traffic.figures.open -= 1,
        }
    }
}

/// Opens a socket to the endpoint's current address, or to its next address with a route.
fn insert(around: &mut Surroundings<'_>, client: Client) -> Option<Token> {
    let place = u64::from(client.pacer.client());
    let (socket, peer) = loop {
        let Some(&Target::Udp(peer)) = around.dialler.targets.of(place) else { return None };
        let sources = around.dialler.plan.sources.as_ref();
        let source = sources.and_then(|sources| sources.nth(peer.is_ipv4(), place));
        match ConnectedDatagramSocket::connect(peer, source) {
            Ok(socket) => break (socket, peer),
            Err(error) if !is_want(&error) && around.dialler.targets.try_next(place, &Target::Udp(peer)) => {}
            Err(error) => {
                around.traffic.figures.fail(Cause::of(&error), || cannot_send(peer, &error, ""));
                around.dialler.queue.give_up(client);
                return None;
            }
        }
    };
    let clients = around.dialler.plan.clients;
    let client = Slot::Datagrams(DatagramClient::new(socket, client, clients));
    match around.context.insert(client, Interest::READABLE | Interest::WRITABLE, Stage::Connections) {
        Ok(token) => Some(token),
        Err(error) => {
            around.traffic.figures.fail(Cause::Local, || cannot_send(peer, &error, ""));
            None
        }
    }
}

fn cannot_send(peer: SocketAddr, error: &io::Error, why: &str) -> String {
    format!("cannot send to udp://{peer}: {}{why}{}", describe(error), remedy(error))
}

/// Whether descriptors or memory are short: another address would not help.
fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|code| wants.contains(&code))
}
