//! The memory that bytes pass through: one workspace for the whole loop, and buffers that a connection owns only
//! while it holds bytes.

use std::io;

use super::bounds::Limits;
use super::journal::{Entry, Journal};
use super::pipes::{Pipe, Pipes, is_broken_pipe_harmless};
use super::ring::{Ring, SMALLEST};
use crate::reactor::Moment;

/// Buffers kept for reuse; what is given back beyond that is freed, so that a crowd of stalled peers leaves nothing.
const POOLED_BUFFERS: usize = 64;
/// The largest buffer worth keeping. With the number above it bounds the pool at 8 MiB.
const POOLED_CAPACITY: usize = SMALLEST;

/// All connections of a loop share one. A connection that holds no bytes owns no heap memory: it reads into this
/// input, and its replies are collected on this desk.
#[derive(Debug)]
pub struct Workspace {
    pub(super) input: Box<[u8]>,
    pub(super) desk: Desk,
}

/// The workspace without the input, so that a service can be handed input while its answers are being sent.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) limits: Limits,
    pub(super) staged: Vec<u8>,
    pub(super) pool: Pool,
    pub(super) pipes: Pipes,
    pub(super) journal: Journal,
    pub(super) traffic: Traffic,
    /// The time of the pump that is under way.
    pub(super) now: Moment,
}

/// Bytes that all connections of a workspace have moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read from peers.
    pub received: u64,
    /// Bytes that the kernel took from us.
    pub sent: u64,
    /// Those of them that went through a pipe and were not copied.
    pub spliced: u64,
}

impl Workspace {
    /// The buffers for connections with these limits, each at least 1.
    pub fn new(limits: Limits) -> Workspace {
        let Limits { read_size, write_limit, turn_budget } = limits;
        let limits = Limits {
            read_size: read_size.max(1),
            write_limit: write_limit.max(1),
            turn_budget: turn_budget.max(1),
        };
        Workspace {
            input: vec![0; limits.read_size].into_boxed_slice(),
            desk: Desk {
                limits,
                staged: Vec::new(),
                pool: Pool::default(),
                pipes: Pipes::default(),
                journal: Journal::default(),
                traffic: Traffic::default(),
                now: Moment::now(),
            },
        }
    }

    /// The memory of the buffers of its connections.
    pub fn buffer_bytes(&self) -> BufferBytes {
        let pool = &self.desk.pool;
        BufferBytes { in_use: pool.in_use, pooled: pool.rings.iter().map(Ring::capacity).sum() }
    }

    /// Bounds the memory of all buffers together. Once it is used up, a connection without a buffer gets none: it reads
    /// only as much as the kernel takes the answer to, and leaves the rest with the kernel, which stops the peer. So a
    /// connection whose peer reads goes on, and one whose peer doesn't waits for it as it always does. Exceeded only by
    /// the answers to input that is already here, and by one chunk's answer for each connection whose service is not a
    /// plain echo ([`Service::is_echo`](super::Service::is_echo)).
    pub fn set_buffer_limit(&mut self, bytes: usize) {
        self.desk.pool.set_limit(bytes);
    }

    /// Lets connections whose service [is an echo](super::Service::is_echo) and whose reads are full, several in a row,
    /// send bytes back without a copy, through so many pipes at a time. A connection that finds none copies. Each takes
    /// two descriptors and up to a mebibyte in the kernel; its bytes count as unsent, beyond the write limit.
    ///
    /// Only where SIGPIPE is ignored or handled, as in any Rust program: `splice(2)` raises it when the peer has gone.
    pub fn allow_splicing(&mut self, pipes: usize) {
        self.desk.pipes.allow(if is_broken_pipe_harmless() { pipes } else { 0 });
    }

    /// Pipes that hold bytes of a connection at present.
    pub fn pipes_in_use(&self) -> usize {
        self.desk.pipes.in_use()
    }

    /// Descriptors of pipes that are open, in use or kept for the next connection.
    pub fn pipe_descriptors(&self) -> usize {
        self.desk.pipes.descriptors()
    }

    /// How often a connection was not read any further because its write buffer was full.
    pub fn pauses(&self) -> u64 {
        self.desk.pool.pauses
    }

    /// Bytes that its connections have moved so far.
    pub fn traffic(&self) -> Traffic {
        self.desk.traffic
    }

    /// Keeps the steps of connections from here on, or no longer. Fetch them with [`Workspace::take_journal`] after each
    /// pump: some ten thousand are kept at most, and they don't say whose they are.
    pub fn keep_journal(&mut self, keep: bool) {
        self.desk.journal.keep(keep);
    }

    /// The steps since the last time, oldest first.
    pub fn take_journal(&mut self) -> Vec<Entry> {
        self.desk.journal.take()
    }
}

/// Memory of read and write buffers, as it is mapped: pages that were never touched are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferBytes {
    /// Of those that connections own at present.
    pub in_use: usize,
    /// Of those that were given back and wait for the next one.
    pub pooled: usize,
}

/// Buffers that were given back, and how many were not yet.
#[derive(Debug)]
pub(super) struct Pool {
    rings: Vec<Ring>,
    /// Bytes of the buffers that connections own.
    in_use: usize,
    /// The most that they should own together.
    limit: usize,
    /// There is no room for the two buffers of another connection. Kept for the hot path, which asks before each read.
    pub(super) exhausted: bool,
    /// How often a connection was not read because its write buffer was full.
    pub(super) pauses: u64,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool { rings: Vec::new(), in_use: 0, limit: usize::MAX, exhausted: false, pauses: 0 }
    }
}

impl Pool {
    fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
        self.count(0, 0);
    }

    /// Counts memory that a connection took and gave back.
    fn count(&mut self, taken: usize, given_back: usize) {
        self.in_use = self.in_use + taken - given_back;
        self.exhausted = self.in_use.saturating_add(2 * SMALLEST) > self.limit;
    }

    fn take(&mut self) -> io::Result<Ring> {
        let ring = self.rings.pop().map_or_else(Ring::new, Ok)?;
        self.count(ring.capacity(), 0);
        Ok(ring)
    }

    /// Adds bytes to a buffer that was taken from here, which may make it larger.
    fn push(&mut self, ring: &mut Ring, bytes: &[u8]) -> io::Result<()> {
        let before = ring.capacity();
        ring.push(bytes)?;
        self.count(ring.capacity() - before, 0);
        Ok(())
    }

    fn give_back(&mut self, mut ring: Ring) {
        self.count(0, ring.capacity());
        ring.clear();
        if ring.capacity() <= POOLED_CAPACITY && self.rings.len() < POOLED_BUFFERS && !self.exhausted {
            self.rings.push(ring);
        }
    }
}

/// The read and the write buffer of one connection. They exist only while one of them holds bytes; an idle
/// connection pays for one pointer.
#[derive(Debug, Default)]
pub(super) struct Held(Option<Box<Buffers>>);

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

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(super) fn unsent(&self) -> usize {
        if self.is_empty() { 0 } else { self.unsent_ring().map_or(0, Ring::len) + self.piped() }
    }

    /// Those of the unsent bytes that are in a pipe.
    pub(super) fn piped(&self) -> usize {
        self.pipe().map_or(0, |pipe| pipe.held)
    }

    pub(super) fn pipe(&self) -> Option<&Pipe> {
        self.0.as_ref().and_then(|buffers| buffers.pipe.as_ref())
    }

    /// Keeps a pipe with bytes in it. Only called while nothing is held.
    pub(super) fn hold_pipe(&mut self, pipe: Pipe, now: Moment) {
        let buffers = self.buffers(now);
        debug_assert!(buffers.pipe.is_none() && buffers.unsent.is_none() && pipe.held > 0);
        buffers.pipe = Some(pipe);
    }

    /// Bytes have gone out of the pipe; an empty one goes back.
    pub(super) fn consume_piped(&mut self, count: usize, pipes: &mut Pipes, pool: &mut Pool, now: Moment) {
        let Some(buffers) = &mut self.0 else { return };
        buffers.stalled_since = now;
        if let Some(pipe) = &mut buffers.pipe {
            pipe.held -= count;
        }
        if let Some(pipe) = buffers.pipe.take_if(|pipe| pipe.held == 0) {
            pipes.give_back(pipe);
        }
        self.give_back_what_is_empty(pool);
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
    pub(super) fn unsent_front(&self) -> &[u8] {
        self.unsent_ring().map_or(&[], Ring::front)
    }

    fn unsent_ring(&self) -> Option<&Ring> {
        self.0.as_ref().and_then(|buffers| buffers.unsent.as_ref())
    }

    /// # Errors
    /// When there is no memory for them.
    #[inline(never)] // The kernel takes most answers whole.
    pub(super) fn add_unsent(&mut self, bytes: &[u8], pool: &mut Pool, now: Moment) -> io::Result<()> {
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

    pub(super) fn consume_unsent(&mut self, count: usize, pool: &mut Pool, now: Moment) {
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
        assert_eq!(pool.rings.len(), 2, "both went back to the pool");
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
    fn the_pool_is_bounded_in_number_and_size() {
        let mut pool = Pool::default();
        let rings: Vec<Ring> = (0..POOLED_BUFFERS + 10).map(|_| pool.take().expect("memory")).collect();
        rings.into_iter().for_each(|ring| pool.give_back(ring));
        assert_eq!(pool.rings.len(), POOLED_BUFFERS);
        pool.rings.clear();
        let mut large = pool.take().expect("memory");
        pool.push(&mut large, &[0; POOLED_CAPACITY + 1]).expect("memory");
        pool.give_back(large);
        assert!(pool.rings.is_empty());
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
