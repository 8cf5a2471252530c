//! A ring of bytes in memory of its own: bytes leave at the front without moving the others, and come in at the end.
//!
//! The memory is mapped, not allocated. An allocator keeps freed memory, as a rule, for the next allocation: after two
//! thousand stalled clients had gone, a server with buffers from `malloc` still held three quarters of their memory.
//! The system gets a dropped mapping back. And it gives no memory for a page before the first touch, so a ring costs as
//! much as it has held, and not as much as it could hold.

use std::io;

use memmap2::MmapMut;

/// The smallest ring. With the default limits no connection needs a larger one.
pub(super) const SMALLEST: usize = 128 * 1024;

/// Bytes in the order in which they came.
#[derive(Debug)]
pub(super) struct Ring {
    memory: MmapMut,
    start: usize,
    length: usize,
}

impl Ring {
    pub(super) fn new() -> io::Result<Ring> {
        Ring::with_capacity(SMALLEST)
    }

    fn with_capacity(capacity: usize) -> io::Result<Ring> {
        Ok(Ring { memory: MmapMut::map_anon(capacity)?, start: 0, length: 0 })
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// The first bytes: all of them, or the part up to the end of the memory. A ring that was filled once, from empty,
    /// has them all in one piece.
    pub(super) fn front(&self) -> &[u8] {
        let end = (self.start + self.length).min(self.capacity());
        &self.memory[self.start..end]
    }

    /// The bytes behind the front, from the beginning of the memory.
    fn back(&self) -> &[u8] {
        &self.memory[..self.length - self.front().len()]
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When the system has no memory for a larger ring. The ring is then as it was.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let needed = self.length + bytes.len();
        if needed > self.capacity() {
            let mut larger = Ring::with_capacity(needed.next_power_of_two())?;
            larger.put(self.front());
            larger.put(self.back());
            *self = larger;
        }
        self.put(bytes);
        Ok(())
    }

    /// Adds bytes for which there is room.
    fn put(&mut self, bytes: &[u8]) {
        let capacity = self.capacity();
        let end = (self.start + self.length) % capacity;
        let (straight, around) = bytes.split_at(bytes.len().min(capacity - end));
        self.memory[end..end + straight.len()].copy_from_slice(straight);
        self.memory[..around.len()].copy_from_slice(around);
        self.length += bytes.len();
    }

    /// Takes `count` bytes away from the front.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.length);
        self.length -= count;
        // An empty ring begins anew, so that its next bytes are in one piece, and in pages that it has touched.
        self.start = if self.length == 0 { 0 } else { (self.start + count) % self.capacity() };
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.length) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Consume(usize),
    }

    proptest! {
        // Each case moves megabytes, and the ring has few corners: more cases would find no more of them.
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(500), ..ProptestConfig::default() })]

        /// The ring agrees with that of the standard library.
        #[test]
        fn agrees_with_the_standard_library(
            steps in proptest::collection::vec(
                prop_oneof![(0..90_000_usize).prop_map(Step::Push), (0..90_000_usize).prop_map(Step::Consume)],
                1..40,
            ),
        ) {
            let mut ring = Ring::new().expect("memory");
            let mut model = VecDeque::new();
            let mut next = 0_u8;
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_mul(5).wrapping_add(3); next }).collect();
                        ring.push(&bytes).expect("memory");
                        model.extend(bytes);
                    }
                    Step::Consume(count) => {
                        let count = count.min(model.len());
                        ring.consume(count);
                        model.drain(..count);
                    }
                }
                prop_assert_eq!((ring.len(), ring.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(model.iter().eq(ring.front().iter().chain(ring.back())));
                prop_assert!(ring.is_empty() || !ring.front().is_empty());
            }
        }
    }

    #[test]
    fn what_is_put_into_an_empty_ring_is_in_one_piece() {
        let mut ring = Ring::new().expect("memory");
        ring.push(&[1; SMALLEST - 10]).expect("memory");
        ring.consume(SMALLEST - 10);
        ring.push(&[2; SMALLEST]).expect("memory");
        assert_eq!(ring.front().len(), SMALLEST);
        assert_eq!(ring.capacity(), SMALLEST);
        ring.push(&[3]).expect("memory");
        assert_eq!((ring.capacity(), ring.len()), (2 * SMALLEST, SMALLEST + 1));
        ring.clear();
        assert!(ring.is_empty());
    }
}
