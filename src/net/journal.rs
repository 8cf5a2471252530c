//! The journal of a connection's steps: for the trace log, and for a program that asks for it.

use std::io;

use super::phase::Phase;
use crate::reactor::Moment;

/// The journal keeps so many entries until the program takes them, and leaves later ones out. With any sane limits one
/// pump makes fewer.
const MOST_ENTRIES: usize = 1 << 16;

/// One step of a connection.
#[derive(Debug)]
pub struct Entry {
    /// When the call was made.
    pub began: Moment,
    /// When it returned. Without a call this is the same moment.
    pub ended: Moment,
    /// The step.
    pub deed: Deed,
}

/// The kinds of steps.
#[derive(Debug)]
pub enum Deed {
    /// A read has returned.
    Read {
        /// The most that it could bring.
        asked: usize,
        /// The bytes that it brought.
        result: io::Result<usize>,
    },
    /// A write has returned.
    Wrote {
        /// Bytes that the connection offered.
        offered: usize,
        /// Bytes that the kernel took.
        result: io::Result<usize>,
    },
    /// The write buffer is full: the connection does not read until half of it has gone.
    Paused {
        /// Bytes in the write buffer.
        unsent: usize,
    },
    /// The write buffer is half empty: the connection may read again.
    Resumed {
        /// Bytes in the write buffer.
        unsent: usize,
    },
    /// The connection changed its phase.
    Entered {
        /// Where it stood.
        from: Phase,
        /// Where it stands now.
        to: Phase,
    },
}

/// Keeps the steps of the connection that is being pumped, if the program asked for them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Option<Vec<Entry>>,
}

impl Journal {
    /// Keeps steps from here on, or stops keeping them.
    pub(super) fn keep(&mut self, keep: bool) {
        self.entries = keep.then(Vec::new);
    }

    /// The steps since the last time.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.entries.as_mut().map_or_else(Vec::new, std::mem::take)
    }

    #[inline]
    fn records(&self) -> bool {
        self.entries.is_some() || log::log_enabled!(log::Level::Trace)
    }

    /// Makes a read of at most `asked` bytes, and records it.
    #[inline(always)] // If nothing is recorded, the call is all that is left of this.
    pub(super) fn read(
        &mut self,
        socket: i32,
        asked: usize,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let deed = |result| Deed::Read { asked, result };
        if self.records() { self.record(socket, call, deed) } else { call() }
    }

    /// Makes a write of at most `offered` bytes, and records it.
    #[inline(always)]
    pub(super) fn write(
        &mut self,
        socket: i32,
        offered: usize,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let deed = |result| Deed::Wrote { offered, result };
        if self.records() { self.record(socket, call, deed) } else { call() }
    }

    /// Records a step without a call.
    #[inline]
    pub(super) fn note(&mut self, socket: i32, deed: Deed) {
        if self.records() {
            let now = Moment::now();
            self.add(socket, Entry { began: now, ended: now, deed });
        }
    }

    #[cold]
    fn record(
        &mut self,
        socket: i32,
        call: impl FnOnce() -> io::Result<usize>,
        deed: impl FnOnce(io::Result<usize>) -> Deed,
    ) -> io::Result<usize> {
        let began = Moment::now();
        let result = call();
        let ended = Moment::now();
        self.add(socket, Entry { began, ended, deed: deed(copy(&result)) });
        result
    }

    #[cold]
    fn add(&mut self, socket: i32, entry: Entry) {
        match &entry.deed {
            Deed::Read { asked, result } => log::trace!("socket {socket}: read of {asked} bytes: {result:?}"),
            Deed::Wrote { offered, result } => {
                log::trace!("socket {socket}: write of {offered} bytes: {result:?}");
            }
            Deed::Paused { unsent } => log::trace!("socket {socket}: paused with {unsent} bytes unsent"),
            Deed::Resumed { unsent } => log::trace!("socket {socket}: resumed with {unsent} bytes unsent"),
            Deed::Entered { from, to } => log::trace!("socket {socket}: {from:?} → {to:?}"),
        }
        if let Some(entries) = &mut self.entries
            && entries.len() < MOST_ENTRIES
        {
            entries.push(entry);
        }
    }
}

/// An error can't be cloned, but its code says all that a system call said.
fn copy(result: &io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(count) => Ok(*count),
        Err(error) => {
            Err(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error))
        }
    }
}
