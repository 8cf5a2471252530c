//! The router knows the kind of each source in the reactor. It hands every event to the part that owns the source, and
//! carries out that part's decision: keep the source, queue it or remove it.

use std::io;
use std::time::Duration;

use super::acceptor::{ACCEPTS_PER_TURN, Acceptor, Offer};
use super::admin::{AdminEndpoint, Process};
use super::connections::{Client, Connections, Step, Urgency};
use super::counters::Summary;
use super::datagrams::{Datagrams, Served};
use super::error::Error;
use super::proxy_header::{AwaitingHeader, Refusal};
use super::shutdown::Shutdown;
use super::source::Source;
use super::vitals::Vitals;
use crate::net::{Peer, Socket};
use crate::reactor::{Context, Handler, Interest, Moment, Readiness, Stage, Timer, Token};
use crate::system::describe;

/// After a request to stop, connections have time to end until this timer is due.
const DRAIN: Timer = Timer(0);

/// The parts of the server.
pub(super) struct Router {
    pub(super) acceptor: Acceptor,
    /// How long a PROXY header may take, if one is required.
    pub(super) header_timeout: Option<Duration>,
    pub(super) connections: Connections,
    pub(super) datagrams: Datagrams,
    pub(super) admin: AdminEndpoint,
    pub(super) process: Process,
    pub(super) shutdown: Shutdown,
}

impl Handler for Router {
    type Source = Source;

    #[inline(always)] // In the loop over the events, which saves its registers once and not at each event.
    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        let (now, is_queued) = (context.now(), context.is_queued(token));
        let Some(Source::Connection(client)) = context.get_mut(token) else {
            return self.ready_otherwise(context, token, readiness);
        };
        let step = self.connections.ready(token, client, readiness, is_queued, now);
        self.follow(context, token, step);
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        match context.get_mut(token) {
            Some(Source::Connection(client)) => {
                let step = self.connections.pump(token, client, now);
                self.follow(context, token, step);
            }
            _ => self.look(context, token),
        }
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        match context.get_mut(token) {
            Some(Source::Connection(client)) => {
                let step = self.connections.deadline(token, client, now);
                self.follow(context, token, step);
            }
            Some(Source::AwaitingHeader(_)) => {
                // The header may have come with this very turn.
                self.read_header(context, token, false);
                self.refuse(context, token, &Refusal::Late);
            }
            Some(Source::Scraper(_)) => {
                let (admin, mut vitals) = self.admin(now);
                admin.cut_off(context, token, &mut vitals);
            }
            _ => self.look(context, token),
        }
    }

    fn timer(&mut self, context: &mut Context<Source>, timer: Timer) {
        if timer == DRAIN {
            self.cut_off(context, Urgency::DrainOver);
        }
    }

    fn turn_end(&mut self, context: &mut Context<Source>) {
        if !self.connections.turn_ended(context.turn()) {
            self.process.descriptor_closed();
        }
        for listener in self.acceptor.turn_ended(&self.connections.counters) {
            context.run_again(listener);
        }
        self.admin.turn_ended();
        if !self.is_listening() && self.connections.counters.open == 0 {
            context.stop();
        }
    }
}

/// Sources other than connections.
impl Router {
    /// Handles an event for one of them.
    #[inline(never)]
    fn ready_otherwise(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        if let Some(Source::Scraper(scraper)) = context.get_mut(token) {
            scraper.note(readiness);
        }
        if context.is_queued(token) {
            // The source gets its next share from the run queue, and not two shares in one turn.
            return;
        }
        match context.get_mut(token) {
            Some(Source::AwaitingHeader(_)) => {
                self.read_header(context, token, readiness.has(Readiness::READ_CLOSED));
            }
            // Signals that come together are one request: SIGINT from a terminal, say, and SIGTERM from a supervisor.
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
            _ => self.look(context, token),
        }
    }

    /// Lets one of them do what it can.
    fn look(&mut self, context: &mut Context<Source>, token: Token) {
        match context.get_mut(token) {
            Some(Source::Listener(_)) => self.accept(context, token),
            Some(Source::Datagrams(socket)) => match self.datagrams.serve(socket) {
                Served::All => {}
                Served::Some => context.run_again(token),
                Served::Failed { retry } => context.set_deadline(token, context.now() + retry),
            },
            Some(Source::AdminListener(_)) => {
                let (admin, mut vitals) = self.admin(context.now());
                admin.accept(context, token, &mut vitals);
            }
            Some(Source::Scraper(_)) => {
                let (admin, mut vitals) = self.admin(context.now());
                admin.serve(context, token, &mut vitals);
            }
            Some(Source::Connection(_) | Source::AwaitingHeader(_)) => {}
            Some(Source::Stop(_) | Source::Report(_)) | None => {}
        }
    }

    /// The admin endpoint, and the parts that it reports on.
    fn admin(&mut self, now: Moment) -> (&mut AdminEndpoint, Vitals<'_>) {
        let Router { acceptor, connections, datagrams, process, shutdown, admin, .. } = self;
        (admin, Vitals { acceptor, connections, datagrams, process, shutdown, now })
    }

    fn report(&mut self, context: &Context<Source>) {
        let (_, mut vitals) = self.admin(context.now());
        vitals.log(context.len());
    }
}

/// Connections.
impl Router {
    /// Accepts until the backlog is empty, the budget is spent, or the acceptor lets no more in.
    fn accept(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        for accepted in 0..ACCEPTS_PER_TURN {
            let Some(Source::Listener(listener)) = context.get_mut(token) else { return };
            match self.acceptor.ask(token, listener, accepted == 0, &mut self.connections.counters, now) {
                Offer::Connection(socket, peer) => {
                    if let Err(error) = self.take_in(context, socket, peer) {
                        let at = self.acceptor.failed(token, &error, &mut self.connections.counters, now);
                        return context.set_deadline(token, at);
                    }
                }
                Offer::Next => {}
                Offer::Nothing => return,
                Offer::NothingBefore(at) => return context.set_deadline(token, at),
                Offer::Broken(error) => return self.close_listener(context, token, error),
            }
            if self.acceptor.has_enough(&self.connections.counters) {
                return self.close_listeners(context);
            }
        }
        // More connections may wait, and no event will tell.
        context.run_again(token);
    }

    /// # Errors
    /// When the kernel can't poll one more. Then this has closed the connection, and counted it as refused.
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
                self.connections.counters.summary.refused += 1;
                return Err(error);
            }
        };
        self.connections.counters.took_in();
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

    /// Serves the connection if its header is complete; refuses it if no header will come.
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
        awaiting.refuse(refusal, &mut self.connections.counters, context.now());
        self.remove_connection(context, token);
    }

    fn begin(&mut self, context: &mut Context<Source>, token: Token, proxy: Option<Peer>) {
        let now = context.now();
        let Some(Source::Connection(client)) = context.get_mut(token) else { return };
        let step = self.connections.begin(token, client, proxy, now);
        self.follow(context, token, step);
        if self.shutdown.has_begun() {
            // The header came while the other connections ended. Answer the input behind it.
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

    #[inline(never)] // A plain echo never comes here.
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

    /// Closes a connection that the kernel can't poll any more.
    fn break_off(&mut self, context: &mut Context<Source>, token: Token, error: io::Error) {
        let now = context.now();
        if let Some(Source::Connection(client)) = context.get_mut(token) {
            self.connections.break_off(token, client, error, now);
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
        log::info!("stopping: {} connections have {time} to end", self.connections.counters.open);
        self.close_listeners(context);
        for token in connections(context) {
            // A connection whose header is still to come is stopped when the header has come.
            self.stop_connection(context, token);
        }
        context.set_timer(DRAIN, context.now() + self.shutdown.drain);
    }

    fn stop_at_once(&mut self, context: &mut Context<Source>) {
        let (connections, before) =
            (self.connections.counters.open, self.connections.counters.summary.bytes_cut_off);
        self.cut_off(context, Urgency::SecondSignal);
        if connections > 0 {
            let bytes = self.connections.counters.summary.bytes_cut_off - before;
            self.shutdown.fail(Error::StoppedAtOnce { connections, bytes });
        }
        context.stop();
    }

    fn stop_connection(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        let Some(Source::Connection(client)) = context.get_mut(token) else { return };
        let step = self.connections.stop(token, client, now);
        self.follow(context, token, step);
    }

    /// Closes all connections that are still open.
    fn cut_off(&mut self, context: &mut Context<Source>, urgency: Urgency) {
        let now = context.now();
        for token in connections(context) {
            // The header may have come with this very turn.
            self.read_header(context, token, false);
            if let Some(Source::Connection(client)) = context.get_mut(token) {
                let step = self.connections.cut_off(token, client, urgency, now);
                self.follow(context, token, step);
            }
            self.refuse(context, token, &Refusal::Stopped);
        }
    }

    /// Closes the listeners and the UDP sockets. Connections in the backlog may go to another process that has the
    /// port. Datagrams that have arrived are in our sockets, so the server answers them first.
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

    /// Closes a broken listener. The others go on. If it was the last, the server ends in order, with a failure.
    fn close_listener(&mut self, context: &mut Context<Source>, token: Token, error: io::Error) {
        log::warn!("the server closes a broken listener: {}", describe(&error));
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

    /// The outcome of the server, after the loop.
    pub(super) fn outcome(mut self) -> Result<Summary, Error> {
        self.connections.finish();
        let summary = self.connections.counters.summary(self.datagrams.final_counts());
        self.shutdown.outcome().map(|()| summary)
    }
}

fn connections(context: &Context<Source>) -> Vec<Token> {
    let is_connection = |token: &Token| context.get(*token).is_some_and(Source::is_connection);
    context.tokens().filter(is_connection).collect()
}
