//! The steps of connections, written down as they happen: for the trace log, and for a program that asks.

use std::io;

use super::phase::Phase;
use crate::reactor::Moment;

/// Entries that are kept until they are taken; later ones are left out. One pump makes no more with any sane limits.
const MOST_ENTRIES: usize = 1 << 16;

/// One step of a connection.
#[derive(Debug)]
pub struct Entry {
    /// When the call was made.
    pub began: Moment,
    /// When it returned. The same moment where there was no call.
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
        /// What it brought.
        result: io::Result<usize>,
    },
    /// A write has returned.
    Wrote {
        /// Bytes that it was offered.
        offered: usize,
        /// Bytes that it took.
        result: io::Result<usize>,
    },
    /// The write buffer is full: the socket is not read until half of it has gone.
    Paused {
        /// Bytes in the write buffer.
        unsent: usize,
    },
    /// The write buffer is half empty: the socket may be read again.
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

/// Keeps the steps of the connection that is being pumped, if somebody asked for them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Option<Vec<Entry>>,
}

impl Journal {
    /// Keeps steps from here on, or no longer.
    pub(super) fn keep(&mut self, keep: bool) {
        self.entries = keep.then(Vec::new);
    }

    /// The steps since the last time.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.entries.as_mut().map_or_else(Vec::new, std::mem::take)
    }

    /// The present moment if anybody cares; reads no clock otherwise.
    #[inline]
    pub(super) fn begin(&self) -> Option<Moment> {
        let is_kept = self.entries.is_some() || log::log_enabled!(log::Level::Trace);
        if is_kept { Journal::clock() } else { None }
    }

    #[cold]
    fn clock() -> Option<Moment> {
        Some(Moment::now())
    }

    /// A read that began then has returned.
    #[inline]
    pub(super) fn read(
        &mut self,
        began: Option<Moment>,
        socket: i32,
        asked: usize,
        result: Result<usize, &io::Error>,
    ) {
        if let Some(began) = began {
            self.add(socket, began, Deed::Read { asked, result: result.map_err(copy) });
        }
    }

    /// A write that began then has returned.
    #[inline]
    pub(super) fn wrote(
        &mut self,
        began: Option<Moment>,
        socket: i32,
        offered: usize,
        result: Result<usize, &io::Error>,
    ) {
        if let Some(began) = began {
            self.add(socket, began, Deed::Wrote { offered, result: result.map_err(copy) });
        }
    }

    /// A step without a call.
    #[inline]
    pub(super) fn note(&mut self, socket: i32, deed: Deed) {
        if let Some(now) = self.begin() {
            self.add(socket, now, deed);
        }
    }

    #[cold]
    fn add(&mut self, socket: i32, began: Moment, deed: Deed) {
        let ended = match deed {
            Deed::Read { .. } | Deed::Wrote { .. } => Moment::now(),
            Deed::Paused { .. } | Deed::Resumed { .. } | Deed::Entered { .. } => began,
        };
        match &deed {
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
            entries.push(Entry { began, ended, deed });
        }
    }
}

/// An error can't be cloned, but its code says all that a system call said.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
