//! The read and the write buffer of a connection, which exist only while they hold bytes.

use std::io::{self, ErrorKind};

use super::bulk;
use super::pipes::{Pipe, Pipes};
use super::pool::Pool;
use super::ring::Ring;
use super::service::Service;
use super::transport::Transport;
use super::wire::Wire;
use super::workspace::Desk;
use crate::reactor::Moment;

/// The bytes that a connection holds: its read buffer and its write buffer. An idle connection pays for one pointer.
#[derive(Debug, Default)]
pub(super) struct Held(Option<Box<Buffers>>);

/// How much of some input the service was fed, and what became of it.
pub(super) struct Fed {
    /// Bytes of input that the service was given.
    pub(super) consumed: usize,
    /// The price of its answers in terms of the budget.
    pub(super) price: usize,
    /// It gave its last answer.
    pub(super) last: bool,
    /// Whether the answers could be sent or kept.
    pub(super) result: io::Result<()>,
}

/// The least price of an answer that has a write to itself: the call costs about as much as so many bytes of a copy.
const PRICE_OF_A_WRITE: usize = 1024;

#[derive(Debug)]
struct Buffers {
    /// Input on its way back, in the kernel. It goes out before everything else.
    pipe: Option<Pipe>,
    /// Replies that the kernel did not take yet: the write buffer.
    unsent: Option<Ring>,
    /// Input that the service was not given yet, because the write buffer is full or the turn's budget is spent: the
    /// read buffer.
    retained: Option<Ring>,
    /// When the peer last took a byte, or when the first unsent byte came.
    stalled_since: Moment,
}

/// The outcome of a splice.
pub(super) enum Spliced {
    /// Bytes came in, and perhaps went out again.
    Moved {
        /// Their price in terms of the turn's budget.
        price: usize,
    },
    /// Nothing came. If the wire is still readable, a read tells why.
    Nothing,
    /// No pipe is left, or the system has no splice for this socket: the input has to be read.
    Impossible,
}

impl Held {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that the kernel has not taken yet.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        if self.is_empty() { 0 } else { self.unsent_ring().map_or(0, Ring::len) + self.piped() }
    }

    /// Those of the unsent bytes that are in a pipe.
    pub(super) fn piped(&self) -> usize {
        self.pipe().map_or(0, |pipe| pipe.held)
    }

    fn pipe(&self) -> Option<&Pipe> {
        self.0.as_ref().and_then(|buffers| buffers.pipe.as_ref())
    }

    /// Takes input into a pipe, which becomes the write buffer, and sends as much of it as the kernel takes. Only
    /// called while nothing is held.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(super) fn splice(&mut self, wire: &mut Wire<impl Transport>, desk: &mut Desk) -> io::Result<Spliced> {
        let Some(mut pipe) = desk.pipes.take() else { return Ok(Spliced::Impossible) };
        let result = wire.splice_into(&mut pipe, desk);
        if let Ok(Some(count @ 1..)) = result {
            wire.touch(desk.now);
            wire.bulk().weigh(count, desk.limits.read_size);
            self.buffers(desk.now).pipe = Some(pipe);
            let sent = if wire.is_writable() { self.flush(wire, desk)? } else { 0 };
            return Ok(Spliced::Moved { price: bulk::price(count) + sent });
        }
        desk.pipes.give_back(pipe);
        match result {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                // This kernel or this socket can't do it.
                desk.pipes.forbid();
                Ok(Spliced::Impossible)
            }
            result => result.map(|_| Spliced::Nothing),
        }
    }

    /// Bytes have gone out of the pipe; an empty one goes back.
    fn consume_piped(&mut self, count: usize, desk: &mut Desk) {
        let Some(buffers) = &mut self.0 else { return };
        buffers.stalled_since = desk.now;
        if let Some(pipe) = &mut buffers.pipe {
            pipe.held -= count;
        }
        if let Some(pipe) = buffers.pipe.take_if(|pipe| pipe.held == 0) {
            desk.pipes.give_back(pipe);
        }
        self.give_back_what_is_empty(&mut desk.pool);
    }

    /// Hands input to the service, chunk by chunk, as long as the write buffer is below its limit, and sends the
    /// answers.
    #[inline(always)]
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        service: &mut impl Service,
        wire: &mut Wire<impl Transport>,
        desk: &mut Desk,
        budget: usize,
    ) -> Fed {
        let (limit, mut unsent) = (desk.write_limit(), self.unsent());
        // Without memory answers are not collected, so each is a write of its own.
        let least = if desk.pool.exhausted { PRICE_OF_A_WRITE } else { 0 };
        let (mut consumed, mut price, mut last, mut result) = (0, 0, false, Ok(()));
        while result.is_ok() && !last && consumed < input.len() && unsent < limit && price < budget {
            let rest = &input[consumed..];
            let chunk = &rest[..rest.len().min(service.chunk().max(1))];
            consumed += chunk.len();
            let answer = service.answer(chunk, &mut desk.staged);
            last = answer.last;
            // Small answers are collected, so that a read's worth of them costs one write and not thousands.
            let may_collect = answer.bytes.is_empty() && !last && consumed < input.len();
            if may_collect && unsent + desk.staged.len() < limit {
                continue;
            }
            let answered = desk.staged.len() + answer.bytes.len();
            if answered > 0 {
                price += answered.max(least);
            }
            if !desk.staged.is_empty() {
                result = self.offer_staged(wire, desk);
            }
            if !answer.bytes.is_empty() {
                result = result.and(self.offer(answer.bytes, wire, desk));
            }
            unsent = self.unsent();
        }
        Fed { consumed, price, last, result }
    }

    #[inline(never)] // A plain echo stages nothing.
    fn offer_staged(&mut self, wire: &mut Wire<impl Transport>, desk: &mut Desk) -> io::Result<()> {
        let mut staged = std::mem::take(&mut desk.staged);
        let result = self.offer(&staged, wire, desk);
        staged.clear();
        desk.staged = staged;
        result
    }

    /// Writes first, and keeps only what the kernel does not take. While something is unsent, everything goes behind
    /// it: answers never overtake each other. After a failure all of it counts as unsent, which is what was lost.
    ///
    /// # Errors
    /// When the connection is gone, or there is no memory for the rest.
    #[inline(always)]
    pub(super) fn offer(
        &mut self,
        bytes: &[u8],
        wire: &mut Wire<impl Transport>,
        desk: &mut Desk,
    ) -> io::Result<()> {
        if self.unsent() > 0 || !wire.is_writable() {
            return self.add_unsent(bytes, &mut desk.pool, desk.now);
        }
        match wire.write(bytes, desk) {
            Ok(taken) if taken == bytes.len() => Ok(()),
            Ok(taken) => self.add_unsent(&bytes[taken..], &mut desk.pool, desk.now),
            Err(error) => {
                self.add_unsent(bytes, &mut desk.pool, desk.now)?;
                Err(error)
            }
        }
    }

    /// Writes as much of the unsent bytes as the kernel takes in one call; returns the price in terms of the budget.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(super) fn flush(&mut self, wire: &mut Wire<impl Transport>, desk: &mut Desk) -> io::Result<usize> {
        if let Some(pipe) = self.pipe() {
            let taken = wire.splice_from(pipe, desk)?;
            if taken > 0 {
                self.consume_piped(taken, desk);
            }
            return Ok(bulk::price(taken));
        }
        let taken = wire.write(self.unsent_front(), desk)?;
        if taken > 0 {
            self.consume_unsent(taken, &mut desk.pool, desk.now);
            let unsent = self.unsent();
            // Not before half is gone: a peer that takes a byte at a time must not cost a read for each.
            if wire.is_paused() && unsent <= desk.limits.write_limit / 2 {
                wire.resume(unsent, desk);
            }
        }
        Ok(taken)
    }

    /// Pauses reading when the write buffer is full.
    #[inline]
    pub(super) fn pause_if_full(&self, wire: &mut Wire<impl Transport>, desk: &mut Desk) {
        if !self.is_empty() && self.unsent() >= desk.limits.write_limit {
            wire.pause(self.unsent(), desk);
        }
    }

    pub(super) fn retained(&self) -> usize {
        self.0.as_ref().and_then(|buffers| buffers.retained.as_ref()).map_or(0, Ring::len)
    }

    /// Since when the peer has taken nothing, if there is something to take.
    pub(super) fn stalled_since(&self) -> Option<Moment> {
        self.0
            .as_ref()
            .filter(|buffers| buffers.unsent.is_some() || buffers.pipe.is_some())
            .map(|buffers| buffers.stalled_since)
    }

    /// The bytes to send next: all that are unsent, or those up to the end of the ring.
    fn unsent_front(&self) -> &[u8] {
        self.unsent_ring().map_or(&[], Ring::front)
    }

    fn unsent_ring(&self) -> Option<&Ring> {
        self.0.as_ref().and_then(|buffers| buffers.unsent.as_ref())
    }

    /// # Errors
    /// When there is no memory for them.
    #[inline(never)] // The kernel takes most answers whole.
    fn add_unsent(&mut self, bytes: &[u8], pool: &mut Pool, now: Moment) -> io::Result<()> {
        let buffers = self.buffers(now);
        match &mut buffers.unsent {
            Some(ring) => pool.push(ring, bytes),
            None => {
                if buffers.pipe.is_none() {
                    buffers.stalled_since = now;
                }
                let ring = buffers.unsent.insert(pool.take()?);
                pool.push(ring, bytes)
            }
        }
    }

    fn consume_unsent(&mut self, count: usize, pool: &mut Pool, now: Moment) {
        let Some(buffers) = &mut self.0 else { return };
        buffers.stalled_since = now;
        if let Some(ring) = &mut buffers.unsent {
            ring.consume(count);
        }
        self.give_back_what_is_empty(pool);
    }

    /// Keeps input for later. Only called while none is kept: the socket is not read until all of it was consumed.
    ///
    /// # Errors
    /// When there is no memory for it.
    #[inline(never)]
    pub(super) fn retain(&mut self, bytes: &[u8], pool: &mut Pool, now: Moment) -> io::Result<()> {
        let buffers = self.buffers(now);
        debug_assert!(buffers.retained.is_none());
        let ring = buffers.retained.insert(pool.take()?);
        pool.push(ring, bytes)
    }

    /// Takes the kept input out, to be given to the service; what the service leaves goes back with
    /// [`Held::put_retained_back`].
    pub(super) fn take_retained(&mut self) -> Option<Ring> {
        self.0.as_mut()?.retained.take()
    }

    pub(super) fn put_retained_back(
        &mut self,
        mut ring: Ring,
        consumed: usize,
        pool: &mut Pool,
        now: Moment,
    ) {
        ring.consume(consumed);
        self.buffers(now).retained = Some(ring);
        self.give_back_what_is_empty(pool);
    }

    /// Forgets everything that is held.
    pub(super) fn discard(&mut self, pool: &mut Pool, pipes: &mut Pipes) {
        if let Some(buffers) = self.0.take() {
            buffers.pipe.into_iter().for_each(|pipe| pipes.give_back(pipe));
            buffers.unsent.into_iter().chain(buffers.retained).for_each(|ring| pool.give_back(ring));
        }
    }

    fn buffers(&mut self, now: Moment) -> &mut Buffers {
        self.0.get_or_insert_with(|| {
            Box::new(Buffers { pipe: None, unsent: None, retained: None, stalled_since: now })
        })
    }

    fn give_back_what_is_empty(&mut self, pool: &mut Pool) {
        let Some(buffers) = &mut self.0 else { return };
        for held in [&mut buffers.unsent, &mut buffers.retained] {
            if let Some(ring) = held.take_if(|ring| ring.is_empty()) {
                pool.give_back(ring);
            }
        }
        if buffers.pipe.is_none() && buffers.unsent.is_none() && buffers.retained.is_none() {
            self.0 = None;
        }
    }

    #[cfg(test)]
    pub(super) fn owns_memory(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::bounds::Limits;
    use crate::net::pool::BufferBytes;
    use crate::net::ring::SMALLEST;
    use crate::net::workspace::Workspace;

    #[test]
    fn buffers_exist_only_while_they_hold_bytes() {
        let (mut held, mut pool, now) = (Held::default(), Pool::default(), Moment::now());
        assert!(!held.owns_memory());
        held.add_unsent(b"unsent", &mut pool, now).expect("memory");
        held.retain(b"retained", &mut pool, now).expect("memory");
        held.consume_unsent(6, &mut pool, now);
        assert!(held.owns_memory());
        let ring = held.take_retained().expect("retained");
        held.put_retained_back(ring, 3, &mut pool, now);
        assert_eq!(held.retained(), 5);
        let ring = held.take_retained().expect("retained");
        held.put_retained_back(ring, 5, &mut pool, now);
        assert!(!held.owns_memory());
        assert_eq!(
            pool.bytes(),
            BufferBytes { in_use: 0, pooled: 2 * SMALLEST },
            "both went back to the pool"
        );
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let (mut held, mut pool, now) = (Held::default(), Pool::default(), Moment::now());
        let (mut expected, mut sent) = (Vec::new(), Vec::new());
        for round in 0..200_u8 {
            let bytes = vec![round; usize::from(round) % 7 + 1];
            held.add_unsent(&bytes, &mut pool, now).expect("memory");
            expected.extend(bytes);
            let count = held.unsent_front().len().min(3);
            sent.extend_from_slice(&held.unsent_front()[..count]);
            held.consume_unsent(count, &mut pool, now);
        }
        while held.unsent() > 0 {
            let count = held.unsent_front().len();
            sent.extend_from_slice(held.unsent_front());
            held.consume_unsent(count, &mut pool, now);
        }
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_memory_in_use_is_that_of_the_buffers_that_hold_bytes() {
        let limits = Limits { read_size: 16, write_limit: 16, turn_budget: 16 };
        let (mut workspace, now) = (Workspace::new(limits), Moment::now());
        let (mut one, mut other) = (Held::default(), Held::default());
        assert_eq!(workspace.buffer_bytes(), BufferBytes::default());
        one.add_unsent(b"unsent", &mut workspace.desk.pool, now).expect("memory");
        other.retain(b"retained", &mut workspace.desk.pool, now).expect("memory");
        assert_eq!(workspace.buffer_bytes(), BufferBytes { in_use: 2 * SMALLEST, pooled: 0 });
        // One grows, and is too large for the pool when it comes back.
        one.add_unsent(&[0; SMALLEST], &mut workspace.desk.pool, now).expect("memory");
        assert_eq!(workspace.buffer_bytes().in_use, 3 * SMALLEST);
        one.consume_unsent(6 + SMALLEST, &mut workspace.desk.pool, now);
        other.discard(&mut workspace.desk.pool, &mut workspace.desk.pipes);
        assert_eq!(workspace.buffer_bytes(), BufferBytes { in_use: 0, pooled: SMALLEST });
    }

    #[test]
    fn the_peer_is_stalled_from_its_last_byte_on() {
        let (mut held, mut pool, start) = (Held::default(), Pool::default(), Moment::now());
        let later = start + Duration::from_secs(1);
        assert_eq!(held.stalled_since(), None);
        held.add_unsent(b"abc", &mut pool, start).expect("memory");
        held.add_unsent(b"def", &mut pool, later).expect("memory");
        assert_eq!(held.stalled_since(), Some(start), "more to send is no sign of life");
        held.consume_unsent(1, &mut pool, later);
        assert_eq!(held.stalled_since(), Some(later));
        held.consume_unsent(5, &mut pool, later);
        assert_eq!(held.stalled_since(), None);
    }
}
