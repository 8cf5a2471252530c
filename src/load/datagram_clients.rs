//! The clients over UDP: their sockets, refusals, and the addresses of a name. [`DatagramClient`] is the traffic of one
//! socket.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use rustix::io::Errno;

use super::cause::{Cause, remedy};
use super::client::Client;
use super::common::Common;
use super::datagram_client::DatagramClient;
use super::figures::MOST_DESCRIBED;
use super::slot::Slot;
use crate::net::{ConnectedDatagramSocket, LONGEST_DATAGRAM, Target};
use crate::reactor::{Interest, Moment, Stage, Token};
use crate::system::describe;

/// Datagrams that one socket may take in a turn, before it is the others' turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// How many bytes a socket may move before the others have their turn.
const TURN_BUDGET: usize = 256 * 1024;

/// The clients with a datagram socket.
pub(super) struct DatagramClients {
    /// Room for one datagram that comes; none over streams.
    incoming: Vec<u8>,
    /// The datagram that leaves.
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

    /// The client gets a socket, which is there at once: nothing is sent for it.
    pub(super) fn add(&mut self, common: &mut Common<'_>, mut client: Client) {
        client.was_open = true;
        if insert(common, client).is_some() {
            common.traffic.figures.connections.opened += 1;
            common.traffic.figures.open += 1;
        }
    }

    /// Sends whatever the client may send now.
    pub(super) fn send(&mut self, common: &mut Common<'_>, token: Token) {
        let Some(Slot::Datagrams(client)) = common.context.get_mut(token) else { return };
        match client.send(common.traffic, &mut self.outgoing) {
            Ok(true) => common.set_alarm(token),
            Ok(false) => {}
            Err(error) => self.unreachable(common, token, &error),
        }
    }

    /// Takes what has come, and sends what may leave because of it.
    pub(super) fn receive(&mut self, common: &mut Common<'_>, token: Token) {
        let mut bytes = 0;
        for _ in 0..DATAGRAMS_PER_TURN {
            let timeout = common.dialler.plan().timeout;
            let Some(Slot::Datagrams(client)) = common.context.get_mut(token) else { return };
            let received = match client.receive(common.traffic, &mut self.incoming, timeout) {
                Ok(Some(received)) => received,
                // There may be room again for what could not be sent.
                Ok(None) => return self.send(common, token),
                Err(error) => return self.unreachable(common, token, &error),
            };
            if received.is_first {
                common.dialler.heard();
                common.dialler.targets().prove(client.client.pacer.client().into());
            }
            if received.is_back {
                self.refused -= 1;
                common.traffic.figures.open += 1;
                common.traffic.figures.outages.reconnected(common.context.now());
            }
            if received.is_wrong {
                self.wrong(common, token, received.length);
            }
            self.send(common, token);
            bytes += received.length;
            if bytes >= TURN_BUDGET {
                break;
            }
        }
        // There may be more, and no event will say so.
        common.context.run_again(token);
    }

    /// Counts a datagram with other bytes than were sent, and describes the first few.
    #[cold]
    fn wrong(&mut self, common: &mut Common<'_>, token: Token, length: usize) {
        let Some(Slot::Datagrams(client)) = common.context.get(token) else { return };
        let described = (common.traffic.figures.mismatches.len() < MOST_DESCRIBED)
            .then(|| client.describe_mismatch(common.traffic, &self.incoming[..length]));
        let figures = &mut common.traffic.figures;
        let words = figures.keep_mismatch(client.client.number, described);
        figures.fail(Cause::Mismatch, || words);
    }

    /// Gives up messages whose answer takes too long.
    pub(super) fn sweep(&mut self, common: &mut Common<'_>, now: Moment) {
        let sent_until = now - common.dialler.plan().timeout;
        for token in common.context.tokens().collect::<Vec<_>>() {
            let Some(Slot::Datagrams(client)) = common.context.get_mut(token) else { continue };
            if client.give_up(common.traffic, sent_until, now) {
                self.send(common, token);
            }
        }
    }

    /// The socket can't be used, or its peer's machine says that nobody receives there.
    fn unreachable(&mut self, common: &mut Common<'_>, token: Token, error: &io::Error) {
        let Some(Slot::Datagrams(client)) = common.context.get_mut(token) else { return };
        let (traffic, dialler) = (&mut *common.traffic, &mut *common.dialler);
        let now = Moment::now();
        let peer = client.socket().peer();
        let place = u64::from(client.client.pacer.client());
        let is_refusal = error.kind() == ErrorKind::ConnectionRefused;
        if is_refusal && !client.was_heard() && dialler.targets().try_next(place, &Target::Udp(peer)) {
            return self.try_other_address(common, token);
        }
        let (cause, was_refused) = (Cause::of(error), client.is_refused());
        if is_refusal && dialler.plan().reconnect.is_some() && !dialler.is_ending() {
            let until = dialler.queue().again_at(client.client.tries, now);
            client.client.tries = client.client.tries.saturating_add(1);
            client.refused(traffic, until);
            if client.was_heard() && client.client.silenced(now) {
                traffic.figures.outages.lost(cause, now, now);
            }
            common.set_alarm(token);
        } else {
            let mut gone = Client::new(client.client.pacer.client(), &traffic.pacing, 0, now);
            std::mem::swap(&mut gone, &mut client.client);
            gone.pacer.cut_off(&mut traffic.pacing);
            dialler.give_up(gone);
            self.refused -= usize::from(was_refused);
            common.context.remove(token);
        }
        let figures = &mut common.traffic.figures;
        if was_refused {
            figures.outages.reconnect_failed();
            return;
        }
        self.refused += usize::from(common.context.get(token).is_some());
        figures.open -= 1;
        figures.connections.lost += 1;
        let why = if is_refusal { " (nobody receives on that port, its machine says)" } else { "" };
        figures.fail(cause, || cannot_send(peer, error, why));
    }

    /// The name has another address: messages to this one went to nobody, and others are sent instead.
    fn try_other_address(&mut self, common: &mut Common<'_>, token: Token) {
        let now = common.context.now();
        let ends_at_a_time = common.dialler.plan().messages.is_none();
        let Some(Slot::Datagrams(datagrams)) = common.context.get_mut(token) else { return };
        datagrams.take_back(common.traffic, ends_at_a_time);
        let mut client = Client::new(datagrams.client.pacer.client(), &common.traffic.pacing, 0, now);
        std::mem::swap(&mut client, &mut datagrams.client);
        common.context.remove(token);
        match insert(common, client) {
            Some(token) => self.send(common, token),
            None => common.traffic.figures.open -= 1,
        }
    }
}

/// Opens a socket to the address that the endpoint has now, or to the next one to which there is a way.
fn insert(common: &mut Common<'_>, client: Client) -> Option<Token> {
    let place = u64::from(client.pacer.client());
    let (socket, peer) = loop {
        let Some(&Target::Udp(peer)) = common.dialler.targets().of(place) else { return None };
        let sources = common.dialler.plan().sources.as_ref();
        let source = sources.and_then(|sources| sources.nth(peer.is_ipv4(), place));
        match ConnectedDatagramSocket::connect(peer, source) {
            Ok(socket) => break (socket, peer),
            Err(error)
                if !is_want(&error) && common.dialler.targets().try_next(place, &Target::Udp(peer)) => {}
            Err(error) => {
                common.traffic.figures.fail(Cause::of(&error), || cannot_send(peer, &error, ""));
                common.dialler.give_up(client);
                return None;
            }
        }
    };
    let clients = common.dialler.plan().clients;
    let client = Slot::Datagrams(DatagramClient::new(socket, client, clients));
    match common.context.insert(client, Interest::READABLE | Interest::WRITABLE, Stage::Connections) {
        Ok(token) => Some(token),
        Err(error) => {
            common.traffic.figures.fail(Cause::Local, || cannot_send(peer, &error, ""));
            None
        }
    }
}

fn cannot_send(peer: SocketAddr, error: &io::Error, why: &str) -> String {
    format!("cannot send to udp://{peer}: {}{why}{}", describe(error), remedy(error))
}

/// Whether there are too few descriptors or too little memory, which another address does not help.
fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|code| wants.contains(&code))
}
