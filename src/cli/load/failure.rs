//! A run that did not take place: its reason and its exit status.

use std::io;

use echoloop::load::{LoadError, ProcessesError, SharesError};

use super::run::status;
use crate::cli::output::{FAILED, WRONG_USAGE};

/// The reason why a run did not take place, and the exit status for it.
pub(super) struct Failure {
    pub(super) status: u8,
    pub(super) words: String,
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure { status: status(&error), words: error.to_string() }
    }
}

impl From<ProcessesError> for Failure {
    fn from(error: ProcessesError) -> Failure {
        Failure { status: FAILED, words: error.to_string() }
    }
}

impl From<SharesError> for Failure {
    fn from(error: SharesError) -> Failure {
        Failure { status: WRONG_USAGE, words: error.to_string() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        LoadError::Loop(error).into()
    }
}
