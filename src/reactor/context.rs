//! The handler's side of the reactor: sources, the run queue, deadlines and timers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::deadlines::Deadlines;
use super::moment::Moment;
use super::sources::{Sources, Stage, Token};
use super::timer::Timer;
use super::turn::Turn;

/// A [`Handler`](super::Handler) adds, finds and removes sources here, asks for another turn, sets deadlines, stops.
pub struct Context<S> {
    poll: Poll,
    sources: Sources<S>,
    run_queue: VecDeque<Token>,
    deadlines: Deadlines,
    timers: Deadlines,
    now: Moment,
    turn: Turn,
    stopped: bool,
}

impl<S: AsFd> Context<S> {
    pub(super) fn new() -> io::Result<Context<S>> {
        let mut timers = Deadlines::default();
        timers.reserve(Timer::MOST, Timer::MOST)?;
        Ok(Context {
            poll: Poll::new()?,
            sources: Sources::new(),
            run_queue: VecDeque::new(),
            deadlines: Deadlines::default(),
            timers,
            now: Moment::now(),
            turn: Turn::default(),
            stopped: false,
        })
    }

    /// Makes room for so many more sources, so that taking them in allocates nothing.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn reserve(&mut self, sources: usize) -> io::Result<()> {
        self.sources.reserve(sources)?;
        self.reserve_places(self.sources.taken().saturating_add(sources))
    }

    /// Makes room for the deadlines and the run queue entries of so many sources in all.
    fn reserve_places(&mut self, sources: usize) -> io::Result<()> {
        self.deadlines.reserve(sources, self.sources.capacity())?;
        let room = self.run_queue.capacity();
        if room < sources {
            let mut larger = VecDeque::new();
            larger.try_reserve_exact(sources.max(2 * room))?;
            larger.append(&mut self.run_queue);
            self.run_queue = larger;
        }
        Ok(())
    }

    /// Takes a source in and registers its descriptor, once in its life.
    ///
    /// # Errors
    /// When there is no memory for another source, or the kernel refuses the registration (see `epoll_ctl(2)`): out of
    /// memory, too many watches, or a regular file, which can't be polled (see [`Context::insert_unpolled`]). The
    /// source is dropped at the end of the turn.
    pub fn insert(&mut self, source: S, interest: Interest, stage: Stage) -> io::Result<Token> {
        let descriptor = source.as_fd().as_raw_fd();
        let token = self.insert_unpolled(source, stage)?;
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&descriptor), token.into(), interest)
        {
            self.remove(token);
            return Err(error);
        }
        Ok(token)
    }

    /// Takes a source in that the kernel can't poll, such as a regular file. It never gets an event;
    /// [`Context::run_again`] and deadlines drive it.
    ///
    /// # Errors
    /// When there is no memory for another source, or a token can't name it.
    pub fn insert_unpolled(&mut self, source: S, stage: Stage) -> io::Result<Token> {
        // The table, the run queue and the deadlines grow here alone, where a failure concerns the newcomer and nobody
        // else. Each doubles when it is full.
        let taken = self.sources.taken();
        if taken == self.sources.capacity() {
            self.sources.reserve(taken.max(16))?;
        }
        self.reserve_places(taken + 1)?;
        self.sources
            .insert(source, stage)
            .ok_or_else(|| io::Error::other("more sources than a token can name"))
    }

    /// Replaces the registration of a source. The kernel then reports its readiness anew. This also helps with
    /// descriptors whose readers never see `WouldBlock`, such as a blocking standard input.
    ///
    /// # Errors
    /// When the source is not registered, or the kernel refuses.
    pub fn reregister(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        let source = self.sources.get(token).ok_or(io::ErrorKind::NotFound)?;
        let descriptor = source.as_fd().as_raw_fd();
        self.poll.registry().reregister(&mut SourceFd(&descriptor), token.into(), interest)
    }

    /// Takes the source's descriptor out of the poll. Needed only if another process may hold the same socket, or this
    /// process a duplicate of the descriptor: the kernel keeps a registration until the last descriptor is closed, in
    /// whichever process, and would wake the loop for a source that is gone. Call this before [`Context::remove`]:
    /// afterwards it finds no source and does nothing.
    pub fn deregister(&mut self, token: Token) {
        let Some(source) = self.sources.get(token) else { return };
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&source.as_fd().as_raw_fd())) {
            log::debug!("cannot take {token:?} out of the poll: {error}");
        }
    }

    /// The source, unless it was removed.
    pub fn get(&self, token: Token) -> Option<&S> {
        self.sources.get(token)
    }

    /// The source, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, token: Token) -> Option<&mut S> {
        self.sources.get_mut(token)
    }

    /// Removes a source and its deadline; the reactor passes over its entry in the run queue. At the end of the turn
    /// the reactor drops the source, which closes its descriptor. Closing the only descriptor also deregisters it. (An
    /// inherited socket has another descriptor in the process that opened it: call [`Context::deregister`] first.)
    pub fn remove(&mut self, token: Token) {
        if self.sources.remove(token) {
            self.deadlines.clear(token.key());
        }
    }

    /// Puts the source at the end of the run queue, unless it is there already. The reactor calls
    /// [`Handler::resume`](super::Handler::resume) for it in a later turn, and does not sleep before that.
    pub fn run_again(&mut self, token: Token) {
        if self.sources.mark_queued(token) {
            if self.run_queue.len() == self.run_queue.capacity() {
                // There is room for an entry of each source, so some of the entries belong to sources that have gone.
                self.run_queue.retain(|queued| self.sources.is_queued(*queued));
            }
            self.run_queue.push_back(token);
        }
    }

    /// Whether the source waits in the run queue. If so, the handler only notes the events of the source.
    #[inline]
    pub fn is_queued(&self, token: Token) -> bool {
        !self.run_queue.is_empty() && self.sources.is_queued(token)
    }

    /// Sets the deadline of the source, instead of an earlier one.
    pub fn set_deadline(&mut self, token: Token, at: Moment) {
        if self.sources.get(token).is_some() {
            self.deadlines.set(token.key(), at);
        }
    }

    /// Sets the deadline of the source unless it has a nearer one. A handler whose deadline moves with every byte need
    /// not move it per byte: it leaves the old deadline in place, and sets the next one when the old one is due.
    pub fn set_deadline_no_later_than(&mut self, token: Token, at: Moment) {
        if self.deadlines.get(token.key()).is_none_or(|set| at < set) {
            self.set_deadline(token, at);
        }
    }

    /// Takes the source's deadline away.
    pub fn clear_deadline(&mut self, token: Token) {
        if self.sources.get(token).is_some() {
            self.deadlines.clear(token.key());
        }
    }

    /// Sets a timer, or moves it.
    pub fn set_timer(&mut self, timer: Timer, at: Moment) {
        self.timers.set(timer.0.into(), at);
    }

    /// Takes a timer away.
    pub fn clear_timer(&mut self, timer: Timer) {
        self.timers.clear(timer.0.into());
    }

    /// The time at which this turn's poll returned.
    #[inline]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The record of this turn when the reactor calls [`Handler::turn_end`](super::Handler::turn_end); before that, of
    /// the last turn.
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// True if there is no source at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of all sources, in no particular order.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.sources.tokens()
    }

    /// Makes [`Reactor::run`](super::Reactor::run) return at the end of this turn.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether the handler has called [`Context::stop`]. This forgets the call.
    pub(super) fn take_stopped(&mut self) -> bool {
        std::mem::take(&mut self.stopped)
    }

    /// Waits for events; returns when the wait ended. Interrupted is an empty batch.
    pub(super) fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<Moment> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        // Read the clock once for the whole turn: everything in it happens "now".
        self.now = Moment::now();
        Ok(self.now)
    }

    /// How many entries the run queue has. Some of them may belong to sources that have gone.
    pub(super) fn queued(&self) -> usize {
        self.run_queue.len()
    }

    /// Takes the first entry out of the run queue; `None` if its source has gone.
    pub(super) fn pop_queued(&mut self) -> Option<Token> {
        self.run_queue.pop_front().filter(|&token| self.sources.clear_queued(token))
    }

    /// Takes out the deadline that has been due for the longest time; returns its source.
    pub(super) fn pop_due(&mut self) -> Option<Token> {
        // A deadline dies with its source, so each key here has a source.
        self.deadlines.pop_due(self.now).and_then(|key| self.sources.token_of_key(key))
    }

    /// Takes out a timer that is due.
    pub(super) fn pop_due_timer(&mut self) -> Option<Timer> {
        self.timers.pop_due(self.now).map(|key| Timer(key as u8))
    }

    /// When the next deadline or timer is due.
    pub(super) fn nearest(&self) -> Option<Moment> {
        match (self.deadlines.nearest(), self.timers.nearest()) {
            (Some(deadline), Some(timer)) => Some(deadline.min(timer)),
            (deadline, timer) => deadline.or(timer),
        }
    }

    /// Drops the sources that were removed in this turn.
    pub(super) fn free_removed(&mut self) {
        self.sources.free_removed();
    }

    pub(super) fn set_turn(&mut self, turn: Turn) {
        self.turn = turn;
    }

    /// How many entries of the run queue, and how many deadlines, fit the memory at hand.
    #[cfg(test)]
    pub(super) fn room(&self) -> [usize; 2] {
        [self.run_queue.capacity(), self.deadlines.room()]
    }

    /// The bytes that one source costs in the table: its slot and its place among the deadlines.
    #[cfg(test)]
    pub(crate) const BYTES_PER_SOURCE: usize = Sources::<S>::SLOT_SIZE + size_of::<u32>();
}
