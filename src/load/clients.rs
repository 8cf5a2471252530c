//! All clients: they connect, exchange messages, lose their connections, connect again, and end.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;

use super::cause::{Cause, remedy};
use super::client::Client;
use super::datagram_client::DatagramClient;
use super::figures::MOST_DESCRIBED;
use super::plan::{Plan, Usage};
use super::queue::{Attempt, Queue};
use super::series::Point;
use super::slot::{Slot, StreamClient};
use super::stream::{Exchange, Stream};
use super::targets::{Ceiling, Targets};
use super::traffic::{READ_SIZE, Traffic};
use crate::net::{
    CONNECTION_INTEREST, ConnectedDatagramSocket, Connection, End, LONGEST_DATAGRAM, Limits, Next, Phase,
    Target, Workspace, connect,
};
use crate::reactor::{Context, Interest, Moment, Readiness, Stage, Token};
use crate::system::describe;

/// How many bytes a connection may move before the others have their turn.
const TURN_BUDGET: usize = 256 * 1024;
/// Datagrams that one socket may take in a turn, before it is the others' turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// How long more bytes are awaited that show the kind of a difference.
const EVIDENCE_TIME: Duration = Duration::from_millis(100);
/// How long a client waits for room in the backlog of a Unix socket, which does not tell when there is some.
const BACKLOG_RETRY: Duration = Duration::from_millis(2);
/// How long a peer has to end after we have, so that bytes behind the last reply are found.
pub(super) const END_TIME: Duration = Duration::from_secs(1);
/// The most connections of a churn that await their peer's end, as a multiple of its clients. Beyond that they are
/// closed at once: a peer that never ends must not take all descriptors.
const MOST_ENDING: usize = 4;

/// All clients, with everything that moves their bytes.
pub(super) struct Clients {
    plan: Rc<Plan>,
    traffic: Traffic,
    targets: Targets,
    ceiling: Ceiling,
    queue: Queue,
    workspace: Workspace,
    /// Bytes of messages that do not go in one piece; empty nearly always.
    staged: Vec<u8>,
    /// Room for one datagram; empty for streams.
    datagram: Vec<u8>,
    /// Connections that were established and wait for their greeting.
    ungreeted: u64,
    /// Connections that only await their peer's end.
    ending: usize,
    /// Clients over UDP that were refused and try again.
    refused: usize,
    /// Whether any address has ever answered.
    any_heard: bool,
    course: Course,
}

/// The clients' answer to a lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// All get their first connection; a client that fails waits until the others have theirs.
    Opening,
    /// Messages flow, and lost connections are replaced.
    Flowing,
    /// Nothing new is begun.
    Ending,
}

impl Clients {
    pub(super) fn new(plan: Rc<Plan>, targets: Targets, ceiling: Ceiling, now: Moment) -> Clients {
        Clients {
            traffic: Traffic::new(&plan, now),
            targets,
            ceiling,
            queue: Queue::new(&plan, now),
            workspace: Workspace::new(Limits {
                read_size: READ_SIZE,
                // Replies are always read, whatever is unsent: a generator that stopped reading while it has
                // something to send, against a server that does the same, would stop both for ever.
                write_limit: usize::MAX,
                turn_budget: TURN_BUDGET,
            }),
            staged: Vec::new(),
            datagram: if plan.is_over_udp() { vec![0; LONGEST_DATAGRAM] } else { Vec::new() },
            ungreeted: 0,
            ending: 0,
            refused: 0,
            any_heard: false,
            course: Course::Opening,
            plan,
        }
    }

    pub(super) fn traffic(&mut self) -> &mut Traffic {
        &mut self.traffic
    }

    /// Replaces the addresses that were resolved.
    #[cfg(test)]
    pub(super) fn set_targets(&mut self, targets: Targets) {
        self.targets = targets;
    }

    // Events

    /// An event for a client.
    pub(super) fn ready(&mut self, context: &mut Context<Slot>, token: Token, readiness: Readiness) {
        match context.get_mut(token) {
            Some(Slot::Stream(client)) => {
                client.connection.note(readiness);
                if !context.is_queued(token) {
                    self.pump(context, token);
                }
            }
            Some(Slot::Datagrams(_)) => self.receive_datagrams(context, token),
            Some(Slot::Stop(_)) | None => {}
        }
    }

    /// The client goes on with what it left off.
    pub(super) fn resume(&mut self, context: &mut Context<Slot>, token: Token) {
        match context.get(token) {
            Some(Slot::Datagrams(_)) => self.receive_datagrams(context, token),
            _ => self.pump(context, token),
        }
    }

    /// It is time for the client's next message, or its time is up.
    pub(super) fn deadline(&mut self, context: &mut Context<Slot>, token: Token) {
        match context.get(token) {
            Some(Slot::Stream(client)) if client.stream.fault.is_some() => self.mismatch(context, token),
            Some(Slot::Stream(client)) if client.is_ending => drop(self.remove(context, token)),
            _ => self.send(context, token),
        }
    }

    fn pump(&mut self, context: &mut Context<Slot>, token: Token) {
        let now = context.now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, is_ending })) =
            context.get_mut(token)
        else {
            return;
        };
        let mut exchange = Exchange { stream, client, traffic: &mut self.traffic };
        let next = connection.pump(&mut exchange, &mut self.workspace, now);
        let attention = stream.take_attention();
        if *is_ending {
            return self.ending_pumped(context, token, &next);
        }
        // Established and ended may be one event.
        let established = stream.connecting
            && connection.phase() != Phase::Connecting
            && !matches!(next, Next::Close(End::NotConnected(_)));
        if established && connection.transport().is_connected_to_itself() {
            // It would find its own bytes right, and there is nobody.
            return self.ended(context, token, End::NotConnected(ErrorKind::ConnectionRefused.into()));
        }
        if established {
            self.established(context, token);
        }
        match next {
            Next::Close(end) => self.ended(context, token, end),
            Next::Again => context.run_again(token),
            Next::Wait => {}
        }
        if attention {
            self.attend(context, token);
        }
    }

    /// Sees to everything that a stream can't do by itself.
    fn attend(&mut self, context: &mut Context<Slot>, token: Token) {
        let Some(Slot::Stream(client)) = context.get_mut(token) else { return };
        if client.stream.take_greeted() {
            self.ungreeted -= 1;
            self.any_heard = true;
            if client.stream.fault.is_none() {
                return self.send(context, token);
            }
        }
        match &client.stream.fault {
            Some(fault) if fault.is_complete() => self.mismatch(context, token),
            Some(_) => context.set_deadline_no_later_than(token, context.now() + EVIDENCE_TIME),
            None if self.traffic.churn && client.client.pacer.under_way() == 0 => {
                self.next_connection(context, token);
            }
            None => self.set_alarm(context, token),
        }
    }

    // Messages

    /// Sends whatever the client may send now.
    fn send(&mut self, context: &mut Context<Slot>, token: Token) {
        let now = Moment::now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, .. })) = context.get_mut(token)
        else {
            return self.send_datagrams(context, token);
        };
        if stream.connecting {
            return;
        }
        self.staged.clear();
        let bytes = stream.compose(client, &mut self.traffic, now, &mut self.staged);
        let sent = connection
            .send(&self.staged, &mut self.workspace, now)
            .and_then(|()| connection.send(bytes, &mut self.workspace, now));
        match sent {
            Ok(()) => self.set_alarm(context, token),
            Err(error) => self.ended(context, token, End::Reset(error)),
        }
    }

    fn set_alarm(&self, context: &mut Context<Slot>, token: Token) {
        let Some(Slot::Stream(client)) = context.get(token) else { return };
        if let Some(at) = client.client.pacer.wakes_at(&self.traffic.pacing) {
            context.set_deadline(token, at);
        }
    }

    fn send_datagrams(&mut self, context: &mut Context<Slot>, token: Token) {
        let Some(Slot::Datagrams(client)) = context.get_mut(token) else { return };
        match client.send(&mut self.traffic, &mut self.staged) {
            Ok(true) => {
                if let Some(at) = client.wakes_at(&self.traffic) {
                    context.set_deadline(token, at);
                }
            }
            Ok(false) => {}
            Err(error) => self.unreachable(context, token, &error),
        }
    }

    /// Takes what has come, and sends what may leave because of it.
    fn receive_datagrams(&mut self, context: &mut Context<Slot>, token: Token) {
        let mut bytes = 0;
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(Slot::Datagrams(client)) = context.get_mut(token) else { return };
            let received = match client.receive(&mut self.traffic, &mut self.datagram, self.plan.timeout) {
                Ok(Some(received)) => received,
                // There may be room again for what could not be sent.
                Ok(None) => return self.send_datagrams(context, token),
                Err(error) => return self.unreachable(context, token, &error),
            };
            if received.is_first {
                self.any_heard = true;
                self.targets.prove(client.client.pacer.client().into());
            }
            if received.is_back {
                self.refused -= 1;
                self.traffic.figures.open += 1;
                self.traffic.figures.outages.reconnected(context.now());
            }
            if received.is_wrong {
                self.wrong_datagram(context, token, received.length);
            }
            self.send_datagrams(context, token);
            bytes += received.length;
            if bytes >= TURN_BUDGET {
                break;
            }
        }
        // There may be more, and no event will say so.
        context.run_again(token);
    }

    // Connections begin

    /// Begins as many connections as may be begun now.
    pub(super) fn connect(&mut self, context: &mut Context<Slot>) {
        let now = Moment::now();
        while let Some(attempt) = self.queue.take(&self.traffic, now) {
            self.begin(context, attempt);
        }
    }

    /// When the next connection may be begun, if only time is in its way.
    pub(super) fn connects_at(&self) -> Option<Moment> {
        self.queue.wakes_at()
    }

    fn begin(&mut self, context: &mut Context<Slot>, Attempt { mut client, since }: Attempt) {
        let place = self.place(&client);
        client.choice = self.targets.choice(place);
        let Some(target) = self.targets.at(place, client.choice).cloned() else { return };
        self.traffic.figures.attempted += u64::from(since.is_none());
        let now = Moment::now();
        let source = match (&target, &self.plan.sources) {
            (Target::Tcp(address), Some(sources)) => sources.nth(address.is_ipv4(), place),
            (Target::Udp(_), _) => return self.open_datagrams(context, client),
            _ => None,
        };
        let began = since.unwrap_or(now);
        match connect(&target, source) {
            Ok(socket) => {
                if self.plan.reset {
                    // From the beginning, so that it holds whatever ends the connection. Best effort: one that is not
                    // reset is closed.
                    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                }
                let connection = Connection::connecting(socket, now);
                let stream = Stream::new(client.number, self.plan.greeting, &self.traffic, began);
                let slot = Slot::Stream(StreamClient { connection, stream, client, is_ending: false });
                if let Err(error) = context.insert(slot, CONNECTION_INTEREST, Stage::Connections) {
                    self.queue.connect_ended();
                    self.fail(Cause::Local, || format!("cannot watch a connection: {}", describe(&error)));
                }
            }
            Err(error) => self.not_connected(client, began, &target, &error),
        }
    }

    /// Where a client connects to and from: in a churn its connections are dealt out to the endpoints in turn,
    /// otherwise each client stays with its own.
    fn place(&self, client: &Client) -> u64 {
        if self.traffic.churn { client.number } else { client.pacer.client().into() }
    }

    /// The handshake of a connection has ended well.
    fn established(&mut self, context: &mut Context<Slot>, token: Token) {
        let now = Moment::now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, .. })) = context.get_mut(token)
        else {
            return;
        };
        let began = stream.began;
        stream.established(now);
        let is_open = connection.phase() != Phase::Ended;
        // The greeting may be complete in the very same turn.
        let is_ungreeted = stream.is_ungreeted();
        client.was_open = true;
        client.pacer.connected(self.traffic.churn.then_some(began), now);
        if self.plan.usage == Usage::Hold {
            client.pacer.call(&self.traffic.pacing, now);
        }
        if client.is_silent() {
            self.traffic.figures.outages.reconnected(now);
            // With nothing to send, no reply would tell that it is served.
            if is_open && !is_ungreeted && !client.pacer.may_send(&self.traffic.pacing, now) {
                client.recovered(&mut self.traffic, now);
            }
        }
        let place = if self.traffic.churn { client.number } else { client.pacer.client().into() };
        self.ungreeted += u64::from(is_ungreeted);
        self.any_heard |= self.plan.greeting == 0;
        self.traffic.figures.connected(began, now);
        self.targets.prove(place);
        self.queue.connect_ended();
        if is_open {
            self.send(context, token);
        }
    }

    /// A connection could not be established.
    fn not_connected(&mut self, mut client: Client, began: Moment, target: &Target, error: &io::Error) {
        self.queue.connect_ended();
        let now = Moment::now();
        let mut cause = Cause::of(error);
        if Errno::from_io_error(error) == Some(Errno::AGAIN) {
            // A Unix socket with a full backlog. As with TCP, that is a matter of waiting.
            if now.since(began) < self.plan.connect_timeout && self.course != Course::Ending {
                return self.queue.go_on(client, now + BACKLOG_RETRY, began);
            }
            cause = Cause::Timeout;
        }
        // Once the last message has left, a client of a churn needs no connection any more.
        let is_needless = self.traffic.churn && self.traffic.pacing.budget() == 0;
        let place = self.place(&client);
        if cause == Cause::Refused && !is_needless && self.targets.try_next(place, target) {
            return self.queue.go_on(client, now, began);
        }
        let is_first = client.tries == 0 && !client.is_silent();
        if is_first {
            self.fail(cause, || format!("cannot connect to {target}: {}{}", describe(error), remedy(error)));
        } else {
            self.traffic.figures.outages.failed_reconnects += 1;
        }
        if cause == Cause::Local && is_first && !self.traffic.churn {
            if !self.ceiling.others_may_have_ports(error) {
                // The next one would not find more ports or descriptors, and looking for them is slow.
                self.queue.give_fresh_up();
            }
            return self.queue.give_up(client);
        }
        if client.was_open && client.silenced(now) {
            self.traffic.figures.outages.lost(cause, now, now);
        }
        self.connect_again(client, !is_needless);
    }

    /// The client needs another connection, if it gets one.
    fn connect_again(&mut self, mut client: Client, is_needed: bool) {
        let may = self.plan.reconnect.is_some() || self.traffic.churn;
        if !may || !is_needed || self.course == Course::Ending {
            return self.queue.give_up(client);
        }
        let at = self.queue.again_at(client.tries, Moment::now());
        client.tries = client.tries.saturating_add(1);
        client.pacer.connected(None, at);
        if self.course == Course::Opening && !self.traffic.churn {
            self.queue.hold_back(client, at);
        } else {
            self.queue.push(client, at);
        }
    }

    /// A churning client ends its connection and wants the next one.
    fn next_connection(&mut self, context: &mut Context<Slot>, token: Token) {
        let Some(client) = self.release(context, token) else { return };
        let at = client.pacer.wakes_at(&self.traffic.pacing).unwrap_or_else(Moment::now);
        // Also if that is after the end: then there is no connection any more.
        let at = if self.traffic.pacing.is_scheduled() { client.pacer.due() } else { at };
        if self.traffic.pacing.budget() == 0 {
            self.queue.give_up(client);
        } else {
            self.queue.push(client, at);
        }
    }

    /// Takes the client off its connection, which lives on until the peer has ended it too.
    fn release(&mut self, context: &mut Context<Slot>, token: Token) -> Option<Client> {
        let most = MOST_ENDING * self.plan.clients.max(self.plan.connecting);
        if self.plan.reset || self.ending >= most {
            return self.remove(context, token);
        }
        let now = context.now();
        let Some(Slot::Stream(StreamClient { connection, client, is_ending, .. })) = context.get_mut(token)
        else {
            return None;
        };
        *is_ending = true;
        self.ending += 1;
        self.traffic.figures.open -= 1;
        let blank = Client::new(client.pacer.client(), &self.traffic.pacing, 0, now);
        let client = std::mem::replace(client, blank);
        connection.half_close(&mut self.workspace);
        context.set_deadline(token, now + END_TIME);
        context.run_again(token);
        Some(client)
    }

    /// A connection that only awaits its peer's end was pumped.
    fn ending_pumped(&mut self, context: &mut Context<Slot>, token: Token, next: &Next) {
        let Some(Slot::Stream(client)) = context.get(token) else { return };
        let is_over = matches!(next, Next::Close(_));
        match &client.stream.fault {
            Some(fault) if is_over || fault.is_complete() => self.mismatch(context, token),
            Some(_) => context.set_deadline_no_later_than(token, context.now() + EVIDENCE_TIME),
            None if is_over => drop(self.remove(context, token)),
            None if matches!(next, Next::Again) => context.run_again(token),
            None => {}
        }
    }

    /// A datagram socket is there at once: nothing is sent for it.
    fn open_datagrams(&mut self, context: &mut Context<Slot>, mut client: Client) {
        self.queue.connect_ended();
        client.was_open = true;
        if self.insert_datagrams(context, client).is_some() {
            self.traffic.figures.opened += 1;
            self.traffic.figures.open += 1;
        }
    }

    /// A socket to the address that the endpoint has now, or to the next one to which there is a way.
    fn insert_datagrams(&mut self, context: &mut Context<Slot>, client: Client) -> Option<Token> {
        let place = u64::from(client.pacer.client());
        let (socket, peer) = loop {
            let Some(&Target::Udp(peer)) = self.targets.of(place) else { return None };
            let sources = self.plan.sources.as_ref();
            let source = sources.and_then(|sources| sources.nth(peer.is_ipv4(), place));
            match ConnectedDatagramSocket::connect(peer, source) {
                Ok(socket) => break (socket, peer),
                Err(error) if !is_want(&error) && self.targets.try_next(place, &Target::Udp(peer)) => {}
                Err(error) => {
                    self.fail(Cause::of(&error), || cannot_send(peer, &error, ""));
                    self.queue.give_up(client);
                    return None;
                }
            }
        };
        let client = Slot::Datagrams(DatagramClient::new(socket, client, self.plan.clients));
        let interest = Interest::READABLE | Interest::WRITABLE;
        match context.insert(client, interest, Stage::Connections) {
            Ok(token) => Some(token),
            Err(error) => {
                self.fail(Cause::Local, || cannot_send(peer, &error, ""));
                None
            }
        }
    }

    // Connections end

    /// A connection has ended, and not because we wanted it to.
    fn ended(&mut self, context: &mut Context<Slot>, token: Token, end: End) {
        let Some(Slot::Stream(StreamClient { stream, client, .. })) = context.get(token) else { return };
        let missing = stream.missing(self.traffic.replies);
        let (number, now) = (client.number, context.now());
        let (began, is_done) = (stream.began, stream.is_done());
        match end {
            End::NotConnected(error) => {
                // Others may have chosen another address since it began.
                let target = self.targets.at(self.place(client), client.choice).cloned();
                let client = self.remove(context, token);
                if let (Some(client), Some(target)) = (client, target) {
                    self.not_connected(client, began, &target, &error);
                }
            }
            _ if stream.fault.is_some() => self.mismatch(context, token),
            End::Finished | End::Lingered if self.course == Course::Ending && is_done => {
                if let Some(client) = self.remove(context, token) {
                    self.queue.give_up(client);
                }
            }
            End::Finished | End::Lingered => self.lose(context, token, Cause::Closed, now, || {
                format!("connection {number}: the server closed it with {missing} still to come")
            }),
            End::Reset(error) => {
                let cause = match Cause::of(&error) {
                    Cause::Refused => Cause::Reset,
                    cause => cause,
                };
                self.lose(context, token, cause, now, || {
                    format!("connection {number}: {} with {missing} still to come", describe(&error))
                });
            }
        }
    }

    /// Other bytes came than were sent: the connection is of no use any more.
    fn mismatch(&mut self, context: &mut Context<Slot>, token: Token) {
        let Some(Slot::Stream(client)) = context.get(token) else { return };
        let Some(fault) = &client.stream.fault else { return };
        let figures = &mut self.traffic.figures;
        let described =
            (figures.mismatches.len() < MOST_DESCRIBED).then(|| fault.judge(&self.traffic.pattern));
        let words = figures.keep_mismatch(fault.connection(), described);
        let now = context.now();
        self.lose(context, token, Cause::Mismatch, now, || words);
    }

    /// Counts a datagram with other bytes than were sent, and describes the first few.
    #[cold]
    fn wrong_datagram(&mut self, context: &Context<Slot>, token: Token, length: usize) {
        let Some(Slot::Datagrams(client)) = context.get(token) else { return };
        let described = (self.traffic.figures.mismatches.len() < MOST_DESCRIBED)
            .then(|| client.describe_mismatch(&self.traffic, &self.datagram[..length]));
        let words = self.traffic.figures.keep_mismatch(client.client.number, described);
        self.fail(Cause::Mismatch, || words);
    }

    /// Gives up connections whose handshake or reply takes too long.
    pub(super) fn sweep(&mut self, context: &mut Context<Slot>, now: Moment) {
        if self.plan.is_over_udp() {
            return self.sweep_datagrams(context, now);
        }
        let (connecting, reply) = (self.plan.connect_timeout, self.plan.timeout);
        let is_late = |client: &StreamClient| {
            let stream = &client.stream;
            if stream.connecting {
                stream.began + connecting <= now
            } else {
                stream.fault.is_none() && stream.waiting_since().is_some_and(|since| since + reply <= now)
            }
        };
        let is_late =
            |token: &Token| matches!(context.get(*token), Some(Slot::Stream(client)) if is_late(client));
        let late: Vec<Token> = context.tokens().filter(is_late).collect();
        for token in late {
            let Some(Slot::Stream(StreamClient { stream, client, .. })) = context.get(token) else {
                continue;
            };
            let (number, missing) = (client.number, stream.missing(self.traffic.replies));
            match stream.waiting_since() {
                Some(since) if !stream.connecting => {
                    let is_greeting = stream.missing_greeting().is_some();
                    let cause = if is_greeting { Cause::Greeting } else { Cause::Timeout };
                    self.lose(context, token, cause, since, || {
                        format!("connection {number}: {missing} did not come within {reply:?}")
                    });
                }
                _ => self.ended(context, token, End::NotConnected(ErrorKind::TimedOut.into())),
            }
        }
    }

    /// Gives up messages whose answer takes too long.
    fn sweep_datagrams(&mut self, context: &mut Context<Slot>, now: Moment) {
        let sent_until = now - self.plan.timeout;
        for token in self.tokens(context) {
            let Some(Slot::Datagrams(client)) = context.get_mut(token) else { continue };
            if client.give_up(&mut self.traffic, sent_until, now) {
                self.send_datagrams(context, token);
            }
        }
    }

    /// An established connection is lost. Its client has heard nothing since `silent_since`.
    fn lose(
        &mut self,
        context: &mut Context<Slot>,
        token: Token,
        cause: Cause,
        silent_since: Moment,
        words: impl FnOnce() -> String,
    ) {
        let Some(Slot::Stream(StreamClient { client, is_ending, .. })) = context.get(token) else { return };
        let was_ending = *is_ending;
        if client.is_silent() && cause != Cause::Mismatch {
            // It was lost before, and has not been served since.
            self.traffic.figures.outages.failed_reconnects += 1;
        } else {
            self.fail(cause, words);
        }
        self.traffic.figures.lost += 1;
        let Some(mut client) = self.remove(context, token) else { return };
        if was_ending {
            return;
        }
        if self.traffic.churn && cause == Cause::Mismatch {
            return self.connect_again(client, true);
        }
        if cause == Cause::Mismatch || self.course == Course::Ending {
            return self.queue.give_up(client);
        }
        if self.course == Course::Flowing && client.silenced(silent_since) {
            self.traffic.figures.outages.lost(cause, silent_since, Moment::now());
        }
        self.connect_again(client, self.traffic.pacing.budget() > 0);
    }

    /// Closes a connection and gives its client back.
    fn remove(&mut self, context: &mut Context<Slot>, token: Token) -> Option<Client> {
        let now = context.now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, is_ending })) =
            context.get_mut(token)
        else {
            return None;
        };
        connection.abandon(&mut self.workspace);
        let blank = Client::new(client.pacer.client(), &self.traffic.pacing, 0, now);
        let mut client = std::mem::replace(client, blank);
        client.pacer.cut_off(&mut self.traffic.pacing);
        if *is_ending {
            self.ending -= 1;
        } else if !stream.connecting {
            self.traffic.figures.open -= 1;
            self.ungreeted -= u64::from(stream.is_ungreeted());
        }
        context.remove(token);
        Some(client)
    }

    /// The socket can't be used, or its peer's machine says that nobody receives there.
    fn unreachable(&mut self, context: &mut Context<Slot>, token: Token, error: &io::Error) {
        let Some(Slot::Datagrams(client)) = context.get_mut(token) else { return };
        let now = Moment::now();
        let peer = client.socket().peer();
        let place = u64::from(client.client.pacer.client());
        let is_refusal = error.kind() == ErrorKind::ConnectionRefused;
        if is_refusal && !client.was_heard() && self.targets.try_next(place, &Target::Udp(peer)) {
            return self.try_other_address(context, token);
        }
        let (cause, was_refused) = (Cause::of(error), client.is_refused());
        if is_refusal && self.plan.reconnect.is_some() && self.course != Course::Ending {
            let until = self.queue.again_at(client.client.tries, now);
            client.client.tries = client.client.tries.saturating_add(1);
            client.refused(&mut self.traffic, until);
            if client.was_heard() && client.client.silenced(now) {
                self.traffic.figures.outages.lost(cause, now, now);
            }
            if let Some(at) = client.wakes_at(&self.traffic) {
                context.set_deadline(token, at);
            }
        } else {
            let mut gone = Client::new(client.client.pacer.client(), &self.traffic.pacing, 0, now);
            std::mem::swap(&mut gone, &mut client.client);
            gone.pacer.cut_off(&mut self.traffic.pacing);
            self.queue.give_up(gone);
            self.refused -= usize::from(was_refused);
            context.remove(token);
        }
        if was_refused {
            self.traffic.figures.outages.failed_reconnects += 1;
            return;
        }
        self.refused += usize::from(context.get(token).is_some());
        self.traffic.figures.open -= 1;
        self.traffic.figures.lost += 1;
        let why = if is_refusal { " (nobody receives on that port, its machine says)" } else { "" };
        self.fail(cause, || cannot_send(peer, error, why));
    }

    /// The name has another address: messages to this one went to nobody, and others are sent instead.
    fn try_other_address(&mut self, context: &mut Context<Slot>, token: Token) {
        let now = context.now();
        let Some(Slot::Datagrams(datagrams)) = context.get_mut(token) else { return };
        datagrams.take_back(&mut self.traffic, self.plan.messages.is_none());
        let mut client = Client::new(datagrams.client.pacer.client(), &self.traffic.pacing, 0, now);
        std::mem::swap(&mut client, &mut datagrams.client);
        context.remove(token);
        match self.insert_datagrams(context, client) {
            Some(token) => self.send_datagrams(context, token),
            None => self.traffic.figures.open -= 1,
        }
    }

    /// Counts a failure, and keeps the words for the first few.
    fn fail(&mut self, cause: Cause, describe: impl FnOnce() -> String) {
        let figures = &mut self.traffic.figures;
        figures.failed(cause, Moment::now());
        let kept = figures.failures.len() < MOST_DESCRIBED;
        if kept || log::log_enabled!(log::Level::Debug) {
            let description = describe();
            log::debug!("{description}");
            if kept && !figures.failures.contains(&description) {
                figures.failures.push(description);
            }
        }
    }

    // The run as a whole

    /// Whether each client has its first connection and greeting, or has failed to get them.
    pub(super) fn all_have_connected(&self) -> bool {
        self.queue.all_have_tried() && self.ungreeted == 0
    }

    /// Whether no client has a connection or will get one. A client that never found anybody does not wait for
    /// somebody to come.
    pub(super) fn nobody_is_left(&self) -> bool {
        let is_awaited = self.any_heard && self.refused > 0;
        self.traffic.figures.open == 0 && self.queue.is_empty() && !is_awaited
    }

    /// How many connects are under way.
    pub(super) fn connecting(&self) -> usize {
        self.queue.connecting()
    }

    /// All clients that were given up want a connection again.
    pub(super) fn reopen(&mut self) {
        self.course = Course::Opening;
        self.queue.revive();
    }

    /// Messages flow from now on; in an open loop this is when the schedule begins.
    pub(super) fn start(&mut self, context: &mut Context<Slot>, now: Moment) {
        self.course = Course::Flowing;
        if !self.any_heard && !self.traffic.churn && !self.plan.is_over_udp() {
            // Nobody is there.
            self.queue.give_all_up();
        }
        self.queue.release();
        let Traffic { pacing, seed, .. } = &mut self.traffic;
        pacing.begin(now);
        for_each_client(context, |client| client.pacer.reschedule(pacing, *seed));
        self.queue.for_each(|client| client.pacer.reschedule(pacing, *seed));
        if self.traffic.churn {
            self.queue.await_first_messages(&self.traffic, now);
        }
    }

    /// The measured part begins: messages that were due before it and have not left do not leave.
    pub(super) fn skip_backlog(&mut self, context: &mut Context<Slot>, now: Moment) {
        let pacing = &self.traffic.pacing;
        for_each_client(context, |client| client.pacer.skip_to(now, pacing));
        self.queue.for_each(|client| client.pacer.skip_to(now, pacing));
    }

    /// Everyone sends what may be sent now.
    pub(super) fn send_all(&mut self, context: &mut Context<Slot>) {
        for token in self.tokens(context) {
            self.send(context, token);
        }
    }

    /// Everyone may send once more, if messages leave on call.
    pub(super) fn call_all(&mut self, context: &mut Context<Slot>, now: Moment) {
        let pacing = &self.traffic.pacing;
        for_each_client(context, |client| client.pacer.call(pacing, now));
        self.send_all(context);
    }

    /// Nothing that was sent so far counts.
    pub(super) fn forget_messages(&mut self, context: &mut Context<Slot>) {
        self.traffic.figures.forget_messages();
        self.queue.for_each(Client::forget);
        for token in self.tokens(context) {
            match context.get_mut(token) {
                Some(Slot::Stream(client)) => client.client.forget(),
                // An answer to what was lost before may still come.
                Some(Slot::Datagrams(client)) => client.forget_messages(),
                Some(Slot::Stop(_)) | None => {}
            }
        }
    }

    /// Nothing new is begun. Whatever was due until `end` and has not left is not sent.
    pub(super) fn wind_down(&mut self, context: &Context<Slot>, end: Moment) {
        self.course = Course::Ending;
        self.queue.give_all_up();
        let Traffic { pacing, figures, .. } = &mut self.traffic;
        figures.outages.finish(end);
        if self.plan.messages.is_none() {
            let owed = |client: &Client| client.pacer.owed(pacing, figures.from, end);
            figures.not_sent += clients(context).chain(self.queue.clients()).map(owed).sum::<u64>();
        }
    }

    /// The figures are complete: no more evidence is awaited, and all clients are counted. Returns the last interval, if
    /// replies came after the measured part.
    pub(super) fn settle(&mut self, context: &mut Context<Slot>) -> Option<Point> {
        self.queue.give_all_up();
        for token in self.tokens(context) {
            if matches!(context.get(token), Some(Slot::Stream(client)) if client.stream.fault.is_some()) {
                self.mismatch(context, token);
            }
        }
        let figures = &mut self.traffic.figures;
        let last = figures.settle();
        for client in clients(context).chain(self.queue.clients()).filter(|client| client.was_open) {
            figures.fairness.add(client.completed);
        }
        last
    }

    /// Ends all connections and awaits the peers' ends. True if there is anything to await.
    pub(super) fn end_all(&mut self, context: &mut Context<Slot>) -> bool {
        for token in context.tokens().collect::<Vec<_>>() {
            match context.get(token) {
                Some(Slot::Stream(client)) if client.is_ending => {}
                Some(Slot::Stream(client)) if client.stream.connecting => drop(self.remove(context, token)),
                Some(Slot::Stream(_)) => drop(self.release(context, token)),
                Some(Slot::Datagrams(_) | Slot::Stop(_)) | None => {}
            }
        }
        self.ending > 0
    }

    /// Connections that only await their peer's end.
    pub(super) fn ending(&self) -> usize {
        self.ending
    }

    /// All clients that have a connection.
    fn tokens(&self, context: &Context<Slot>) -> Vec<Token> {
        let is_open = |token: &Token| match context.get(*token) {
            Some(Slot::Stream(client)) => !client.stream.connecting && !client.is_ending,
            Some(Slot::Datagrams(_)) => true,
            Some(Slot::Stop(_)) | None => false,
        };
        context.tokens().filter(is_open).collect()
    }
}

/// The clients in the reactor: all but those without a connection.
fn clients(context: &Context<Slot>) -> impl Iterator<Item = &Client> {
    context.tokens().filter_map(|token| match context.get(token)? {
        Slot::Stream(client) => (!client.is_ending).then_some(&client.client),
        Slot::Datagrams(client) => Some(&client.client),
        Slot::Stop(_) => None,
    })
}

fn for_each_client(context: &mut Context<Slot>, mut change: impl FnMut(&mut Client)) {
    for token in context.tokens().collect::<Vec<_>>() {
        match context.get_mut(token) {
            Some(Slot::Stream(client)) => change(&mut client.client),
            Some(Slot::Datagrams(client)) => change(&mut client.client),
            Some(Slot::Stop(_)) | None => {}
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

#[cfg(test)]
mod tests;
