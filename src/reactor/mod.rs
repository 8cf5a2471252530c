//! The reactor: a loop around one blocking call.
//!
//! It holds *sources* (anything with a descriptor) in a slab, waits until one of them is ready, and tells a
//! [`Handler`]. It knows nothing of echo, of connections or even of sockets: its own tests drive it with pipes.
//!
//! # A turn
//!
//! ```text
//!   timeout ◄── 0 if the run queue holds something, else until the nearest deadline
//!      │
//!    poll            the only call that blocks; Interrupted is an empty batch
//!      │
//!   connections      Handler::ready for each event of the batch …
//!   listeners        … then for the listeners among them
//!   run queue        Handler::resume for what was queued before this point, once each
//!   deadlines        Handler::deadline for each that is due
//!   signals          Handler::ready for the signals, when everything else has settled
//!   end of turn      removed sources are dropped, their slots become free; Handler::turn_end
//! ```
//!
//! [`Reactor::turn`] is that list, line by line.
//!
//! # The laws of readiness
//!
//! **Readiness is an edge.** A source is registered once, edge-triggered (mio offers nothing else on epoll): an event
//! says that something *became* possible, and is not repeated while it stays possible. So a handler remembers in its
//! own state that a source is readable, and forgets it only when a call has answered `WouldBlock`, or has proved that
//! the next one would.
//!
//! **An event is a hint.** It says "look"; the truth is what `read` and `write` return. `WouldBlock` at the first
//! call is normal, and so is an event for a source that was removed a moment ago (it is dropped here).
//!
//! **Stopping early is a promise to come back.** A handler that leaves off before `WouldBlock`, because others have
//! to be served as well, calls [`Context::run_again`]: there will be no event for what is already there.
//!
//! **Interrupted is nothing.** A signal may end the wait; the turn then goes on with an empty batch, and the time to
//! wait is computed anew from absolute deadlines.

mod deadlines;
mod moment;
mod sources;
mod turn;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Poll};

use self::deadlines::Deadlines;
use self::sources::Sources;

pub use self::moment::Moment;
pub use self::sources::{Stage, Token};
pub use self::turn::{Turn, TurnTimes};

/// What a source is registered for; see [`mio::Interest`].
pub use mio::Interest;

/// Events taken from the kernel at a time. A larger batch only delays the listeners and the run queue.
const EVENTS_PER_POLL: usize = 1024;

/// What is told when a source may have something to do.
///
/// None of its methods may block, and none returns an error: what goes wrong with one source is that source's end,
/// not the loop's. The token is the name that [`Context::insert`] gave; [`Context::get_mut`] has the source.
pub trait Handler {
    /// What the handler keeps for each registered descriptor; usually an enum of its kinds.
    type Source: AsFd;

    /// The source became ready.
    fn ready(&mut self, context: &mut Context<Self::Source>, token: Token, readiness: Readiness);

    /// It is the turn of a source that asked for it by [`Context::run_again`].
    fn resume(&mut self, context: &mut Context<Self::Source>, token: Token) {
        let _ = (context, token);
    }

    /// The deadline of the source is due, and taken out. All that are due in a turn are taken out before the first is
    /// told, so clearing or moving one then comes too late for this turn.
    fn deadline(&mut self, context: &mut Context<Self::Source>, token: Token) {
        let _ = (context, token);
    }

    /// Everything in this turn was handled, and what was removed has been dropped.
    fn turn_end(&mut self, context: &mut Context<Self::Source>) {
        let _ = context;
    }
}

/// What an event said; see "The laws of readiness" above for what it is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There may be bytes, a connection, or the end of input to read.
    pub readable: bool,
    /// There may be room to write, or a connect has ended.
    pub writable: bool,
    /// The peer has shut down its sending side, or the connection is gone.
    pub read_closed: bool,
    /// Our sending side is shut down, or the connection is gone.
    pub write_closed: bool,
    /// The kernel holds an error for the descriptor.
    pub error: bool,
    /// Something exceptional arrived, such as urgent data on a TCP socket.
    pub priority: bool,
}

impl From<&mio::event::Event> for Readiness {
    fn from(event: &mio::event::Event) -> Readiness {
        Readiness {
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            write_closed: event.is_write_closed(),
            error: event.is_error(),
            priority: event.is_priority(),
        }
    }
}

/// The loop. `S` is the handler's [`Source`](Handler::Source).
pub struct Reactor<S> {
    events: Events,
    context: Context<S>,
    /// Events of this batch that are to be told later in the turn.
    late: Vec<(Token, Stage, Readiness)>,
    due: Vec<Token>,
    busy_poll: Duration,
    spin_until: Option<Moment>,
    prompt: bool,
    timed: bool,
}

/// What a [`Handler`] may do: add, find and remove sources, ask for another turn, set deadlines, stop.
pub struct Context<S> {
    poll: Poll,
    sources: Sources<S>,
    run_queue: VecDeque<Token>,
    deadlines: Deadlines,
    now: Moment,
    turn: Turn,
    stopped: bool,
}

impl<S: AsFd> Reactor<S> {
    /// A reactor without sources.
    ///
    /// # Errors
    /// When the kernel gives no poll descriptor (see `epoll_create1(2)`).
    pub fn new() -> io::Result<Reactor<S>> {
        Ok(Reactor {
            events: Events::with_capacity(EVENTS_PER_POLL),
            context: Context {
                poll: Poll::new()?,
                sources: Sources::new(),
                run_queue: VecDeque::new(),
                deadlines: Deadlines::default(),
                now: Moment::now(),
                turn: Turn::default(),
                stopped: false,
            },
            late: Vec::new(),
            due: Vec::new(),
            busy_poll: Duration::ZERO,
            spin_until: None,
            prompt: false,
            timed: false,
        })
    }

    /// Makes the loop poll without blocking for `time` after each event before it goes to sleep. That trades a whole
    /// core for the time that the kernel takes to wake a sleeping process; zero, the default, always sleeps.
    pub fn set_busy_poll(&mut self, time: Duration) {
        self.busy_poll = time;
    }

    /// Makes deadlines punctual. The kernel's wait is counted in whole milliseconds, and rounded up: a deadline may be
    /// told of a millisecond late. With this, the loop sleeps until shortly before the deadline and polls without
    /// sleeping for the rest, which takes up to a whole core while deadlines are less than a millisecond apart.
    pub fn set_prompt_deadlines(&mut self, prompt: bool) {
        self.prompt = prompt;
    }

    /// Makes each turn read the clock between its parts, for [`Turn::times`]. A loop that is not watched reads it once
    /// a turn, and once more before it waits for a deadline.
    pub fn set_timed(&mut self, timed: bool) {
        self.timed = timed;
    }

    /// The sources, before the loop runs and after it ended.
    pub fn context(&mut self) -> &mut Context<S> {
        &mut self.context
    }

    /// Takes turns until [`Context::stop`].
    ///
    /// # Errors
    /// When polling itself fails, which no peer can cause.
    pub fn run<H: Handler<Source = S>>(&mut self, handler: &mut H) -> io::Result<()> {
        self.context.stopped = false;
        while !self.context.stopped {
            self.turn(handler)?;
        }
        Ok(())
    }

    /// Takes one turn: waits once, then tells the handler everything that is due.
    ///
    /// # Errors
    /// When polling itself fails, which no peer can cause.
    pub fn turn<H: Handler<Source = S>>(&mut self, handler: &mut H) -> io::Result<()> {
        let began = self.timed.then(Moment::now);
        self.poll()?;
        let mut times = began.map(|began| TurnTimes::after_poll(began, self.context.now));
        let Reactor { events, context, late, due, .. } = self;

        for event in events.iter() {
            let (token, readiness) = (Token::from(event.token()), Readiness::from(event));
            match context.sources.stage(token) {
                Some(Stage::Connections) => handler.ready(context, token, readiness),
                Some(stage) => late.push((token, stage, readiness)),
                None => log::trace!("{token:?}: {readiness:?} came after its source was removed"),
            }
        }
        for &(token, stage, readiness) in late.iter() {
            if stage == Stage::Listeners && context.sources.get(token).is_some() {
                handler.ready(context, token, readiness);
            }
        }

        TurnTimes::mark(&mut times, |times| &mut times.batch_ended);

        // Only as many as there are now: what queues itself again waits for the next turn, behind the others.
        let queued = context.run_queue.len();
        for _ in 0..queued {
            let Some(token) = context.run_queue.pop_front() else { break };
            if context.sources.clear_queued(token) {
                handler.resume(context, token);
            }
        }

        TurnTimes::mark(&mut times, |times| &mut times.run_queue_ended);

        // The due set is taken before any is told: a deadline set to "now" by a handler waits for the next turn.
        while let Some(key) = context.deadlines.pop_due(context.now) {
            due.extend(context.sources.token_of_key(key));
        }
        let deadlines = due.len();
        for token in due.drain(..) {
            if context.sources.get(token).is_some() {
                handler.deadline(context, token);
            }
        }
        TurnTimes::mark(&mut times, |times| &mut times.deadlines_ended);

        for (token, stage, readiness) in late.drain(..) {
            if stage == Stage::Signals && context.sources.get(token).is_some() {
                handler.ready(context, token, readiness);
            }
        }

        context.sources.free_removed();
        TurnTimes::mark(&mut times, |times| &mut times.ended);
        context.turn = Turn { events: events.iter().count(), queued, deadlines, times };
        handler.turn_end(context);
        Ok(())
    }

    fn poll(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        match self.context.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        // Read once for the whole turn: everything that happens in it happens "now".
        self.context.now = Moment::now();
        if !self.busy_poll.is_zero() {
            if !self.events.is_empty() {
                self.spin_until = Some(self.context.now + self.busy_poll);
            } else if self.spin_until.is_some_and(|until| until <= self.context.now) {
                self.spin_until = None;
            }
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.context.run_queue.is_empty() || self.spin_until.is_some() {
            return Some(Duration::ZERO);
        }
        // Measured from this moment, not from the start of the turn: a long turn must not make deadlines late.
        let left = self.context.deadlines.nearest()?.since(Moment::now());
        Some(if self.prompt { sleep_before(left) } else { left })
    }
}

/// How long to sleep if a deadline that is so far away is not to be missed: whole milliseconds, since that is what the
/// kernel is asked for, and early enough for a process that is woken a little late.
fn sleep_before(left: Duration) -> Duration {
    const WAKE_UP: Duration = Duration::from_micros(150);
    let milliseconds = left.saturating_sub(WAKE_UP).as_millis();
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

impl<S: AsFd> Context<S> {
    /// Takes a source in and registers its descriptor, once and for all of its life.
    ///
    /// # Errors
    /// When the kernel refuses the registration (see `epoll_ctl(2)`): out of memory, too many watches, or a regular
    /// file, which can't be polled (see [`Context::insert_unpolled`]). The source is dropped at the end of
    /// the turn.
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

    /// Takes a source in that the kernel can't poll, such as a regular file. It never gets an event; it is driven by
    /// [`Context::run_again`] and deadlines.
    ///
    /// # Errors
    /// When more sources are held than a token can name.
    pub fn insert_unpolled(&mut self, source: S, stage: Stage) -> io::Result<Token> {
        self.sources
            .insert(source, stage)
            .ok_or_else(|| io::Error::other("more sources than a token can name"))
    }

    /// Asks the kernel to report anew what is ready already. Only needed for descriptors that are read in a way that
    /// leaves no `WouldBlock` behind, such as a blocking standard input; sockets never need it.
    ///
    /// # Errors
    /// When the source is not registered, or the kernel refuses.
    pub fn reregister(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        let source = self.sources.get(token).ok_or(io::ErrorKind::NotFound)?;
        let descriptor = source.as_fd().as_raw_fd();
        self.poll.registry().reregister(&mut SourceFd(&descriptor), token.into(), interest)
    }

    /// Takes the source's descriptor out of the poll. Only needed if another process may hold the same socket, or a
    /// duplicate of the descriptor in this one: the kernel keeps a registration until the last descriptor is closed,
    /// wherever that is, and would wake the loop for a source that it no longer has. To be called before
    /// [`Context::remove`]: afterwards the source can't be found, and nothing is done.
    pub fn deregister(&mut self, token: Token) {
        let Some(source) = self.sources.get(token) else { return };
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&source.as_fd().as_raw_fd())) {
            log::debug!("{token:?}: cannot deregister: {error}");
        }
    }

    /// The source, unless it was removed.
    pub fn get(&self, token: Token) -> Option<&S> {
        self.sources.get(token)
    }

    /// The source, unless it was removed.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut S> {
        self.sources.get_mut(token)
    }

    /// Removes a source with all that hangs on it: its place in the run queue and its deadline. It is dropped, and
    /// its descriptor closed, at the end of the turn. No deregistration: closing the only descriptor is one. (Of an
    /// inherited socket there is another one in the process that it comes from: call [`Context::deregister`] first.)
    pub fn remove(&mut self, token: Token) {
        if self.sources.remove(token) {
            self.deadlines.clear(token.key());
        }
    }

    /// Puts the source into the run queue, unless it is there: its [`Handler::resume`] comes in this turn if the
    /// queue has not been run yet, else in the next, which then does not wait.
    pub fn run_again(&mut self, token: Token) {
        if self.sources.mark_queued(token) {
            self.run_queue.push_back(token);
        }
    }

    /// Sets the deadline of the source, instead of the one that it had.
    pub fn set_deadline(&mut self, token: Token, at: Moment) {
        if self.sources.get(token).is_some() {
            self.deadlines.set(token.key(), at);
        }
    }

    /// Sets the deadline of the source unless it has a nearer one. With it, a deadline that is put off by every byte
    /// costs nothing per byte: it is left where it is, and when it is due the handler looks and sets the next.
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

    /// The time at which this turn's poll returned.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// What the turn consisted of; complete when [`Handler::turn_end`] is called, and of the turn before until then.
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

    /// Makes [`Reactor::run`] return at the end of this turn.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// What one source costs in the table, in bytes: the slot and its place among the deadlines.
    #[cfg(test)]
    pub(crate) const BYTES_PER_SOURCE: usize = Sources::<S>::SLOT_SIZE + size_of::<u32>();
}

#[cfg(test)]
mod tests;
