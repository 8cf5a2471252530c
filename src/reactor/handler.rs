//! The program that a reactor runs.

use std::os::fd::AsFd;

use super::context::Context;
use super::readiness::Readiness;
use super::sources::Token;
use super::timer::Timer;

/// The reactor calls a handler whenever a source may have something to do.
///
/// None of its methods may block, and none returns an error: a failure of one source ends that source, not the loop.
/// The token is the name that [`Context::insert`] gave; [`Context::get_mut`] has the source.
pub trait Handler {
    /// One registered descriptor with its state; usually an enum of the handler's kinds.
    type Source: AsFd;

    /// The source became ready. The handler may have removed it at an earlier event of the same batch: then
    /// [`Context::get_mut`] returns `None`, and there is nothing to do.
    ///
    /// The source may wait in the run queue ([`Context::is_queued`]). Then the handler must only note the readiness:
    /// the source keeps its place in the queue, and gets no second share of the turn.
    fn ready(&mut self, context: &mut Context<Self::Source>, token: Token, readiness: Readiness);

    /// The source has another share, for which the handler called [`Context::run_again`].
    fn resume(&mut self, context: &mut Context<Self::Source>, token: Token) {
        let _ = (context, token);
    }

    /// The deadline of the source is due, and no longer set. The reactor takes all due deadlines of a turn out before
    /// it calls this for the first of them, so clearing or moving another one comes too late for this turn.
    ///
    /// **A deadline is a hint, like an event.** A process that was stopped, or is late, finds deadlines due although
    /// their sources became ready long ago. So read and write first, and then judge by the bytes that moved.
    fn deadline(&mut self, context: &mut Context<Self::Source>, token: Token) {
        let _ = (context, token);
    }

    /// The timer is due, and no longer set.
    fn timer(&mut self, context: &mut Context<Self::Source>, timer: Timer) {
        let _ = (context, timer);
    }

    /// The turn is over, and the reactor has dropped the sources that the handler removed in it.
    fn turn_end(&mut self, context: &mut Context<Self::Source>) {
        let _ = context;
    }
}
