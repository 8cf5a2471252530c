//! The figures and the health of the server, gathered from its parts.

use super::acceptor::Acceptor;
use super::admin::{Figures, NotAccepting, Process};
use super::connections::Connections;
use super::datagrams::Datagrams;
use super::shutdown::Shutdown;
use crate::reactor::Moment;

/// The parts that the admin endpoint and the report describe.
pub(super) struct Vitals<'a> {
    pub(super) acceptor: &'a Acceptor,
    pub(super) connections: &'a Connections,
    pub(super) datagrams: &'a mut Datagrams,
    pub(super) process: &'a Process,
    pub(super) shutdown: &'a Shutdown,
    pub(super) now: Moment,
}

impl Vitals<'_> {
    /// Logs the figures, as warnings, so that they appear with `--quiet` too.
    pub(super) fn log(&mut self, sources: usize) {
        for line in self.figures(sources).lines() {
            log::warn!("report: {line}");
        }
    }

    /// The figures and the health at this moment; `sources`: the number of sources in the loop.
    pub(super) fn figures(&mut self, sources: usize) -> Figures {
        let workspace = self.connections.workspace();
        Figures {
            counters: self.connections.counters.clone(),
            connections_allowed: self.acceptor.limit(),
            pauses_of_reading: workspace.pauses(),
            buffers: workspace.buffer_bytes(),
            pipes_in_use: workspace.pipes_in_use(),
            datagrams: self.datagrams.counts(self.now),
            process: self.process.figures(sources + workspace.pipe_descriptors()),
            not_accepting: self.not_accepting(),
        }
    }

    fn not_accepting(&self) -> Option<NotAccepting> {
        if self.shutdown.has_begun() {
            Some(NotAccepting::Stopping)
        } else if self.acceptor.is_closed() && self.datagrams.is_empty() {
            Some(NotAccepting::Enough)
        } else if self.acceptor.is_blocked() {
            Some(NotAccepting::Exhausted)
        } else if self.acceptor.is_full(&self.connections.counters) {
            Some(NotAccepting::Full { limit: self.acceptor.limit() })
        } else {
            None
        }
    }
}
