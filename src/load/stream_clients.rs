//! The clients over TCP and Unix streams: they converse over their connections, end them, and lose them.

use std::io::ErrorKind;
use std::time::Duration;

use super::cause::Cause;
use super::client::Client;
use super::exchange::Exchange;
use super::figures::MOST_DESCRIBED;
use super::plan::Usage;
use super::slot::{Slot, StreamClient, stream};
use super::stream::Stream;
use super::surroundings::Surroundings;
use super::traffic::READ_SIZE;
use crate::net::{CONNECTION_INTEREST, Connection, End, Limits, Next, Phase, Socket, Workspace};
use crate::reactor::{Moment, Readiness, Stage, Token};
use crate::system::describe;

/// How many bytes a connection may move before the others have their turn.
const TURN_BUDGET: usize = 256 * 1024;
/// How long a client waits for more bytes that show the kind of a difference.
const EVIDENCE_TIME: Duration = Duration::from_millis(100);
/// How long the run waits for a peer's end after our own, to find bytes behind the last reply.
pub(super) const END_TIME: Duration = Duration::from_secs(1);
/// The most connections of a churn that await their peer's end, as a multiple of its clients. Beyond that they are
/// closed at once: a peer that never ends must not take all descriptors.
const MOST_ENDING: usize = 4;

/// The clients with a connection.
pub(super) struct StreamClients {
    workspace: Workspace,
    /// Bytes of messages that do not fit into one piece; empty nearly always.
    staged: Vec<u8>,
    /// Connections that were established and wait for their greeting.
    ungreeted: u64,
    /// Connections that only await their peer's end.
    ending: usize,
}

impl StreamClients {
    pub(super) fn new() -> StreamClients {
        let workspace = Workspace::new(Limits {
            read_size: READ_SIZE,
            // Replies are always read, whatever is unsent: a generator that stopped reading while it has something to
            // send, against a server that does the same, would stop both for ever.
            write_limit: usize::MAX,
            turn_budget: TURN_BUDGET,
        });
        StreamClients { workspace, staged: Vec::new(), ungreeted: 0, ending: 0 }
    }

    /// Connections that wait for their greeting.
    pub(super) fn ungreeted(&self) -> u64 {
        self.ungreeted
    }

    /// Connections that only await their peer's end.
    pub(super) fn ending(&self) -> usize {
        self.ending
    }

    // Events

    /// Adds a client whose connect is under way.
    pub(super) fn add(
        &mut self,
        around: &mut Surroundings<'_>,
        client: Client,
        socket: Socket,
        began: Moment,
    ) {
        let connection = Connection::connecting(socket, Moment::now());
        let stream = Stream::new(client.number, around.dialler.plan.greeting, around.traffic, began);
        let slot = Slot::Stream(StreamClient { connection, stream, client, is_ending: false });
        if let Err(error) = around.context.insert(slot, CONNECTION_INTEREST, Stage::Connections) {
            around.dialler.queue.ramp.ended();
            let words = || format!("cannot watch a connection: {}", describe(&error));
            around.traffic.figures.fail(Cause::Local, words);
        }
    }

    /// Hands an event to the client's connection.
    pub(super) fn ready(&mut self, around: &mut Surroundings<'_>, token: Token, readiness: Readiness) {
        let Some(client) = stream(around.context, token) else { return };
        client.connection.note(readiness);
        if !around.context.is_queued(token) {
            self.pump(around, token);
        }
    }

    /// Handles the client's deadline: its next message is due, or its time is up.
    pub(super) fn deadline(&mut self, around: &mut Surroundings<'_>, token: Token) {
        match around.context.get(token) {
            Some(Slot::Stream(client)) if client.stream.fault.is_some() => self.mismatch(around, token),
            Some(Slot::Stream(client)) if client.is_ending => drop(self.remove(around, token)),
            _ => self.send(around, token),
        }
    }

    /// Moves what can be moved over the connection, and handles the result.
    pub(super) fn pump(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let now = around.context.now();
        let Some(StreamClient { connection, stream, client, is_ending }) = stream(around.context, token)
        else {
            return;
        };
        let mut exchange = Exchange { stream, client, traffic: around.traffic };
        let next = connection.pump(&mut exchange, &mut self.workspace, now);
        let attention = stream.take_attention();
        if *is_ending {
            return self.ending_pumped(around, token, &next);
        }
        // One event may report both the beginning and the end of a connection.
        let established = stream.connecting
            && connection.phase() != Phase::Connecting
            && !matches!(next, Next::Close(End::NotConnected(_)));
        if established && connection.transport().is_connected_to_itself() {
            // The client would find its own bytes right, and no server is there.
            return self.ended(around, token, End::NotConnected(ErrorKind::ConnectionRefused.into()));
        }
        if established {
            self.established(around, token);
        }
        match next {
            Next::Close(end) => self.ended(around, token, end),
            Next::Again => around.context.run_again(token),
            Next::Wait => {}
        }
        if attention {
            self.attend(around, token);
        }
    }

    /// Does everything that a stream can't do by itself.
    fn attend(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let Some(client) = stream(around.context, token) else { return };
        if client.stream.take_greeted() {
            self.ungreeted -= 1;
            around.dialler.heard();
            if client.stream.fault.is_none() {
                return self.send(around, token);
            }
        }
        match &client.stream.fault {
            Some(fault) if fault.is_complete() => self.mismatch(around, token),
            Some(_) => around.context.set_deadline_no_later_than(token, around.context.now() + EVIDENCE_TIME),
            None if around.traffic.churn && client.client.pacer.under_way() == 0 => {
                if let Some(client) = self.release(around, token) {
                    around.dialler.connect_for_next(around.traffic, client);
                }
            }
            None => around.set_alarm(token),
        }
    }

    /// Sends all messages that the client may send now.
    pub(super) fn send(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let now = Moment::now();
        let Some(StreamClient { connection, stream, client, .. }) = stream(around.context, token) else {
            return;
        };
        if stream.connecting {
            return;
        }
        self.staged.clear();
        let bytes = stream.compose(client, around.traffic, now, &mut self.staged);
        let sent = connection
            .send(&self.staged, &mut self.workspace, now)
            .and_then(|()| connection.send(bytes, &mut self.workspace, now));
        match sent {
            Ok(()) => around.set_alarm(token),
            Err(error) => self.ended(around, token, error.into()),
        }
    }

    /// Handles a connection whose handshake has ended well.
    fn established(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let now = Moment::now();
        let Some(StreamClient { connection, stream, client, .. }) = stream(around.context, token) else {
            return;
        };
        let (traffic, dialler) = (&mut *around.traffic, &mut *around.dialler);
        let began = stream.began;
        stream.established(now);
        let is_open = connection.phase() != Phase::Ended;
        // The greeting may be complete in the very same turn.
        let is_ungreeted = stream.is_ungreeted();
        client.was_open = true;
        client.pacer.connected(traffic.churn.then_some(began), now);
        if dialler.plan.usage == Usage::Hold {
            client.pacer.call(&traffic.pacing, now);
        }
        if client.is_silent() {
            traffic.figures.outages.reconnected(now);
            // With nothing to send, no reply would show that the client is served again.
            if is_open && !is_ungreeted && !client.pacer.may_send(&traffic.pacing, now) {
                client.recovered(traffic, now);
            }
        }
        self.ungreeted += u64::from(is_ungreeted);
        traffic.figures.connected(began, now);
        dialler.connected(client, traffic);
        if is_open {
            self.send(around, token);
        }
    }

    // Ends

    /// Takes the client off its connection, which lives on until the peer has ended it too.
    fn release(&mut self, around: &mut Surroundings<'_>, token: Token) -> Option<Client> {
        let plan = &around.dialler.plan;
        let most = MOST_ENDING * plan.clients.max(plan.connecting);
        if plan.reset || self.ending >= most {
            return self.remove(around, token);
        }
        let now = around.context.now();
        let StreamClient { connection, client, is_ending, .. } = stream(around.context, token)?;
        *is_ending = true;
        self.ending += 1;
        around.traffic.figures.open -= 1;
        let client = client.take(&mut around.traffic.pacing, now);
        connection.half_close(&mut self.workspace);
        around.context.set_deadline(token, now + END_TIME);
        around.context.run_again(token);
        Some(client)
    }

    /// Handles a pumped connection that only awaits its peer's end.
    fn ending_pumped(&mut self, around: &mut Surroundings<'_>, token: Token, next: &Next) {
        let Some(client) = stream(around.context, token) else { return };
        let is_over = matches!(next, Next::Close(_));
        match &client.stream.fault {
            Some(fault) if is_over || fault.is_complete() => self.mismatch(around, token),
            Some(_) => around.context.set_deadline_no_later_than(token, around.context.now() + EVIDENCE_TIME),
            None if is_over => drop(self.remove(around, token)),
            None if matches!(next, Next::Again) => around.context.run_again(token),
            None => {}
        }
    }

    /// Handles the end of a connection that we did not end.
    fn ended(&mut self, around: &mut Surroundings<'_>, token: Token, end: End) {
        let now = around.context.now();
        let Some(StreamClient { stream, client, .. }) = stream(around.context, token) else { return };
        let (number, missing) = (client.number, stream.missing(around.traffic.replies));
        let (began, is_done) = (stream.began, stream.is_done());
        let is_exchanged = around.traffic.churn && stream.is_replied_to();
        match end {
            End::NotConnected(error) => {
                if let Some(client) = self.remove(around, token) {
                    around.dialler.not_connected(around.traffic, client, began, &error);
                }
            }
            _ if stream.fault.is_some() => self.mismatch(around, token),
            // Many servers end the connection themselves, together with their reply.
            _ if is_exchanged => {
                if let Some(client) = self.remove(around, token) {
                    around.dialler.connect_for_next(around.traffic, client);
                }
            }
            End::Finished | End::Lingered if around.dialler.is_ending() && is_done => {
                if let Some(client) = self.remove(around, token) {
                    around.dialler.queue.give_up(client);
                }
            }
            End::Finished | End::Lingered => self.lose(around, token, Cause::Closed, now, || {
                format!("connection {number}: the server closed it with {missing} still to come")
            }),
            End::Reset(error) | End::NoMemory(error) => {
                let cause = match Cause::of(&error) {
                    Cause::Refused => Cause::Reset,
                    cause => cause,
                };
                self.lose(around, token, cause, now, || {
                    format!("connection {number}: {} with {missing} still to come", describe(&error))
                });
            }
        }
    }

    /// Handles a difference: the connection is of no use any more.
    fn mismatch(&mut self, around: &mut Surroundings<'_>, token: Token) {
        let Some(client) = stream(around.context, token) else { return };
        let Some(fault) = &client.stream.fault else { return };
        let figures = &mut around.traffic.figures;
        let described =
            (figures.mismatches.len() < MOST_DESCRIBED).then(|| fault.judge(&around.traffic.pattern));
        let words = figures.keep_mismatch(fault.connection(), described);
        let now = around.context.now();
        self.lose(around, token, Cause::Mismatch, now, || words);
    }

    /// Gives up connections whose handshake or reply takes too long.
    pub(super) fn sweep(&mut self, around: &mut Surroundings<'_>, now: Moment) {
        let plan = &around.dialler.plan;
        let (connecting, reply) = (plan.connect_timeout, plan.timeout);
        let is_late = |client: &StreamClient| {
            let stream = &client.stream;
            if stream.connecting {
                stream.began + connecting <= now
            } else {
                stream.fault.is_none() && stream.waiting_since().is_some_and(|since| since + reply <= now)
            }
        };
        let is_late = |around: &Surroundings<'_>, token: Token| match around.context.get(token) {
            Some(Slot::Stream(client)) => is_late(client),
            _ => false,
        };
        let late: Vec<Token> = around.context.tokens().filter(|token| is_late(around, *token)).collect();
        for token in late {
            // A reply may have arrived while this process was stopped, and its event may be still to come.
            if let Some(Slot::Stream(client)) = around.context.get_mut(token) {
                client.connection.note(Readiness::READABLE | Readiness::WRITABLE);
                self.pump(around, token);
            }
            if !is_late(around, token) || around.context.is_queued(token) {
                continue;
            }
            let Some(Slot::Stream(StreamClient { stream, client, .. })) = around.context.get(token) else {
                continue;
            };
            let (number, missing) = (client.number, stream.missing(around.traffic.replies));
            match stream.waiting_since() {
                Some(since) if !stream.connecting => {
                    let is_greeting = stream.missing_greeting().is_some();
                    let cause = if is_greeting { Cause::Greeting } else { Cause::Timeout };
                    self.lose(around, token, cause, since, || {
                        format!("connection {number}: {missing} did not come within {reply:?}")
                    });
                }
                _ => self.ended(around, token, End::NotConnected(ErrorKind::TimedOut.into())),
            }
        }
    }

    /// Handles the loss of an established connection. Its client has heard nothing since `silent_since`.
    fn lose(
        &mut self,
        around: &mut Surroundings<'_>,
        token: Token,
        cause: Cause,
        silent_since: Moment,
        words: impl FnOnce() -> String,
    ) {
        let Some(StreamClient { client, is_ending, .. }) = stream(around.context, token) else { return };
        let was_ending = *is_ending;
        let figures = &mut around.traffic.figures;
        if client.is_silent() && cause != Cause::Mismatch {
            // The client lost its connection before, and has not been served since.
            figures.outages.reconnect_failed();
        } else {
            figures.fail(cause, words);
        }
        figures.connections.lost += 1;
        let Some(mut client) = self.remove(around, token) else { return };
        if was_ending {
            return;
        }
        if around.traffic.churn && cause == Cause::Mismatch {
            return around.dialler.connect_again(around.traffic, client, true);
        }
        if cause == Cause::Mismatch || around.dialler.is_ending() {
            return around.dialler.queue.give_up(client);
        }
        if around.dialler.is_flowing() && client.silenced(silent_since) {
            around.traffic.figures.outages.lost(cause, silent_since, Moment::now());
        }
        let is_needed = around.traffic.pacing.budget() > 0;
        around.dialler.connect_again(around.traffic, client, is_needed);
    }

    /// Closes a connection and gives its client back.
    fn remove(&mut self, around: &mut Surroundings<'_>, token: Token) -> Option<Client> {
        let now = around.context.now();
        let StreamClient { connection, stream, client, is_ending } = stream(around.context, token)?;
        connection.abandon(&mut self.workspace);
        let client = client.take(&mut around.traffic.pacing, now);
        if *is_ending {
            self.ending -= 1;
        } else if !stream.connecting {
            around.traffic.figures.open -= 1;
            self.ungreeted -= u64::from(stream.is_ungreeted());
        }
        around.context.remove(token);
        Some(client)
    }

    /// Judges all differences that still collect evidence.
    pub(super) fn settle(&mut self, around: &mut Surroundings<'_>) {
        let is_faulty = |token: &Token| {
            matches!(around.context.get(*token), Some(Slot::Stream(client))
                if client.stream.fault.is_some() && !client.stream.connecting && !client.is_ending)
        };
        let faulty: Vec<Token> = around.context.tokens().filter(is_faulty).collect();
        for token in faulty {
            self.mismatch(around, token);
        }
    }

    /// Ends all connections. True if there is any peer's end to await.
    pub(super) fn end_all(&mut self, around: &mut Surroundings<'_>) -> bool {
        for token in around.context.tokens().collect::<Vec<_>>() {
            match around.context.get(token) {
                Some(Slot::Stream(client)) if client.is_ending => {}
                Some(Slot::Stream(client)) if client.stream.connecting => drop(self.remove(around, token)),
                Some(Slot::Stream(_)) => drop(self.release(around, token)),
                Some(Slot::Datagrams(_) | Slot::Stop(_)) | None => {}
            }
        }
        self.ending > 0
    }
}
