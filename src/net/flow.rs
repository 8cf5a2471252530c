//! The flow of a connection's bytes: socket → read buffer → [`Service`] → write buffer → socket.
//!
//! Mostly both buffers are empty: the service gets input straight from a read, and the kernel takes the answer. When
//! the kernel has no room, the rest of the answer stays in the write buffer. When the write buffer is full, the service
//! gets no more input: the rest of a read stays in the read buffer. And the connection *pauses*: it does not read until
//! half of the write buffer has gone.
//!
//! Two paths need no buffer of ours. Bulk input of a plain echo goes back through a pipe, which is the write buffer
//! then. And when memory for buffers has run out, a connection answers input while it lies in the kernel (`MSG_PEEK`),
//! and then reads as much as it has answered.

use std::io::{self, ErrorKind};

use super::buffers::Held;
use super::bulk;
use super::service::Service;
use super::transport::Transport;
use super::wire::Wire;
use super::workspace::Desk;

/// The least price of an answer that has a write to itself: the call takes about as long as copying so many bytes.
const PRICE_OF_A_WRITE: usize = 1024;

/// A socket, and the bytes that are on their way through the connection.
#[derive(Debug)]
pub(super) struct Flow<T> {
    pub(super) wire: Wire<T>,
    held: Held,
    /// Bytes of input that got no answer, because we had begun to end the connection.
    discarded: u64,
}

/// The outcome of a step that brings the service input.
pub(super) struct Intake {
    /// Bytes that came from the socket.
    pub(super) taken: usize,
    /// The price of the step in terms of the turn's budget.
    pub(super) price: usize,
    /// The end that the step has met.
    pub(super) end: Option<InputEnd>,
}

/// The reason why the service gets no more input.
pub(super) enum InputEnd {
    /// The peer has ended its input.
    Peer,
    /// The service gave its last answer.
    LastAnswer,
}

/// The outcome of handing input to the service: the bytes that it had, and the fate of its answers.
struct Fed {
    consumed: usize,
    price: usize,
    last: bool,
    /// An error if sending or keeping the answers failed.
    result: io::Result<()>,
}

impl Intake {
    const NOTHING: Intake = Intake { taken: 0, price: 0, end: None };
}

impl Fed {
    fn end(&self) -> Option<InputEnd> {
        self.last.then_some(InputEnd::LastAnswer)
    }
}

impl<T: Transport> Flow<T> {
    pub(super) fn new(wire: Wire<T>) -> Flow<T> {
        Flow { wire, held: Held::default(), discarded: 0 }
    }

    /// The bytes that it holds.
    #[inline]
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Takes input in, and answers as much of it as the write buffer allows. `may_splice`: the input may go back
    /// through a pipe, unseen by the service.
    ///
    /// # Errors
    /// When the connection is gone, or there is no memory for its bytes. The other steps fail for the same reasons.
    #[inline(always)]
    pub(super) fn take_in(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        may_splice: bool,
        desk: &mut Desk,
    ) -> io::Result<Intake> {
        if (self.wire.bulk().is_large() || desk.pool.exhausted)
            && let Some(intake) = self.take_in_without_buffers(service, input, may_splice, desk)?
        {
            return Ok(intake);
        }
        let taken = match self.wire.read(input, desk)? {
            Some(taken @ 1..) => taken,
            Some(_) => return Ok(Intake { end: Some(InputEnd::Peer), ..Intake::NOTHING }),
            None => return Ok(Intake::NOTHING),
        };
        if taken == desk.limits.read_size {
            self.wire.bulk().grow();
        }
        self.wire.touch(desk.now);
        if service.is_echo() && service.chunk() >= taken && self.held.is_empty() {
            // The usual case: one chunk that is its own answer, and nothing that it could overtake.
            self.offer(&input[..taken], desk)?;
            self.pause_if_full(desk);
            return Ok(Intake { taken, price: 2 * taken, end: None });
        }
        self.answer(&input[..taken], service, desk)
    }

    /// Answers input. Keeps the rest if the write buffer is full or the budget is spent.
    #[inline(never)] // Out of line, where it takes no registers from a plain echo.
    fn answer(&mut self, input: &[u8], service: &mut impl Service, desk: &mut Desk) -> io::Result<Intake> {
        let fed = self.feed(input, service, desk);
        if fed.consumed < input.len() {
            let rest = &input[fed.consumed..];
            self.held.retain(rest, desk).inspect_err(|_| self.discarded += rest.len() as u64)?;
        }
        self.pause_if_full(desk);
        let end = fed.end();
        fed.result.map(|()| Intake { taken: input.len(), price: input.len() + fed.price, end })
    }

    /// Hands kept input to the service.
    pub(super) fn consume(&mut self, service: &mut impl Service, desk: &mut Desk) -> io::Result<Intake> {
        let Some(retained) = self.held.take_retained() else { return Ok(Intake::NOTHING) };
        let fed = self.feed(retained.front(), service, desk);
        self.held.put_retained_back(retained, fed.consumed, desk);
        self.pause_if_full(desk);
        let end = fed.end();
        fed.result.map(|()| Intake { taken: 0, price: fed.consumed + fed.price, end })
    }

    /// Splices, or answers input that still lies in the kernel. `None`: neither is possible now, so the caller reads.
    #[cold]
    fn take_in_without_buffers(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        may_splice: bool,
        desk: &mut Desk,
    ) -> io::Result<Option<Intake>> {
        let may_splice = may_splice && self.wire.bulk().is_large();
        match if may_splice { self.splice(service, desk)? } else { None } {
            None if desk.pool.exhausted => self.answer_peeked(service, input, desk),
            intake => Ok(intake),
        }
    }

    /// Sends input back without a copy: from the socket into a pipe, and from there into the socket.
    fn splice(&mut self, service: &impl Service, desk: &mut Desk) -> io::Result<Option<Intake>> {
        // At an urgent byte a splice says `WouldBlock`, or 0 as at the end of input. So only reads tell the truth after
        // an event that reported an urgent byte, an end or an error, and after a splice that returned 0.
        let may_splice = self.held.is_empty() && !self.wire.reads_to_end();
        if !may_splice || !service.is_echo() || !self.wire.transport().can_splice() {
            return Ok(None);
        }
        let Some(mut pipe) = desk.pipes.take() else { return Ok(None) };
        let taken = match self.wire.splice_into(&mut pipe, desk) {
            Ok(Some(taken @ 1..)) => taken,
            nothing => {
                desk.pipes.give_back(pipe);
                return match nothing {
                    Err(error)
                        if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) =>
                    {
                        // This kernel or this socket can't do it.
                        desk.pipes.allow(0);
                        Ok(None)
                    }
                    nothing => nothing.map(|_| Some(Intake::NOTHING)),
                };
            }
        };
        self.wire.touch(desk.now);
        self.wire.bulk().weigh(taken, desk.limits.read_size);
        self.held.keep_pipe(pipe, desk.now);
        let sent = if self.wire.is_writable() { self.flush(desk)? } else { 0 };
        self.pause_if_full(desk);
        Ok(Some(Intake { taken, price: bulk::price(taken) + sent, end: None }))
    }

    /// Answers input that still lies in the kernel, and then reads as much as it has answered. `None`: the input has
    /// ended, and the caller's read notes that.
    fn answer_peeked(
        &mut self,
        service: &mut impl Service,
        input: &mut [u8],
        desk: &mut Desk,
    ) -> io::Result<Option<Intake>> {
        let shown = match self.wire.peek(input)? {
            Some(count @ 1..) => &mut input[..count],
            Some(_) => return Ok(None),
            None => return Ok(Some(Intake::NOTHING)),
        };
        if !self.wire.is_writable() {
            self.wire.pause(self.held.unsent(), desk);
            return Ok(Some(Intake::NOTHING));
        }
        let fed = if service.is_echo() {
            let taken = self.wire.write(shown, desk)?;
            Fed { consumed: taken, price: taken, last: false, result: Ok(()) }
        } else {
            self.feed(shown, service, desk)
        };
        let is_rest_refused = fed.consumed < shown.len() && !self.wire.is_writable();
        self.wire.skip(&mut shown[..fed.consumed], desk)?;
        if !self.held.is_empty() || is_rest_refused {
            self.wire.pause(self.held.unsent(), desk);
        }
        let (taken, end) = (fed.consumed, fed.end());
        fed.result.map(|()| Some(Intake { taken, price: taken + fed.price, end }))
    }

    /// Hands input to the service, chunk by chunk, while the write buffer is below its limit and the budget lasts, and
    /// sends the answers. After the service's last answer the rest of the input gets none.
    #[inline(always)]
    fn feed(&mut self, input: &[u8], service: &mut impl Service, desk: &mut Desk) -> Fed {
        let (limit, mut unsent) = (desk.write_limit(), self.held.unsent());
        // Without memory for buffers each answer is a write of its own: the limit of one byte ends the collecting.
        let least = if desk.pool.exhausted { PRICE_OF_A_WRITE } else { 0 };
        let mut fed = Fed { consumed: 0, price: 0, last: false, result: Ok(()) };
        while fed.result.is_ok() && fed.consumed < input.len() && unsent < limit && fed.price < desk.budget {
            let rest = &input[fed.consumed..];
            let chunk = &rest[..rest.len().min(service.chunk().max(1))];
            fed.consumed += chunk.len();
            let answer = service.answer(chunk, &mut desk.staged);
            fed.last = answer.last;
            // Collect small answers, so that a read's worth of them costs one write and not thousands.
            let may_collect = answer.bytes.is_empty() && !fed.last && fed.consumed < input.len();
            if may_collect && unsent + desk.staged.len() < limit {
                continue;
            }
            let answered = desk.staged.len() + answer.bytes.len();
            if answered > 0 {
                fed.price += answered.max(least);
            }
            if !desk.staged.is_empty() {
                fed.result = self.offer_staged(desk);
            }
            if !answer.bytes.is_empty() {
                fed.result = match fed.result {
                    Ok(()) => self.offer(answer.bytes, desk),
                    // Nothing may be written behind bytes that are lost.
                    failed => {
                        let _ = self.keep(answer.bytes, desk);
                        failed
                    }
                };
            }
            unsent = self.held.unsent();
            if fed.last {
                self.discarded += (input.len() - fed.consumed) as u64;
                fed.consumed = input.len();
            }
        }
        fed
    }

    #[inline(never)] // A plain echo stages nothing.
    fn offer_staged(&mut self, desk: &mut Desk) -> io::Result<()> {
        let mut staged = std::mem::take(&mut desk.staged);
        let result = self.offer(&staged, desk);
        staged.clear();
        desk.staged = staged;
        result
    }

    /// Writes first, and keeps only the bytes that the kernel does not take. While something is unsent, everything goes
    /// behind it: answers never overtake each other. After a failure all of it counts as lost.
    #[inline(always)]
    pub(super) fn offer(&mut self, bytes: &[u8], desk: &mut Desk) -> io::Result<()> {
        if self.held.unsent() > 0 || !self.wire.is_writable() {
            return self.keep(bytes, desk);
        }
        match self.wire.write(bytes, desk) {
            Ok(taken) if taken == bytes.len() => Ok(()),
            Ok(taken) => self.keep(&bytes[taken..], desk),
            Err(error) => {
                // The connection is lost, whether there is memory for the bytes or not.
                let _ = self.keep(bytes, desk);
                Err(error)
            }
        }
    }

    /// Adds bytes to the write buffer. Without memory for them they count as discarded.
    fn keep(&mut self, bytes: &[u8], desk: &mut Desk) -> io::Result<()> {
        self.held.add_unsent(bytes, desk).inspect_err(|_| self.discarded += bytes.len() as u64)
    }

    /// Sends as many of the unsent bytes as the kernel takes in one call; returns the price in terms of the budget.
    pub(super) fn flush(&mut self, desk: &mut Desk) -> io::Result<usize> {
        let (taken, price) = match self.held.pipe() {
            Some(pipe) => {
                let taken = self.wire.splice_from(pipe, desk)?;
                (taken, bulk::price(taken))
            }
            None => {
                let taken = self.wire.write(self.held.unsent_front(), desk)?;
                (taken, taken)
            }
        };
        if taken > 0 {
            self.held.consume_unsent(taken, desk);
            let unsent = self.held.unsent();
            // Not before half of the limit has gone: a peer that takes a byte at a time must not cost a read for each.
            if self.wire.is_paused() && unsent <= desk.limits.write_limit / 2 {
                self.wire.resume(unsent, desk);
            }
        }
        self.pause_if_full(desk);
        Ok(price)
    }

    /// Pauses reading when the write buffer is full. The bytes in a pipe count as well.
    #[inline]
    fn pause_if_full(&mut self, desk: &mut Desk) {
        if !self.held.is_empty() && self.held.unsent() >= desk.limits.write_limit {
            self.wire.pause(self.held.unsent(), desk);
        }
    }

    /// Reads input and throws it away; returns the result of [`Wire::read`].
    pub(super) fn throw_away(&mut self, input: &mut [u8], desk: &mut Desk) -> io::Result<Option<usize>> {
        let read = self.wire.read(input, desk)?;
        self.discarded += read.unwrap_or(0) as u64;
        Ok(read)
    }

    /// Gives the buffers back, with the bytes in them.
    pub(super) fn abandon(&mut self, desk: &mut Desk) {
        self.held.discard(desk);
    }
}
