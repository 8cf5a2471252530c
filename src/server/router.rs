//! The router: it knows what each slot of the reactor holds, hands every event to the part that owns it, and does with
//! the slot what that part says.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::acceptor::{ACCEPTS_PER_TURN, Acceptor, Offer};
use super::admin::{
    AdminEndpoint, Admission, Figures, NotAccepting, Process, ProcessFigures, SCRAPERS_PER_TURN, Scraper,
    Status,
};
use super::connections::{Client, Connections, Step, Urgency};
use super::counters::{Counters, Summary};
use super::datagrams::{DatagramCounts, Datagrams, Served};
use super::error::Error;
use super::proxy_header::{AwaitingHeader, Refusal};
use super::shutdown::Shutdown;
use crate::net::{CONNECTION_INTEREST, DatagramSocket, Listener, Next, Peer, Socket};
use crate::reactor::{Context, Handler, Interest, Moment, Readiness, Stage, Timer, Token};
use crate::system::{ReportSignal, StopSignal, describe};

/// What a slot of the reactor holds. All but connections are boxed: there are few of them, and the slots of many
/// connections should be no larger than they need.
pub(super) enum Source {
    Connection(Client),
    AwaitingHeader(AwaitingHeader),
    Listener(Box<Listener>),
    Datagrams(Box<DatagramSocket>),
    Stop(Box<StopSignal>),
    Report(Box<ReportSignal>),
    AdminListener(Box<Listener>),
    Scraper(Box<Scraper>),
}

/// The end of the time that connections have to end, once the server was asked to stop.
const DRAIN: Timer = Timer(0);

/// The parts of the server.
pub(super) struct Router {
    pub(super) acceptor: Acceptor,
    /// How long a PROXY header may take, if one is required.
    pub(super) header_timeout: Option<Duration>,
    pub(super) connections: Connections,
    pub(super) datagrams: Datagrams,
    pub(super) counters: Counters,
    pub(super) admin: AdminEndpoint,
    pub(super) process: Process,
    pub(super) shutdown: Shutdown,
}

impl Handler for Router {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        let (now, is_queued) = (context.now(), context.is_queued(token));
        match context.get_mut(token) {
            Some(Source::Connection(client)) => {
                let step =
                    self.connections.ready(token, client, readiness, is_queued, &mut self.counters, now);
                self.follow(context, token, step);
            }
            Some(Source::AwaitingHeader(_)) => {
                self.read_header(context, token, readiness.has(Readiness::READ_CLOSED));
            }
            Some(Source::Listener(_)) => self.accept(context, token),
            Some(Source::Datagrams(_)) => self.serve_datagrams(context, token),
            // Signals that come together, as SIGINT and SIGTERM may from a terminal and a supervisor, are one request.
            Some(Source::Stop(signal)) => {
                let asked = signal.received() > 0;
                if asked {
                    self.stop(context);
                }
            }
            Some(Source::Report(signal)) => {
                let asked = signal.received() > 0;
                if asked {
                    self.report(context);
                }
            }
            Some(Source::AdminListener(_)) => self.accept_scrapers(context, token),
            Some(Source::Scraper(scraper)) => {
                scraper.note(readiness);
                self.serve_scraper(context, token);
            }
            None => {}
        }
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        match context.get_mut(token) {
            Some(Source::Connection(client)) => {
                let step = self.connections.pump(token, client, &mut self.counters, now);
                self.follow(context, token, step);
            }
            Some(Source::Listener(_)) => self.accept(context, token),
            Some(Source::Datagrams(_)) => self.serve_datagrams(context, token),
            Some(Source::AdminListener(_)) => self.accept_scrapers(context, token),
            Some(Source::Scraper(_)) => self.serve_scraper(context, token),
            // None of these is ever put into the run queue.
            Some(Source::AwaitingHeader(_) | Source::Stop(_) | Source::Report(_)) | None => {}
        }
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        match context.get_mut(token) {
            Some(Source::Connection(client)) => {
                let step = self.connections.deadline(token, client, &mut self.counters, now);
                self.follow(context, token, step);
            }
            Some(Source::AwaitingHeader(_)) => {
                // It may have come with this very turn.
                self.read_header(context, token, false);
                self.refuse(context, token, &Refusal::Late);
            }
            Some(Source::Listener(_)) => self.accept(context, token),
            Some(Source::Datagrams(_)) => self.serve_datagrams(context, token),
            Some(Source::AdminListener(_)) => self.accept_scrapers(context, token),
            Some(Source::Scraper(scraper)) => {
                // Its request may have arrived while this process was stopped.
                scraper.note(Readiness::READABLE);
                self.serve_scraper(context, token);
                self.close_scraper(context, token, "cut off: its time is over");
            }
            Some(Source::Stop(_) | Source::Report(_)) | None => {}
        }
    }

    fn timer(&mut self, context: &mut Context<Source>, timer: Timer) {
        if timer == DRAIN {
            self.cut_off(context, Urgency::DrainOver);
        }
    }

    fn turn_end(&mut self, context: &mut Context<Source>) {
        self.counters.turns.add(context.turn());
        self.counters.traffic = self.connections.traffic();
        for listener in self.acceptor.turn_ended(&self.counters) {
            context.run_again(listener);
        }
        if !self.connections.turn_ended(context.turn()) {
            self.process.descriptor_closed();
        }
        self.admin.turn_ended();
        if !self.is_listening() && self.counters.open == 0 {
            context.stop();
        }
    }
}

/// Connections.
impl Router {
    /// Accepts until nothing waits, the budget is spent, or no more may come in.
    fn accept(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        for accepted in 0..ACCEPTS_PER_TURN {
            let Some(Source::Listener(listener)) = context.get_mut(token) else { return };
            match self.acceptor.ask(token, listener, accepted == 0, &mut self.counters, now) {
                Offer::Connection(socket, peer) => {
                    if let Err(error) = self.take_in(context, socket, peer) {
                        let at = self.acceptor.failed(token, &error, &mut self.counters, now);
                        return context.set_deadline(token, at);
                    }
                }
                Offer::Next => {}
                Offer::Nothing => return,
                Offer::NothingBefore(at) => return context.set_deadline(token, at),
                Offer::Broken(error) => return self.close_listener(context, token, error),
            }
            if self.acceptor.has_enough(&self.counters) {
                return self.close_listeners(context);
            }
        }
        // There may be more, and no event will say so.
        context.run_again(token);
    }

    /// # Errors
    /// When the kernel can't poll one more. The connection is closed then, as good as refused.
    fn take_in(&mut self, context: &mut Context<Source>, socket: Socket, peer: Peer) -> io::Result<()> {
        let (now, interest) = (context.now(), socket.interest());
        let source = match self.header_timeout {
            None => Source::Connection(Client::new(socket, peer, now)),
            Some(_) => Source::AwaitingHeader(AwaitingHeader::new(socket, peer, now)),
        };
        let token = match context.insert(source, interest, Stage::Connections) {
            Ok(token) => token,
            Err(error) => {
                log::debug!("{peer}: refused, since it can't be polled: {}", describe(&error));
                self.counters.refused += 1;
                return Err(error);
            }
        };
        self.counters.took_in();
        match self.header_timeout {
            None => self.begin(context, token, None),
            Some(time) => {
                context.set_deadline(token, now + time);
                // A proxy sends the header at once.
                self.read_header(context, token, false);
            }
        }
        Ok(())
    }

    /// Serves the connection if its header is complete; refuses it if there will be none.
    fn read_header(&mut self, context: &mut Context<Source>, token: Token, ended: bool) {
        let now = context.now();
        let Some(source) = context.get_mut(token) else { return };
        let Source::AwaitingHeader(awaiting) = source else { return };
        match awaiting.read(ended) {
            Ok(None) => {}
            Ok(Some(introduced)) => {
                let proxy = introduced.proxy;
                if proxy.is_none() {
                    self.connections.note_probe(token);
                }
                *source = Source::Connection(Client::introduced(introduced, now));
                context.clear_deadline(token);
                self.begin(context, token, proxy);
            }
            Err(refusal) => self.refuse(context, token, &refusal),
        }
    }

    /// Closes a connection whose header is not complete.
    fn refuse(&mut self, context: &mut Context<Source>, token: Token, refusal: &Refusal) {
        let Some(Source::AwaitingHeader(awaiting)) = context.get(token) else { return };
        awaiting.refuse(refusal, &mut self.counters, context.now());
        self.remove_connection(context, token);
    }

    fn begin(&mut self, context: &mut Context<Source>, token: Token, proxy: Option<Peer>) {
        let now = context.now();
        let Some(Source::Connection(client)) = context.get_mut(token) else { return };
        let step = self.connections.begin(token, client, proxy, &mut self.counters, now);
        self.follow(context, token, step);
        if self.shutdown.has_begun() {
            // Its header came while the others ended: answer what came with it.
            self.stop_connection(context, token);
        }
    }

    #[inline]
    fn follow(&mut self, context: &mut Context<Source>, token: Token, step: Step) {
        match step {
            Step::Rest => {}
            Step::Keep { again, deadline, interest } => {
                self.keep(context, token, again, deadline, interest);
            }
            Step::Remove => self.remove_connection(context, token),
        }
    }

    #[inline(never)] // An echo does without.
    fn keep(
        &mut self,
        context: &mut Context<Source>,
        token: Token,
        again: bool,
        deadline: Option<Moment>,
        interest: Option<Interest>,
    ) {
        if let Some(interest) = interest
            && let Err(error) = context.reregister(token, interest)
        {
            return self.break_off(context, token, error);
        }
        if let Some(at) = deadline {
            context.set_deadline_no_later_than(token, at);
        }
        if again {
            context.run_again(token);
        }
    }

    /// Closes a connection that can't be polled any more.
    fn break_off(&mut self, context: &mut Context<Source>, token: Token, error: io::Error) {
        let now = context.now();
        if let Some(Source::Connection(client)) = context.get_mut(token) {
            self.connections.break_off(token, client, error, &mut self.counters, now);
            self.remove_connection(context, token);
        }
    }

    fn remove_connection(&mut self, context: &mut Context<Source>, token: Token) {
        context.remove(token);
        self.acceptor.descriptor_freed();
    }
}

/// The stop.
impl Router {
    /// The first request closes the listeners and lets every connection end; a second one ends the server now.
    fn stop(&mut self, context: &mut Context<Source>) {
        if !self.shutdown.begin() {
            return self.stop_at_once(context);
        }
        let time = humantime::format_duration(self.shutdown.drain);
        log::info!("stopping: {} connections have {time} to end", self.counters.open);
        self.close_listeners(context);
        for token in connections(context) {
            // A connection whose header is still to come is stopped when the header has come.
            self.stop_connection(context, token);
        }
        context.set_timer(DRAIN, context.now() + self.shutdown.drain);
    }

    fn stop_at_once(&mut self, context: &mut Context<Source>) {
        let (connections, before) = (self.counters.open, self.counters.bytes_cut_off);
        self.cut_off(context, Urgency::SecondSignal);
        if connections > 0 {
            let bytes = self.counters.bytes_cut_off - before;
            self.shutdown.fail(Error::StoppedAtOnce { connections, bytes });
        }
        context.stop();
    }

    fn stop_connection(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        let Some(Source::Connection(client)) = context.get_mut(token) else { return };
        let step = self.connections.stop(token, client, &mut self.counters, now);
        self.follow(context, token, step);
    }

    /// Closes whatever is still open.
    fn cut_off(&mut self, context: &mut Context<Source>, urgency: Urgency) {
        let now = context.now();
        for token in connections(context) {
            // Its header may have come with this very turn.
            self.read_header(context, token, false);
            if let Some(Source::Connection(client)) = context.get_mut(token) {
                let step = self.connections.cut_off(token, client, urgency, &mut self.counters, now);
                self.follow(context, token, step);
            }
            self.refuse(context, token, &Refusal::Stopped);
        }
    }

    /// Lets nobody else in. Connections that wait may go to another process that has the port; datagrams that have
    /// arrived are in our sockets, and are answered first.
    fn close_listeners(&mut self, context: &mut Context<Source>) {
        for token in self.datagrams.sockets().to_vec() {
            if let Some(Source::Datagrams(socket)) = context.get_mut(token) {
                self.datagrams.serve_last(socket);
            }
        }
        for token in self.acceptor.close().into_iter().chain(self.datagrams.close()) {
            context.deregister(token);
            context.remove(token);
        }
    }

    /// A listener is broken: the others go on. Without any, the server ends in order, and has failed.
    fn close_listener(&mut self, context: &mut Context<Source>, token: Token, error: io::Error) {
        log::warn!("a listener is broken, and is closed: {}", describe(&error));
        self.acceptor.remove(token);
        context.deregister(token);
        context.remove(token);
        if !self.is_listening() {
            self.shutdown.fail(Error::NoListener(error));
            self.stop(context);
        }
    }

    fn is_listening(&self) -> bool {
        !self.acceptor.is_closed() || !self.datagrams.is_empty()
    }

    /// How the server has ended, once the loop has.
    pub(super) fn outcome(mut self) -> Result<Summary, Error> {
        self.connections.finish();
        let summary = self.counters.summary(self.datagrams.final_counts());
        self.shutdown.outcome().map(|()| summary)
    }
}

/// Datagrams.
impl Router {
    fn serve_datagrams(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Datagrams(socket)) = context.get_mut(token) else { return };
        match self.datagrams.serve(socket) {
            Served::All => {}
            Served::Some => context.run_again(token),
            Served::Failed { retry } => context.set_deadline(token, context.now() + retry),
        }
    }
}

/// The admin endpoint and the report.
impl Router {
    /// Takes scrapers in. When there is no place left, one of them gives way in each turn, and the next turn, in which its
    /// descriptor is free, goes on.
    fn accept_scrapers(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        for _ in 0..SCRAPERS_PER_TURN {
            let Some(Source::AdminListener(listener)) = context.get_mut(token) else { return };
            if self.admin.is_full() {
                if listener.has_waiting() {
                    self.make_place_for_scraper(context);
                    context.run_again(token);
                }
                return;
            }
            let scraper = match AdminEndpoint::accept(listener, now) {
                Admission::Scraper(scraper) => Source::Scraper(Box::new(scraper)),
                Admission::Nothing => return,
                Admission::NothingBefore(at) => return context.set_deadline(token, at),
            };
            match context.insert(scraper, CONNECTION_INTEREST, Stage::Connections) {
                Ok(scraper) => {
                    context.set_deadline(scraper, self.admin.took_in(scraper, now));
                    self.serve_scraper(context, scraper);
                }
                Err(error) => log::debug!("admin: a connection can't be polled: {}", describe(&error)),
            }
        }
        context.run_again(token);
    }

    fn make_place_for_scraper(&mut self, context: &mut Context<Source>) {
        let has_asked =
            |token| matches!(context.get(token), Some(Source::Scraper(scraper)) if scraper.has_asked());
        if let Some(token) = self.admin.to_give_way(has_asked) {
            self.close_scraper(context, token, "gave its place to another one");
        }
    }

    fn serve_scraper(&mut self, context: &mut Context<Source>, token: Token) {
        let (now, listening) = (context.now(), self.is_listening());
        let in_the_loop = context.len() + self.connections.pipe_descriptors();
        let Some(Source::Scraper(scraper)) = context.get_mut(token) else { return };
        let Router { admin, acceptor, connections, datagrams, counters, process, shutdown, .. } = self;
        let mut status = || Status {
            figures: figures(
                acceptor,
                connections,
                datagrams.counts(now),
                counters,
                process.figures(in_the_loop),
            ),
            not_accepting: not_accepting(acceptor, counters, shutdown, listening),
        };
        match admin.pump(scraper, &mut status, now) {
            Next::Wait => {}
            Next::Again => context.run_again(token),
            Next::Close(end) => self.close_scraper(context, token, &format!("{end:?}")),
        }
    }

    fn close_scraper(&mut self, context: &mut Context<Source>, token: Token, reason: &str) {
        let Some(Source::Scraper(scraper)) = context.get_mut(token) else { return };
        self.admin.close(token, scraper, reason);
        context.remove(token);
    }

    /// Logs the figures, as warnings, so that they appear with `--quiet` too.
    fn report(&mut self, context: &Context<Source>) {
        let listening = self.is_listening();
        let Router { acceptor, connections, datagrams, counters, process, shutdown, .. } = self;
        let in_the_loop = context.len() + connections.pipe_descriptors();
        let (datagrams, process) = (datagrams.counts(context.now()), process.figures(in_the_loop));
        for line in figures(acceptor, connections, datagrams, counters, process).lines() {
            log::warn!("report: {line}");
        }
        if let Some(reason) = not_accepting(acceptor, counters, shutdown, listening) {
            log::warn!("report: not accepting: {reason}");
        }
    }
}

fn connections(context: &Context<Source>) -> Vec<Token> {
    let is_connection = |token: &Token| {
        matches!(context.get(*token), Some(Source::Connection(_) | Source::AwaitingHeader(_)))
    };
    context.tokens().filter(is_connection).collect()
}

fn figures(
    acceptor: &Acceptor,
    connections: &Connections,
    datagrams: DatagramCounts,
    counters: &Counters,
    process: ProcessFigures,
) -> Figures {
    Figures {
        counters: counters.clone(),
        connections_allowed: acceptor.limit(),
        pauses_of_reading: connections.pauses_of_reading(),
        buffers: connections.buffer_bytes(),
        pipes_in_use: connections.pipes_in_use(),
        datagrams,
        process,
    }
}

fn not_accepting(
    acceptor: &Acceptor,
    counters: &Counters,
    shutdown: &Shutdown,
    listening: bool,
) -> Option<NotAccepting> {
    if shutdown.has_begun() {
        Some(NotAccepting::Stopping)
    } else if !listening {
        Some(NotAccepting::Enough)
    } else if acceptor.is_blocked() {
        Some(NotAccepting::Exhausted)
    } else if acceptor.is_full(counters) {
        Some(NotAccepting::Full { limit: acceptor.limit() })
    } else {
        None
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Connection(client) => client.socket().as_fd(),
            Source::AwaitingHeader(awaiting) => awaiting.as_fd(),
            Source::Listener(listener) | Source::AdminListener(listener) => listener.as_fd(),
            Source::Datagrams(socket) => socket.as_fd(),
            Source::Stop(signal) => signal.as_fd(),
            Source::Report(signal) => signal.as_fd(),
            Source::Scraper(scraper) => scraper.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_at_most_128_bytes() {
        let bytes = Context::<Source>::BYTES_PER_SOURCE;
        assert!(bytes <= 128, "{bytes} bytes");
    }
}
