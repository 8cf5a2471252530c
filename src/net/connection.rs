//! One connection: a small state machine that is told "you may read now", "you may write now", and never waits.
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
//!   From HalfClosing too: end of input ──► Draining (from Stopping if less comes than had been announced)
//!   From HalfClosing and HalfClosed too: the last answer ──► Stopping
//! ```
//!
//! Bytes flow one way: socket → read buffer → [`Service`] → write buffer → socket. What may be done next is *derived*
//! from the state in one place, [`Connection::next_action`]; [`Connection::pump`] does it until nothing is left to do
//! or its budget is spent. So "the connection is queued for another turn" and "it can make progress" are the same
//! fact, and can't come apart. The [`Workspace`] can keep a journal of its reads and writes, pauses and phases.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use super::bounds::{Timeout, Timeouts};
use super::buffers::{Desk, Held, Workspace};
use super::interest::{CONNECTION_INTEREST, INPUT_INTEREST};
use super::journal::{Deed, Journal};
use super::phase::{End, Phase};
use super::service::Service;
use super::transport::Transport;
use crate::reactor::{Interest, Moment, Readiness};

/// Reads that have to come back full before a connection splices.
const BULKY: u8 = 4;
/// As many small transfers, less the number above, make it read again.
const BULKIEST: u8 = 8;

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
    Establish,
    Flush,
    Consume,
    Read { at_most: usize },
    ShutDown,
    Discard,
    Finish,
    Nothing,
}

/// A connected stream with its state and its buffers.
#[derive(Debug)]
pub struct Connection<T> {
    transport: T,
    held: Held,
    received: u64,
    sent: u64,
    discarded: u64,
    last_activity: Moment,
    phase: Phase,
    /// Readiness is remembered here, not in the kernel: set by events, cleared by `WouldBlock` or a short transfer.
    readable: bool,
    writable: bool,
    /// An event since the last `WouldBlock` told of the end of input, an error or urgent data. Then a short read
    /// proves nothing: there may be more behind it, for which no further event will come.
    read_to_end: bool,
    /// The socket is not read: the write buffer was full, and is not half empty yet; or there is no memory for one, and
    /// the kernel has no room.
    paused: bool,
    /// Reads that came back full and brought the connection nearer to splicing; it splices from [`BULKY`] on.
    bulk: u8,
    /// The handler has registered the socket for writability, which is not always watched.
    watched: bool,
}

/// The outcome of a deadline that was due.
#[derive(Debug)]
pub enum Judgement {
    /// It lives: give it another turn if `again`, and judge it anew at the deadline.
    Alive {
        /// Progress is possible right now.
        again: bool,
        /// Its next deadline, if it has one.
        deadline: Option<Moment>,
    },
    /// It ended while it was looked at: remove it.
    Ended(End),
    /// Nothing moved, though there was the time for it: remove it.
    TimedOut(Timeout),
}

impl<T: Transport> Connection<T> {
    /// A connection that has just been established.
    pub fn new(transport: T, now: Moment) -> Connection<T> {
        Connection {
            transport,
            held: Held::default(),
            received: 0,
            sent: 0,
            discarded: 0,
            last_activity: now,
            phase: Phase::Open,
            readable: false,
            // A new socket has room. Should it not, the first write says so.
            writable: true,
            read_to_end: false,
            paused: false,
            bulk: 0,
            watched: false,
        }
    }

    /// A connection whose handshake is under way (see [`connect`](super::connect)).
    pub fn connecting(transport: T, now: Moment) -> Connection<T> {
        // The event that the socket is writable tells that the handshake has ended, one way or the other.
        Connection {
            phase: Phase::Connecting,
            writable: false,
            watched: true,
            ..Connection::new(transport, now)
        }
    }

    /// Remembers what an event said.
    #[inline]
    pub fn note(&mut self, readiness: Readiness) {
        // An error or a hang-up wakes both directions: the next call of either tells what happened.
        const WAKES_READER: Readiness = Readiness::READABLE.or(Readiness::READ_CLOSED).or(Readiness::ERROR);
        const WAKES_WRITER: Readiness = Readiness::WRITABLE.or(Readiness::WRITE_CLOSED).or(Readiness::ERROR);
        const READ_TO_END: Readiness = Readiness::READ_CLOSED.or(Readiness::PRIORITY).or(Readiness::ERROR);
        self.readable |= readiness.has(WAKES_READER);
        self.writable |= readiness.has(WAKES_WRITER);
        self.read_to_end |= readiness.has(READ_TO_END);
    }

    /// Does whatever can be done, until nothing can or the budget of the turn is spent.
    #[inline]
    pub fn pump(&mut self, service: &mut impl Service, workspace: &mut Workspace, now: Moment) -> Next {
        let Workspace { input, desk } = workspace;
        desk.now = now;
        if self.paused && self.writable && self.held.is_empty() {
            self.resume(desk);
        }
        let mut budget = desk.limits.turn_budget;
        loop {
            let action = self.next_action(desk);
            if action == Action::Nothing {
                return Next::Wait;
            }
            if budget == 0 {
                return Next::Again;
            }
            match self.perform(action, service, input, desk, budget) {
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
        if bytes.is_empty() { Ok(()) } else { self.offer(bytes, &mut workspace.desk) }
    }

    /// Begins to end an open connection: what has arrived by now is answered and sent, then our side is shut down, and
    /// the connection lingers until the peer ends too. Pump it afterwards. In any other phase it does nothing.
    ///
    /// # Errors
    /// When the socket can't say how much has arrived.
    pub fn stop(&mut self, workspace: &mut Workspace) -> io::Result<()> {
        if self.phase == Phase::Open {
            // A peer that never ceases to send must not keep us: only what is here already counts.
            let arrived = u32::try_from(self.transport.pending_input()?).unwrap_or(u32::MAX);
            self.enter(Phase::Stopping { quota: arrived }, &mut workspace.desk.journal);
            // Input may have arrived after the last poll, and its event is still pending. Read now, and do not trust a
            // short read.
            self.readable = true;
            self.read_to_end = true;
        }
        Ok(())
    }

    /// Ends our sending side when what is unsent has gone; the peer's bytes go on to reach the service. Pump it
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

    /// Judges a connection whose deadline is due. **A deadline is a hint, like an event**: a process that was stopped and
    /// continued finds all deadlines due before it has read one byte, and the kernel reports room to write only when a
    /// third of a large send buffer is free, long after a slow peer has begun to take. So this reads and writes first,
    /// and judges by what moved. Bytes that the peer took from the kernel's send buffer show as bytes that the kernel
    /// takes from us.
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

    /// The socket's registration from now on, if that has changed: on a Unix stream writability is watched only while
    /// something waits for it. Ask after each pump, unless the connection [is at ease](Connection::is_at_ease), and
    /// [reregister](crate::reactor::Context::reregister) it.
    pub fn new_interest(&mut self) -> Option<Interest> {
        if self.transport.is_watched_for_room() {
            return None;
        }
        let waits = !self.writable && (self.phase == Phase::Connecting || self.paused || self.unsent() > 0);
        if std::mem::replace(&mut self.watched, waits) == waits {
            return None;
        }
        Some(if waits { CONNECTION_INTEREST } else { INPUT_INTEREST })
    }

    /// Whether it is open and nothing of it waits. Then its deadline is that of the idle timeout, or none, which can
    /// only have moved away: a handler that has set it once need not look again before it is due. Nor has its
    /// registration changed.
    #[inline]
    pub fn is_at_ease(&self) -> bool {
        self.held.is_empty() && self.phase == Phase::Open && !self.watched && !self.paused
    }

    /// The nearest moment at which a timeout strikes if nothing happens until then, and which one it is. It is
    /// derived from the last activity each time that it is asked for, so that activity costs no timer.
    pub fn deadline(&self, timeouts: &Timeouts) -> Option<(Moment, Timeout)> {
        let idle = match self.phase {
            Phase::Lingering => Some((self.last_activity + timeouts.linger, Timeout::Linger)),
            Phase::Ended => None,
            _ => timeouts.idle.map(|time| (self.last_activity + time, Timeout::Idle)),
        };
        let since = self.held.stalled_since();
        let write = since.zip(timeouts.write).map(|(since, time)| (since + time, Timeout::Write));
        match (idle, write) {
            (Some(idle), Some(write)) => Some(if write.0 < idle.0 { write } else { idle }),
            (idle, write) => idle.or(write),
        }
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes read from the peer.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the kernel took from us.
    pub fn sent(&self) -> u64 {
        self.sent
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
        self.readable
    }

    /// Whether the socket may have room, as far as events and writes have told.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether the socket is not read, because the peer takes its answers too slowly.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The socket.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// What is possible now, the most urgent first: replies go out before more input is taken in, kept input is
    /// consumed before more is read, and a connection ends when nothing is left of either.
    #[inline(always)] // As all that an echo passes through: apart, they cost a fifth more instructions.
    fn next_action(&self, desk: &Desk) -> Action {
        let Desk { limits, pool, .. } = desk;
        // Nearly always. The rules below say the same of it; this saves a twelfth of the instructions of an echo.
        if self.phase == Phase::Open && self.held.is_empty() {
            let may_read = self.readable && !self.paused;
            return if may_read { Action::Read { at_most: limits.read_size } } else { Action::Nothing };
        }
        let (unsent, retained) = (self.held.unsent(), self.held.retained());
        match self.phase {
            Phase::Ended => return Action::Nothing,
            Phase::Connecting => return if self.writable { Action::Establish } else { Action::Nothing },
            _ => {}
        }
        if unsent > 0 && self.writable {
            return Action::Flush;
        }
        let write_limit = if pool.exhausted { 1 } else { limits.write_limit };
        if retained > 0 {
            return if unsent < write_limit { Action::Consume } else { Action::Nothing };
        }
        let has_room = unsent == 0 || !pool.exhausted && self.held.piped() == 0;
        let may_read = self.readable && !self.paused && has_room;
        match self.phase {
            Phase::HalfClosing if unsent == 0 => Action::ShutDown,
            Phase::Open | Phase::HalfClosing | Phase::HalfClosed if may_read => {
                Action::Read { at_most: limits.read_size }
            }
            Phase::Stopping { quota } if quota > 0 && self.readable => {
                if !may_read {
                    return Action::Nothing;
                }
                Action::Read { at_most: limits.read_size.min(quota as usize) }
            }
            Phase::Stopping { .. } if unsent == 0 => Action::ShutDown,
            Phase::Draining if unsent == 0 => Action::Finish,
            Phase::Lingering if self.readable => Action::Discard,
            _ => Action::Nothing,
        }
    }

    /// Does one thing; returns how many bytes it moved. All but reading is kept out of line, where it takes no registers
    /// from an echo.
    #[inline(always)]
    fn perform(
        &mut self,
        action: Action,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
        budget: usize,
    ) -> Result<usize, End> {
        match action {
            Action::Establish => self.establish(desk),
            Action::Flush => self.flush(desk).map_err(End::Reset),
            Action::Consume => self.consume(service, desk, budget),
            Action::Read { at_most } => self.fill(service, &mut input[..at_most], desk, budget),
            Action::Discard => self.throw_away(input, desk),
            Action::ShutDown => self.shut_down(desk),
            // The end of input was read, so nothing can be unread: closing the socket sends our FIN and no reset,
            // which is all that a shutdown would have done.
            Action::Finish => Err(End::Finished),
            Action::Nothing => Ok(0),
        }
    }

    #[inline(never)]
    fn establish(&mut self, desk: &mut Desk) -> Result<usize, End> {
        if self.transport.is_established().map_err(End::NotConnected)? {
            self.last_activity = desk.now;
            self.enter(Phase::Open, &mut desk.journal);
        } else {
            // An event that came too early; another one follows.
            self.writable = false;
        }
        Ok(0)
    }

    #[inline(never)]
    fn shut_down(&mut self, desk: &mut Desk) -> Result<usize, End> {
        match self.transport.shutdown_write() {
            // The peer was faster: there is nobody left to tell.
            Err(error) if error.kind() != ErrorKind::NotConnected => return Err(End::Reset(error)),
            _ => {}
        }
        // From here on the time counts in which the peer is to end as well.
        self.last_activity = desk.now;
        let next = if self.phase == Phase::HalfClosing { Phase::HalfClosed } else { Phase::Lingering };
        self.enter(next, &mut desk.journal);
        Ok(0)
    }

    #[inline(never)]
    fn flush(&mut self, desk: &mut Desk) -> io::Result<usize> {
        if self.held.piped() > 0 {
            return self.flush_pipe(desk);
        }
        let taken =
            write(&mut self.transport, self.held.unsent_front(), &mut self.writable, &mut desk.journal)?;
        if taken > 0 {
            self.count_sent(taken, desk);
            self.held.consume_unsent(taken, &mut desk.pool, desk.now);
            let unsent = self.held.unsent();
            // Not before half is gone: a peer that takes a byte at a time must not cost a read for each.
            if self.paused && unsent <= desk.limits.write_limit / 2 {
                self.resume(desk);
            }
        }
        Ok(taken)
    }

    #[inline(always)]
    fn fill(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
        budget: usize,
    ) -> Result<usize, End> {
        if self.bulk >= BULKY
            && let Some(outcome) = self.splice(service, desk)
        {
            return outcome;
        }
        if desk.pool.exhausted
            && let Some(outcome) = self.fill_frugally(service, input, desk)
        {
            return outcome;
        }
        let Some(count) = self.read(input, desk)? else { return Ok(0) };
        if count == 0 {
            self.enter(Phase::Draining, &mut desk.journal);
            return Ok(0);
        }
        self.last_activity = desk.now;
        if let Phase::Stopping { quota } = self.phase {
            let left = if self.readable { quota - count as u32 } else { 0 };
            self.phase = Phase::Stopping { quota: left };
        }
        let limit = desk.limits.write_limit;
        let (fed, result) = self.feed(&input[..count], service, desk, limit, budget);
        if fed.consumed < count {
            self.held.retain(&input[fed.consumed..count], &mut desk.pool, desk.now).map_err(End::Reset)?;
        }
        if self.held.unsent() >= limit {
            self.pause(desk);
        }
        result.map(|()| count + fed.answered).map_err(End::Reset)
    }

    /// Sends input back without a copy: from the socket into a pipe, and from there into the socket. The pipe is the
    /// write buffer then, in the kernel. `None`: this can't be done now, and input has to be read.
    #[cold]
    fn splice(&mut self, service: &impl Service, desk: &mut Desk) -> Option<Result<usize, End>> {
        // A splice stops at an urgent byte, and says of an end or an error no more than a read does: after an event that
        // told of one of them, only reads lead to `WouldBlock`.
        let may_splice = self.phase == Phase::Open && !self.read_to_end && self.held.is_empty();
        if !may_splice || !service.is_echo() || !self.transport.can_splice() {
            return None;
        }
        let mut pipe = desk.pipes.take()?;
        let began = desk.journal.begin();
        let result = self.transport.splice_into(pipe.writer.as_fd(), pipe.capacity);
        desk.journal.read(began, self.transport.number(), pipe.capacity, &result);
        match result {
            Ok(count) if count > 0 => {
                self.received += count as u64;
                desk.traffic.received += count as u64;
                self.last_activity = desk.now;
                self.weigh(count, desk);
                pipe.held = count;
                self.held.hold_pipe(pipe, desk.now);
                // Short or not, there may be more: only an empty pipe and `WouldBlock` prove that nothing is left.
                let sent = if self.writable { self.flush_pipe(desk).map_err(End::Reset) } else { Ok(0) };
                Some(sent.map(|sent| self.price(count) + sent))
            }
            result => {
                desk.pipes.give_back(pipe);
                match result {
                    Ok(_) => {
                        self.readable = false;
                        self.enter(Phase::Draining, &mut desk.journal);
                        Some(Ok(0))
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.readable = false;
                        Some(Ok(0))
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => Some(Ok(0)),
                    // This kernel or this socket can't do it.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) =>
                    {
                        desk.pipes.forbid();
                        None
                    }
                    Err(error) => Some(Err(End::Reset(error))),
                }
            }
        }
    }

    fn flush_pipe(&mut self, desk: &mut Desk) -> io::Result<usize> {
        let Some(pipe) = self.held.pipe() else { return Ok(0) };
        let (offered, began) = (pipe.held, desk.journal.begin());
        let result = self.transport.splice_from(pipe.reader.as_fd(), offered);
        desk.journal.wrote(began, self.transport.number(), offered, &result);
        match result {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(taken) => {
                self.count_sent(taken, desk);
                desk.traffic.spliced += taken as u64;
                self.held.consume_piped(taken, &mut desk.pipes, &mut desk.pool, desk.now);
                Ok(self.price(taken))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => {
                self.writable = false;
                Err(error)
            }
        }
    }

    /// Spliced bytes in terms of the turn's budget, which is about the time that a turn takes: a page that is passed on
    /// costs a quarter of one that is copied.
    fn price(&self, count: usize) -> usize {
        count.div_ceil(4)
    }

    /// Whether splicing still pays. Each small transfer counts against it, and after a few the connection reads again.
    fn weigh(&mut self, count: usize, desk: &Desk) {
        if count >= desk.limits.read_size / 4 {
            self.bulk = (self.bulk + 1).min(BULKIEST);
        } else {
            self.bulk -= 1;
            if self.bulk < BULKY {
                self.bulk = 0;
            }
        }
    }

    /// There is no memory for bytes that the kernel doesn't take: answers input that still lies in the kernel, and then
    /// takes from there what was answered. `None`: there is no input, which a read will say as well.
    #[cold]
    fn fill_frugally(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
    ) -> Option<Result<usize, End>> {
        if !self.writable {
            self.pause(desk);
            return Some(Ok(0));
        }
        let count = self.transport.peek(input).ok().filter(|&count| count > 0)?;
        let (consumed, result) = if service.is_echo() {
            let result = write(&mut self.transport, &input[..count], &mut self.writable, &mut desk.journal);
            let taken = *result.as_ref().unwrap_or(&0);
            if taken > 0 {
                self.count_sent(taken, desk);
            }
            (taken, result.map(drop))
        } else {
            let (fed, result) = self.feed(&input[..count], service, desk, 1, usize::MAX);
            (fed.consumed, result)
        };
        let taken = self.take_from_kernel(&mut input[..consumed], desk);
        if !self.held.is_empty() || (consumed < count && !self.writable) {
            self.pause(desk);
        }
        Some(taken.and(result.map_err(End::Reset)).map(|()| 2 * consumed))
    }

    /// Reads bytes that were seen in the kernel's buffer a moment ago.
    fn take_from_kernel(&mut self, input: &mut [u8], desk: &mut Desk) -> Result<(), End> {
        let (read_to_end, mut taken) = (self.read_to_end, 0);
        while taken < input.len() {
            match self.read(&mut input[taken..], desk)? {
                // Interrupted: they are still there.
                None => {}
                Some(0) => return Err(End::Reset(ErrorKind::UnexpectedEof.into())),
                Some(count) => {
                    taken += count;
                    self.last_activity = desk.now;
                    if let Phase::Stopping { quota } = self.phase {
                        self.phase = Phase::Stopping { quota: quota.saturating_sub(count as u32) };
                    }
                }
            }
        }
        // No more was asked for than was there, so nothing is proved of what is behind it.
        (self.readable, self.read_to_end) = (true, read_to_end);
        Ok(())
    }

    #[cold]
    fn pause(&mut self, desk: &mut Desk) {
        if !std::mem::replace(&mut self.paused, true) {
            desk.pool.pauses += 1;
            desk.journal.note(self.transport.number(), Deed::Paused { unsent: self.held.unsent() });
        }
    }

    #[cold]
    fn resume(&mut self, desk: &mut Desk) {
        self.paused = false;
        desk.journal.note(self.transport.number(), Deed::Resumed { unsent: self.held.unsent() });
    }

    #[inline(never)]
    fn consume(&mut self, service: &mut impl Service, desk: &mut Desk, budget: usize) -> Result<usize, End> {
        let Some(retained) = self.held.take_retained() else { return Ok(0) };
        let limit = desk.limits.write_limit;
        let (fed, result) = self.feed(retained.front(), service, desk, limit, budget);
        self.held.put_retained_back(retained, fed.consumed, &mut desk.pool, desk.now);
        if self.held.unsent() >= limit {
            self.pause(desk);
        }
        result.map(|()| fed.consumed + fed.answered).map_err(End::Reset)
    }

    /// Hands input to the service, chunk by chunk, as long as the write buffer is below its limit, and sends the
    /// answers.
    #[inline(always)]
    fn feed(
        &mut self,
        input: &[u8],
        service: &mut impl Service,
        desk: &mut Desk,
        limit: usize,
        budget: usize,
    ) -> (Fed, io::Result<()>) {
        let mut fed = Fed { consumed: 0, answered: 0 };
        let mut result = Ok(());
        let mut unsent = self.held.unsent();
        while result.is_ok() && fed.consumed < input.len() && unsent < limit && fed.answered < budget {
            let rest = &input[fed.consumed..];
            let chunk = &rest[..rest.len().min(service.chunk().max(1))];
            fed.consumed += chunk.len();
            let answer = service.answer(chunk, &mut desk.staged);
            // Small answers are collected, so that a read's worth of them costs one write and not thousands.
            let may_collect = answer.bytes.is_empty() && !answer.last && fed.consumed < input.len();
            if may_collect && unsent + desk.staged.len() < limit {
                continue;
            }
            fed.answered += desk.staged.len() + answer.bytes.len();
            if !desk.staged.is_empty() {
                result = self.offer_staged(desk);
            }
            if !answer.bytes.is_empty() {
                result = result.and(self.offer(answer.bytes, desk));
            }
            if answer.last {
                self.discarded += (input.len() - fed.consumed) as u64;
                fed.consumed = input.len();
                self.enter(Phase::Stopping { quota: 0 }, &mut desk.journal);
            }
            unsent = self.held.unsent();
        }
        (fed, result)
    }

    #[inline(never)] // A plain echo stages nothing.
    fn offer_staged(&mut self, desk: &mut Desk) -> io::Result<()> {
        let mut staged = std::mem::take(&mut desk.staged);
        let result = self.offer(&staged, desk);
        staged.clear();
        desk.staged = staged;
        result
    }

    /// Writes first, and keeps only what the kernel does not take. While something is unsent, everything goes behind
    /// it: answers never overtake each other. After a failure all of it counts as unsent, which is what was lost.
    #[inline(always)]
    fn offer(&mut self, bytes: &[u8], desk: &mut Desk) -> io::Result<()> {
        let mut result = Ok(0);
        if self.writable && self.held.unsent() == 0 {
            result = write(&mut self.transport, bytes, &mut self.writable, &mut desk.journal);
        }
        let taken = *result.as_ref().unwrap_or(&0);
        if taken > 0 {
            self.count_sent(taken, desk);
        }
        if taken < bytes.len() {
            self.held.add_unsent(&bytes[taken..], &mut desk.pool, desk.now)?;
        }
        result.map(drop)
    }

    /// Reads and discards. The peer's end or a reset is the end.
    #[inline(never)]
    fn throw_away(&mut self, input: &mut [u8], desk: &mut Desk) -> Result<usize, End> {
        match self.read(input, desk)? {
            None => Ok(0),
            Some(0) => Err(End::Lingered),
            Some(count) => {
                self.discarded += count as u64;
                Ok(count)
            }
        }
    }

    /// One read. `None`: nothing there (or interrupted, and `readable` still set); `Some(0)`: the end of input.
    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8], desk: &mut Desk) -> Result<Option<usize>, End> {
        let began = desk.journal.begin();
        let result = self.transport.read(buffer);
        desk.journal.read(began, self.transport.number(), buffer.len(), &result);
        match result {
            Ok(count) => {
                let drained = count < buffer.len() && self.transport.short_means_done() && !self.read_to_end;
                self.readable = count > 0 && !drained;
                self.read_to_end &= count > 0;
                if count == buffer.len() {
                    self.bulk = (self.bulk + 1).min(BULKIEST);
                }
                self.received += count as u64;
                desk.traffic.received += count as u64;
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                self.read_to_end = false;
                if let Phase::Stopping { .. } = self.phase {
                    self.phase = Phase::Stopping { quota: 0 };
                }
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(End::Reset(error)),
        }
    }

    #[inline]
    fn count_sent(&mut self, count: usize, desk: &mut Desk) {
        self.sent += count as u64;
        desk.traffic.sent += count as u64;
        self.last_activity = desk.now;
    }

    /// The one door through which a connection changes its phase. (The quota of `Stopping` is counted down in place:
    /// the phase stays the same.)
    #[cold]
    fn enter(&mut self, phase: Phase, journal: &mut Journal) {
        journal.note(self.transport.number(), Deed::Entered { from: self.phase, to: phase });
        self.phase = phase;
    }
}

/// One write; clears `writable` when the kernel has no more room.
#[inline(always)]
fn write(
    transport: &mut impl Transport,
    bytes: &[u8],
    writable: &mut bool,
    journal: &mut Journal,
) -> io::Result<usize> {
    let began = journal.begin();
    let result = transport.write(bytes);
    journal.wrote(began, transport.number(), bytes.len(), &result);
    match result {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        Ok(taken) => {
            // A short write has filled the send buffer: the event that tells of room again is sure to come.
            *writable = taken == bytes.len() || !transport.short_means_done();
            Ok(taken)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            *writable = false;
            Ok(0)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        Err(error) => {
            *writable = false;
            Err(error)
        }
    }
}

/// Input that the service was fed, and the bytes that it answered.
struct Fed {
    consumed: usize,
    answered: usize,
}

#[cfg(test)]
mod tests;
