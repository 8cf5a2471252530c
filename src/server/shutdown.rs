//! The orderly stop: begun once, at once when it is asked for again, and the failure that the server ends with.

use std::mem;
use std::time::Duration;

use super::error::Error;

/// Whether the server stops, and how it will have ended.
pub(super) struct Shutdown {
    /// How long connections have to end.
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

    /// Begins. False: it had begun before.
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

    /// The server will end with this failure, unless it has another already.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// How the server has ended.
    pub(super) fn outcome(self) -> Result<(), Error> {
        self.failure.map_or(Ok(()), Err)
    }
}
