//! The workspace: everything that the connections of one loop share.

use super::bounds::Limits;
use super::journal::{Entry, Journal};
use super::pipes::{Pipes, is_broken_pipe_harmless};
use super::pool::{BufferBytes, Pool};
use crate::reactor::Moment;

/// The connections of a loop share one workspace. So a connection that holds no bytes owns no heap memory: it reads
/// into this input, and collects its answers on this desk.
#[derive(Debug)]
pub struct Workspace {
    pub(super) input: Box<[u8]>,
    pub(super) desk: Desk,
}

/// The workspace without the input, so that a service can have the input while the connection sends its answers.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) limits: Limits,
    pub(super) staged: Vec<u8>,
    pub(super) pool: Pool,
    pub(super) pipes: Pipes,
    pub(super) journal: Journal,
    pub(super) traffic: Traffic,
    /// The time of the pump that is under way.
    pub(super) now: Moment,
    /// The part of the turn's budget that this pump has left.
    pub(super) budget: usize,
}

/// Bytes that all connections of a workspace have moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read from peers.
    pub received: u64,
    /// Bytes that the kernel took from us.
    pub sent: u64,
    /// The part of the sent bytes that passed through a pipe and was not copied.
    pub spliced: u64,
}

impl Desk {
    /// The high-water mark: with so many unsent bytes the service gets no more input. Without memory for buffers, one
    /// unsent byte is too much.
    #[inline]
    pub(super) fn write_limit(&self) -> usize {
        if self.pool.exhausted { 1 } else { self.limits.write_limit }
    }
}

impl Workspace {
    /// A workspace for connections with these limits, each at least 1.
    pub fn new(limits: Limits) -> Workspace {
        let Limits { read_size, write_limit, turn_budget } = limits;
        let limits = Limits {
            read_size: read_size.max(1),
            write_limit: write_limit.max(1),
            turn_budget: turn_budget.max(1),
        };
        Workspace {
            input: vec![0; limits.read_size].into_boxed_slice(),
            desk: Desk {
                limits,
                staged: Vec::new(),
                pool: Pool::default(),
                pipes: Pipes::default(),
                journal: Journal::default(),
                traffic: Traffic::default(),
                now: Moment::now(),
                budget: limits.turn_budget,
            },
        }
    }

    /// The memory of the buffers of its connections.
    pub fn buffer_bytes(&self) -> BufferBytes {
        self.desk.pool.bytes()
    }

    /// Bounds the memory of all buffers together. Once it is used up, a connection without a buffer gets none: it reads
    /// only input whose answer the kernel takes, and leaves the rest with the kernel, which stops the peer. So a
    /// connection goes on while its peer reads, and waits while its peer doesn't, as always. Two things may exceed the
    /// bound: the answers to input that is already here, and one chunk's answer for each connection whose service is
    /// not a plain echo ([`Service::is_echo`](super::Service::is_echo)).
    pub fn set_buffer_limit(&mut self, bytes: usize) {
        self.desk.pool.set_limit(bytes);
    }

    /// Lets connections send bulk data back without a copy, through at most this many pipes at a time: connections
    /// whose service [is an echo](super::Service::is_echo), after several full reads. A connection that finds no free
    /// pipe copies. Each pipe takes two descriptors and up to a mebibyte in the kernel; its bytes count as unsent,
    /// beyond the write limit.
    ///
    /// Only where SIGPIPE is ignored or handled, as in any Rust program: `splice(2)` raises it when the peer has gone.
    pub fn allow_splicing(&mut self, pipes: usize) {
        self.desk.pipes.allow(if is_broken_pipe_harmless() { pipes } else { 0 });
    }

    /// Pipes that hold bytes of a connection at present.
    pub fn pipes_in_use(&self) -> usize {
        self.desk.pipes.in_use()
    }

    /// Descriptors of pipes that are open, in use or kept for the next connection.
    pub fn pipe_descriptors(&self) -> usize {
        self.desk.pipes.descriptors()
    }

    /// How often a connection paused because its write buffer was full.
    pub fn pauses(&self) -> u64 {
        self.desk.pool.pauses
    }

    /// Bytes that its connections have moved so far.
    pub fn traffic(&self) -> Traffic {
        self.desk.traffic
    }

    /// Keeps the steps of connections from here on, or stops keeping them. Fetch them with [`Workspace::take_journal`]
    /// after each pump: the steps don't name their connection, and the journal keeps a bounded number of them.
    pub fn keep_journal(&mut self, keep: bool) {
        self.desk.journal.keep(keep);
    }

    /// The steps since the last time, oldest first.
    pub fn take_journal(&mut self) -> Vec<Entry> {
        self.desk.journal.take()
    }
}
