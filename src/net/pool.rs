//! The pool: buffers for connections that hold bytes, and the bound of all of them together.

use std::io;

use super::ring::{Ring, SMALLEST};

/// Buffers kept for reuse. The pool frees the others, so that a crowd of stalled peers leaves nothing.
const POOLED_BUFFERS: usize = 64;
/// The largest buffer worth keeping. With the number above it bounds the pool at 8 MiB.
const POOLED_CAPACITY: usize = SMALLEST;

/// Memory of read and write buffers, as it is mapped: pages that were never touched are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferBytes {
    /// Bytes of the buffers that connections own at present.
    pub in_use: usize,
    /// Bytes of the buffers that wait in the pool for the next connection.
    pub pooled: usize,
}

/// Buffers that connections gave back, and the bytes of the others.
#[derive(Debug)]
pub(super) struct Pool {
    rings: Vec<Ring>,
    /// Bytes of the buffers that connections own.
    in_use: usize,
    /// The most that they should own together.
    limit: usize,
    /// The same, less the memory that the system refuses at present.
    granted: usize,
    /// There is no room for the two buffers of another connection. A field, since the hot path asks before each read.
    pub(super) exhausted: bool,
    /// How often a connection paused because its write buffer was full.
    pub(super) pauses: u64,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            rings: Vec::new(),
            in_use: 0,
            limit: usize::MAX,
            granted: usize::MAX,
            exhausted: false,
            pauses: 0,
        }
    }
}

impl Pool {
    pub(super) fn bytes(&self) -> BufferBytes {
        BufferBytes { in_use: self.in_use, pooled: self.rings.iter().map(Ring::capacity).sum() }
    }

    /// Sets the most bytes that connections should own together.
    pub(super) fn set_limit(&mut self, bytes: usize) {
        (self.limit, self.granted) = (bytes, bytes);
        self.count(0, 0);
    }

    /// Counts memory that a connection took and gave back.
    fn count(&mut self, taken: usize, given_back: usize) {
        self.in_use = self.in_use + taken - given_back;
        self.exhausted = self.in_use.saturating_add(2 * SMALLEST) > self.granted;
    }

    pub(super) fn take(&mut self) -> io::Result<Ring> {
        let ring = self.rings.pop().map_or_else(Ring::new, Ok).inspect_err(|_| self.refused())?;
        self.count(ring.capacity(), 0);
        Ok(ring)
    }

    /// Adds bytes to a buffer that was taken from here, which may make it larger.
    pub(super) fn push(&mut self, ring: &mut Ring, bytes: &[u8]) -> io::Result<()> {
        let before = ring.capacity();
        ring.push(bytes).inspect_err(|_| self.refused())?;
        self.count(ring.capacity() - before, 0);
        Ok(())
    }

    /// The system has no memory for another buffer. So the memory in use becomes the limit, until connections have
    /// given all of it back. The connection that asked ends, and the others wait as at any limit.
    fn refused(&mut self) {
        // A limit that begins with nothing in use would never be lifted.
        if self.in_use > 0 {
            self.granted = self.granted.min(self.in_use);
            self.count(0, 0);
        }
    }

    pub(super) fn give_back(&mut self, mut ring: Ring) {
        self.count(0, ring.capacity());
        if self.in_use == 0 {
            self.set_limit(self.limit);
        }
        ring.clear();
        if ring.capacity() <= POOLED_CAPACITY && self.rings.len() < POOLED_BUFFERS && !self.exhausted {
            self.rings.push(ring);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn memory_that_the_system_refuses_is_the_limit_until_all_was_given_back() {
        let mut pool = Pool::default();
        let mut rings: Vec<Ring> = (0..4).map(|_| pool.take().expect("memory")).collect();
        assert!(!pool.exhausted);
        pool.refused();
        assert!(pool.exhausted);
        rings.drain(..2).for_each(|ring| pool.give_back(ring));
        assert!(!pool.exhausted, "there is room for two again");
        rings.push(pool.take().expect("memory"));
        assert!(pool.exhausted);
        rings.drain(..).for_each(|ring| pool.give_back(ring));
        assert_eq!((pool.exhausted, pool.granted), (false, usize::MAX));
        pool.refused();
        assert!(!pool.exhausted, "with nothing in use it tries again");
    }
}
