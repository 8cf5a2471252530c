//! Why a run does not take place, or several processes have no common result.

use std::io;

use super::plan::PlanError;
use super::report::{MergeError, ReadError};
use crate::system::describe;

/// Why a run did not take place.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The settings make no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The name of an endpoint has no address, or nobody could be asked.
    #[error("cannot resolve {host}: {}", describe(source))]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's words.
        source: io::Error,
    },
    /// An endpoint and the source addresses are of different families.
    #[error("cannot connect to {target}: none of the source addresses {addresses} is of its family")]
    SourceFamily {
        /// Where to.
        target: String,
        /// The source addresses.
        addresses: String,
    },
    /// There are fewer ports or descriptors than connections.
    #[error("cannot open {asked} connections: {ceiling}")]
    TooMany {
        /// How many were asked for.
        asked: usize,
        /// The most that is possible, and the remedy.
        ceiling: String,
    },
    /// Not all connections of the plan could be opened, or kept, so that there is nothing to measure.
    #[error("{failed} of {asked} connections failed; the first: {first}")]
    Connections {
        /// How many.
        failed: u64,
        /// Of how many.
        asked: usize,
        /// The words about the first.
        first: String,
    },
    /// Over UDP, so many messages had no answer in time.
    #[error("{0} messages were not answered in time: they, or their answers, are lost")]
    Lost(u64),
    /// The loop itself can't go on.
    #[error("the event loop failed: {}", describe(.0))]
    Loop(#[from] io::Error),
}

/// Why several processes have no common result.
#[derive(Debug, thiserror::Error)]
pub enum ProcessesError {
    /// One of them can't be started.
    #[error("cannot start generator {number} ({program}): {}", describe(source))]
    Start {
        /// Its number, counted from 1.
        number: usize,
        /// The program.
        program: String,
        /// The system's words.
        source: io::Error,
    },
    /// One of them has failed. The others were stopped.
    #[error("generator {number} failed ({how}): {words}")]
    Died {
        /// Its number, counted from 1.
        number: usize,
        /// Its exit status.
        how: String,
        /// Its last words.
        words: String,
    },
    /// One of them printed something else than a report.
    #[error(transparent)]
    Report(#[from] ReadError),
    /// Their reports don't fit together.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Two requests to stop came, so there are no results.
    #[error("interrupted twice: the generators were killed, and their results are lost")]
    Killed,
    /// The loop itself can't go on.
    #[error("the event loop failed: {}", describe(.0))]
    Loop(#[from] io::Error),
}
