//! Timers of the handler itself, which belong to no source.

/// Names a timer that needs no descriptor, such as the end of a run. The handler numbers its timers as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(pub u8);

impl Timer {
    /// There are no more timers than numbers for them.
    pub(super) const MOST: usize = u8::MAX as usize + 1;
}
