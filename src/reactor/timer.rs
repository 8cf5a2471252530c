//! Timers of the handler itself, which belong to no source.

/// Names a timer that needs no descriptor, such as the end of a run. The handler numbers its timers as it likes, from
/// 0: the table has a place for each number up to the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(pub u8);
