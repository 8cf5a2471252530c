//! What the reactor calls: connections are pumped, timed out and closed; the stop is orderly.

use std::fmt;
use std::io;

use log::Level;

use super::{Client, Source, State};
use crate::net::{Connection, End, Next, Peer, Socket, Timeout, Timeouts, Transport, Workspace};
use crate::reactor::{Context, Handler, Moment, Readiness, Timer, Token};
use crate::server::admin::Ending;
use crate::server::echo::Echo;
use crate::server::error::Error;
use crate::system::describe;

/// The end of the time that connections have to end, once the server was asked to stop.
const DRAIN: Timer = Timer(0);

/// Why a connection was closed, as the log says it.
enum Reason {
    Ended(End),
    /// The kernel holds an error for it.
    Broken,
    TimedOut(Timeout),
    DrainOver,
}

impl Handler for State {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        let (now, is_queued) = (context.now(), context.is_queued(token));
        match context.get_mut(token) {
            Some(Source::Connection(client)) => {
                log::trace!("{}: {readiness:?}", client.peer);
                if let Some(trace) = &mut self.trace {
                    trace.ready(token, readiness);
                }
                // Whatever it has sent and we have not read can't be answered any more.
                if readiness.has(Readiness::ERROR) {
                    return self.close(context, token, &Reason::Broken);
                }
                client.connection.note(readiness);
                if !is_queued {
                    let next = client.pump(&mut self.echo, &mut self.workspace, &self.timeouts, now);
                    self.follow(context, token, next);
                }
            }
            Some(Source::Announced(_)) => {
                self.look_for_header(context, token, readiness.has(Readiness::READ_CLOSED));
            }
            Some(Source::Listener(_)) => self.accept(context, token),
            Some(Source::Datagrams(_)) => {
                self.datagrams.echo(context, token);
            }
            Some(Source::Stop(signal)) => {
                for _ in 0..signal.received() {
                    self.stop(context);
                }
            }
            Some(Source::Admin(_)) => self.admin_ready(context, token, readiness),
            None => {}
        }
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        match context.get_mut(token) {
            Some(Source::Connection(client)) => {
                let next = client.pump(&mut self.echo, &mut self.workspace, &self.timeouts, now);
                self.follow(context, token, next);
            }
            Some(Source::Listener(_)) => self.accept(context, token),
            Some(Source::Datagrams(_)) => {
                self.datagrams.echo(context, token);
            }
            Some(Source::Admin(_)) => self.admin_resume(context, token),
            // Neither is ever put into the run queue: a header is looked for when an event tells of more of it.
            Some(Source::Announced(_) | Source::Stop(_)) | None => {}
        }
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        match context.get(token) {
            Some(Source::Connection(client)) => match client.connection.deadline(&self.timeouts) {
                Some((at, timeout)) if at <= context.now() => {
                    self.close(context, token, &Reason::TimedOut(timeout));
                }
                // There was activity since it was set: this is the one that holds now.
                Some((at, _)) => context.set_deadline(token, at),
                None => {}
            },
            Some(Source::Announced(_)) => self.header_is_late(context, token),
            Some(Source::Listener(_)) => self.accept(context, token),
            Some(Source::Datagrams(_)) => {
                self.datagrams.echo(context, token);
            }
            Some(Source::Admin(_)) => self.admin_deadline(context, token),
            Some(Source::Stop(_)) | None => {}
        }
    }

    fn timer(&mut self, context: &mut Context<Source>, timer: Timer) {
        if timer == DRAIN {
            self.end_drain(context);
        }
    }

    fn turn_end(&mut self, context: &mut Context<Source>) {
        self.watch.turns.add(context.turn());
        self.resume_accepting(context);
        if let Some(trace) = &mut self.trace
            && !trace.turn_ended(context.turn())
        {
            // The reactor goes on to time its turns, which costs a turn a few reads of the clock.
            self.trace = None;
            self.workspace.keep_journal(false);
            self.watch.descriptor_closed();
        }
        if self.listeners.is_empty() && self.datagrams.is_empty() && self.open == 0 {
            context.stop();
        }
    }
}

impl Client {
    /// Of a connection that was just accepted.
    pub(super) fn new(socket: Socket, peer: Peer, now: Moment) -> Client {
        Client { connection: Connection::new(socket, now), peer, opened: now }
    }

    /// Lets the connection do what it can. Returns the next step, and the connection's deadline if that may be nearer
    /// than before.
    #[inline]
    fn pump(
        &mut self,
        echo: &mut Echo,
        workspace: &mut Workspace,
        timeouts: &Timeouts,
        now: Moment,
    ) -> (Next, Option<Moment>) {
        let next = self.connection.pump(&mut echo.with(&self.peer), workspace, now);
        let is_at_ease = self.connection.is_at_ease();
        let deadline = if is_at_ease { None } else { self.connection.deadline(timeouts) };
        (next, deadline.map(|(at, _)| at))
    }
}

impl State {
    /// Closes a connection of which the kernel says that it is gone.
    pub(super) fn break_off(&mut self, context: &mut Context<Source>, token: Token, error: io::Error) {
        self.close(context, token, &Reason::Ended(End::Reset(error)));
    }

    #[inline]
    fn follow(&mut self, context: &mut Context<Source>, token: Token, pumped: (Next, Option<Moment>)) {
        let (next, deadline) = pumped;
        if let Some(trace) = &mut self.trace {
            trace.record(token, self.workspace.take_journal());
            if let Next::Again = next {
                trace.queued(token);
            }
        }
        match next {
            Next::Wait => {}
            Next::Again => context.run_again(token),
            Next::Close(end) => return self.close(context, token, &Reason::Ended(end)),
        }
        if let Some(at) = deadline {
            context.set_deadline_no_later_than(token, at);
        }
    }

    fn close(&mut self, context: &mut Context<Source>, token: Token, reason: &Reason) {
        let now = context.now();
        let Some(Source::Connection(client)) = context.get_mut(token) else { return };
        let Client { connection, peer, opened } = client;
        let unread = match reason {
            Reason::Broken => connection.transport().pending_input().unwrap_or(0) as u64,
            _ => 0,
        };
        let lost = Lost {
            unsent: connection.unsent() as u64,
            unanswered: connection.retained() as u64 + connection.discarded() + unread,
        };
        self.watch.closed.count(reason.ending());
        if lost.bytes() > 0 || matches!(reason, Reason::DrainOver) {
            self.summary.cut_off += 1;
            self.summary.bytes_cut_off += lost.bytes();
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
        context.remove(token);
        self.open -= 1;
        self.descriptor_freed();
    }

    /// Lets a connection end: what has arrived by now is answered first.
    pub(super) fn begin_to_end(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Connection(client)) = context.get_mut(token) else { return };
        let stopped = client.connection.stop(&mut self.workspace);
        if let Some(trace) = &mut self.trace {
            trace.record(token, self.workspace.take_journal());
        }
        match stopped {
            Ok(()) => context.run_again(token),
            Err(error) => self.break_off(context, token, error),
        }
    }

    /// The first request closes the listeners and lets every connection end; a second one ends the server now.
    fn stop(&mut self, context: &mut Context<Source>) {
        if std::mem::replace(&mut self.stopping, true) {
            // Both may come at once, when nobody is connected: then it has ended as well as it can.
            if self.open > 0 {
                self.failure = Some(Error::StoppedAtOnce { connections: self.open });
            }
            context.stop();
            return;
        }
        log::info!(
            "stopping: {} connections have {} to end",
            self.open,
            humantime::format_duration(self.options.drain)
        );
        if let Some(call) = self.on_stop.take() {
            call();
        }
        self.close_listeners(context);
        for token in self.connections(context) {
            // One whose header is still to come is stopped when it has come: what comes with it is answered.
            self.begin_to_end(context, token);
        }
        context.set_timer(DRAIN, context.now() + self.options.drain);
    }

    /// Time is up: what is still open is cut off.
    fn end_drain(&mut self, context: &mut Context<Source>) {
        for token in self.connections(context) {
            self.close(context, token, &Reason::DrainOver);
            self.give_header_up(context, token);
        }
    }

    fn connections(&self, context: &Context<Source>) -> Vec<Token> {
        let is_connection =
            |token: &Token| matches!(context.get(*token), Some(Source::Connection(_) | Source::Announced(_)));
        context.tokens().filter(is_connection).collect()
    }
}

/// What was lost when a connection ended.
struct Lost {
    unsent: u64,
    unanswered: u64,
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
