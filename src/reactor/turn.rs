//! The record of one turn of the loop, for programs that watch it.

use super::moment::Moment;

/// The turn that has just ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Events that the poll brought.
    pub events: usize,
    /// Sources of the run queue that had their share.
    pub queued: usize,
    /// Entries that the run queue had before the turn.
    pub waiting: usize,
    /// Deadlines that were due, and that the handler got.
    pub deadlines: usize,
    /// When its parts ended; `None` unless [`Reactor::set_timed`](super::Reactor::set_timed) asked for the times.
    pub times: Option<TurnTimes>,
}

impl Turn {
    /// Notes the end of a part, if the turn is timed at all.
    pub(super) fn mark(&mut self, part: fn(&mut TurnTimes) -> &mut Moment) {
        if let Some(times) = &mut self.times {
            *part(times) = Moment::now();
        }
    }
}

/// The moments of one turn, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnTimes {
    /// The loop asked for events, and may have slept from here on.
    pub poll_began: Moment,
    /// The poll returned.
    pub poll_ended: Moment,
    /// Connections, then listeners, got their events.
    pub batch_ended: Moment,
    /// The run queue had its share.
    pub run_queue_ended: Moment,
    /// The handler got the deadlines that were due.
    pub deadlines_ended: Moment,
    /// Signals got their events, and the removed sources are dropped.
    pub ended: Moment,
}

impl TurnTimes {
    /// The parts after the poll have not ended yet, so they count as taking no time.
    pub(super) fn after_poll(poll_began: Moment, poll_ended: Moment) -> TurnTimes {
        TurnTimes {
            poll_began,
            poll_ended,
            batch_ended: poll_ended,
            run_queue_ended: poll_ended,
            deadlines_ended: poll_ended,
            ended: poll_ended,
        }
    }
}
