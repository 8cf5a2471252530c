//! The read and the write buffer of a connection, which exist only while they hold bytes.

use std::io;

use super::pipes::Pipe;
use super::ring::Ring;
use super::workspace::Desk;
use crate::reactor::Moment;

/// The bytes that a connection holds: its read buffer and its write buffer. An idle connection pays for one pointer.
#[derive(Debug, Default)]
pub(super) struct Held(Option<Box<Buffers>>);

#[derive(Debug)]
struct Buffers {
    /// A pipe with input on its way back. It goes out before all other bytes.
    pipe: Option<Pipe>,
    /// Answers that the kernel has not taken yet: the write buffer.
    unsent: Option<Ring>,
    /// Input that the service has not had yet, because the write buffer is full or the turn's budget is spent: the read
    /// buffer.
    retained: Option<Ring>,
    /// When the peer last took a byte, or when the first unsent byte came, whichever is later.
    stalled_since: Moment,
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

    /// The part of the unsent bytes that is in a pipe.
    pub(super) fn piped(&self) -> usize {
        self.pipe().map_or(0, |pipe| pipe.held)
    }

    /// Bytes that the service has not had yet.
    pub(super) fn retained(&self) -> usize {
        self.0.as_ref().and_then(|buffers| buffers.retained.as_ref()).map_or(0, Ring::len)
    }

    /// The moment since which the peer has taken nothing, if there is something to take.
    pub(super) fn stalled_since(&self) -> Option<Moment> {
        let buffers = self.0.as_ref()?;
        (buffers.unsent.is_some() || buffers.pipe.is_some()).then_some(buffers.stalled_since)
    }

    /// The pipe whose bytes are to be sent next.
    pub(super) fn pipe(&self) -> Option<&Pipe> {
        self.0.as_ref().and_then(|buffers| buffers.pipe.as_ref())
    }

    /// The bytes to send next if there is no pipe: all unsent bytes, or the part of them up to the end of the ring's
    /// memory.
    pub(super) fn unsent_front(&self) -> &[u8] {
        self.unsent_ring().map_or(&[], Ring::front)
    }

    fn unsent_ring(&self) -> Option<&Ring> {
        self.0.as_ref().and_then(|buffers| buffers.unsent.as_ref())
    }

    /// Keeps a pipe with input that goes back. Call this only while the connection holds nothing.
    pub(super) fn keep_pipe(&mut self, pipe: Pipe, now: Moment) {
        debug_assert!(self.is_empty());
        self.buffers(now).pipe = Some(pipe);
    }

    /// Adds bytes behind the other unsent ones.
    #[inline(never)] // The kernel takes most answers whole.
    pub(super) fn add_unsent(&mut self, bytes: &[u8], desk: &mut Desk) -> io::Result<()> {
        let buffers = self.buffers(desk.now);
        if buffers.unsent.is_none() && buffers.pipe.is_none() {
            buffers.stalled_since = desk.now;
        }
        add(bytes, &mut buffers.unsent, desk)
    }

    /// Removes so many unsent bytes, which the kernel took.
    pub(super) fn consume_unsent(&mut self, count: usize, desk: &mut Desk) {
        let Some(buffers) = &mut self.0 else { return };
        buffers.stalled_since = desk.now;
        match (&mut buffers.pipe, &mut buffers.unsent) {
            (Some(pipe), _) => pipe.held -= count,
            (None, Some(ring)) => ring.consume(count),
            (None, None) => {}
        }
        self.give_back_what_is_empty(desk);
    }

    /// Keeps input for later. Call this only while none is kept: a connection does not read the socket before the
    /// service has had all of it.
    #[inline(never)]
    pub(super) fn retain(&mut self, bytes: &[u8], desk: &mut Desk) -> io::Result<()> {
        let buffers = self.buffers(desk.now);
        debug_assert!(buffers.retained.is_none());
        add(bytes, &mut buffers.retained, desk)
    }

    /// Takes the kept input out for the service. The caller brings the rest back with [`Held::put_retained_back`].
    pub(super) fn take_retained(&mut self) -> Option<Ring> {
        self.0.as_mut()?.retained.take()
    }

    pub(super) fn put_retained_back(&mut self, mut ring: Ring, consumed: usize, desk: &mut Desk) {
        ring.consume(consumed);
        self.buffers(desk.now).retained = Some(ring);
        self.give_back_what_is_empty(desk);
    }

    /// Forgets all held bytes.
    pub(super) fn discard(&mut self, desk: &mut Desk) {
        if let Some(buffers) = self.0.take() {
            buffers.pipe.into_iter().for_each(|pipe| desk.pipes.give_back(pipe));
            buffers.unsent.into_iter().chain(buffers.retained).for_each(|ring| desk.pool.give_back(ring));
        }
    }

    fn buffers(&mut self, now: Moment) -> &mut Buffers {
        self.0.get_or_insert_with(|| {
            Box::new(Buffers { pipe: None, unsent: None, retained: None, stalled_since: now })
        })
    }

    fn give_back_what_is_empty(&mut self, desk: &mut Desk) {
        let Some(buffers) = &mut self.0 else { return };
        if let Some(pipe) = buffers.pipe.take_if(|pipe| pipe.held == 0) {
            desk.pipes.give_back(pipe);
        }
        for held in [&mut buffers.unsent, &mut buffers.retained] {
            if let Some(ring) = held.take_if(|ring| ring.is_empty()) {
                desk.pool.give_back(ring);
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

/// Adds bytes to a buffer, which comes from the pool with its first bytes.
fn add(bytes: &[u8], buffer: &mut Option<Ring>, desk: &mut Desk) -> io::Result<()> {
    let ring = match buffer {
        Some(ring) => ring,
        None => buffer.insert(desk.pool.take()?),
    };
    desk.pool.push(ring, bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::bounds::Limits;
    use crate::net::pool::BufferBytes;
    use crate::net::ring::SMALLEST;
    use crate::net::workspace::Workspace;

    fn desk() -> Desk {
        Workspace::new(Limits { read_size: 16, write_limit: 16, turn_budget: 16 }).desk
    }

    #[test]
    fn buffers_exist_only_while_they_hold_bytes() {
        let (mut held, mut desk) = (Held::default(), desk());
        assert!(!held.owns_memory());
        held.add_unsent(b"unsent", &mut desk).expect("memory");
        held.retain(b"retained", &mut desk).expect("memory");
        held.consume_unsent(6, &mut desk);
        assert!(held.owns_memory());
        let ring = held.take_retained().expect("retained");
        held.put_retained_back(ring, 3, &mut desk);
        assert_eq!(held.retained(), 5);
        let ring = held.take_retained().expect("retained");
        held.put_retained_back(ring, 5, &mut desk);
        assert!(!held.owns_memory());
        let both = BufferBytes { in_use: 0, pooled: 2 * SMALLEST };
        assert_eq!(desk.pool.bytes(), both, "both went back to the pool");
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let (mut held, mut desk) = (Held::default(), desk());
        let (mut expected, mut sent) = (Vec::new(), Vec::new());
        for round in 0..200_u8 {
            let bytes = vec![round; usize::from(round) % 7 + 1];
            held.add_unsent(&bytes, &mut desk).expect("memory");
            expected.extend(bytes);
            let count = held.unsent_front().len().min(3);
            sent.extend_from_slice(&held.unsent_front()[..count]);
            held.consume_unsent(count, &mut desk);
        }
        while held.unsent() > 0 {
            let count = held.unsent_front().len();
            sent.extend_from_slice(held.unsent_front());
            held.consume_unsent(count, &mut desk);
        }
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_memory_in_use_is_that_of_the_buffers_that_hold_bytes() {
        let (mut one, mut other, mut desk) = (Held::default(), Held::default(), desk());
        assert_eq!(desk.pool.bytes(), BufferBytes::default());
        one.add_unsent(b"unsent", &mut desk).expect("memory");
        other.retain(b"retained", &mut desk).expect("memory");
        assert_eq!(desk.pool.bytes(), BufferBytes { in_use: 2 * SMALLEST, pooled: 0 });
        // One grows, and is too large for the pool when it comes back.
        one.add_unsent(&[0; SMALLEST], &mut desk).expect("memory");
        assert_eq!(desk.pool.bytes().in_use, 3 * SMALLEST);
        one.consume_unsent(6 + SMALLEST, &mut desk);
        other.discard(&mut desk);
        assert_eq!(desk.pool.bytes(), BufferBytes { in_use: 0, pooled: SMALLEST });
    }

    #[test]
    fn the_peer_is_stalled_from_its_last_byte_on() {
        let (mut held, mut desk) = (Held::default(), desk());
        let (start, later) = (desk.now, desk.now + Duration::from_secs(1));
        assert_eq!(held.stalled_since(), None);
        held.add_unsent(b"abc", &mut desk).expect("memory");
        desk.now = later;
        held.add_unsent(b"def", &mut desk).expect("memory");
        assert_eq!(held.stalled_since(), Some(start), "more to send is no sign of life");
        held.consume_unsent(1, &mut desk);
        assert_eq!(held.stalled_since(), Some(later));
        held.consume_unsent(5, &mut desk);
        assert_eq!(held.stalled_since(), None);
    }
}
