//! The connections that are served: begun, pumped, timed out and closed.

use std::fmt;

use log::Level;

use super::counters::{Counters, Ending};
use super::echo::{Echo, Protocol};
use super::proxy_header::Introduced;
use super::trace::Trace;
use crate::net::{
    BufferBytes, Connection, End, Limits, Next, Peer, Socket, Timeout, Timeouts, Traffic, Transport,
    Workspace,
};
use crate::reactor::{Moment, Readiness, Token, Turn};
use crate::system::describe;

/// One connection that is served.
pub(super) struct Client {
    connection: Connection<Socket>,
    peer: Peer,
    opened: Moment,
}

/// What all connections share.
pub(super) struct Connections {
    echo: Echo,
    workspace: Workspace,
    timeouts: Timeouts,
    trace: Option<Trace>,
}

/// What the loop has to do after something was done with a connection.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Keep it: give it another turn if `again`, and look at it at the `deadline` at the latest.
    Keep { again: bool, deadline: Option<Moment> },
    /// It is closed, counted and logged: remove it.
    Remove,
}

/// Why a connection is closed.
enum Reason {
    Ended(End),
    /// The kernel holds an error for it.
    Broken,
    TimedOut(Timeout),
    DrainOver,
}

/// The bytes that were lost when a connection ended.
struct Lost {
    unsent: u64,
    unanswered: u64,
}

impl Client {
    /// A connection that was just accepted.
    pub(super) fn new(socket: Socket, peer: Peer, now: Moment) -> Client {
        Client { connection: Connection::new(socket, now), peer, opened: now }
    }

    /// A connection whose PROXY header has just been read.
    pub(super) fn introduced(introduced: Introduced, now: Moment) -> Client {
        let Introduced { socket, peer, opened, .. } = introduced;
        let mut client = Client { opened, ..Client::new(socket, peer, now) };
        // The events before were for the header. Urgent bytes may be among what has arrived behind it.
        client.connection.note(Readiness::PRIORITY);
        client
    }

    pub(super) fn socket(&self) -> &Socket {
        self.connection.transport()
    }
}

impl Connections {
    pub(super) fn new(
        limits: Limits,
        timeouts: Timeouts,
        protocol: Protocol,
        trace: Option<Trace>,
    ) -> Connections {
        let mut workspace = Workspace::new(limits);
        workspace.keep_journal(trace.is_some());
        Connections { echo: Echo::new(protocol), workspace, timeouts, trace }
    }

    /// Serves a connection from now on: greets it, and reads at once, since a client that speaks first has often
    /// spoken by now, and gets its answer a turn sooner. The event of that input comes all the same, and finds less to do.
    pub(super) fn begin(
        &mut self,
        token: Token,
        client: &mut Client,
        proxy: Option<Peer>,
        counters: &mut Counters,
        now: Moment,
    ) -> Step {
        let Client { connection, peer, .. } = client;
        match proxy {
            Some(proxy) => log::info!("connection from {peer} (by way of {proxy})"),
            None => log::info!("connection from {peer}"),
        }
        counters.served += 1;
        if let Some(trace) = &mut self.trace {
            trace.opened(token, peer);
        }
        let greeting = self.echo.greeting(peer, connection.transport());
        if let Err(error) = connection.send(greeting, &mut self.workspace, now) {
            return self.close(token, client, &Reason::Ended(End::Reset(error)), counters, now);
        }
        // It may stay silent for ever, and then no event leads to its deadline.
        let idle = connection.deadline(&self.timeouts).map(|(at, _)| at);
        connection.note(Readiness::READABLE);
        match self.pump(token, client, counters, now) {
            Step::Keep { again, deadline } => Step::Keep { again, deadline: deadline.or(idle) },
            Step::Remove => Step::Remove,
        }
    }

    /// An event came. A connection that waits in the run queue keeps its place there.
    #[inline]
    pub(super) fn ready(
        &mut self,
        token: Token,
        client: &mut Client,
        readiness: Readiness,
        is_queued: bool,
        counters: &mut Counters,
        now: Moment,
    ) -> Step {
        log::trace!("{}: {readiness:?}", client.peer);
        if let Some(trace) = &mut self.trace {
            trace.ready(token, readiness);
        }
        if readiness.has(Readiness::ERROR) {
            // Input that it sent and we have not read can't be answered any more.
            return self.close(token, client, &Reason::Broken, counters, now);
        }
        client.connection.note(readiness);
        if is_queued {
            return Step::Keep { again: false, deadline: None };
        }
        self.pump(token, client, counters, now)
    }

    /// Lets a connection do what it can.
    #[inline]
    pub(super) fn pump(
        &mut self,
        token: Token,
        client: &mut Client,
        counters: &mut Counters,
        now: Moment,
    ) -> Step {
        let Client { connection, peer, .. } = client;
        let next = connection.pump(&mut self.echo.with(peer), &mut self.workspace, now);
        if let Some(trace) = &mut self.trace {
            trace.record(token, self.workspace.take_journal());
            if let Next::Again = next {
                trace.queued(token);
            }
        }
        let again = match next {
            Next::Close(end) => return self.close(token, client, &Reason::Ended(end), counters, now),
            Next::Again => true,
            Next::Wait => false,
        };
        // At ease, its deadline can only have moved away from the one that was set when it began.
        let deadline = if connection.is_at_ease() {
            None
        } else {
            connection.deadline(&self.timeouts).map(|(at, _)| at)
        };
        Step::Keep { again, deadline }
    }

    /// The deadline that was set for it is due.
    pub(super) fn deadline(
        &mut self,
        token: Token,
        client: &mut Client,
        counters: &mut Counters,
        now: Moment,
    ) -> Step {
        match client.connection.deadline(&self.timeouts) {
            Some((at, timeout)) if at <= now => {
                self.close(token, client, &Reason::TimedOut(timeout), counters, now)
            }
            // Activity since it was set has moved it.
            later => Step::Keep { again: false, deadline: later.map(|(at, _)| at) },
        }
    }

    /// Lets a connection end: what has arrived by now is answered first.
    pub(super) fn stop(
        &mut self,
        token: Token,
        client: &mut Client,
        counters: &mut Counters,
        now: Moment,
    ) -> Step {
        let stopped = client.connection.stop(&mut self.workspace);
        if let Some(trace) = &mut self.trace {
            trace.record(token, self.workspace.take_journal());
        }
        match stopped {
            Ok(()) => Step::Keep { again: true, deadline: None },
            Err(error) => self.close(token, client, &Reason::Ended(End::Reset(error)), counters, now),
        }
    }

    /// The time to drain is over.
    pub(super) fn cut_off(
        &mut self,
        token: Token,
        client: &mut Client,
        counters: &mut Counters,
        now: Moment,
    ) -> Step {
        self.close(token, client, &Reason::DrainOver, counters, now)
    }

    /// Records a turn. False: that was the last one, and the trace file is closed.
    pub(super) fn turn_ended(&mut self, turn: &Turn) -> bool {
        if let Some(trace) = &mut self.trace
            && !trace.turn_ended(turn)
        {
            // The reactor goes on to time its turns, which costs a turn a few reads of the clock.
            self.trace = None;
            self.workspace.keep_journal(false);
            return false;
        }
        true
    }

    /// The loop has ended.
    pub(super) fn finish(&mut self) {
        if let Some(trace) = self.trace.take() {
            trace.finish();
        }
    }

    /// How often a connection was not read any further, because its write buffer was full.
    pub(super) fn pauses_of_reading(&self) -> u64 {
        self.workspace.pauses()
    }

    /// Bytes that connections have moved.
    pub(super) fn traffic(&self) -> Traffic {
        self.workspace.traffic()
    }

    pub(super) fn buffer_bytes(&self) -> BufferBytes {
        self.workspace.buffer_bytes()
    }

    fn close(
        &mut self,
        token: Token,
        client: &mut Client,
        reason: &Reason,
        counters: &mut Counters,
        now: Moment,
    ) -> Step {
        let Client { connection, peer, opened } = client;
        let lost = Lost {
            unsent: connection.unsent() as u64,
            unanswered: connection.retained() as u64 + connection.discarded() + reason.unread(connection),
        };
        counters.ended(reason.ending());
        if lost.bytes() > 0 || matches!(reason, Reason::DrainOver) {
            counters.lost(lost.bytes());
        }
        let is_told = self.trace.is_some() || log::log_enabled!(Level::Info);
        let reason = if is_told { reason.text(connection) } else { String::new() };
        if let Some(trace) = &mut self.trace {
            trace.closed(token, connection, peer, &reason);
        }
        log::info!(
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
    /// As it is counted.
    fn ending(&self) -> Ending {
        match self {
            Reason::Ended(End::Finished) => Ending::Finished,
            Reason::Ended(End::Lingered) => Ending::EndedByUs,
            Reason::Ended(End::Reset(_) | End::NotConnected(_)) | Reason::Broken => Ending::Reset,
            Reason::TimedOut(Timeout::Idle) => Ending::IdleTimeout,
            Reason::TimedOut(Timeout::Write) => Ending::WriteTimeout,
            Reason::TimedOut(Timeout::Linger) => Ending::LingerTimeout,
            Reason::DrainOver => Ending::DrainTimeout,
        }
    }

    /// Bytes that the kernel holds and that nobody will read. After the peer's end there are none.
    fn unread(&self, connection: &Connection<Socket>) -> u64 {
        match self {
            Reason::Ended(End::Finished | End::Lingered) => 0,
            _ => connection.transport().pending_input().unwrap_or(0) as u64,
        }
    }

    /// Called only when it is told: asking the kernel for its error is a system call.
    fn text(&self, connection: &Connection<Socket>) -> String {
        match self {
            Reason::Ended(End::Finished) => "end of input, all answered".into(),
            Reason::Ended(End::Lingered) => "we ended it, and so did the peer".into(),
            Reason::Ended(End::Reset(error) | End::NotConnected(error)) => {
                format!("broken: {}", describe(error))
            }
            Reason::Broken => match connection.transport().take_error() {
                Ok(Some(error)) | Err(error) => format!("broken: {}", describe(&error)),
                Ok(None) => "broken".into(),
            },
            Reason::TimedOut(Timeout::Idle) => "idle for too long".into(),
            Reason::TimedOut(Timeout::Write) => "the peer took nothing for too long".into(),
            Reason::TimedOut(Timeout::Linger) => "we ended it, and the peer did not follow in time".into(),
            Reason::DrainOver => "cut off: the time to drain is over".into(),
        }
    }
}
