//! The calls that a connection makes on its socket, as a trait, so that tests can put a script in the socket's place.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use mio::net::{TcpStream, UnixStream};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::interest::{CONNECTION_INTEREST, INPUT_INTEREST};
use crate::reactor::Interest;

/// A nonblocking stream of bytes in both directions. Its calls fail as their system calls do.
pub trait Transport {
    /// Whether the handshake has ended well. False: it has not ended yet. If the handshake failed, this fails with its
    /// error.
    fn is_established(&self) -> io::Result<bool>;

    /// As `recv(2)`: the bytes that are there, 0 at end of input, or `WouldBlock`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`Transport::read`], but the bytes are still there for the next one (`MSG_PEEK`).
    fn peek(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// As `send(2)`: how many bytes were taken, or `WouldBlock`. Never raises SIGPIPE.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// As `shutdown(2)` with `SHUT_WR`: the peer sees the end of input, we may still read.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// How many bytes wait to be read (`FIONREAD`).
    fn pending_input(&self) -> io::Result<usize>;

    /// Whether a short read has emptied the socket, and a short write has filled it. Then the connection can leave out
    /// the call that would only say `WouldBlock`. True of TCP on Linux, as `epoll(7)` says, unless urgent data or the
    /// end of input is under way. Not true of Unix streams, where a read also ends at a passed descriptor.
    fn short_means_done(&self) -> bool;

    /// Whether the socket is registered for writability all its life. On TCP that costs nothing: an event comes only
    /// after the kernel has refused bytes. On a Unix stream an event comes each time that the peer reads, so the loop
    /// watches writability only while something waits for room.
    fn is_watched_for_room(&self) -> bool;

    /// Whether bytes may pass through a pipe instead of a buffer (`splice(2)`).
    fn can_splice(&self) -> bool;

    /// As [`Transport::read`], but into an empty pipe. At an urgent byte it says `WouldBlock`, although a read would
    /// bring something.
    fn splice_into(&mut self, pipe: BorrowedFd<'_>, at_most: usize) -> io::Result<usize>;

    /// As [`Transport::write`], but out of a pipe. Raises SIGPIPE when the peer has gone.
    fn splice_from(&mut self, pipe: BorrowedFd<'_>, count: usize) -> io::Result<usize>;

    /// The descriptor, by which the log names the socket.
    fn descriptor(&self) -> RawFd;
}

/// A write to a peer that has gone returns an error, and raises no SIGPIPE.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// The Apple systems have no such flag, but an option of the socket, `SO_NOSIGPIPE`.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// A connected socket of either family.
#[derive(Debug)]
pub enum Socket {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

impl Socket {
    /// The registration of a connection over this socket, until [`new_interest`](super::Connection::new_interest)
    /// changes it.
    pub fn interest(&self) -> Interest {
        if self.is_watched_for_room() { CONNECTION_INTEREST } else { INPUT_INTEREST }
    }

    /// The error that the kernel holds for the socket (`SO_ERROR`), which this takes away.
    ///
    /// # Errors
    /// As `getsockopt(2)`.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(sockopt::socket_error(self)?.err().map(io::Error::from))
    }

    /// Whether both ends of the connection are this socket. A connect to a port of this machine that nobody listens on
    /// can pick that very port for its own side, and then meets itself ("simultaneous open" with one party). It would
    /// hear its own bytes and take them for an echo.
    pub fn is_connected_to_itself(&self) -> bool {
        match self {
            Socket::Tcp(stream) => {
                matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
            }
            Socket::Unix(_) => false,
        }
    }
}

impl Transport for Socket {
    fn is_established(&self) -> io::Result<bool> {
        let peer = match self {
            Socket::Tcp(stream) => stream.peer_addr().map(drop),
            Socket::Unix(stream) => stream.peer_addr().map(drop),
        };
        match (self.take_error()?, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self, buffer, RecvFlags::empty())?.0)
    }

    fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self, buffer, RecvFlags::PEEK)?.0)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self, bytes, NO_SIGNAL)?)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(shutdown(self, Shutdown::Write)?)
    }

    fn pending_input(&self) -> io::Result<usize> {
        let bytes = rustix::io::ioctl_fionread(self)?;
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn short_means_done(&self) -> bool {
        cfg!(any(target_os = "linux", target_os = "android")) && matches!(self, Socket::Tcp(_))
    }

    fn is_watched_for_room(&self) -> bool {
        matches!(self, Socket::Tcp(_))
    }

    fn can_splice(&self) -> bool {
        // A Unix stream also carries descriptors, and a splice would ignore them.
        cfg!(any(target_os = "linux", target_os = "android")) && matches!(self, Socket::Tcp(_))
    }

    fn splice_into(&mut self, pipe: BorrowedFd<'_>, at_most: usize) -> io::Result<usize> {
        splice(self.as_fd(), pipe, at_most)
    }

    fn splice_from(&mut self, pipe: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        splice(pipe, self.as_fd(), count)
    }

    fn descriptor(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
    use rustix::pipe::SpliceFlags;
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::pipe::splice(from, None, to, None, count, flags)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn splice(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> io::Result<usize> {
    Err(ErrorKind::Unsupported.into())
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}
