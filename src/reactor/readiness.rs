//! The bits of an event.

use std::fmt;
use std::ops::BitOr;

/// The bits of an event. "The laws of readiness" in [`reactor`](crate::reactor) say how far to trust them.
///
/// ```
/// use echoloop::reactor::Readiness;
///
/// let readiness = Readiness::READABLE | Readiness::PRIORITY;
/// assert!(readiness.has(Readiness::READABLE | Readiness::WRITABLE), "one of them is enough");
/// assert_eq!(format!("{readiness:?}"), "readable, priority");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    /// No event: the handler looks at the source for another reason.
    pub const NONE: Readiness = Readiness(0);
    /// There may be bytes, a connection, or the end of input to read.
    pub const READABLE: Readiness = Readiness(1);
    /// There may be room to write, or a connect has ended.
    pub const WRITABLE: Readiness = Readiness(1 << 1);
    /// The peer has shut down its sending side, or the connection is gone.
    pub const READ_CLOSED: Readiness = Readiness(1 << 2);
    /// Our sending side is shut down, or the connection is gone.
    pub const WRITE_CLOSED: Readiness = Readiness(1 << 3);
    /// The kernel holds an error for the descriptor.
    pub const ERROR: Readiness = Readiness(1 << 4);
    /// Something exceptional arrived, such as urgent data on a TCP socket.
    pub const PRIORITY: Readiness = Readiness(1 << 5);

    const NAMES: [(Readiness, &'static str); 6] = [
        (Readiness::READABLE, "readable"),
        (Readiness::WRITABLE, "writable"),
        (Readiness::READ_CLOSED, "read closed"),
        (Readiness::WRITE_CLOSED, "write closed"),
        (Readiness::ERROR, "error"),
        (Readiness::PRIORITY, "priority"),
    ];

    /// Whether the event said any of these.
    #[inline]
    pub const fn has(self, any_of: Readiness) -> bool {
        self.0 & any_of.0 != 0
    }

    /// Both; `|` where a constant is wanted.
    pub const fn or(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    /// These bits without the others.
    #[inline]
    pub const fn without(self, others: Readiness) -> Readiness {
        Readiness(self.0 & !others.0)
    }

    /// The names of the bits, most telling first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Readiness::NAMES.into_iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, name)| name)
    }

    /// The bits that few events have.
    #[cold]
    fn unusual(event: &mio::event::Event) -> Readiness {
        Readiness::READ_CLOSED.when(event.is_read_closed())
            | Readiness::WRITE_CLOSED.when(event.is_write_closed())
            | Readiness::ERROR.when(event.is_error())
            | Readiness::PRIORITY.when(event.is_priority())
    }

    const fn when(self, holds: bool) -> Readiness {
        Readiness(self.0 * holds as u8)
    }
}

impl From<&mio::event::Event> for Readiness {
    #[inline]
    fn from(event: &mio::event::Event) -> Readiness {
        let usual =
            Readiness::READABLE.when(event.is_readable()) | Readiness::WRITABLE.when(event.is_writable());
        let is_usual =
            !event.is_read_closed() && !event.is_write_closed() && !event.is_error() && !event.is_priority();
        if is_usual { usual } else { usual | Readiness::unusual(event) }
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    #[inline]
    fn bitor(self, other: Readiness) -> Readiness {
        self.or(other)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        if *self == Readiness::NONE { f.write_str("nothing") } else { Ok(()) }
    }
}
