//! The stop: it begins once, in order. It also keeps the failure that the server ends with, if there is one.

use std::mem;
use std::time::Duration;

use super::error::Error;

/// The progress and the outcome of a stop.
pub(super) struct Shutdown {
    /// The time that connections have to end.
    pub(super) drain: Duration,
    begun: bool,
    on_begin: Option<Box<dyn FnOnce() + Send>>,
    failure: Option<Error>,
}

impl Shutdown {
    pub(super) fn new(drain: Duration) -> Shutdown {
        Shutdown { drain, begun: false, on_begin: None, failure: None }
    }

    pub(super) fn on_begin(&mut self, call: impl FnOnce() + Send + 'static) {
        self.on_begin = Some(Box::new(call));
    }

    /// Begins the stop. False: it had begun before.
    pub(super) fn begin(&mut self) -> bool {
        if mem::replace(&mut self.begun, true) {
            return false;
        }
        if let Some(call) = self.on_begin.take() {
            call();
        }
        true
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Makes the server end with this failure, unless it has an earlier one.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// The outcome of the server.
    pub(super) fn outcome(self) -> Result<(), Error> {
        self.failure.map_or(Ok(()), Err)
    }
}
