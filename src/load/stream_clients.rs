//! The clients over TCP and Unix streams: they converse over their connections, end them, and lose them.

use std::io::ErrorKind;
use std::time::Duration;

use super::cause::Cause;
use super::client::Client;
use super::common::Common;
use super::figures::MOST_DESCRIBED;
use super::plan::Usage;
use super::replies::Replies;
use super::slot::{Slot, StreamClient};
use super::stream::{Exchange, Stream};
use super::traffic::READ_SIZE;
use crate::net::{CONNECTION_INTEREST, Connection, End, Limits, Next, Phase, Socket, Workspace};
use crate::reactor::{Moment, Readiness, Stage, Token};
use crate::system::describe;

/// How many bytes a connection may move before the others have their turn.
const TURN_BUDGET: usize = 256 * 1024;
/// How long more bytes are awaited that show the kind of a difference.
const EVIDENCE_TIME: Duration = Duration::from_millis(100);
/// How long a peer has to end after we have, so that bytes behind the last reply are found.
pub(super) const END_TIME: Duration = Duration::from_secs(1);
/// The most connections of a churn that await their peer's end, as a multiple of its clients. Beyond that they are
/// closed at once: a peer that never ends must not take all descriptors.
const MOST_ENDING: usize = 4;

/// The clients with a connection.
pub(super) struct StreamClients {
    workspace: Workspace,
    /// Bytes of messages that do not go in one piece; empty nearly always.
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

    /// The client's connect is under way.
    pub(super) fn add(&mut self, common: &mut Common<'_>, client: Client, socket: Socket, began: Moment) {
        let connection = Connection::connecting(socket, Moment::now());
        let stream = Stream::new(client.number, common.dialler.plan().greeting, common.traffic, began);
        let slot = Slot::Stream(StreamClient { connection, stream, client, is_ending: false });
        if let Err(error) = common.context.insert(slot, CONNECTION_INTEREST, Stage::Connections) {
            common.dialler.queue().connect_ended();
            let words = || format!("cannot watch a connection: {}", describe(&error));
            common.traffic.figures.fail(Cause::Local, words);
        }
    }

    /// An event for the client's connection.
    pub(super) fn ready(&mut self, common: &mut Common<'_>, token: Token, readiness: Readiness) {
        let Some(Slot::Stream(client)) = common.context.get_mut(token) else { return };
        client.connection.note(readiness);
        if !common.context.is_queued(token) {
            self.pump(common, token);
        }
    }

    /// It is time for the client's next message, or its time is up.
    pub(super) fn deadline(&mut self, common: &mut Common<'_>, token: Token) {
        match common.context.get(token) {
            Some(Slot::Stream(client)) if client.stream.fault.is_some() => self.mismatch(common, token),
            Some(Slot::Stream(client)) if client.is_ending => drop(self.remove(common, token)),
            _ => self.send(common, token),
        }
    }

    /// Moves what can be moved over the connection, and sees to what came of it.
    pub(super) fn pump(&mut self, common: &mut Common<'_>, token: Token) {
        let now = common.context.now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, is_ending })) =
            common.context.get_mut(token)
        else {
            return;
        };
        let mut exchange = Exchange { stream, client, traffic: common.traffic };
        let next = connection.pump(&mut exchange, &mut self.workspace, now);
        let attention = stream.take_attention();
        if *is_ending {
            return self.ending_pumped(common, token, &next);
        }
        // Established and ended may be one event.
        let established = stream.connecting
            && connection.phase() != Phase::Connecting
            && !matches!(next, Next::Close(End::NotConnected(_)));
        if established && connection.transport().is_connected_to_itself() {
            // It would find its own bytes right, and there is nobody.
            return self.ended(common, token, End::NotConnected(ErrorKind::ConnectionRefused.into()));
        }
        if established {
            self.established(common, token);
        }
        match next {
            Next::Close(end) => self.ended(common, token, end),
            Next::Again => common.context.run_again(token),
            Next::Wait => {}
        }
        if attention {
            self.attend(common, token);
        }
    }

    /// Sees to everything that a stream can't do by itself.
    fn attend(&mut self, common: &mut Common<'_>, token: Token) {
        let Some(Slot::Stream(client)) = common.context.get_mut(token) else { return };
        if client.stream.take_greeted() {
            self.ungreeted -= 1;
            common.dialler.heard();
            if client.stream.fault.is_none() {
                return self.send(common, token);
            }
        }
        match &client.stream.fault {
            Some(fault) if fault.is_complete() => self.mismatch(common, token),
            Some(_) => common.context.set_deadline_no_later_than(token, common.context.now() + EVIDENCE_TIME),
            None if common.traffic.churn && client.client.pacer.under_way() == 0 => {
                if let Some(client) = self.release(common, token) {
                    common.dialler.connect_for_next(common.traffic, client);
                }
            }
            None => common.set_alarm(token),
        }
    }

    /// Sends whatever the client may send now.
    pub(super) fn send(&mut self, common: &mut Common<'_>, token: Token) {
        let now = Moment::now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, .. })) =
            common.context.get_mut(token)
        else {
            return;
        };
        if stream.connecting {
            return;
        }
        self.staged.clear();
        let bytes = stream.compose(client, common.traffic, now, &mut self.staged);
        let sent = connection
            .send(&self.staged, &mut self.workspace, now)
            .and_then(|()| connection.send(bytes, &mut self.workspace, now));
        match sent {
            Ok(()) => common.set_alarm(token),
            Err(error) => self.ended(common, token, error.into()),
        }
    }

    /// The handshake of a connection has ended well.
    fn established(&mut self, common: &mut Common<'_>, token: Token) {
        let now = Moment::now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, .. })) =
            common.context.get_mut(token)
        else {
            return;
        };
        let (traffic, dialler) = (&mut *common.traffic, &mut *common.dialler);
        let began = stream.began;
        stream.established(now);
        let is_open = connection.phase() != Phase::Ended;
        // The greeting may be complete in the very same turn.
        let is_ungreeted = stream.is_ungreeted();
        client.was_open = true;
        client.pacer.connected(traffic.churn.then_some(began), now);
        if dialler.plan().usage == Usage::Hold {
            client.pacer.call(&traffic.pacing, now);
        }
        if client.is_silent() {
            traffic.figures.outages.reconnected(now);
            // With nothing to send, no reply would tell that it is served.
            if is_open && !is_ungreeted && !client.pacer.may_send(&traffic.pacing, now) {
                client.recovered(traffic, now);
            }
        }
        self.ungreeted += u64::from(is_ungreeted);
        traffic.figures.connected(began, now);
        dialler.connected(client, traffic);
        if is_open {
            self.send(common, token);
        }
    }

    // Ends

    /// Takes the client off its connection, which lives on until the peer has ended it too.
    fn release(&mut self, common: &mut Common<'_>, token: Token) -> Option<Client> {
        let plan = common.dialler.plan();
        let most = MOST_ENDING * plan.clients.max(plan.connecting);
        if plan.reset || self.ending >= most {
            return self.remove(common, token);
        }
        let now = common.context.now();
        let Some(Slot::Stream(StreamClient { connection, client, is_ending, .. })) =
            common.context.get_mut(token)
        else {
            return None;
        };
        *is_ending = true;
        self.ending += 1;
        common.traffic.figures.open -= 1;
        let blank = Client::new(client.pacer.client(), &common.traffic.pacing, 0, now);
        let client = std::mem::replace(client, blank);
        connection.half_close(&mut self.workspace);
        common.context.set_deadline(token, now + END_TIME);
        common.context.run_again(token);
        Some(client)
    }

    /// A connection that only awaits its peer's end was pumped.
    fn ending_pumped(&mut self, common: &mut Common<'_>, token: Token, next: &Next) {
        let Some(Slot::Stream(client)) = common.context.get(token) else { return };
        let is_over = matches!(next, Next::Close(_));
        match &client.stream.fault {
            Some(fault) if is_over || fault.is_complete() => self.mismatch(common, token),
            Some(_) => common.context.set_deadline_no_later_than(token, common.context.now() + EVIDENCE_TIME),
            None if is_over => drop(self.remove(common, token)),
            None if matches!(next, Next::Again) => common.context.run_again(token),
            None => {}
        }
    }

    /// A connection has ended, and not because we wanted it to.
    fn ended(&mut self, common: &mut Common<'_>, token: Token, end: End) {
        let Some(Slot::Stream(StreamClient { stream, client, .. })) = common.context.get(token) else {
            return;
        };
        let missing = stream.missing(common.traffic.replies);
        let (number, now) = (client.number, common.context.now());
        let (began, is_done) = (stream.began, stream.is_done());
        let is_echo = common.traffic.replies == Replies::Echo;
        let is_exchanged = common.traffic.churn && !is_echo && stream.is_replied_to();
        match end {
            End::NotConnected(error) => {
                if let Some(client) = self.remove(common, token) {
                    common.dialler.not_connected(common.traffic, client, began, &error);
                }
            }
            _ if stream.fault.is_some() => self.mismatch(common, token),
            // Many services end the connection themselves, together with their reply.
            _ if is_exchanged => {
                if let Some(client) = self.remove(common, token) {
                    common.dialler.connect_for_next(common.traffic, client);
                }
            }
            End::Finished | End::Lingered if common.dialler.is_ending() && is_done => {
                if let Some(client) = self.remove(common, token) {
                    common.dialler.give_up(client);
                }
            }
            End::Finished | End::Lingered => self.lose(common, token, Cause::Closed, now, || {
                format!("connection {number}: the server closed it with {missing} still to come")
            }),
            End::Reset(error) | End::NoMemory(error) => {
                let cause = match Cause::of(&error) {
                    Cause::Refused => Cause::Reset,
                    cause => cause,
                };
                self.lose(common, token, cause, now, || {
                    format!("connection {number}: {} with {missing} still to come", describe(&error))
                });
            }
        }
    }

    /// Other bytes came than were sent: the connection is of no use any more.
    fn mismatch(&mut self, common: &mut Common<'_>, token: Token) {
        let Some(Slot::Stream(client)) = common.context.get(token) else { return };
        let Some(fault) = &client.stream.fault else { return };
        let figures = &mut common.traffic.figures;
        let described =
            (figures.mismatches.len() < MOST_DESCRIBED).then(|| fault.judge(&common.traffic.pattern));
        let words = figures.keep_mismatch(fault.connection(), described);
        let now = common.context.now();
        self.lose(common, token, Cause::Mismatch, now, || words);
    }

    /// Gives up connections whose handshake or reply takes too long.
    pub(super) fn sweep(&mut self, common: &mut Common<'_>, now: Moment) {
        let plan = common.dialler.plan();
        let (connecting, reply) = (plan.connect_timeout, plan.timeout);
        let is_late = |client: &StreamClient| {
            let stream = &client.stream;
            if stream.connecting {
                stream.began + connecting <= now
            } else {
                stream.fault.is_none() && stream.waiting_since().is_some_and(|since| since + reply <= now)
            }
        };
        let is_late = |common: &Common<'_>, token: &Token| matches!(common.context.get(*token), Some(Slot::Stream(client)) if is_late(client));
        let late: Vec<Token> = common.context.tokens().filter(|token| is_late(common, token)).collect();
        for token in late {
            // A reply may have arrived while this process was stopped, and its event may be still to come.
            if let Some(Slot::Stream(client)) = common.context.get_mut(token) {
                client.connection.note(Readiness::READABLE | Readiness::WRITABLE);
                self.pump(common, token);
            }
            if !is_late(common, &token) || common.context.is_queued(token) {
                continue;
            }
            let Some(Slot::Stream(StreamClient { stream, client, .. })) = common.context.get(token) else {
                continue;
            };
            let (number, missing) = (client.number, stream.missing(common.traffic.replies));
            match stream.waiting_since() {
                Some(since) if !stream.connecting => {
                    let is_greeting = stream.missing_greeting().is_some();
                    let cause = if is_greeting { Cause::Greeting } else { Cause::Timeout };
                    self.lose(common, token, cause, since, || {
                        format!("connection {number}: {missing} did not come within {reply:?}")
                    });
                }
                _ => self.ended(common, token, End::NotConnected(ErrorKind::TimedOut.into())),
            }
        }
    }

    /// An established connection is lost. Its client has heard nothing since `silent_since`.
    fn lose(
        &mut self,
        common: &mut Common<'_>,
        token: Token,
        cause: Cause,
        silent_since: Moment,
        words: impl FnOnce() -> String,
    ) {
        let Some(Slot::Stream(StreamClient { client, is_ending, .. })) = common.context.get(token) else {
            return;
        };
        let was_ending = *is_ending;
        let figures = &mut common.traffic.figures;
        if client.is_silent() && cause != Cause::Mismatch {
            // It was lost before, and has not been served since.
            figures.outages.reconnect_failed();
        } else {
            figures.fail(cause, words);
        }
        figures.connections.lost += 1;
        let Some(mut client) = self.remove(common, token) else { return };
        if was_ending {
            return;
        }
        if common.traffic.churn && cause == Cause::Mismatch {
            return common.dialler.connect_again(common.traffic, client, true);
        }
        if cause == Cause::Mismatch || common.dialler.is_ending() {
            return common.dialler.give_up(client);
        }
        if common.dialler.is_flowing() && client.silenced(silent_since) {
            common.traffic.figures.outages.lost(cause, silent_since, Moment::now());
        }
        let is_needed = common.traffic.pacing.budget() > 0;
        common.dialler.connect_again(common.traffic, client, is_needed);
    }

    /// Closes a connection and gives its client back.
    fn remove(&mut self, common: &mut Common<'_>, token: Token) -> Option<Client> {
        let now = common.context.now();
        let Some(Slot::Stream(StreamClient { connection, stream, client, is_ending })) =
            common.context.get_mut(token)
        else {
            return None;
        };
        connection.abandon(&mut self.workspace);
        let blank = Client::new(client.pacer.client(), &common.traffic.pacing, 0, now);
        let mut client = std::mem::replace(client, blank);
        client.pacer.cut_off(&mut common.traffic.pacing);
        if *is_ending {
            self.ending -= 1;
        } else if !stream.connecting {
            common.traffic.figures.open -= 1;
            self.ungreeted -= u64::from(stream.is_ungreeted());
        }
        common.context.remove(token);
        Some(client)
    }

    /// Judges all differences whose evidence is still being collected.
    pub(super) fn settle(&mut self, common: &mut Common<'_>) {
        let is_faulty = |token: &Token| {
            matches!(common.context.get(*token), Some(Slot::Stream(client))
                if client.stream.fault.is_some() && !client.stream.connecting && !client.is_ending)
        };
        let faulty: Vec<Token> = common.context.tokens().filter(is_faulty).collect();
        for token in faulty {
            self.mismatch(common, token);
        }
    }

    /// Ends all connections and awaits the peers' ends. True if there is anything to await.
    pub(super) fn end_all(&mut self, common: &mut Common<'_>) -> bool {
        for token in common.context.tokens().collect::<Vec<_>>() {
            match common.context.get(token) {
                Some(Slot::Stream(client)) if client.is_ending => {}
                Some(Slot::Stream(client)) if client.stream.connecting => drop(self.remove(common, token)),
                Some(Slot::Stream(_)) => drop(self.release(common, token)),
                Some(Slot::Datagrams(_) | Slot::Stop(_)) | None => {}
            }
        }
        self.ending > 0
    }
}
