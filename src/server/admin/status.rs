//! What the pages say: the figures, and whether connections are accepted.

use std::fmt;

use super::figures::Figures;

/// What the pages say.
pub(in crate::server) struct Status {
    pub(in crate::server) figures: Figures,
    /// Why connections are not accepted, if so.
    pub(in crate::server) not_accepting: Option<NotAccepting>,
}

/// Why connections are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum NotAccepting {
    /// The server was asked to stop.
    Stopping,
    /// It was to accept so many, and has.
    Enough,
    /// There are no descriptors, or there is no memory.
    Exhausted,
    /// There are as many connections as there may be: further ones wait, or are refused.
    Full { limit: usize },
}

impl fmt::Display for NotAccepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAccepting::Stopping => f.write_str("stopping"),
            NotAccepting::Enough => f.write_str("as many connections as were asked for were accepted"),
            NotAccepting::Exhausted => f.write_str("accepting is paused: out of descriptors or memory"),
            NotAccepting::Full { limit } => write!(f, "the limit of {limit} connections is reached"),
        }
    }
}
