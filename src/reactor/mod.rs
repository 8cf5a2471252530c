//! The reactor: a loop around one blocking call.
//!
//! It holds *sources* (anything with a descriptor) in a table and names each by a [`Token`]. It waits until the kernel
//! has *events* for some of them, and calls a [`Handler`] for each; the events of one wait are a *batch*. A handler
//! that could do more for a source, but has given it its share, puts the source into the *run queue*, and the reactor
//! calls again in a later turn. The reactor knows nothing of echo, of connections or even of sockets: its own tests
//! drive it with pipes. (Its [stages](Stage) are named after their use in the server; the reactor knows only their
//! order.)
//!
//! # A turn
//!
//! ```text
//!   timeout ◄── 0 if the run queue holds something or the loop polls busily, else until the nearest deadline or timer
//!      │
//!    poll            the only call that blocks; Interrupted is an empty batch
//!      │
//!   connections      Handler::ready for each event of the batch …
//!   listeners        … then for the listeners among them
//!   run queue        Handler::resume for at most sixteen entries, all of them queued before the poll
//!   deadlines        Handler::deadline for the due ones, then Handler::timer
//!   signals          Handler::ready for the signals, when everything else has settled
//!   end of turn      removed sources are dropped, their slots become free; Handler::turn_end
//! ```
//!
//! [`Reactor::turn`] is that list, line by line.
//!
//! # The bound of a turn
//!
//! An event that comes while a turn is under way waits until the turn ends, so a turn must be short. It consists of at
//! most [`EVENTS_PER_TURN`] events, [`RESUMES_PER_TURN`] entries of the run queue and [`DEADLINES_PER_TURN`] deadlines.
//! A handler gives each source at most one *share* of a turn: a bounded amount of work. Further entries and deadlines
//! keep their places for the next turn, which doesn't sleep; further events wait in the kernel. Two things are outside
//! this bound, since they are rare: due timers, each [`Timer`] at most once, and a signal to stop, for which a handler
//! may go through all sources.
//!
//! # The laws of readiness
//!
//! **Readiness is an edge.** A source is registered once, edge-triggered (mio offers nothing else on epoll): an event
//! says that something *became* possible, and the kernel does not repeat it while it stays possible. So a handler
//! remembers in its own state that a source is readable, and forgets it only when a call has answered `WouldBlock`, or
//! has proved that the next call would.
//!
//! **An event is a hint.** It says "look"; `read` and `write` tell the truth. `WouldBlock` at the first call is normal,
//! and so is an event for a source that the handler removed a moment ago (the handler finds no such source).
//!
//! **Stopping early is a promise to come back.** A handler that leaves a source before `WouldBlock`, to let other
//! sources have their share, calls [`Context::run_again`]: no event will come for bytes that are already there.
//!
//! **Interrupted is nothing.** A signal may end the wait. The turn then goes on with an empty batch, and the next turn
//! computes its timeout anew from absolute deadlines.

mod context;
mod deadlines;
mod handler;
mod moment;
mod readiness;
mod sources;
mod timer;
mod turn;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::Events;

pub use self::context::Context;
pub use self::handler::Handler;
pub use self::moment::Moment;
pub use self::readiness::Readiness;
pub use self::sources::{Stage, Token};
pub use self::timer::Timer;
pub use self::turn::{Turn, TurnTimes};

/// The registration of a source; see [`mio::Interest`].
pub use mio::Interest;

/// The largest batch. A larger one would save little, since 256 events share one call already, and would keep the run
/// queue waiting.
pub const EVENTS_PER_TURN: usize = 256;

/// Entries of the run queue that have their share in a turn. A connection of the server moves up to a quarter of a
/// megabyte in its share, so sixteen take about a millisecond: the run queue adds no more to a turn, however many are
/// queued. The batch comes on top: each of its [`EVENTS_PER_TURN`] events may take a share as well, and a listener of
/// the server accepts up to 64 connections in its share.
pub const RESUMES_PER_TURN: usize = 16;

/// Deadlines that the handler gets in a turn. A process that was stopped finds all of them due when it goes on, and the
/// handler makes some system calls for each.
pub const DEADLINES_PER_TURN: usize = 256;

/// The loop. `S` is the handler's [`Source`](Handler::Source).
pub struct Reactor<S> {
    events: Events,
    context: Context<S>,
    /// Events of this batch whose [`Stage`] comes later in the turn. This list and the next two are empty between
    /// turns, and keep their memory.
    late: Vec<(Token, Readiness)>,
    /// Sources whose deadline is due in this turn.
    due: Vec<Token>,
    due_timers: Vec<Timer>,
    /// How long to poll without sleeping after each event.
    busy_poll: Duration,
    /// Until then the loop does not sleep.
    spin_until: Option<Moment>,
    /// Deadlines are punctual to less than a millisecond.
    prompt: bool,
    /// Each turn reads the clock between its parts.
    timed: bool,
}

impl<S: AsFd> Reactor<S> {
    /// A reactor without sources.
    ///
    /// # Errors
    /// When the kernel gives no poll descriptor (see `epoll_create1(2)`).
    pub fn new() -> io::Result<Reactor<S>> {
        Ok(Reactor {
            events: Events::with_capacity(EVENTS_PER_TURN),
            context: Context::new()?,
            late: Vec::with_capacity(EVENTS_PER_TURN),
            due: Vec::with_capacity(DEADLINES_PER_TURN),
            due_timers: Vec::with_capacity(Timer::MOST),
            busy_poll: Duration::ZERO,
            spin_until: None,
            prompt: false,
            timed: false,
        })
    }

    /// Makes the loop poll without blocking for `time` after each event before it goes to sleep. This spends a whole
    /// core to save the time that the kernel takes to wake a sleeping process. With zero, the default, the loop sleeps
    /// at once.
    pub fn set_busy_poll(&mut self, time: Duration) {
        self.busy_poll = time;
    }

    /// Makes deadlines punctual. The kernel waits for whole milliseconds, rounded up, so the handler may get a deadline
    /// a millisecond late. With this, the loop sleeps until shortly before the deadline and polls without sleeping for
    /// the rest, which takes up to a whole core while deadlines are less than a millisecond apart.
    pub fn set_prompt_deadlines(&mut self, prompt: bool) {
        self.prompt = prompt;
    }

    /// Makes each turn read the clock between its parts, for [`Turn::times`]. Otherwise the loop reads it once a turn,
    /// and once more before it waits for a deadline.
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
        self.context.take_stopped();
        while !self.context.take_stopped() {
            self.turn(handler)?;
        }
        Ok(())
    }

    /// Takes one turn: waits once, then calls the handler for everything that is due, within the bound of a turn.
    ///
    /// # Errors
    /// When polling itself fails, which no peer can cause.
    pub fn turn<H: Handler<Source = S>>(&mut self, handler: &mut H) -> io::Result<()> {
        let began = self.timed.then(Moment::now);
        let queued_before = self.context.queued();
        self.poll()?;
        let times = began.map(|began| TurnTimes::after_poll(began, self.context.now()));
        let mut turn = Turn { waiting: queued_before, times, ..Turn::default() };
        let Reactor { events, context, late, due, due_timers, .. } = self;

        for event in events.iter() {
            turn.events += 1;
            let (token, readiness) = (Token::from(event.token()), Readiness::from(event));
            match token.stage() {
                Stage::Connections => handler.ready(context, token, readiness),
                Stage::Listeners | Stage::Signals => late.push((token, readiness)),
            }
        }
        tell(handler, context, late, Stage::Listeners);
        turn.mark(|times| &mut times.batch_ended);

        // A source that queued itself in this turn has had its share of it.
        for _ in 0..queued_before {
            if turn.queued == RESUMES_PER_TURN {
                break;
            }
            if let Some(token) = context.pop_queued() {
                turn.queued += 1;
                handler.resume(context, token);
            }
        }
        turn.mark(|times| &mut times.run_queue_ended);

        // Take all of them out before the handler gets the first: a deadline that it sets to "now" waits for the next
        // turn.
        due.extend(std::iter::from_fn(|| context.pop_due()).take(DEADLINES_PER_TURN));
        turn.deadlines = due.len();
        for token in due.drain(..) {
            if context.get(token).is_some() {
                handler.deadline(context, token);
            }
        }
        due_timers.extend(std::iter::from_fn(|| context.pop_due_timer()));
        for timer in due_timers.drain(..) {
            handler.timer(context, timer);
        }
        turn.mark(|times| &mut times.deadlines_ended);

        tell(handler, context, late, Stage::Signals);
        late.clear();
        context.free_removed();
        turn.mark(|times| &mut times.ended);
        context.set_turn(turn);
        handler.turn_end(context);
        Ok(())
    }

    fn poll(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let now = self.context.wait(&mut self.events, timeout)?;
        if !self.busy_poll.is_zero() {
            if !self.events.is_empty() {
                self.spin_until = Some(now + self.busy_poll);
            } else if self.spin_until.is_some_and(|until| until <= now) {
                self.spin_until = None;
            }
        }
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        if self.context.queued() > 0 || self.spin_until.is_some() {
            return Some(Duration::ZERO);
        }
        // Measure from this moment, not from the start of the turn: a long turn must not make deadlines late.
        let left = self.context.nearest()?.since(Moment::now());
        Some(if self.prompt { sleep_before(left) } else { left })
    }
}

/// Calls the handler for the events of one late stage, unless their sources were removed meanwhile.
fn tell<H: Handler>(
    handler: &mut H,
    context: &mut Context<H::Source>,
    late: &[(Token, Readiness)],
    stage: Stage,
) {
    for &(token, readiness) in late.iter().filter(|(token, _)| token.stage() == stage) {
        if context.get(token).is_some() {
            handler.ready(context, token, readiness);
        }
    }
}

/// How long to sleep before a deadline that is `left` away: whole milliseconds, since the kernel's wait counts in
/// these, and a little less, since the kernel may wake the process late.
fn sleep_before(left: Duration) -> Duration {
    const WAKE_UP: Duration = Duration::from_micros(150);
    let milliseconds = left.saturating_sub(WAKE_UP).as_millis();
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
