//! Taking connections in, and not taking them in: at the limit, and when descriptors run out.

use std::io;
use std::time::Duration;

use super::{Client, ProxyProtocol, Source, State, WhenFull};
use crate::net::{Accept, AcceptError, CONNECTION_INTEREST, Peer, Socket};
use crate::reactor::{Context, Handler, Moment, Readiness, Stage, Token};
use crate::server::error::Error;
use crate::system::describe;

/// Connections that one listener may take in a turn: a storm of new ones must not keep the open ones waiting.
const ACCEPTS_PER_TURN: usize = 64;
/// When nothing tells that descriptors are free again, try after this time, and after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_millis(500);

/// Why, and since when, connections wait in the backlog although there are some.
///
/// The listener is edge-triggered: while connections wait that were not accepted, no event tells of them again, not
/// even when a descriptor becomes free. Whoever stops accepting has to remember to go on.
#[derive(Default)]
pub(super) struct Pause {
    /// Listeners that were left before they were drained.
    waiting: Vec<Token>,
    /// Set from the first failure for lack of descriptors or memory to the next success.
    exhausted: Option<Episode>,
    /// Connections that were closed in this turn. Their descriptors are, at its end.
    freed: usize,
    /// The limit of connections was reached and said; said again only after it was left.
    full: bool,
    /// How often each of the two has begun.
    times_full: u64,
    times_exhausted: u64,
}

/// Whether it pays to read from a connection as soon as it is accepted. Who speaks first and at once has often spoken
/// by then, and is answered a turn sooner. For those who only hold a connection open it is a wasted call, so after
/// each disappointment it is left out twice as often, up to 63 times in 64.
#[derive(Default)]
pub(super) struct FirstRead {
    left_out: u32,
    to_leave_out: u32,
}

impl FirstRead {
    fn is_promising(&mut self) -> bool {
        let promising = self.left_out >= self.to_leave_out;
        self.left_out = if promising { 0 } else { self.left_out + 1 };
        promising
    }

    fn learn(&mut self, found: bool) {
        self.to_leave_out = if found { 0 } else { (2 * self.to_leave_out + 1).min(63) };
    }
}

struct Episode {
    since: Moment,
    retry: Duration,
}

impl Pause {
    fn wait(&mut self, listener: Token) {
        if !self.waiting.contains(&listener) {
            self.waiting.push(listener);
        }
    }
}

impl State {
    /// Accepts until nothing waits, the budget is spent, or no more may come in.
    pub(super) fn accept(&mut self, context: &mut Context<Source>, token: Token) {
        for accepted in 0..ACCEPTS_PER_TURN {
            // Those closed in this turn still have their descriptors: taking others in for them could need more than
            // there are.
            if self.open + self.pause.freed >= self.max_connections
                && self.options.when_full == WhenFull::Wait
            {
                if self.is_full() {
                    self.note_full();
                }
                self.pause.wait(token);
                return;
            }
            let Some(Source::Listener(listener)) = context.get_mut(token) else { return };
            // The event says that one waits. Mostly it is the only one.
            let next =
                if accepted == 0 || listener.has_waiting() { listener.accept() } else { Accept::Drained };
            match next {
                Accept::Drained => {
                    // Nobody waits any more: only now is the limit left, and not whenever one leaves and the next
                    // one comes in.
                    self.pause.full &= self.is_full();
                    // There was a descriptor: accept takes one before it looks for anybody, and where it was not
                    // called, the one before it had one. So accepting is paused no longer, even if nobody comes for
                    // hours.
                    self.end_exhaustion(context);
                    return;
                }
                Accept::Connection(socket, peer) => self.admit(context, socket, peer),
                Accept::Failed(AcceptError::ThisConnection, error) => {
                    log::debug!("a connection failed before it was accepted: {}", describe(&error));
                }
                Accept::Failed(AcceptError::Exhausted, error) => {
                    self.begin_or_prolong_exhaustion(context, token, &error);
                    return;
                }
                Accept::Failed(AcceptError::Listener, error) => {
                    self.fail(context, error.into());
                    return;
                }
            }
            if self.options.max_accepts.is_some_and(|most| self.accepted >= most) {
                self.close_listeners(context);
                return;
            }
        }
        // There may be more, and no event will say so.
        context.run_again(token);
    }

    fn admit(&mut self, context: &mut Context<Source>, socket: Socket, peer: Peer) {
        self.end_exhaustion(context);
        if self.is_full() {
            self.note_full();
            self.summary.refused += 1;
            log::debug!("{peer}: refused");
            return;
        }
        if self.options.proxy_protocol == ProxyProtocol::Require {
            return self.await_header(context, socket, peer);
        }
        let source = Source::Connection(Client::new(socket, peer, context.now()));
        let Some(token) = self.take_in(context, source, peer) else { return };
        if self.begin_serving(context, token, None) && self.first_read.is_promising() {
            self.read_at_once(context, token);
        }
    }

    /// Puts what was accepted into its slot.
    pub(super) fn take_in(
        &mut self,
        context: &mut Context<Source>,
        source: Source,
        peer: Peer,
    ) -> Option<Token> {
        match context.insert(source, CONNECTION_INTEREST, Stage::Connections) {
            Ok(token) => {
                self.accepted += 1;
                self.open += 1;
                self.summary.most_at_once = self.summary.most_at_once.max(self.open);
                Some(token)
            }
            Err(error) => {
                log::warn!("{peer}: dropped, since it can't be polled: {}", describe(&error));
                None
            }
        }
    }

    /// Counts a connection that is served from now on, greets it, and gives it a row in the trace. It is in its slot by
    /// now, so that one which is gone before it was greeted ends as any other does. False: it has ended so.
    pub(super) fn begin_serving(
        &mut self,
        context: &mut Context<Source>,
        token: Token,
        by_way: Option<Peer>,
    ) -> bool {
        let now = context.now();
        let Some(Source::Connection(Client { connection, peer, .. })) = context.get_mut(token) else {
            return false;
        };
        let peer = *peer;
        match by_way {
            Some(proxy) => log::info!("connection from {peer} (by way of {proxy})"),
            None => log::info!("connection from {peer}"),
        }
        self.summary.served += 1;
        let greeting = self.echo.greeting(&peer, connection.transport());
        let greeted = connection.send(greeting, &mut self.workspace, now);
        if let Some((at, _)) = connection.deadline(&self.timeouts) {
            context.set_deadline(token, at);
        }
        if let Some(trace) = &mut self.trace {
            trace.opened(token, &peer);
            trace.record(token, self.workspace.take_journal());
        }
        match greeted {
            Ok(()) => true,
            Err(error) => {
                self.break_off(context, token, error);
                false
            }
        }
    }

    /// Does not wait for the event that a new connection's input makes; the event comes all the same, and finds less
    /// to do.
    fn read_at_once(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Connection(client)) = context.get_mut(token) else { return };
        client.connection.note(Readiness::READABLE);
        self.resume(context, token);
        // What has ended meanwhile had sent something, if only its end.
        let found = match context.get(token) {
            Some(Source::Connection(client)) => client.connection.received() > 0,
            _ => true,
        };
        self.first_read.learn(found);
    }

    pub(super) fn is_full(&self) -> bool {
        self.open >= self.max_connections
    }

    fn note_full(&mut self) {
        if !std::mem::replace(&mut self.pause.full, true) {
            let what = match self.options.when_full {
                WhenFull::Wait => {
                    self.pause.times_full += 1;
                    "new ones wait"
                }
                WhenFull::Refuse => "new ones are refused",
            };
            log::warn!("the limit of {} connections is reached: {what}", self.max_connections);
        }
    }

    /// One line an episode, not one an attempt.
    fn begin_or_prolong_exhaustion(
        &mut self,
        context: &mut Context<Source>,
        token: Token,
        error: &io::Error,
    ) {
        let Pause { exhausted, times_exhausted, .. } = &mut self.pause;
        let episode = exhausted.get_or_insert_with(|| {
            *times_exhausted += 1;
            log::warn!(
                "accepting is paused: {}; open connections go on (`echoloop doctor` names the limit and what raises it)",
                describe(error)
            );
            Episode { since: context.now(), retry: FIRST_RETRY }
        });
        context.set_deadline(token, context.now() + episode.retry);
        episode.retry = (episode.retry * 2).min(LAST_RETRY);
        self.pause.wait(token);
    }

    fn end_exhaustion(&mut self, context: &Context<Source>) {
        if let Some(episode) = self.pause.exhausted.take() {
            log::info!("accepting again after {:.1?}", context.now().since(episode.since));
        }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.pause.exhausted.is_some()
    }

    /// How often accepting was paused: at the limit of connections, and for lack of descriptors or memory.
    pub(super) fn accept_pauses(&self) -> (u64, u64) {
        (self.pause.times_full, self.pause.times_exhausted)
    }

    /// To be called for each connection that was closed.
    pub(super) fn descriptor_freed(&mut self) {
        self.pause.freed += 1;
    }

    /// At the end of a turn, when what was closed in it is really closed.
    pub(super) fn resume_accepting(&mut self, context: &mut Context<Source>) {
        if std::mem::take(&mut self.pause.freed) == 0 {
            return;
        }
        if self.pause.waiting.is_empty() {
            self.pause.full &= self.is_full();
        }
        if !self.is_full() {
            for token in self.pause.waiting.drain(..) {
                context.run_again(token);
            }
        }
    }

    /// Nobody else is let in. Connections that wait may go to another process that has the port; datagrams that have
    /// arrived are in our sockets, and are answered first.
    pub(super) fn close_listeners(&mut self, context: &mut Context<Source>) {
        for token in self.listeners.drain(..) {
            context.deregister(token);
            context.remove(token);
        }
        self.datagrams.close(context);
        self.pause.waiting.clear();
    }

    fn fail(&mut self, context: &mut Context<Source>, error: Error) {
        self.failure = Some(error);
        context.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_connections_are_seldom_read_at_once_and_talkative_ones_always() {
        let mut first_read = FirstRead::default();
        let mut tries = |found: bool| {
            (0..6400)
                .filter(|_| {
                    let promising = first_read.is_promising();
                    if promising {
                        first_read.learn(found);
                    }
                    promising
                })
                .count()
        };
        assert!((100..=110).contains(&tries(false)));
        assert!(tries(true) >= 6400 - 63, "one success is enough");
    }
}
