//! The things that all clients share while messages flow.

use super::figures::Figures;
use super::pacer::Pacing;
use super::pattern::Pattern;
use super::plan::{Pace, Plan, Usage};
use super::replies::{Replies, Requests};
use super::sizes::Sizes;
use crate::reactor::Moment;

/// The most that one read asks for, and the largest read that is compared at once.
pub(super) const READ_SIZE: usize = 64 * 1024;

/// The bytes to send, the moments at which to send them, and the figures.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) pattern: Pattern,
    pub(super) pacing: Pacing,
    pub(super) figures: Figures,
    pub(super) sizes: Sizes,
    pub(super) seed: u64,
    pub(super) verify: bool,
    pub(super) replies: Replies,
    /// The messages for a service that does not echo.
    pub(super) requests: Requests,
    /// Whether each connection carries only one message.
    pub(super) churn: bool,
}

impl Traffic {
    pub(super) fn new(plan: &Plan, now: Moment) -> Traffic {
        let requested = if plan.replies == Replies::Echo { Sizes::fixed(0) } else { plan.sizes };
        Traffic {
            pattern: Pattern::new(
                plan.seed,
                plan.sizes.longest,
                plan.depth as usize,
                plan.clients,
                READ_SIZE,
            ),
            pacing: Pacing::new(plan, now),
            figures: Figures::new(matches!(plan.pace, Pace::Open { .. }), now),
            sizes: plan.sizes,
            seed: plan.seed,
            verify: plan.verify,
            replies: plan.replies,
            requests: Requests::new(plan.message.as_ref(), requested, plan.seed),
            churn: plan.usage == Usage::Churn,
        }
    }

    /// The source of the lengths of a stream's messages, or over UDP of the length of the message with this number.
    /// They follow from the seed and the number, not from the order in which clients send.
    pub(super) fn lengths(&self, number: u64) -> fastrand::Rng {
        let mut seeds = fastrand::Rng::with_seed(number);
        fastrand::Rng::with_seed(self.seed ^ seeds.u64(..))
    }
}
