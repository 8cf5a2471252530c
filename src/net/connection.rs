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
//!   From every phase: a reset ──────────────────────────────────────────► Ended
//!   From HalfClosing too: end of input ──► Draining
//!   From Stopping too, if the input ends before its quota is read: end of input ──► Draining
//!   From HalfClosing and HalfClosed too: the last answer ──► Stopping
//! ```
//!
//! Bytes flow one way: socket → read buffer → [`Service`] → write buffer → socket. Mostly both buffers are empty: the
//! service gets input straight from a read, and the kernel takes the answer. When the kernel has no room, the rest of
//! the answer stays in the write buffer; when that is full, the service gets no more input, and the connection is
//! *paused*: it does not read until half of the write buffer has gone.
//!
//! The connection *derives* the next thing to do from its state in one place, `next_action`. [`Connection::pump`] does
//! it until nothing is left to do, or until the connection has spent its *budget*, which is its *share* of the turn
//! counted in bytes: then others have theirs. So "the connection is queued for another turn" and "it can make progress"
//! are the same fact whenever a pump returns.
//!
//! A stop answers the input that has arrived by then and no more: this *quota* of bytes is counted down in `Stopping`.
//!
//! | part | in |
//! |---|---|
//! | the socket and its readiness | `wire.rs` |
//! | the read and the write buffer | `buffers.rs` |
//! | bulk input, which goes back through a pipe | `bulk.rs`, `pipes.rs` |
//! | input that is answered before it is read, when memory for buffers is used up | `peeked.rs` |
//! | the buffer for reads, and the *desk* with all else that the connections of a loop share | `workspace.rs` |
//! | a record of the steps, if somebody asked for it | `journal.rs` |

use std::io;

use super::bounds::{Judgement, Timeout, Timeouts};
use super::buffers::{Fed, Held, Spliced};
use super::journal::{Deed, Journal};
use super::peeked::Peeked;
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

/// The next thing that [`Connection::pump`] can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Ask whether the handshake has ended.
    Establish,
    /// Write unsent bytes.
    Flush,
    /// Hand kept input to the service.
    Consume,
    /// Let the socket be read again.
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
    wire: Wire<T>,
    held: Held,
    /// Bytes of input that nobody answers, because we had begun to end the connection.
    discarded: u64,
    phase: Phase,
}

impl<T: Transport> Connection<T> {
    /// A connection that has just been established.
    pub fn new(transport: T, now: Moment) -> Connection<T> {
        Connection {
            wire: Wire::new(transport, now),
            held: Held::default(),
            discarded: 0,
            phase: Phase::Open,
        }
    }

    /// A connection whose handshake is under way (see [`connect`](super::connect)).
    pub fn connecting(transport: T, now: Moment) -> Connection<T> {
        Connection {
            wire: Wire::connecting(transport, now),
            held: Held::default(),
            discarded: 0,
            phase: Phase::Connecting,
        }
    }

    /// Remembers the readiness that an event told. Pump the connection afterwards.
    #[inline]
    pub fn note(&mut self, readiness: Readiness) {
        self.wire.note(readiness);
    }

    /// Does everything that can be done, until nothing can or the budget of the turn is spent.
    #[inline(always)] // A call would save its caller's registers a second time.
    pub fn pump(&mut self, service: &mut impl Service, workspace: &mut Workspace, now: Moment) -> Next {
        let Workspace { input, desk } = workspace;
        desk.now = now;
        let mut budget = desk.limits.turn_budget;
        loop {
            let action = self.next_action(desk);
            if action == Action::Nothing {
                return Next::Wait;
            }
            if budget == 0 {
                return Next::Again;
            }
            let result = match action {
                Action::Read { at_most } => self.fill(service, &mut input[..at_most], desk, budget),
                action => self.perform(action, service, input, desk, budget),
            };
            match result {
                // Even an action that moved nothing costs something, or a transport that is interrupted for ever
                // would hold the loop.
                Ok(moved) => budget = budget.saturating_sub(moved.max(1)),
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
        if bytes.is_empty() { Ok(()) } else { self.held.offer(bytes, &mut self.wire, &mut workspace.desk) }
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

    /// Gives the buffers back with whatever they still hold, before the connection is removed.
    pub fn abandon(&mut self, workspace: &mut Workspace) {
        let Desk { pool, pipes, .. } = &mut workspace.desk;
        self.held.discard(pool, pipes);
    }

    /// Judges a connection whose deadline is due. **A deadline is a hint, like an event**: a process that was stopped
    /// and continued finds all deadlines due before it has read one byte, and the kernel reports room to write only
    /// when a third of a large send buffer is free, long after a slow peer has begun to take. So this reads and writes
    /// first, and judges by what moved. When the peer takes bytes from the kernel's send buffer, the kernel takes as
    /// many from us.
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

    /// The socket's registration from now on, if that has changed: on a Unix stream the loop watches writability only
    /// while something waits for room. Ask after each pump, unless the connection [is at ease](Connection::is_at_ease),
    /// and [reregister](crate::reactor::Context::reregister) the socket.
    pub fn new_interest(&mut self) -> Option<Interest> {
        let wants_room = self.phase == Phase::Connecting || self.wire.is_paused() || self.unsent() > 0;
        self.wire.new_interest(wants_room && !self.wire.is_writable())
    }

    /// Whether it is open and nothing of it waits. Then its only deadline is that of the idle timeout, which activity
    /// can only put off: a handler that has set it once need not look again before it is due. Nor has its registration
    /// changed.
    #[inline]
    pub fn is_at_ease(&self) -> bool {
        self.is_open_and_empty() && self.wire.is_at_ease()
    }

    /// The nearest moment at which a timeout strikes if nothing happens until then, and which timeout it is. It is
    /// derived from the last activity each time that it is asked for, so that activity costs no timer.
    pub fn deadline(&self, timeouts: &Timeouts) -> Option<(Moment, Timeout)> {
        let last_activity = self.wire.last_activity();
        match self.phase {
            Phase::Lingering => return Some((last_activity + timeouts.linger, Timeout::Linger)),
            Phase::Ended => return None,
            _ => {}
        }
        // Without memory for a buffer the bytes that wait for room are the peer's input, still in the kernel. There is
        // no room since the last byte that the kernel took, or the peer would have made some.
        let stalled_since = self.held.stalled_since().or(self.wire.is_paused().then_some(last_activity));
        timeouts.nearest(last_activity, stalled_since)
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes read from the peer.
    pub fn received(&self) -> u64 {
        self.wire.received()
    }

    /// Bytes that the kernel took from us.
    pub fn sent(&self) -> u64 {
        self.wire.sent()
    }

    /// Bytes read but thrown away unanswered, because we had begun to end the connection.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Bytes of answers that the kernel has not taken yet: the write buffer.
    pub fn unsent(&self) -> usize {
        self.held.unsent()
    }

    /// Bytes of input that were read and not answered yet: the read buffer.
    pub fn retained(&self) -> usize {
        self.held.retained()
    }

    /// Whether the socket may have something to read, as far as events and reads have told.
    pub fn is_readable(&self) -> bool {
        self.wire.is_readable()
    }

    /// Whether the socket may have room, as far as events and writes have told.
    pub fn is_writable(&self) -> bool {
        self.wire.is_writable()
    }

    /// Whether the socket is not read, because the peer takes its answers too slowly.
    pub fn is_paused(&self) -> bool {
        self.wire.is_paused()
    }

    /// The socket.
    pub fn transport(&self) -> &T {
        self.wire.transport()
    }

    #[inline]
    fn is_open_and_empty(&self) -> bool {
        self.phase == Phase::Open && self.held.is_empty()
    }

    /// The most urgent action that is possible now: replies go out before more input is taken in, kept input is
    /// consumed before more is read, and a connection ends when nothing is left of either.
    #[inline(always)] // Each echo passes here twice, and would pay for two calls.
    fn next_action(&self, desk: &Desk) -> Action {
        let may_read = self.wire.is_readable() && !self.wire.is_paused();
        // Nearly always. The rules of `next_rare_action` say the same of it; this makes an echo shorter.
        if self.is_open_and_empty() && !self.wire.is_paused() {
            return if may_read { Action::Read { at_most: desk.limits.read_size } } else { Action::Nothing };
        }
        self.next_rare_action(desk, may_read)
    }

    /// The rules for all states, the most urgent first.
    #[inline(never)]
    fn next_rare_action(&self, desk: &Desk, may_read: bool) -> Action {
        let (unsent, retained) = (self.held.unsent(), self.held.retained());
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
        // An answer that the kernel refuses must find a place: with bytes in a pipe, or without memory, only if nothing
        // waits yet.
        let finds_place = unsent == 0 || !desk.pool.exhausted && self.held.piped() == 0;
        let (may_read, read_size) = (may_read && finds_place, desk.limits.read_size);
        match self.phase {
            Phase::HalfClosing if unsent == 0 => Action::ShutDown,
            Phase::Open | Phase::HalfClosing | Phase::HalfClosed if may_read => {
                Action::Read { at_most: read_size }
            }
            Phase::Stopping { quota } if quota > 0 && self.is_readable() => {
                let at_most = read_size.min(quota as usize);
                if may_read { Action::Read { at_most } } else { Action::Nothing }
            }
            Phase::Stopping { .. } if unsent == 0 => Action::ShutDown,
            Phase::Draining if unsent == 0 => Action::Finish,
            Phase::Lingering if self.is_readable() => Action::Discard,
            _ => Action::Nothing,
        }
    }

    /// Does one thing; returns how many bytes it moved. Out of line, where it takes no registers from an echo.
    #[inline(never)]
    fn perform(
        &mut self,
        action: Action,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
        budget: usize,
    ) -> Result<usize, End> {
        match action {
            Action::Establish => return self.establish(desk),
            Action::Flush => return self.held.flush(&mut self.wire, desk).map_err(End::Reset),
            Action::Consume => return self.consume(service, desk, budget),
            Action::Resume => self.wire.resume(0, desk),
            Action::Discard => return self.throw_away(input, desk),
            Action::ShutDown => return self.shut_down(desk),
            // The connection read the end of input, so nothing can be unread: closing the socket sends our FIN and no
            // reset, as a shutdown would have done.
            Action::Finish => return Err(End::Finished),
            Action::Read { .. } | Action::Nothing => {}
        }
        Ok(0)
    }

    fn establish(&mut self, desk: &mut Desk) -> Result<usize, End> {
        if self.wire.is_established().map_err(End::NotConnected)? {
            self.wire.touch(desk.now);
            self.enter(Phase::Open, &mut desk.journal);
        }
        Ok(0)
    }

    fn shut_down(&mut self, desk: &mut Desk) -> Result<usize, End> {
        self.wire.shut_down().map_err(End::Reset)?;
        // From here on the peer has its time to end as well.
        self.wire.touch(desk.now);
        let next = if self.phase == Phase::HalfClosing { Phase::HalfClosed } else { Phase::Lingering };
        self.enter(next, &mut desk.journal);
        Ok(0)
    }

    /// Takes input in, and answers as much of it as the write buffer allows.
    #[inline(always)]
    fn fill(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
        budget: usize,
    ) -> Result<usize, End> {
        if (self.wire.bulk().is_large() || desk.pool.exhausted)
            && let Some(outcome) = self.fill_without_buffers(service, input, desk, budget)
        {
            return outcome;
        }
        let count = match self.wire.read(input, desk).map_err(End::Reset)? {
            Some(count @ 1..) => count,
            nothing => return Ok(self.read_nothing(nothing, desk)),
        };
        if count == desk.limits.read_size {
            self.wire.bulk().grow();
        }
        self.wire.touch(desk.now);
        self.count_down(count);
        if service.is_echo() && service.chunk() >= count && self.held.is_empty() {
            // Nearly always: one chunk that is its own answer, and nothing that it could overtake.
            let result = self.held.offer(&input[..count], &mut self.wire, desk);
            self.held.pause_if_full(&mut self.wire, desk);
            return result.map(|()| 2 * count).map_err(End::Reset);
        }
        self.answer(&input[..count], service, desk, budget)
    }

    /// Answers input, and keeps the rest for which the write buffer has no room.
    #[inline(never)] // Out of line, where it takes no registers from a plain echo.
    fn answer(
        &mut self,
        input: &[u8],
        service: &mut impl Service,
        desk: &mut Desk,
        budget: usize,
    ) -> Result<usize, End> {
        let fed = self.feed(input, service, desk, budget);
        if fed.consumed < input.len() {
            let rest = &input[fed.consumed..];
            self.held.retain(rest, &mut desk.pool, desk.now).map_err(End::Reset)?;
        }
        self.held.pause_if_full(&mut self.wire, desk);
        fed.result.map(|()| input.len() + fed.price).map_err(End::Reset)
    }

    /// A read brought the end of input, or `None`.
    #[cold]
    fn read_nothing(&mut self, end: Option<usize>, desk: &mut Desk) -> usize {
        match end {
            Some(_) => self.enter(Phase::Draining, &mut desk.journal),
            None => self.count_down(0),
        }
        0
    }

    /// Less of the quota is left. Input that had arrived is all read as soon as the socket has none.
    #[inline]
    fn count_down(&mut self, count: usize) {
        if let Phase::Stopping { quota } = &mut self.phase {
            *quota = if self.wire.is_readable() { quota.saturating_sub(count as u32) } else { 0 };
        }
    }

    /// `None`: neither way is possible now, and input has to be read into a buffer.
    #[cold]
    fn fill_without_buffers(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
        budget: usize,
    ) -> Option<Result<usize, End>> {
        let spliced = if self.wire.bulk().is_large() { self.splice(service, desk) } else { None };
        spliced.or_else(|| {
            desk.pool.exhausted.then(|| self.answer_peeked(service, input, desk, budget)).flatten()
        })
    }

    /// Sends input back without a copy: from the socket into a pipe, and from there into the socket. The pipe is the
    /// write buffer then, in the kernel.
    fn splice(&mut self, service: &impl Service, desk: &mut Desk) -> Option<Result<usize, End>> {
        // A splice stops at an urgent byte without a word, or with the word of an end: after an event that told of one of
        // them or of an error, and after a splice that returned 0, only reads tell the truth.
        let may_splice = self.is_open_and_empty() && !self.wire.reads_to_end();
        if !may_splice || !service.is_echo() || !self.transport().can_splice() {
            return None;
        }
        match self.held.splice(&mut self.wire, desk) {
            Ok(Spliced::Moved { price }) => Some(Ok(price)),
            Ok(Spliced::Nothing) => Some(Ok(0)),
            Ok(Spliced::Impossible) => None,
            Err(error) => Some(Err(End::Reset(error))),
        }
    }

    /// Answers input that still lies in the kernel, and then takes from there what was answered.
    fn answer_peeked(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
        budget: usize,
    ) -> Option<Result<usize, End>> {
        let peeked = Peeked::look(&self.wire, input)?;
        if !self.is_writable() {
            self.wire.pause(self.unsent(), desk);
            return Some(Ok(0));
        }
        let (consumed, price, result) = if service.is_echo() {
            match self.wire.write(peeked.bytes(), desk) {
                Ok(taken) => (taken, taken, Ok(())),
                Err(error) => (0, 0, Err(error)),
            }
        } else {
            let fed = self.feed(peeked.bytes(), service, desk, budget);
            (fed.consumed, fed.price, fed.result)
        };
        let is_rest_refused = consumed < peeked.bytes().len() && !self.is_writable();
        let taken = peeked.take(consumed, &mut self.wire, desk);
        self.count_down(consumed);
        if !self.held.is_empty() || is_rest_refused {
            self.wire.pause(self.unsent(), desk);
        }
        Some(taken.and(result).map(|()| consumed + price).map_err(End::Reset))
    }

    fn consume(&mut self, service: &mut impl Service, desk: &mut Desk, budget: usize) -> Result<usize, End> {
        let Some(retained) = self.held.take_retained() else { return Ok(0) };
        let fed = self.feed(retained.front(), service, desk, budget);
        self.held.put_retained_back(retained, fed.consumed, &mut desk.pool, desk.now);
        self.held.pause_if_full(&mut self.wire, desk);
        fed.result.map(|()| fed.consumed + fed.price).map_err(End::Reset)
    }

    /// Hands input to the service. After the last answer the rest of the input gets none.
    #[inline(always)]
    fn feed(&mut self, input: &[u8], service: &mut impl Service, desk: &mut Desk, budget: usize) -> Fed {
        let mut fed = self.held.feed(input, service, &mut self.wire, desk, budget);
        if fed.last {
            self.discarded += (input.len() - fed.consumed) as u64;
            fed.consumed = input.len();
            self.enter(Phase::Stopping { quota: 0 }, &mut desk.journal);
        }
        fed
    }

    /// Reads and discards. The peer's end or a reset is the end.
    fn throw_away(&mut self, input: &mut [u8], desk: &mut Desk) -> Result<usize, End> {
        match self.wire.read(input, desk).map_err(End::Reset)? {
            None => Ok(0),
            Some(0) => Err(End::Lingered),
            Some(count) => {
                self.discarded += count as u64;
                Ok(count)
            }
        }
    }

    /// The one door through which a connection changes its phase. (The quota of `Stopping` is counted down in place:
    /// the phase stays the same.)
    #[cold]
    fn enter(&mut self, phase: Phase, journal: &mut Journal) {
        self.wire.journal(Deed::Entered { from: self.phase, to: phase }, journal);
        self.phase = phase;
    }
}

#[cfg(test)]
mod tests;
