//! A socket and its readiness. Only this file reads, writes and splices.
//!
//! An event is an edge, which the kernel does not repeat. So a wire remembers readiness. Events add to it. A call takes
//! it away if the call moved nothing, or so little that the next one would move nothing.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use super::bulk::Bulk;
use super::interest::{CONNECTION_INTEREST, INPUT_INTEREST};
use super::journal::{Deed, Journal};
use super::pipes::Pipe;
use super::transport::Transport;
use super::workspace::Desk;
use crate::reactor::{Interest, Moment, Readiness};

/// After one of these events a short read proves nothing: more input, or its end, may follow without another event.
const READ_TO_END: Readiness = Readiness::READ_CLOSED.or(Readiness::PRIORITY).or(Readiness::ERROR);
/// A read that finds nothing takes all of these away.
const INPUT: Readiness = Readiness::READABLE.or(READ_TO_END);
/// These events also make the socket readable or writable: the next call finds the end or the error.
const ENDS: Readiness = Readiness::READ_CLOSED.or(Readiness::WRITE_CLOSED).or(Readiness::ERROR);

/// A socket, its readiness, and the bytes that passed through it.
#[derive(Debug)]
pub(super) struct Wire<T> {
    transport: T,
    received: u64,
    sent: u64,
    last_activity: Moment,
    /// The readiness that events added, and that no call has taken away.
    ready: Readiness,
    /// The connection does not read the socket: the write buffer was full, and is not half empty yet; or there is no
    /// memory for a write buffer, and the kernel has no room.
    paused: bool,
    /// A Unix stream is registered for writability at present. (A TCP socket always is, whatever this says.)
    watched: bool,
    bulk: Bulk,
}

impl<T: Transport> Wire<T> {
    /// A connected socket. It counts as writable until a write finds no room.
    pub(super) fn new(transport: T, now: Moment) -> Wire<T> {
        Wire {
            transport,
            received: 0,
            sent: 0,
            last_activity: now,
            ready: Readiness::WRITABLE,
            paused: false,
            watched: false,
            bulk: Bulk::default(),
        }
    }

    /// A socket whose handshake is under way. It becomes writable when the handshake has ended, well or not.
    pub(super) fn connecting(transport: T, now: Moment) -> Wire<T> {
        Wire { ready: Readiness::NONE, watched: true, ..Wire::new(transport, now) }
    }

    /// Adds an event to the readiness.
    #[inline]
    pub(super) fn note(&mut self, readiness: Readiness) {
        self.ready = self.ready | readiness;
        if readiness.has(ENDS) {
            self.note_end(readiness);
        }
    }

    /// Makes the socket readable or writable, since the next read or write tells how the connection ended.
    #[cold]
    fn note_end(&mut self, readiness: Readiness) {
        if readiness.has(Readiness::READ_CLOSED | Readiness::ERROR) {
            self.ready = self.ready | Readiness::READABLE;
        }
        if readiness.has(Readiness::WRITE_CLOSED | Readiness::ERROR) {
            self.ready = self.ready | Readiness::WRITABLE;
        }
    }

    /// Whether the socket may have something to read, as far as events and reads tell.
    #[inline]
    pub(super) fn is_readable(&self) -> bool {
        self.ready.has(Readiness::READABLE)
    }

    /// Whether the socket may have room, as far as events and writes tell.
    #[inline]
    pub(super) fn is_writable(&self) -> bool {
        self.ready.has(Readiness::WRITABLE)
    }

    /// Whether the next read may meet an end, an error or an urgent byte. A splice does not tell these apart.
    pub(super) fn reads_to_end(&self) -> bool {
        self.ready.has(READ_TO_END)
    }

    /// One read. `None`: nothing is there, or a signal interrupted the call and the wire is still readable. `Some(0)`:
    /// the end of input.
    #[inline(always)]
    pub(super) fn read(&mut self, buffer: &mut [u8], desk: &mut Desk) -> io::Result<Option<usize>> {
        let socket = self.transport.descriptor();
        match desk.journal.read(socket, buffer.len(), || self.transport.read(buffer)) {
            Ok(count) => {
                let is_short = count < buffer.len();
                let drained = is_short && self.transport.short_means_done() && !self.reads_to_end();
                if drained || count == 0 {
                    self.ready = self.ready.without(INPUT);
                }
                self.received += count as u64;
                desk.traffic.received += count as u64;
                Ok(Some(count))
            }
            Err(error) => self.read_failed(error),
        }
    }

    /// One splice from the socket into a pipe, which must be empty: with a full pipe `WouldBlock` would prove nothing
    /// of the socket. A short splice proves nothing. `None`: nothing came, and if the wire is still readable, a read
    /// tells why.
    pub(super) fn splice_into(&mut self, pipe: &mut Pipe, desk: &mut Desk) -> io::Result<Option<usize>> {
        let (socket, capacity) = (self.transport.descriptor(), pipe.capacity);
        let splice = || self.transport.splice_into(pipe.writer.as_fd(), capacity);
        match desk.journal.read(socket, capacity, splice) {
            // Mostly the end of input. But once the end has arrived, a splice also returns 0 at an urgent byte before
            // it.
            Ok(0) => {
                self.ready = self.ready | Readiness::READ_CLOSED;
                Ok(None)
            }
            Ok(count) => {
                pipe.held = count;
                self.received += count as u64;
                desk.traffic.received += count as u64;
                Ok(Some(count))
            }
            Err(error) => self.read_failed(error),
        }
    }

    #[cold]
    fn read_failed(&mut self, error: io::Error) -> io::Result<Option<usize>> {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.ready = self.ready.without(INPUT);
                Ok(None)
            }
            ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        }
    }

    /// As [`Wire::read`], but the input stays in the kernel's buffer.
    pub(super) fn peek(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.transport.peek(buffer).map(Some).or_else(|error| self.read_failed(error))
    }

    /// Takes the bytes that [`Wire::peek`] has shown out of the kernel's buffer.
    ///
    /// # Errors
    /// When reading fails, or the bytes are gone, which would be the kernel's mistake.
    pub(super) fn skip(&mut self, shown: &mut [u8], desk: &mut Desk) -> io::Result<()> {
        let (ready, mut skipped) = (self.ready, 0);
        while skipped < shown.len() {
            match self.read(&mut shown[skipped..], desk)? {
                // A signal interrupted the call, and the bytes are still there.
                None if self.is_readable() => {}
                None | Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(count) => skipped += count,
            }
            // The read asked for no more than is there, so it has proved nothing about the input behind.
            self.ready = ready;
            self.touch(desk.now);
        }
        Ok(())
    }

    /// One write; returns the number of bytes that the kernel took.
    #[inline(always)]
    pub(super) fn write(&mut self, bytes: &[u8], desk: &mut Desk) -> io::Result<usize> {
        let socket = self.transport.descriptor();
        match desk.journal.write(socket, bytes.len(), || self.transport.write(bytes)) {
            Ok(taken @ 1..) => {
                if taken < bytes.len() && self.transport.short_means_done() {
                    // A short write has filled the send buffer, so an event will tell when there is room again.
                    self.ready = self.ready.without(Readiness::WRITABLE);
                }
                self.count_sent(taken, desk);
                Ok(taken)
            }
            Ok(_) => self.write_failed(ErrorKind::WriteZero.into()),
            Err(error) => self.write_failed(error),
        }
    }

    /// One splice from a pipe into the socket. A short splice proves nothing: only `WouldBlock` takes writability away.
    pub(super) fn splice_from(&mut self, pipe: &Pipe, desk: &mut Desk) -> io::Result<usize> {
        let socket = self.transport.descriptor();
        let splice = || self.transport.splice_from(pipe.reader.as_fd(), pipe.held);
        match desk.journal.write(socket, pipe.held, splice) {
            Ok(taken @ 1..) => {
                desk.traffic.spliced += taken as u64;
                self.count_sent(taken, desk);
                Ok(taken)
            }
            Ok(_) => self.write_failed(ErrorKind::WriteZero.into()),
            Err(error) => self.write_failed(error),
        }
    }

    #[cold]
    fn write_failed(&mut self, error: io::Error) -> io::Result<usize> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(0),
            kind => {
                self.ready = self.ready.without(Readiness::WRITABLE);
                if kind == ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
            }
        }
    }

    #[inline]
    fn count_sent(&mut self, count: usize, desk: &mut Desk) {
        self.sent += count as u64;
        desk.traffic.sent += count as u64;
        self.touch(desk.now);
    }

    /// Notes activity, from which the timeouts count.
    #[inline]
    pub(super) fn touch(&mut self, now: Moment) {
        self.last_activity = now;
    }

    /// Whether the handshake has ended well. False: the event came too early, and another one follows.
    pub(super) fn is_established(&mut self) -> io::Result<bool> {
        let is_established = self.transport.is_established()?;
        if !is_established {
            self.ready = self.ready.without(Readiness::WRITABLE);
        }
        Ok(is_established)
    }

    /// Ends our sending side.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        match self.transport.shutdown_write() {
            // The connection is gone already, so there is no end to send.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Stops reading until [`Wire::resume`], since so many bytes are unsent.
    #[cold]
    pub(super) fn pause(&mut self, unsent: usize, desk: &mut Desk) {
        if !std::mem::replace(&mut self.paused, true) {
            desk.pool.pauses += 1;
            self.journal(Deed::Paused { unsent }, &mut desk.journal);
        }
    }

    /// Lets the socket be read again.
    #[cold]
    pub(super) fn resume(&mut self, unsent: usize, desk: &mut Desk) {
        self.paused = false;
        self.journal(Deed::Resumed { unsent }, &mut desk.journal);
    }

    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Records a step that is no call.
    pub(super) fn journal(&self, deed: Deed, journal: &mut Journal) {
        journal.note(self.transport.descriptor(), deed);
    }

    /// The new registration, if it has to change; `waits`: something waits for room.
    pub(super) fn new_interest(&mut self, waits: bool) -> Option<Interest> {
        if self.transport.is_watched_for_room() || std::mem::replace(&mut self.watched, waits) == waits {
            return None;
        }
        Some(if waits { CONNECTION_INTEREST } else { INPUT_INTEREST })
    }

    /// Whether the connection reads the socket, and watches a Unix stream for input alone.
    #[inline]
    pub(super) fn is_at_ease(&self) -> bool {
        !self.paused && !self.watched
    }

    #[inline]
    pub(super) fn bulk(&mut self) -> &mut Bulk {
        &mut self.bulk
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn last_activity(&self) -> Moment {
        self.last_activity
    }

    pub(super) fn transport(&self) -> &T {
        &self.transport
    }

    #[cfg(test)]
    pub(super) fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }
}
