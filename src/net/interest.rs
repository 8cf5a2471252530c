//! The registrations of connections.

use crate::reactor::Interest;

/// Everything: a TCP socket is registered once. Its connection's state decides when to read and write it. To change the
/// registration instead would cost a system call each time.
pub const CONNECTION_INTEREST: Interest = INPUT_INTEREST.add(Interest::WRITABLE);

/// Everything but room to write, for a Unix stream with nothing to send.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const INPUT_INTEREST: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Everything but room to write, for a Unix stream with nothing to send. Only epoll has events for urgent data.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) const INPUT_INTEREST: Interest = Interest::READABLE;
