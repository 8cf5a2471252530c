//! The connections: how the server begins, pumps, times out and closes them.

use std::collections::HashSet;
use std::fmt;
use std::io;

use log::Level;

use super::counters::{Counters, Ending};
use super::echo::Echo;
use super::first_read::FirstRead;
use super::options::ServerOptions;
use super::proxy_header::Introduced;
use super::trace::Trace;
use crate::net::{Connection, End, Judgement, Next, Peer, Socket, Timeout, Timeouts, Transport, Workspace};
use crate::reactor::{Interest, Moment, Readiness, Token, Turn};
use crate::system::describe;

/// A connection under service.
pub(super) struct Client {
    connection: Connection<Socket>,
    peer: Peer,
    opened: Moment,
}

/// Everything that the connections of the server share. The connections themselves are in the reactor.
pub(super) struct Connections {
    /// The acceptor and the router count here as well.
    pub(super) counters: Counters,
    echo: Echo,
    first_read: FirstRead,
    workspace: Workspace,
    timeouts: Timeouts,
    trace: Option<Trace>,
    /// Connections in which a proxy speaks for itself, as in a health check. There are few of them, so a set here takes
    /// less memory than a flag in the slot of each connection.
    probes: HashSet<Token>,
}

/// The router's next step with a connection.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Nothing: it waits for its next event. This is the usual step.
    Rest,
    /// Keep it: give it another turn if `again` says so, look at it at the `deadline` at the latest, and register it
    /// anew if there is a new `interest`.
    Keep { again: bool, deadline: Option<Moment>, interest: Option<Interest> },
    /// It is closed, counted and logged: remove it.
    Remove,
}

/// The reason to close a connection.
enum Reason {
    Ended(End),
    /// The kernel holds an error for it.
    Broken,
    TimedOut(Timeout),
    CutOff(Urgency),
}

/// The reason to wait no longer for connections to end.
#[derive(Clone, Copy)]
pub(super) enum Urgency {
    /// The time to drain is over.
    DrainOver,
    /// A second request to stop came.
    SecondSignal,
}

/// The bytes that were lost when a connection ended.
struct Lost {
    unsent: u64,
    unanswered: u64,
}

impl Client {
    /// A connection that the acceptor has just accepted.
    pub(super) fn new(socket: Socket, peer: Peer, now: Moment) -> Client {
        Client { connection: Connection::new(socket, now), peer, opened: now }
    }

    /// A connection whose PROXY header the server has just read.
    pub(super) fn introduced(introduced: Introduced, now: Moment) -> Client {
        let Introduced { socket, peer, opened, .. } = introduced;
        let mut client = Client { opened, ..Client::new(socket, peer, now) };
        // Earlier events were about the header. Input and urgent bytes may have arrived behind it.
        client.connection.note(Readiness::READABLE | Readiness::PRIORITY);
        client
    }

    pub(super) fn socket(&self) -> &Socket {
        self.connection.transport()
    }
}

impl Connections {
    /// A plain echo may use so many `pipes` for bulk data.
    pub(super) fn new(options: ServerOptions, pipes: usize, trace: Option<Trace>) -> Connections {
        let mut workspace = Workspace::new(options.limits());
        workspace.set_buffer_limit(options.buffer_limit());
        workspace.allow_splicing(pipes);
        workspace.keep_journal(trace.is_some());
        Connections {
            counters: Counters::default(),
            timeouts: options.timeouts(),
            echo: Echo::new(options.protocol),
            first_read: FirstRead::default(),
            workspace,
            trace,
            probes: HashSet::new(),
        }
    }

    /// Serves a connection from now on: greets it, and reads at once if that is [promising](FirstRead). The event for
    /// this input still comes, and finds less to do.
    pub(super) fn begin(
        &mut self,
        token: Token,
        client: &mut Client,
        proxy: Option<Peer>,
        now: Moment,
    ) -> Step {
        let level = self.level(token);
        let Client { connection, peer, .. } = client;
        match proxy {
            Some(proxy) => log::log!(level, "connection from {peer} (by way of {proxy})"),
            None => log::log!(level, "connection from {peer}"),
        }
        self.counters.summary.served += 1;
        if let Some(trace) = &mut self.trace {
            trace.opened(token, peer);
        }
        let greeting = self.echo.greeting(peer, connection.transport());
        if let Err(error) = connection.send(greeting, &mut self.workspace, now) {
            if let Some(trace) = &mut self.trace {
                trace.record(token, self.workspace.take_journal());
            }
            return self.close(token, client, &Reason::Ended(error.into()), now);
        }
        // The client may stay silent for ever, and then no event would set its deadline.
        let idle = connection.deadline(&self.timeouts).map(|(at, _)| at);
        let reads_at_once = !connection.is_readable() && self.first_read.is_promising();
        if reads_at_once {
            connection.note(Readiness::READABLE);
        }
        let step = self.pump(token, client, now);
        if reads_at_once {
            self.first_read.found(client.connection.received() > 0 || matches!(step, Step::Remove));
        }
        match step {
            Step::Rest => Step::Keep { again: false, deadline: idle, interest: None },
            Step::Keep { again, deadline, interest } => {
                Step::Keep { again, deadline: deadline.or(idle), interest }
            }
            Step::Remove => Step::Remove,
        }
    }

    /// Notes an event, and pumps the connection unless it waits in the run queue: then it keeps its place there.
    #[inline(always)]
    pub(super) fn ready(
        &mut self,
        token: Token,
        client: &mut Client,
        readiness: Readiness,
        is_queued: bool,
        now: Moment,
    ) -> Step {
        if self.trace.is_some() || log::log_enabled!(Level::Trace) {
            self.record_ready(token, client, readiness);
        }
        if readiness.has(Readiness::ERROR) {
            // The peer can get no answer any more, not even to the input that we have not read.
            return self.close(token, client, &Reason::Broken, now);
        }
        client.connection.note(readiness);
        if is_queued {
            return Step::Rest;
        }
        self.pump(token, client, now)
    }

    #[cold]
    fn record_ready(&mut self, token: Token, client: &Client, readiness: Readiness) {
        log::trace!("{}: {readiness:?}", client.peer);
        if let Some(trace) = &mut self.trace {
            trace.ready(token, readiness);
        }
    }

    /// Lets a connection do what it can.
    #[inline(never)] // The one call of each echo, which saves the registers once.
    pub(super) fn pump(&mut self, token: Token, client: &mut Client, now: Moment) -> Step {
        let Client { connection, peer, .. } = client;
        let next = connection.pump(&mut self.echo.with(peer), &mut self.workspace, now);
        if self.trace.is_some() {
            let (is_queued, is_over) = (matches!(next, Next::Again), matches!(next, Next::Close(_)));
            self.record_pump(token, connection, is_queued, is_over);
        }
        let again = match next {
            // The deadline of the idle timeout is set since the beginning, and can only have moved to a later time.
            Next::Wait if connection.is_at_ease() => return Step::Rest,
            Next::Wait => false,
            Next::Again => true,
            Next::Close(end) => return self.close(token, client, &Reason::Ended(end), now),
        };
        let deadline = connection.deadline(&self.timeouts).map(|(at, _)| at);
        Step::Keep { again, deadline, interest: connection.new_interest() }
    }

    #[cold]
    fn record_pump(&mut self, token: Token, connection: &Connection<Socket>, is_queued: bool, is_over: bool) {
        let Some(trace) = &mut self.trace else { return };
        trace.record(token, self.workspace.take_journal());
        if is_queued {
            trace.queued(token);
        }
        if !is_over {
            trace.looked(token, connection, connection.deadline(&self.timeouts).map(|(at, _)| at));
        }
    }

    /// Looks at the socket of a connection once more, and judges, since its deadline is due.
    pub(super) fn deadline(&mut self, token: Token, client: &mut Client, now: Moment) -> Step {
        let Client { connection, peer, .. } = client;
        let verdict = connection.judge(&mut self.echo.with(peer), &mut self.workspace, &self.timeouts, now);
        if let Some(trace) = &mut self.trace {
            trace.record(token, self.workspace.take_journal());
        }
        let reason = match verdict {
            Judgement::Alive { again, deadline } => {
                return Step::Keep { again, deadline, interest: connection.new_interest() };
            }
            Judgement::Ended(end) => Reason::Ended(end),
            Judgement::TimedOut(timeout) => Reason::TimedOut(timeout),
        };
        self.close(token, client, &reason, now)
    }

    /// Lets a connection end after it has answered the input that has arrived by now.
    pub(super) fn stop(&mut self, token: Token, client: &mut Client, now: Moment) -> Step {
        let stopped = client.connection.stop(&mut self.workspace);
        if let Some(trace) = &mut self.trace {
            trace.record(token, self.workspace.take_journal());
        }
        match stopped {
            Ok(()) => Step::Keep { again: true, deadline: None, interest: None },
            Err(error) => self.close(token, client, &Reason::Ended(error.into()), now),
        }
    }

    /// Closes a connection that the loop can't watch any more.
    pub(super) fn break_off(&mut self, token: Token, client: &mut Client, error: io::Error, now: Moment) {
        self.close(token, client, &Reason::Ended(error.into()), now);
    }

    /// Closes a connection, since the server waits no longer.
    pub(super) fn cut_off(
        &mut self,
        token: Token,
        client: &mut Client,
        urgency: Urgency,
        now: Moment,
    ) -> Step {
        if let Urgency::DrainOver = urgency {
            // This process may have been stopped until now, and the peer's end may wait in the socket. Look once more.
            client.connection.note(Readiness::READABLE | Readiness::WRITABLE | Readiness::PRIORITY);
            if let Step::Remove = self.pump(token, client, now) {
                return Step::Remove;
            }
        }
        self.close(token, client, &Reason::CutOff(urgency), now)
    }

    /// Counts and records a turn. False: this was the last turn on record, and the trace file is now closed.
    pub(super) fn turn_ended(&mut self, turn: &Turn) -> bool {
        self.counters.turns.add(turn);
        self.counters.traffic = self.workspace.traffic();
        if let Some(trace) = &mut self.trace
            && !trace.turn_ended(turn)
        {
            // The reactor still times its turns, which costs each turn a few reads of the clock.
            self.trace = None;
            self.workspace.keep_journal(false);
            return false;
        }
        true
    }

    /// Completes the trace after the loop has ended.
    pub(super) fn finish(&mut self) {
        if let Some(trace) = self.trace.take() {
            trace.finish();
        }
    }

    /// The workspace, for its figures.
    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Remembers that a proxy speaks for itself on this connection. Only the detailed log mentions such a connection.
    pub(super) fn note_probe(&mut self, token: Token) {
        self.probes.insert(token);
    }

    /// The log level for the beginning and the end of a connection.
    fn level(&self, token: Token) -> Level {
        let is_probe = !self.probes.is_empty() && self.probes.contains(&token);
        if is_probe { Level::Debug } else { Level::Info }
    }

    fn close(&mut self, token: Token, client: &mut Client, reason: &Reason, now: Moment) -> Step {
        let level = self.level(token);
        if level == Level::Debug {
            self.probes.remove(&token);
        }
        let Client { connection, peer, opened } = client;
        let lost = Lost {
            unsent: connection.unsent() as u64,
            unanswered: connection.retained() as u64 + connection.discarded() + reason.unread(connection),
        };
        self.counters.ended(reason.ending());
        if lost.bytes() > 0 || matches!(reason, Reason::CutOff(_)) {
            self.counters.lost(lost.bytes());
        }
        let is_told = self.trace.is_some() || log::log_enabled!(level);
        let reason = if is_told { reason.text(connection) } else { String::new() };
        if let Some(trace) = &mut self.trace {
            trace.closed(token, connection, peer, &reason);
        }
        log::log!(
            level,
            "{peer}: {reason}; {} bytes in, {} bytes out{lost}, {:.1?}",
            connection.received(),
            connection.sent(),
            now.since(*opened)
        );
        connection.abandon(&mut self.workspace);
        Step::Remove
    }
}

impl Lost {
    fn bytes(&self) -> u64 {
        self.unsent + self.unanswered
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unsent > 0 {
            write!(f, ", {} bytes of answers not taken", self.unsent)?;
        }
        if self.unanswered > 0 {
            write!(f, ", {} bytes not answered", self.unanswered)?;
        }
        Ok(())
    }
}

impl Reason {
    /// The counter for this reason.
    fn ending(&self) -> Ending {
        match self {
            Reason::Ended(End::Finished) => Ending::Finished,
            Reason::Ended(End::Lingered) => Ending::EndedByUs,
            Reason::Ended(End::Reset(_) | End::NotConnected(_)) | Reason::Broken => Ending::Reset,
            Reason::Ended(End::NoMemory(_)) => Ending::NoMemory,
            Reason::TimedOut(Timeout::Idle) => Ending::IdleTimeout,
            Reason::TimedOut(Timeout::Write) => Ending::WriteTimeout,
            Reason::TimedOut(Timeout::Linger) => Ending::LingerTimeout,
            Reason::CutOff(_) => Ending::DrainTimeout,
        }
    }

    /// Bytes in the kernel that the server will never read. After the peer's end there are none.
    fn unread(&self, connection: &Connection<Socket>) -> u64 {
        match self {
            Reason::Ended(End::Finished | End::Lingered) => 0,
            _ => connection.transport().pending_input().unwrap_or(0) as u64,
        }
    }

    /// The reason in words. Call this only for the log or the trace: it may ask the kernel for the error.
    fn text(&self, connection: &Connection<Socket>) -> String {
        match self {
            Reason::Ended(End::Finished) => "end of input, all answered".into(),
            Reason::Ended(End::Lingered) => "we ended it, and so did the peer".into(),
            Reason::Ended(End::Reset(error) | End::NotConnected(error)) => {
                format!("broken: {}", describe(error))
            }
            Reason::Ended(End::NoMemory(error)) => {
                format!("ended for lack of memory (a lower --buffer-limit leaves more): {}", describe(error))
            }
            Reason::Broken => match connection.transport().take_error() {
                Ok(Some(error)) | Err(error) => format!("broken: {}", describe(&error)),
                Ok(None) => "broken".into(),
            },
            Reason::TimedOut(Timeout::Idle) => "idle for too long".into(),
            Reason::TimedOut(Timeout::Write) => "the peer took nothing for too long".into(),
            Reason::TimedOut(Timeout::Linger) => "we ended it, and the peer did not follow in time".into(),
            Reason::CutOff(Urgency::DrainOver) => "cut off: the time to drain is over".into(),
            Reason::CutOff(Urgency::SecondSignal) => "cut off: a second signal".into(),
        }
    }
}
