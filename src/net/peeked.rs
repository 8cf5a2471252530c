//! Input that is answered while it lies in the kernel's buffer.
//!
//! Without memory for a buffer, a connection must not read bytes whose answer the kernel may refuse. So it looks at the
//! input, sends the answer, and then takes from the kernel exactly the bytes that it answered.

use std::io::{self, ErrorKind};

use super::transport::Transport;
use super::wire::Wire;
use super::workspace::Desk;

/// A copy of input that the kernel still holds.
pub(super) struct Peeked<'a>(&'a mut [u8]);

impl<'a> Peeked<'a> {
    /// Looks at as much input as `buffer` has room for. `None`: a read tells why nothing is there.
    pub(super) fn look(wire: &Wire<impl Transport>, buffer: &'a mut [u8]) -> Option<Peeked<'a>> {
        let count = wire.peek(buffer);
        (count > 0).then(|| Peeked(&mut buffer[..count]))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0
    }

    /// Takes the first `count` of the bytes out of the kernel's buffer.
    ///
    /// # Errors
    /// When reading fails, or the bytes are gone, which would be the kernel's mistake.
    pub(super) fn take(
        self,
        count: usize,
        wire: &mut Wire<impl Transport>,
        desk: &mut Desk,
    ) -> io::Result<()> {
        let (ready, mut taken) = (wire.ready(), 0);
        while taken < count {
            // The reads ask for no more than is there, so they prove nothing of what is behind it.
            wire.restore(ready);
            match wire.read(&mut self.0[taken..count], desk)? {
                // A signal interrupted the call, and the bytes are still there.
                None if wire.is_readable() => {}
                None | Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(read) => taken += read,
            }
        }
        if count > 0 {
            wire.touch(desk.now);
        }
        wire.restore(ready);
        Ok(())
    }
}
