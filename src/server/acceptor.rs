//! The acceptor: takes connections from listeners, and pauses at the limit or when descriptors run out.
//!
//! Listeners are edge-triggered. The kernel does not repeat the event while connections wait in the backlog, not even
//! when a descriptor becomes free. So the acceptor remembers each listener that it left before the backlog was empty,
//! and returns to it.

use std::io;
use std::mem;
use std::time::Duration;

use super::counters::Counters;
use super::options::{ServerOptions, WhenFull};
use crate::net::{Accept, AcceptError, Listener, Peer, Socket, classify_accept_error};
use crate::reactor::{Moment, Token};
use crate::system::describe;

/// The most connections that one listener brings in a turn: a storm of new ones must not keep the open ones waiting.
pub(super) const ACCEPTS_PER_TURN: usize = 64;
/// No event tells that the machine has descriptors again. So try again after this time, and after twice as long each
/// time that this fails.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_millis(500);
/// An episode of failures is over after this time without one. Under churn, successes and failures alternate.
const QUIET: Duration = Duration::from_secs(1);
/// The acceptor logs at most one warning in this time.
const WARNING_EVERY: Duration = Duration::from_secs(1);
/// If so many connections in a row fail before `accept`, this is no bad luck: pause, rather than spin.
const MOST_FAILED_IN_A_ROW: usize = ACCEPTS_PER_TURN;

/// The listeners of the server, and the reasons not to accept from them at present.
#[derive(Default)]
pub(super) struct Acceptor {
    limit: usize,
    when_full: WhenFull,
    max_accepts: Option<u64>,
    listeners: Vec<Token>,
    /// Listeners that the acceptor left before their backlog was empty.
    waiting: Vec<Token>,
    failures: Option<Episode>,
    /// Connections that failed before `accept`, counted since the last one that did not.
    failed_in_a_row: usize,
    /// Connections that closed in this turn. Their descriptors close at its end.
    freed: usize,
    /// The server is at its limit of connections. To reach the limit anew, it first has to leave it.
    full: bool,
    full_told: bool,
    /// When the acceptor last warned.
    warned: Option<Moment>,
}

/// The offer of a listener.
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

/// Failures to accept, with less than [`QUIET`] between them.
struct Episode {
    since: Moment,
    last: Moment,
    count: u64,
    retry: Duration,
    /// When an attempt first succeeded after the last failure.
    free_since: Option<Moment>,
    /// The log has mentioned the episode.
    told: bool,
}

impl Acceptor {
    pub(super) fn new(options: &ServerOptions, limit: usize) -> Acceptor {
        let ServerOptions { when_full, max_accepts, .. } = *options;
        Acceptor { limit, when_full, max_accepts, ..Acceptor::default() }
    }

    pub(super) fn add(&mut self, listener: Token) {
        self.listeners.push(listener);
    }

    /// Asks a listener for a connection; `first`: the first in this turn.
    pub(super) fn ask(
        &mut self,
        token: Token,
        listener: &mut Listener,
        first: bool,
        counters: &mut Counters,
        now: Moment,
    ) -> Offer {
        // Connections that closed in this turn keep their descriptors until it ends. Together with new ones they could
        // need more than there are.
        if self.when_full == WhenFull::Wait && counters.open + self.freed >= self.limit {
            if self.is_full(counters) {
                self.note_full(counters, now);
            }
            self.wait(token);
            return Offer::Nothing;
        }
        // The event says that a connection waits. Usually no second one does, so ask before the second `accept`.
        let next = if first || listener.has_waiting() { listener.accept() } else { Accept::Drained };
        match next {
            Accept::Drained => {
                // From now on an event tells of the next connection. An earlier `accept` could find every descriptor in
                // use, and pause although nobody waits.
                self.waiting.retain(|waiting| *waiting != token);
                // Only an empty backlog counts as leaving the limit. A connection that ends while others wait does not.
                self.full &= self.is_full(counters);
                // `accept` allocates a descriptor before it looks at the backlog, so one was free.
                self.succeeded(now);
                // No event tells that an episode is over.
                let quiet = self.failures.as_ref().map(|episode| episode.last + QUIET);
                quiet.map_or(Offer::Nothing, Offer::NothingBefore)
            }
            Accept::Connection(socket, peer) => {
                self.succeeded(now);
                if self.is_full(counters) {
                    self.note_full(counters, now);
                    counters.summary.refused += 1;
                    log::debug!("{peer}: refused: the limit of {} connections is reached", self.limit);
                    return Offer::Next;
                }
                Offer::Connection(socket, peer)
            }
            Accept::Failed(AcceptError::Listener, error) => Offer::Broken(error),
            Accept::Failed(AcceptError::ThisConnection, error)
                if self.failed_in_a_row < MOST_FAILED_IN_A_ROW =>
            {
                self.failed_in_a_row += 1;
                log::debug!("a connection failed before it was accepted: {}", describe(&error));
                Offer::Next
            }
            Accept::Failed(_, error) => Offer::NothingBefore(self.failed(token, &error, counters, now)),
        }
    }

    /// A connection closed, and its descriptor closes at the end of the turn.
    pub(super) fn descriptor_freed(&mut self) {
        self.freed += 1;
    }

    /// After a turn, once its closed connections have given their descriptors back. Returns the listeners to return to.
    pub(super) fn turn_ended(&mut self, counters: &Counters) -> Vec<Token> {
        if mem::take(&mut self.freed) == 0 {
            return Vec::new();
        }
        if self.waiting.is_empty() {
            self.full &= self.is_full(counters);
        }
        if self.is_full(counters) {
            return Vec::new();
        }
        let mut listeners = mem::take(&mut self.waiting);
        // The first may take every place. They wait again in this order, so next time another one is the first.
        if !listeners.is_empty() {
            listeners.rotate_left(1);
        }
        listeners
    }

    /// Pauses accepting, after accepting or polling a new connection has failed. Returns when to ask the listener
    /// again.
    pub(super) fn failed(
        &mut self,
        token: Token,
        error: &io::Error,
        counters: &mut Counters,
        now: Moment,
    ) -> Moment {
        self.failed_in_a_row = 0;
        self.wait(token);
        let may_warn = self.may_warn(now);
        let episode = self.failures.get_or_insert_with(|| {
            counters.pauses_exhausted += 1;
            Episode { since: now, last: now, count: 0, retry: FIRST_RETRY, free_since: None, told: false }
        });
        episode.count += 1;
        episode.last = now;
        episode.free_since = None;
        if !episode.told && may_warn {
            episode.told = true;
            self.warned = Some(now);
            log::warn!(
                "the server pauses accepting: {}; open connections go on{}",
                describe(error),
                remedy(error)
            );
        }
        let at = now + episode.retry;
        episode.retry = (episode.retry * 2).min(LAST_RETRY);
        at
    }

    /// Forgets a listener.
    pub(super) fn remove(&mut self, listener: Token) {
        self.listeners.retain(|token| *token != listener);
        self.waiting.retain(|token| *token != listener);
    }

    /// Forgets all listeners, and returns them for the loop to close.
    pub(super) fn close(&mut self) -> Vec<Token> {
        self.waiting.clear();
        mem::take(&mut self.listeners)
    }

    /// True if no listener is left.
    pub(super) fn is_closed(&self) -> bool {
        self.listeners.is_empty()
    }

    /// True if the server has accepted as many connections as its options ask for.
    pub(super) fn has_enough(&self, counters: &Counters) -> bool {
        self.max_accepts.is_some_and(|most| counters.accepted >= most)
    }

    pub(super) fn is_full(&self, counters: &Counters) -> bool {
        counters.open >= self.limit
    }

    /// True if the last attempt to accept failed.
    pub(super) fn is_blocked(&self) -> bool {
        self.failures.as_ref().is_some_and(|episode| episode.free_since.is_none())
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

    fn note_full(&mut self, counters: &mut Counters, now: Moment) {
        let waits = self.when_full == WhenFull::Wait;
        if !mem::replace(&mut self.full, true) {
            self.full_told = false;
            counters.pauses_at_limit += u64::from(waits);
        }
        if !self.full_told && self.may_warn(now) {
            self.full_told = true;
            self.warned = Some(now);
            let fate = if waits { "new ones wait" } else { "new ones are refused" };
            log::warn!(
                "the limit of {} connections is reached: {fate} (--max-connections sets it; `echoloop doctor` names \
                 the largest)",
                self.limit
            );
        }
    }

    fn succeeded(&mut self, now: Moment) {
        self.failed_in_a_row = 0;
        let Some(episode) = &mut self.failures else { return };
        let free_since = *episode.free_since.get_or_insert(now);
        episode.retry = FIRST_RETRY;
        let Episode { since, last, count, told, .. } = *episode;
        if now.since(last) < QUIET {
            return;
        }
        self.failures = None;
        if told {
            self.warned = Some(now);
            let paused = free_since.since(since);
            log::info!("the server accepts again after {paused:.1?} and {count} failed attempts");
        }
    }

    fn may_warn(&self, now: Moment) -> bool {
        self.warned.is_none_or(|last| now.since(last) >= WARNING_EVERY)
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match classify_accept_error(error) {
        AcceptError::Exhausted => " (`echoloop doctor` names the limit and what raises it)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ListenerOptions;

    const TOKEN: mio::Token = mio::Token(0);

    fn listener() -> Listener {
        let options = ListenerOptions {
            backlog: 8,
            reuse_port: false,
            keepalive: None,
            tcp_buffer: None,
            unix_mode: None,
        };
        let address = "127.0.0.1:0".parse().expect("an address");
        Listener::tcp(address, false, &options).expect("a free port")
    }

    #[test]
    fn a_listener_whose_backlog_is_empty_is_left_to_its_events() {
        let (token, now, mut listener) = (TOKEN.into(), Moment::now(), listener());
        let (mut acceptor, mut counters) = (Acceptor::new(&ServerOptions::default(), 8), Counters::default());
        acceptor.add(token);
        let none_left = io::Error::from(rustix::io::Errno::MFILE);
        acceptor.failed(token, &none_left, &mut counters, now);
        acceptor.descriptor_freed();
        assert_eq!(acceptor.turn_ended(&counters), [token], "a connection may wait");

        acceptor.failed(token, &none_left, &mut counters, now);
        let offer = acceptor.ask(token, &mut listener, true, &mut counters, now);
        assert!(matches!(offer, Offer::NothingBefore(_)), "nobody waits");
        acceptor.descriptor_freed();
        assert!(acceptor.turn_ended(&counters).is_empty());
    }
}
