//! One connection: a small state machine that never waits. An event tells it "you may read now" or "you may write now".
//!
//! ```text
//!   Connecting
//!       │ established
//!       ▼        end of input                  all answered and flushed
//!     Open ────────────────────► Draining ──────────────────────────────► Ended
//!      │ │                          ▲
//!      │ │ half_close               │ end of input
//!      │ └─────► HalfClosing ──► HalfClosed
//!      │              flushed: our side shut down, input still wanted
//!      │
//!      │ stop, or the service's last answer
//!      └───────► Stopping ─────► Lingering ─────────────────────────────► Ended
//!                     flushed: our side       the peer's end, or its deadline
//!                     shut down
//!
//!   From every phase: a reset, or no memory for its bytes ──────────────► Ended
//!   From HalfClosing too: end of input ──► Draining
//!   From Stopping too, if the input ends before its quota is read: end of input ──► Draining
//!   From HalfClosing and HalfClosed too: the last answer ──► Stopping
//! ```
//!
//! The connection *derives* its next action from its state in one place, `next_action`. [`Connection::pump`] performs
//! one action after another, until nothing is left to do or the connection has spent its *budget*: its share of the
//! turn, counted in bytes. Then other connections have their share. So whenever a pump returns, "the connection asks
//! for another turn" and "it can make progress" are the same fact.
//!
//! A stopped connection answers only the input that has arrived by then. It counts this *quota* of bytes down in
//! `Stopping`.
//!
//! | part | in |
//! |---|---|
//! | the path of the bytes: socket → read buffer → [`Service`] → write buffer → socket | `flow.rs` |
//! | the socket and its readiness | `wire.rs` |
//! | the read and the write buffer | `buffers.rs` |
//! | bulk input, which goes back through a pipe | `bulk.rs`, `pipes.rs` |
//! | the buffer for reads, and the *desk*: everything else that the connections of a loop share | `workspace.rs` |
//! | a record of the steps, if the program wants one | `journal.rs` |

use std::io;

use super::bounds::{Judgement, Timeout, Timeouts};
use super::flow::{Flow, InputEnd, Intake};
use super::journal::{Deed, Journal};
use super::phase::{End, Phase};
use super::service::Service;
use super::transport::Transport;
use super::wire::Wire;
use super::workspace::{Desk, Workspace};
use crate::reactor::{Interest, Moment, Readiness};

/// The next step of the handler, after it has pumped a connection.
#[derive(Debug)]
pub enum Next {
    /// Nothing can be done until an event comes.
    Wait,
    /// Progress is possible right now, but the budget is spent: give it another turn.
    Again,
    /// It is over: remove it.
    Close(End),
}

/// One thing that [`Connection::pump`] can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Ask whether the handshake has ended.
    Establish,
    /// Write unsent bytes.
    Flush,
    /// Hand kept input to the service.
    Consume,
    /// End a pause that no flush will end, since nothing is unsent.
    Resume,
    /// Read input, and answer it.
    Read { at_most: usize },
    /// Shut our sending side down.
    ShutDown,
    /// Read input after our end, and throw it away.
    Discard,
    /// End: everything is answered and sent.
    Finish,
    /// Wait for an event.
    Nothing,
}

/// A connected stream with its state and its buffers.
#[derive(Debug)]
pub struct Connection<T> {
    flow: Flow<T>,
    phase: Phase,
}

impl<T: Transport> Connection<T> {
    /// A connection that has just been established.
    pub fn new(transport: T, now: Moment) -> Connection<T> {
        Connection { flow: Flow::new(Wire::new(transport, now)), phase: Phase::Open }
    }

    /// A connection whose handshake is under way (see [`connect`](super::connect)).
    pub fn connecting(transport: T, now: Moment) -> Connection<T> {
        Connection { flow: Flow::new(Wire::connecting(transport, now)), phase: Phase::Connecting }
    }

    /// Remembers the readiness that an event reported. Pump the connection afterwards.
    #[inline]
    pub fn note(&mut self, readiness: Readiness) {
        self.flow.wire.note(readiness);
    }

    /// Performs one action after another, until none is possible or the budget of the turn is spent.
    #[inline(always)] // A call would save its caller's registers a second time.
    pub fn pump(&mut self, service: &mut impl Service, workspace: &mut Workspace, now: Moment) -> Next {
        let Workspace { input, desk } = workspace;
        desk.now = now;
        desk.budget = desk.limits.turn_budget;
        loop {
            let action = self.next_action(desk);
            if action == Action::Nothing {
                return Next::Wait;
            }
            if desk.budget == 0 {
                return Next::Again;
            }
            let price = match action {
                Action::Read { at_most } => self.read(service, &mut input[..at_most], desk),
                action => self.perform(action, service, input, desk),
            };
            match price {
                // Even an action that moved nothing costs something, or a transport that is interrupted for ever
                // would hold the loop.
                Ok(price) => desk.budget = desk.budget.saturating_sub(price.max(1)),
                Err(end) => {
                    self.enter(Phase::Ended, &mut desk.journal);
                    return Next::Close(end);
                }
            }
        }
    }

    /// Sends bytes that answer no input, such as a greeting. They go out in order with the answers.
    ///
    /// # Errors
    /// When the connection turns out to be gone.
    pub fn send(&mut self, bytes: &[u8], workspace: &mut Workspace, now: Moment) -> io::Result<()> {
        workspace.desk.now = now;
        if bytes.is_empty() { Ok(()) } else { self.flow.offer(bytes, &mut workspace.desk) }
    }

    /// Begins to end an open connection: it answers the input that has arrived by now, flushes, shuts our side down,
    /// and lingers until the peer ends too. Pump it afterwards. In any other phase this does nothing.
    ///
    /// # Errors
    /// When the socket can't say how much has arrived.
    pub fn stop(&mut self, workspace: &mut Workspace) -> io::Result<()> {
        if self.phase == Phase::Open {
            // A peer that never ceases to send must not keep us: only input that is here already counts.
            let arrived = u32::try_from(self.transport().pending_input()?).unwrap_or(u32::MAX);
            self.enter(Phase::Stopping { quota: arrived }, &mut workspace.desk.journal);
            // Input may have arrived after the last poll, and its event is still pending. Read now, and do not trust a
            // short read.
            self.note(Readiness::READABLE | Readiness::PRIORITY);
        }
        Ok(())
    }

    /// Ends our sending side as soon as nothing is unsent; the service goes on to get the peer's bytes. Pump it
    /// afterwards.
    pub fn half_close(&mut self, workspace: &mut Workspace) {
        if self.phase == Phase::Open {
            self.enter(Phase::HalfClosing, &mut workspace.desk.journal);
        }
    }

    /// Gives the buffers back, with the bytes in them. Call this before the connection is removed.
    pub fn abandon(&mut self, workspace: &mut Workspace) {
        self.flow.abandon(&mut workspace.desk);
    }

    /// Judges a connection whose deadline is due. **A deadline is a hint, like an event**: a process that was stopped
    /// and continued finds all deadlines due before it has read one byte, and the kernel reports room to write only
    /// when a third of a large send buffer is free, long after a slow peer has begun to take. So this reads and writes
    /// first, and judges by the bytes that moved. When the peer takes bytes from the kernel's send buffer, the kernel
    /// takes as many from us.
    pub fn judge(
        &mut self,
        service: &mut impl Service,
        workspace: &mut Workspace,
        timeouts: &Timeouts,
        now: Moment,
    ) -> Judgement {
        let mut again = false;
        if self.deadline(timeouts).is_some_and(|(at, _)| at <= now) {
            self.note(Readiness::READABLE | Readiness::WRITABLE | Readiness::PRIORITY);
            again = match self.pump(service, workspace, now) {
                Next::Wait => false,
                Next::Again => true,
                Next::Close(end) => return Judgement::Ended(end),
            };
        }
        match self.deadline(timeouts) {
            Some((at, timeout)) if at <= now => Judgement::TimedOut(timeout),
            deadline => Judgement::Alive { again, deadline: deadline.map(|(at, _)| at) },
        }
    }

    /// The socket's new registration, if it has to change: on a Unix stream the loop watches writability only while
    /// something waits for room. Ask after each pump, unless the connection [is at ease](Connection::is_at_ease), and
    /// [reregister](crate::reactor::Context::reregister) the socket.
    pub fn new_interest(&mut self) -> Option<Interest> {
        let wants_room = self.phase == Phase::Connecting || self.flow.wire.is_paused() || self.unsent() > 0;
        self.flow.wire.new_interest(wants_room && !self.flow.wire.is_writable())
    }

    /// Whether the connection is open, holds no bytes and waits for no room. Then its only deadline is that of the idle
    /// timeout, and activity can only put it off. So a handler that has set this deadline need not ask for another one
    /// before it is due, nor for a new registration.
    #[inline]
    pub fn is_at_ease(&self) -> bool {
        self.is_open_and_empty() && self.flow.wire.is_at_ease()
    }

    /// The nearest moment at which a timeout strikes if nothing happens until then, and which timeout it is. Each call
    /// derives the moment from the last activity, so activity moves no timer.
    pub fn deadline(&self, timeouts: &Timeouts) -> Option<(Moment, Timeout)> {
        let last_activity = self.flow.wire.last_activity();
        match self.phase {
            Phase::Lingering => return Some((last_activity + timeouts.linger, Timeout::Linger)),
            Phase::Ended => return None,
            _ => {}
        }
        // Without memory for a write buffer a paused connection may hold nothing: its input waits in the kernel until
        // there is room for the answer. The peer has made no room since the last activity, or the connection would have
        // used it.
        let stalled_since =
            self.flow.held().stalled_since().or(self.flow.wire.is_paused().then_some(last_activity));
        timeouts.nearest(last_activity, stalled_since)
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes read from the peer.
    pub fn received(&self) -> u64 {
        self.flow.wire.received()
    }

    /// Bytes that the kernel took from us.
    pub fn sent(&self) -> u64 {
        self.flow.wire.sent()
    }

    /// Bytes read but thrown away unanswered, because we had begun to end the connection.
    pub fn discarded(&self) -> u64 {
        self.flow.discarded()
    }

    /// Bytes of answers that the kernel has not taken yet: the write buffer.
    pub fn unsent(&self) -> usize {
        self.flow.held().unsent()
    }

    /// Bytes of input that we have read and not answered yet: the read buffer.
    pub fn retained(&self) -> usize {
        self.flow.held().retained()
    }

    /// Whether the socket may have something to read, as far as events and reads tell.
    pub fn is_readable(&self) -> bool {
        self.flow.wire.is_readable()
    }

    /// Whether the socket may have room, as far as events and writes tell.
    pub fn is_writable(&self) -> bool {
        self.flow.wire.is_writable()
    }

    /// Whether the connection does not read the socket, because the peer takes its answers too slowly.
    pub fn is_paused(&self) -> bool {
        self.flow.wire.is_paused()
    }

    /// The socket.
    pub fn transport(&self) -> &T {
        self.flow.wire.transport()
    }

    #[inline]
    fn is_open_and_empty(&self) -> bool {
        self.phase == Phase::Open && self.flow.held().is_empty()
    }

    /// The most urgent action that is possible now. Unsent answers go out before the service gets more input, kept
    /// input goes to the service before the next read, and a connection ends when neither is left.
    #[inline(always)] // Each echo passes here twice, and would pay for two calls.
    fn next_action(&self, desk: &Desk) -> Action {
        let may_read = self.flow.wire.is_readable() && !self.flow.wire.is_paused();
        // The usual case. The rules of `next_rare_action` give the same action; this shortcut makes an echo faster.
        if self.is_open_and_empty() && !self.flow.wire.is_paused() {
            return if may_read { Action::Read { at_most: desk.limits.read_size } } else { Action::Nothing };
        }
        self.next_rare_action(desk, may_read)
    }

    /// The rules for all states, the most urgent first.
    #[inline(never)]
    fn next_rare_action(&self, desk: &Desk, may_read: bool) -> Action {
        let (unsent, retained) = (self.flow.held().unsent(), self.flow.held().retained());
        match self.phase {
            Phase::Ended => return Action::Nothing,
            Phase::Connecting if self.is_writable() => return Action::Establish,
            Phase::Connecting => return Action::Nothing,
            _ => {}
        }
        if unsent > 0 && self.is_writable() {
            return Action::Flush;
        }
        if retained > 0 {
            return if unsent < desk.write_limit() { Action::Consume } else { Action::Nothing };
        }
        if self.is_paused() && unsent == 0 && self.is_writable() {
            return Action::Resume;
        }
        // The kernel may refuse an answer, which then needs a place. Without memory for buffers there is a place only
        // while nothing is unsent: the input stays in the kernel until its answer has gone.
        let finds_place = unsent == 0 || !desk.pool.exhausted;
        let (may_read, read_size) = (may_read && finds_place, desk.limits.read_size);
        match self.phase {
            Phase::HalfClosing if unsent == 0 => Action::ShutDown,
            Phase::Open | Phase::HalfClosing | Phase::HalfClosed if may_read => {
                Action::Read { at_most: read_size }
            }
            Phase::Stopping { quota } if quota > 0 && self.is_readable() => {
                // Before it has read its quota, the connection waits for room rather than shut our side down.
                let at_most = read_size.min(quota as usize);
                if may_read { Action::Read { at_most } } else { Action::Nothing }
            }
            Phase::Stopping { .. } if unsent == 0 => Action::ShutDown,
            Phase::Draining if unsent == 0 => Action::Finish,
            Phase::Lingering if self.is_readable() => Action::Discard,
            _ => Action::Nothing,
        }
    }

    /// Does one thing; returns its price. Out of line, where it takes no registers from an echo.
    #[inline(never)]
    fn perform(
        &mut self,
        action: Action,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
    ) -> Result<usize, End> {
        match action {
            Action::Establish => self.establish(desk),
            Action::Flush => Ok(self.flow.flush(desk)?),
            Action::Consume => {
                let intake = self.flow.consume(service, desk)?;
                Ok(self.note_intake(&intake, desk))
            }
            Action::Resume => {
                self.flow.wire.resume(0, desk);
                Ok(0)
            }
            Action::Discard => match self.flow.throw_away(input, desk)? {
                Some(0) => Err(End::Lingered),
                read => Ok(read.unwrap_or(0)),
            },
            Action::ShutDown => self.shut_down(desk),
            // The connection has read the end of input, so nothing can be unread: closing the socket sends our FIN, as
            // a shutdown would, and no reset.
            Action::Finish => Err(End::Finished),
            Action::Read { .. } | Action::Nothing => Ok(0),
        }
    }

    fn establish(&mut self, desk: &mut Desk) -> Result<usize, End> {
        if self.flow.wire.is_established().map_err(End::NotConnected)? {
            self.flow.wire.touch(desk.now);
            self.enter(Phase::Open, &mut desk.journal);
        }
        Ok(0)
    }

    fn shut_down(&mut self, desk: &mut Desk) -> Result<usize, End> {
        self.flow.wire.shut_down()?;
        // The time that the peer has to end counts from here.
        self.flow.wire.touch(desk.now);
        let next = if self.phase == Phase::HalfClosing { Phase::HalfClosed } else { Phase::Lingering };
        self.enter(next, &mut desk.journal);
        Ok(0)
    }

    #[inline(always)]
    fn read(&mut self, service: &mut impl Service, input: &mut [u8], desk: &mut Desk) -> Result<usize, End> {
        // Only an open connection splices: a splice heeds no quota, and its bytes go straight back to the peer.
        let intake = self.flow.take_in(service, input, self.phase == Phase::Open, desk)?;
        Ok(self.note_intake(&intake, desk))
    }

    /// Changes the phase as a step that brought input requires; returns the price of the step.
    #[inline(always)]
    fn note_intake(&mut self, intake: &Intake, desk: &mut Desk) -> usize {
        if let Phase::Stopping { quota } = &mut self.phase {
            // Once the socket has nothing to read, the connection has read all input that had arrived.
            let is_all_read = !self.flow.wire.is_readable();
            *quota = if is_all_read { 0 } else { quota.saturating_sub(intake.taken as u32) };
        }
        match intake.end {
            None => {}
            Some(InputEnd::Peer) => self.enter(Phase::Draining, &mut desk.journal),
            Some(InputEnd::LastAnswer) => self.enter(Phase::Stopping { quota: 0 }, &mut desk.journal),
        }
        intake.price
    }

    /// The only place where a connection changes its phase. (`note_intake` counts the quota of `Stopping` down in
    /// place: the phase stays the same.)
    #[cold]
    fn enter(&mut self, phase: Phase, journal: &mut Journal) {
        self.flow.wire.journal(Deed::Entered { from: self.phase, to: phase }, journal);
        self.phase = phase;
    }
}

#[cfg(test)]
mod tests;
