//! The bounds of a connection: of its memory, its share of a turn, its time.

use std::time::Duration;

use super::phase::End;
use crate::reactor::Moment;

/// The bounds of a connection's memory and of its share of a turn. [`Workspace::new`](super::Workspace::new) takes 0
/// for 1, since with a bound of 0 nothing would ever move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that one read asks for.
    pub read_size: usize,
    /// The high-water mark: with this many unsent bytes the service gets no more input, and the connection stops
    /// reading. It reads again when at most half as many are left.
    pub write_limit: usize,
    /// The price at which a connection's share of a turn ends. A byte read or written costs one, a spliced one a
    /// quarter, an action that moves nothing one. The last action may exceed it.
    pub turn_budget: usize,
}

/// How long a connection may be without progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// No byte in or out.
    pub idle: Option<Duration>,
    /// Something to send, and the peer takes not one byte.
    pub write: Option<Duration>,
    /// We are done, and the peer does not end.
    pub linger: Duration,
}

impl Timeouts {
    /// The moment at which the first timeout strikes, and which timeout it is.
    pub(super) fn nearest(
        &self,
        last_activity: Moment,
        stalled_since: Option<Moment>,
    ) -> Option<(Moment, Timeout)> {
        let idle = self.idle.map(|time| (last_activity + time, Timeout::Idle));
        let write = stalled_since.zip(self.write).map(|(since, time)| (since + time, Timeout::Write));
        idle.into_iter().chain(write).min_by_key(|(at, _)| *at)
    }
}

/// One of the [`Timeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// No byte in or out for too long.
    Idle,
    /// The peer took not one byte for too long.
    Write,
    /// We were done, and the peer did not end in time.
    Linger,
}

/// The outcome of a deadline that was due.
#[derive(Debug)]
pub enum Judgement {
    /// It lives: give it another turn if `again` says so, and judge it anew at the deadline.
    Alive {
        /// Progress is possible right now.
        again: bool,
        /// Its next deadline, if it has one.
        deadline: Option<Moment>,
    },
    /// The peer or the network ended it before we judged: remove it.
    Ended(End),
    /// A timeout struck: remove it.
    TimedOut(Timeout),
}
