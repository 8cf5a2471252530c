//! What bounds a connection: its memory, its share of a turn, its time.

use std::time::Duration;

/// The bounds of a connection's memory and of what it does in one turn. Each is at least 1, since with 0 of one
/// of them nothing would ever move: [`Workspace::new`](super::Workspace::new) takes 0 for 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that one read asks for.
    pub read_size: usize,
    /// The high-water mark: with this many unsent bytes the service gets no more input. The socket is read again
    /// when at most half of it is left.
    pub write_limit: usize,
    /// How many bytes a connection may move in one turn before the others have theirs.
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

/// Which of the [`Timeouts`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// No byte in or out for too long.
    Idle,
    /// The peer took not one byte for too long.
    Write,
    /// We were done, and the peer did not end in time.
    Linger,
}
