//! The surroundings of a client that has its turn.

use super::dialler::Dialler;
use super::slot::Slot;
use super::traffic::Traffic;
use crate::reactor::{Context, Token};

/// The reactor, the clients without a connection, and what all clients share.
pub(super) struct Surroundings<'a> {
    pub(super) context: &'a mut Context<Slot>,
    pub(super) dialler: &'a mut Dialler,
    pub(super) traffic: &'a mut Traffic,
}

impl Surroundings<'_> {
    /// Sets the alarm of a client whose next message is due at some time.
    pub(super) fn set_alarm(&mut self, token: Token) {
        let wakes_at = match self.context.get(token) {
            Some(Slot::Stream(client)) => client.client.pacer.wakes_at(&self.traffic.pacing),
            Some(Slot::Datagrams(client)) => client.wakes_at(self.traffic),
            Some(Slot::Stop(_)) | None => None,
        };
        if let Some(at) = wakes_at {
            self.context.set_deadline(token, at);
        }
    }
}
