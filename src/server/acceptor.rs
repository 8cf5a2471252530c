//! The acceptor: takes connections from listeners, and pauses at the limit or when descriptors run out.
//!
//! Listeners are edge-triggered: no event repeats that connections wait in the backlog, not even when a descriptor
//! becomes free. So the acceptor remembers each listener that it left before the backlog was empty, and returns to it.

use std::io;
use std::mem;
use std::time::Duration;

use super::counters::Counters;
use super::options::{ServerOptions, WhenFull};
use crate::net::{Accept, AcceptError, Listener, Peer, Socket};
use crate::reactor::{Moment, Token};
use crate::system::describe;

/// Connections that one listener may bring in a turn: a storm of new ones must not keep the open ones waiting.
pub(super) const ACCEPTS_PER_TURN: usize = 64;
/// When nothing tells that descriptors are free again, try after this time, and after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_millis(500);

/// All listeners of the server, and the reasons not to accept from them at present.
pub(super) struct Acceptor {
    limit: usize,
    when_full: WhenFull,
    max_accepts: Option<u64>,
    listeners: Vec<Token>,
    /// Listeners that were left before their backlog was empty.
    waiting: Vec<Token>,
    /// From the first failure to the next success.
    exhausted: Option<Episode>,
    /// Connections that closed in this turn. Their descriptors close at its end.
    freed: usize,
    /// The limit was reached, and the log says so; it says so again only after the limit was left.
    full: bool,
}

/// What a listener offers.
pub(super) enum Offer {
    /// A connection to take in.
    Connection(Socket, Peer),
    /// One connection failed or was refused: ask for the next.
    Next,
    /// Nothing, until an event or [`Acceptor::turn_ended`] names the listener.
    Nothing,
    /// Nothing before this moment.
    NothingBefore(Moment),
    /// Nothing ever again: the listener is broken.
    Broken(io::Error),
}

struct Episode {
    since: Moment,
    retry: Duration,
}

impl Acceptor {
    pub(super) fn new(options: &ServerOptions, limit: usize) -> Acceptor {
        Acceptor {
            limit,
            when_full: options.when_full,
            max_accepts: options.max_accepts,
            listeners: Vec::new(),
            waiting: Vec::new(),
            exhausted: None,
            freed: 0,
            full: false,
        }
    }

    pub(super) fn add(&mut self, listener: Token) {
        self.listeners.push(listener);
    }

    /// Asks a listener for a connection; `first`: for the first in this turn.
    pub(super) fn ask(
        &mut self,
        token: Token,
        listener: &mut Listener,
        first: bool,
        counters: &mut Counters,
        now: Moment,
    ) -> Offer {
        // Connections that closed in this turn still have their descriptors: new ones could need more than there are.
        if self.when_full == WhenFull::Wait && counters.open + self.freed >= self.limit {
            if self.is_full(counters) {
                self.note_full(counters);
            }
            self.wait(token);
            return Offer::Nothing;
        }
        // An event says that one waits. Mostly it is the only one.
        let next = if first || listener.has_waiting() { listener.accept() } else { Accept::Drained };
        match next {
            Accept::Drained => {
                // Only an empty backlog leaves the limit, and not each connection that ends while others wait.
                self.full &= self.is_full(counters);
                // `accept` allocates a descriptor before it looks at the backlog, so one was free.
                self.end_exhaustion(now);
                Offer::Nothing
            }
            Accept::Connection(socket, peer) => {
                self.end_exhaustion(now);
                if self.is_full(counters) {
                    self.note_full(counters);
                    counters.refused += 1;
                    log::debug!("{peer}: refused");
                    return Offer::Next;
                }
                Offer::Connection(socket, peer)
            }
            Accept::Failed(AcceptError::ThisConnection, error) => {
                log::debug!("a connection failed before it was accepted: {}", describe(&error));
                Offer::Next
            }
            Accept::Failed(AcceptError::Exhausted, error) => {
                Offer::NothingBefore(self.exhausted(token, &error, counters, now))
            }
            Accept::Failed(AcceptError::Listener, error) => Offer::Broken(error),
        }
    }

    /// A connection closed, and its descriptor closes at the end of the turn.
    pub(super) fn descriptor_freed(&mut self) {
        self.freed += 1;
    }

    /// After a turn, when its closed connections have given their descriptors back: the listeners to return to.
    pub(super) fn turn_ended(&mut self, counters: &Counters) -> Vec<Token> {
        if mem::take(&mut self.freed) == 0 {
            return Vec::new();
        }
        if self.waiting.is_empty() {
            self.full &= self.is_full(counters);
        }
        if self.is_full(counters) { Vec::new() } else { mem::take(&mut self.waiting) }
    }

    /// Forgets all listeners, and returns them for the loop to close.
    pub(super) fn close(&mut self) -> Vec<Token> {
        self.waiting.clear();
        mem::take(&mut self.listeners)
    }

    /// No listener is left.
    pub(super) fn is_closed(&self) -> bool {
        self.listeners.is_empty()
    }

    /// As many connections were accepted as were asked for.
    pub(super) fn has_enough(&self, counters: &Counters) -> bool {
        self.max_accepts.is_some_and(|most| counters.accepted >= most)
    }

    pub(super) fn is_full(&self, counters: &Counters) -> bool {
        counters.open >= self.limit
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.is_some()
    }

    /// The most connections at once.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    fn wait(&mut self, listener: Token) {
        if !self.waiting.contains(&listener) {
            self.waiting.push(listener);
        }
    }

    fn note_full(&mut self, counters: &mut Counters) {
        if !mem::replace(&mut self.full, true) {
            let what = match self.when_full {
                WhenFull::Wait => {
                    counters.pauses_at_limit += 1;
                    "new ones wait"
                }
                WhenFull::Refuse => "new ones are refused",
            };
            log::warn!("the limit of {} connections is reached: {what}", self.limit);
        }
    }

    /// Returns when to try again. One line an episode, not one an attempt.
    fn exhausted(&mut self, token: Token, error: &io::Error, counters: &mut Counters, now: Moment) -> Moment {
        let episode = self.exhausted.get_or_insert_with(|| {
            counters.pauses_exhausted += 1;
            log::warn!(
                "accepting is paused: {}; open connections go on (`echoloop doctor` names the limit and what raises it)",
                describe(error)
            );
            Episode { since: now, retry: FIRST_RETRY }
        });
        let at = now + episode.retry;
        episode.retry = (episode.retry * 2).min(LAST_RETRY);
        self.wait(token);
        at
    }

    fn end_exhaustion(&mut self, now: Moment) {
        if let Some(episode) = self.exhausted.take() {
            log::info!("accepting again after {:.1?}", now.since(episode.since));
        }
    }
}
