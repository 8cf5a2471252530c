//! A scripted socket that keeps the promises of a kernel, and no more: edges, short reads and writes, interruptions.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use crate::net::Transport;
use crate::reactor::Readiness;

/// Input that waits to be read.
enum Queued {
    Bytes(usize),
    /// A read does not go past this: an urgent byte on TCP, a passed descriptor on a Unix socket.
    Boundary,
}

#[derive(Default)]
pub(super) struct Kernel {
    is_tcp: bool,
    queue: VecDeque<Queued>,
    pub(super) delivered: u64,
    read: u64,
    /// How many bytes each successful read brought.
    pub(super) reads: Vec<usize>,
    pub(super) output: Vec<u8>,
    room: usize,
    /// A write found too little room, so the next room is an edge.
    wants_room: bool,
    end_of_input: bool,
    pub(super) reset: bool,
    /// A call has reported the reset. Further reads find the end of input.
    reset_told: Cell<bool>,
    pub(super) shut_down: bool,
    event: Option<Readiness>,
    /// Room raises an event: on TCP always, on a Unix socket while it is registered for writability.
    watched: bool,
    interrupt_read: bool,
    interrupt_write: bool,
    /// Calls that moved nothing and were not the end.
    pub(super) idle_calls: usize,
    /// The handshake: `None` while it is under way, then its outcome.
    established: Option<Result<(), ErrorKind>>,
}

/// The stream that every peer sends: position-dependent, so that loss, doubling and reordering all show.
pub(super) fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Kernel {
    pub(super) fn new(is_tcp: bool) -> Kernel {
        let established = Some(Ok(()));
        Kernel { is_tcp, room: 1000, watched: is_tcp, established, ..Kernel::default() }
    }

    pub(super) fn connecting() -> Kernel {
        Kernel { established: None, ..Kernel::new(true) }
    }

    pub(super) fn establish(&mut self, result: Result<(), ErrorKind>) {
        self.established = Some(result);
        let error = if result.is_err() { Readiness::ERROR } else { Readiness::NONE };
        self.signal(Readiness::WRITABLE | error);
    }

    pub(super) fn deliver(&mut self, count: usize) {
        if !self.end_of_input && !self.reset {
            self.delivered += count as u64;
            self.queue.push_back(Queued::Bytes(count));
            self.signal(Readiness::READABLE);
        }
    }

    /// On TCP the event says that there is something urgent; a Unix socket says nothing.
    pub(super) fn boundary(&mut self) {
        if !self.end_of_input && !self.reset {
            // The urgent byte, or the byte that came with the descriptor, is behind the boundary.
            self.queue.push_back(Queued::Boundary);
            self.queue.push_back(Queued::Bytes(1));
            self.delivered += 1;
            let announced = if self.is_tcp { Readiness::PRIORITY } else { Readiness::NONE };
            self.signal(Readiness::READABLE | announced);
        }
    }

    pub(super) fn make_room(&mut self, count: usize) {
        self.room = (self.room + count).min(1 << 20);
        if std::mem::take(&mut self.wants_room) && self.watched {
            self.signal(Readiness::WRITABLE);
        }
    }

    /// Makes room without an event, as the kernel does while less than a third of a large send buffer is free.
    pub(super) fn make_room_quietly(&mut self, count: usize) {
        self.room += count;
    }

    /// Changes the registration. The kernel then reports anew the room that is there already.
    pub(super) fn watch(&mut self, watched: bool) {
        self.watched = watched;
        if watched && self.room > 0 {
            self.signal(Readiness::WRITABLE);
        }
    }

    pub(super) fn end_input(&mut self) {
        if !std::mem::replace(&mut self.end_of_input, true) {
            self.signal(Readiness::READABLE);
        }
    }

    pub(super) fn reset(&mut self) {
        self.reset = true;
        self.end_of_input = true;
        let gone = Readiness::WRITE_CLOSED | Readiness::ERROR;
        self.signal(Readiness::READABLE | Readiness::WRITABLE | gone);
    }

    pub(super) fn interrupt(&mut self) {
        self.interrupt_read = true;
        self.interrupt_write = true;
    }

    pub(super) fn spurious(&mut self) {
        self.signal(Readiness::READABLE);
    }

    fn signal(&mut self, edge: Readiness) {
        // With any edge epoll reports everything that holds at that moment.
        let mut event = self.event.unwrap_or(Readiness::NONE) | edge;
        if self.room > 0 && self.watched && self.established.is_some() {
            event = event | Readiness::WRITABLE;
        }
        if self.end_of_input {
            event = event | Readiness::READ_CLOSED;
        }
        self.event = Some(event);
    }

    pub(super) fn take_event(&mut self) -> Option<Readiness> {
        self.event.take()
    }

    pub(super) fn has_event(&self) -> bool {
        self.event.is_some()
    }

    pub(super) fn has_room(&self) -> bool {
        self.room > 0
    }

    pub(super) fn has_input(&self) -> bool {
        self.reset || self.end_of_input || self.queued() > 0
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.iter().map(|queued| if let Queued::Bytes(count) = queued { *count } else { 0 }).sum()
    }

    fn told_of_reset(&self) -> io::Result<usize> {
        if self.reset_told.replace(true) { Ok(0) } else { Err(ErrorKind::ConnectionReset.into()) }
    }

    fn idle<T>(&mut self, kind: ErrorKind) -> io::Result<T> {
        self.idle_calls += 1;
        Err(kind.into())
    }
}

impl Transport for Kernel {
    fn is_established(&self) -> io::Result<bool> {
        match self.established {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(kind)) => Err(kind.into()),
        }
    }

    fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let queued = self.queue.iter().skip_while(|queued| matches!(queued, Queued::Boundary));
        let in_one_piece = queued.map_while(|queued| match queued {
            Queued::Bytes(count) => Some(*count),
            Queued::Boundary => None,
        });
        let count = in_one_piece.sum::<usize>().min(buffer.len());
        for (position, byte) in (self.read..).zip(&mut buffer[..count]) {
            *byte = byte_at(position);
        }
        match count {
            _ if self.reset => self.told_of_reset(),
            0 if !self.end_of_input => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read into nothing returns 0, which looks like the end of input");
        if std::mem::take(&mut self.interrupt_read) {
            return self.idle(ErrorKind::Interrupted);
        }
        if self.reset {
            return self.told_of_reset();
        }
        let mut count = 0;
        while count < buffer.len() {
            match self.queue.front_mut() {
                None => break,
                Some(Queued::Boundary) if count > 0 => break,
                Some(Queued::Boundary) => {
                    self.queue.pop_front();
                }
                Some(Queued::Bytes(bytes)) => {
                    let taken = (*bytes).min(buffer.len() - count);
                    for byte in &mut buffer[count..count + taken] {
                        *byte = byte_at(self.read);
                        self.read += 1;
                    }
                    count += taken;
                    *bytes -= taken;
                    if *bytes == 0 {
                        self.queue.pop_front();
                    }
                }
            }
        }
        match count {
            0 if self.end_of_input => Ok(0),
            0 => self.idle(ErrorKind::WouldBlock),
            _ => {
                self.reads.push(count);
                Ok(count)
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write of nothing is a wasted call");
        assert!(!self.shut_down, "a write after the end");
        if std::mem::take(&mut self.interrupt_write) {
            return self.idle(ErrorKind::Interrupted);
        }
        if self.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.output.extend_from_slice(&bytes[..taken]);
        // As on Linux: a short write asks for the event as much as a refused write does.
        self.wants_room |= taken < bytes.len();
        if taken == 0 { self.idle(ErrorKind::WouldBlock) } else { Ok(taken) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shut_down = true;
        Ok(())
    }

    fn pending_input(&self) -> io::Result<usize> {
        Ok(self.queued())
    }

    fn short_means_done(&self) -> bool {
        self.is_tcp
    }

    fn is_watched_for_room(&self) -> bool {
        self.is_tcp
    }

    fn can_splice(&self) -> bool {
        self.is_tcp
    }

    fn splice_into(&mut self, pipe: BorrowedFd<'_>, at_most: usize) -> io::Result<usize> {
        assert_eq!(rustix::io::ioctl_fionread(pipe)?, 0, "a pipe is taken empty");
        if std::mem::take(&mut self.interrupt_read) {
            return self.idle(ErrorKind::Interrupted);
        }
        if self.reset {
            return self.told_of_reset();
        }
        match self.queue.front_mut() {
            // As on Linux: after the end of input a splice returns 0 at an urgent byte, though a read would bring it.
            None | Some(Queued::Boundary) if self.end_of_input => Ok(0),
            None | Some(Queued::Boundary) => self.idle(ErrorKind::WouldBlock),
            Some(Queued::Bytes(bytes)) => {
                // Never more than one piece: a splice may be short without a reason.
                let count = (*bytes).min(at_most);
                let spliced: Vec<u8> = (self.read..).take(count).map(byte_at).collect();
                assert_eq!(rustix::io::write(pipe, &spliced)?, count, "the pipe has room");
                *bytes -= count;
                if *bytes == 0 {
                    self.queue.pop_front();
                }
                self.read += count as u64;
                self.reads.push(count);
                Ok(count)
            }
        }
    }

    fn splice_from(&mut self, pipe: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        assert!(count > 0 && !self.shut_down);
        if std::mem::take(&mut self.interrupt_write) {
            return self.idle(ErrorKind::Interrupted);
        }
        if self.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let taken = count.min(self.room);
        let mut bytes = vec![0; taken];
        if taken > 0 {
            assert_eq!(rustix::io::read(pipe, &mut bytes)?, taken, "the pipe holds as much as is said of it");
        }
        self.room -= taken;
        self.output.extend_from_slice(&bytes);
        self.wants_room |= taken < count;
        if taken == 0 { self.idle(ErrorKind::WouldBlock) } else { Ok(taken) }
    }

    fn descriptor(&self) -> i32 {
        -1
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queued, room, event) = (self.queued(), self.room, &self.event);
        write!(f, "Kernel {{ queued: {queued}, room: {room}, event: {event:?} }}")
    }
}
