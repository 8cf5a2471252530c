//! A client: everything that outlives its connections.

use super::pacer::{Pacer, Pacing};
use super::targets::Choice;
use super::traffic::Traffic;
use crate::reactor::Moment;

/// One client, with a connection or while it waits for one.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) pacer: Pacer,
    /// The number of its connection, over all connections of the run.
    pub(super) number: u64,
    /// The address that this connection goes to, among those of its endpoint.
    pub(super) choice: Choice,
    /// Failed connections since the last reply.
    pub(super) tries: u32,
    /// Replies that count.
    pub(super) completed: u64,
    /// Whether the client ever had a connection.
    pub(super) was_open: bool,
    /// The moment since which the client has heard nothing, if it lost its connection meanwhile.
    silent_since: Option<Moment>,
}

impl Client {
    pub(super) fn new(client: u32, pacing: &Pacing, seed: u64, now: Moment) -> Client {
        Client {
            pacer: Pacer::new(client, pacing, seed, now),
            number: 0,
            choice: Choice::default(),
            tries: 0,
            completed: 0,
            was_open: false,
            silent_since: None,
        }
    }

    /// Takes the client away from its connection, for good or for another connection. Cuts off its messages under way.
    pub(super) fn take(&mut self, pacing: &mut Pacing, now: Moment) -> Client {
        let blank = Client::new(self.pacer.client(), pacing, 0, now);
        let mut client = std::mem::replace(self, blank);
        client.pacer.cut_off(pacing);
        client
    }

    /// Notes a complete reply. True if the reply counts.
    #[inline]
    pub(super) fn replied(
        &mut self,
        traffic: &mut Traffic,
        size: usize,
        (intended, sent): (Moment, Moment),
        now: Moment,
    ) -> bool {
        self.pacer.landed(&mut traffic.pacing, now);
        self.tries = 0;
        if self.silent_since.is_some() {
            self.recovered(traffic, now);
        }
        let counts = traffic.figures.completed(size, intended, sent, now);
        self.completed += u64::from(counts);
        counts
    }

    /// Notes a lost connection: the client has heard nothing since that moment. False if the client was silent
    /// already.
    pub(super) fn silenced(&mut self, since: Moment) -> bool {
        let was_heard = self.silent_since.is_none();
        self.silent_since.get_or_insert(since);
        was_heard
    }

    /// Ends the silence of the client: it is served again.
    #[cold]
    pub(super) fn recovered(&mut self, traffic: &mut Traffic, now: Moment) {
        if let Some(since) = self.silent_since.take() {
            traffic.figures.outages.recovered(since, now);
        }
    }

    /// Forgets the counted replies and the silence of the client.
    pub(super) fn forget(&mut self) {
        self.completed = 0;
        self.silent_since = None;
    }

    /// Whether the client waits for service since it lost a connection.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_since.is_some()
    }
}
