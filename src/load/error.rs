//! The reasons why a run does not take place, or why several processes have no common result.

use std::io;

use super::plan::PlanError;
use super::report::{MergeError, ReadError};
use crate::system::describe;

/// The reason why a run did not take place.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The settings make no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The name of an endpoint has no address, or no resolver could be asked.
    #[error("cannot resolve {host}: {}", describe(source))]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// An endpoint and the source addresses are of different families.
    #[error("cannot connect to {target}: none of the source addresses {addresses} is of its family")]
    SourceFamily {
        /// The target.
        target: String,
        /// The source addresses.
        addresses: String,
    },
    /// There are fewer ports or descriptors than connections.
    #[error("cannot open {asked} connections: {ceiling}")]
    TooMany {
        /// The connections of the plan.
        asked: usize,
        /// The limit on connections, and the remedy.
        ceiling: String,
    },
    /// Not all connections of the plan could be opened or kept, so there is nothing to measure.
    #[error("{failed} of {asked} connections failed; the first: {first}")]
    Connections {
        /// How many connections failed.
        failed: u64,
        /// How many connections the plan has.
        asked: usize,
        /// The description of the first failure.
        first: String,
    },
    /// Over UDP, this many messages had no answer in time.
    #[error("{0} messages were not answered in time: they, or their answers, are lost")]
    Lost(u64),
    /// The loop itself can't go on.
    #[error("the event loop failed: {}", describe(.0))]
    Loop(#[from] io::Error),
}

/// The reason why several processes have no common result.
#[derive(Debug, thiserror::Error)]
pub enum ProcessesError {
    /// A generator can't be started.
    #[error("cannot start generator {number} ({program}): {}", describe(source))]
    Start {
        /// Its number, counted from 1.
        number: usize,
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A generator has failed. The others were stopped.
    #[error("generator {number} failed ({how}): {words}")]
    Died {
        /// Its number, counted from 1.
        number: usize,
        /// Its exit status.
        how: String,
        /// Its last words.
        words: String,
    },
    /// A generator printed something that is no report.
    #[error(transparent)]
    Report(#[from] ReadError),
    /// The reports don't fit together.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Two requests to stop came, so there are no results.
    #[error("interrupted twice: the generators were killed, and their results are lost")]
    Killed,
    /// The loop itself can't go on.
    #[error("the event loop failed: {}", describe(.0))]
    Loop(#[from] io::Error),
}
