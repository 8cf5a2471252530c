//! Bulk: when input goes back through a pipe, and when through a buffer.
//!
//! A splice spares two copies of each byte and costs two calls more than a read and a write. It pays for large
//! transfers only, so a connection splices after a few reads that came back full, and reads again after a few small
//! splices.

/// A connection splices after so many full reads. Other reads may come between them.
const LARGE: u8 = 4;
/// The count stops growing here. From here five small splices make the connection read again: four lead down to
/// `LARGE`, and the fifth to 0.
const LARGEST: u8 = 8;

/// Counts large transfers up and small splices down. A short read changes nothing.
#[derive(Debug, Default)]
pub(super) struct Bulk(u8);

impl Bulk {
    /// Whether input has been so large that splicing it pays.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.0 >= LARGE
    }

    /// A transfer was large: a read brought as much as reads may, or a splice a good part of that.
    #[inline]
    pub(super) fn grow(&mut self) {
        self.0 = (self.0 + 1).min(LARGEST);
    }

    /// A splice brought `count` bytes, where a read would have brought at most `read_size`.
    pub(super) fn weigh(&mut self, count: usize, read_size: usize) {
        if count >= read_size / 4 {
            self.grow();
        } else {
            self.0 = if self.0 > LARGE { self.0 - 1 } else { 0 };
        }
    }
}

/// The price of spliced bytes. The budget stands for the time of a turn, and passing a page on takes a quarter of the
/// time of copying it.
pub(super) fn price(count: usize) -> usize {
    count.div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_reads_make_it_splice_and_small_transfers_make_it_read_again() {
        let mut bulk = Bulk::default();
        for _ in 1..LARGE {
            bulk.grow();
            assert!(!bulk.is_large());
        }
        for _ in 0..100 {
            bulk.grow();
        }
        for _ in LARGE..LARGEST {
            bulk.weigh(1, 64);
            assert!(bulk.is_large(), "one small transfer is no reason yet");
        }
        bulk.weigh(1, 64);
        assert!(!bulk.is_large());
        bulk.grow();
        assert!(!bulk.is_large(), "it begins anew");
    }
}
