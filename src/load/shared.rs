//! What all sessions share while a run goes on.

use std::time::Duration;

use super::figures::Figures;
use super::pattern::Pattern;
use super::plan::Sizes;
use super::schedule::Schedule;
use crate::reactor::Moment;

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) pattern: Pattern,
    pub(super) figures: Figures,
    pub(super) pacing: Pacing,
    pub(super) sizes: Sizes,
    pub(super) random: fastrand::Rng,
    pub(super) depth: u32,
    pub(super) verify: bool,
    /// One message a connection.
    pub(super) churn: bool,
    /// Messages that may still be sent.
    pub(super) budget: u64,
    /// What is due from here on is not sent.
    pub(super) due_until: Moment,
    /// Messages sent whose replies are not complete, over all sessions.
    pub(super) in_flight: u64,
    /// Connections that were established and wait for their greeting.
    pub(super) ungreeted: u64,
}

/// When a session sends its next message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pacing {
    /// As soon as there is room for it.
    AtOnce,
    /// Some time after the last reply.
    Thinking(Duration),
    /// When it is due.
    Scheduled(Schedule),
    /// When it is told to.
    OnCall,
}

impl Run {
    /// How long the next message is.
    pub(super) fn next_size(&mut self) -> usize {
        let Sizes { shortest, longest } = self.sizes;
        if shortest == longest { shortest } else { self.random.usize(shortest..=longest) }
    }
}
