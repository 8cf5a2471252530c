//! Who watches a connection: told of each read and write, each stop of reading, each change of phase.

use std::io;

use super::phase::Phase;

/// What [`Connection::pump_observed`](super::Connection::pump_observed) tells of, as it happens, and
/// [`stop`](super::Connection::stop) and [`half_close`](super::Connection::half_close). None of the methods has to be
/// written: what is left out costs nothing.
pub trait Observer {
    /// A read or a write is about to be made.
    fn calling(&mut self) {}

    /// A read has returned; `asked` is the most that it could bring.
    fn read(&mut self, asked: usize, result: &io::Result<usize>) {
        let _ = (asked, result);
    }

    /// A write has returned; so many bytes were offered to it.
    fn wrote(&mut self, offered: usize, result: &io::Result<usize>) {
        let _ = (offered, result);
    }

    /// The write buffer is full: the socket is not read until half of it is gone.
    fn paused(&mut self, unsent: usize) {
        let _ = unsent;
    }

    /// It is half empty: the socket may be read again.
    fn resumed(&mut self, unsent: usize) {
        let _ = unsent;
    }

    /// The connection stands somewhere else.
    fn entered(&mut self, phase: Phase) {
        let _ = phase;
    }
}

/// Nobody watches. The compiler leaves every call of it out.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}
