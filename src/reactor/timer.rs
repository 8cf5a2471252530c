//! Timers of the handler itself, which belong to no source.

/// Names a timer that needs no descriptor, such as the end of a run. The handler numbers its timers as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(pub u8);

impl Timer {
    /// One timer for each number that a `u8` can be.
    pub(super) const MOST: usize = u8::MAX as usize + 1;
}
