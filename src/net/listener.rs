//! Listening sockets: binding, accepting, and the meaning of a failed accept.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::peer::Peer;
use super::socket_file::{self, BindError, SocketFile};
use super::transport::Socket;

/// A peer that leaves so many probes in a row unanswered counts as dead. Short times need another number, since the
/// kernel counts in whole seconds.
const KEEPALIVE_PROBES: u64 = 5;
/// The kernel refuses a longer time.
const LONGEST_KEEPALIVE: u64 = 32_767;

/// The options of a listening socket. Accepted TCP sockets inherit them from the listener, so a TCP connection costs no
/// `setsockopt`, unless it waited at an inherited listener before the listener had its options. Unix sockets inherit
/// nothing: each costs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// The most connections that the kernel completes and keeps until the server accepts them; see `listen(2)`.
    pub backlog: u16,
    /// Whether other processes may listen on the same port, so that the kernel spreads connections over them.
    pub reuse_port: bool,
    /// The kernel probes a TCP peer that was silent for this time, in whole seconds and nine hours at most. If the peer
    /// does not answer for about as long again, the kernel lets the connection fail.
    pub keepalive: Option<Duration>,
    /// The receive and the send buffer of each TCP connection, in bytes. The kernel uses up to twice as much memory for
    /// each. By default it chooses, and may keep megabytes for a peer that doesn't read.
    pub tcp_buffer: Option<usize>,
    /// The permissions of a Unix socket's file, as `chmod(2)` takes them. By default the umask decides.
    pub unix_mode: Option<u32>,
}

impl Default for ListenerOptions {
    fn default() -> ListenerOptions {
        ListenerOptions {
            backlog: ListenerOptions::USUAL_BACKLOG,
            reuse_port: false,
            // Dead peers must not hold their slots for ever, and one probe in five minutes costs next to nothing.
            keepalive: Some(Duration::from_secs(5 * 60)),
            tcp_buffer: None,
            unix_mode: None,
        }
    }
}

/// A socket that listens, TCP or Unix.
#[derive(Debug)]
pub enum Listener {
    /// TCP on one address, and options for connections that predate them. The kernel copies a listener's options to
    /// each new connection, but some connections may have waited at an inherited listener before it had our options.
    /// `None` once the server has accepted all of these.
    Tcp(TcpListener, Option<ListenerOptions>),
    /// A Unix stream socket, its file if we made it, and how many connections it has accepted.
    Unix(UnixListener, Option<SocketFile>, u32),
}

/// The outcome of [`Listener::accept`].
#[derive(Debug)]
pub enum Accept {
    /// A connection, nonblocking already.
    Connection(Socket, Peer),
    /// No connection waits. The next one raises an event.
    Drained,
    /// Accepting failed, with the error's class.
    Failed(AcceptError, io::Error),
}

/// The meaning of a failed `accept(2)` for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// One connection failed while it waited, and is gone. Try the next one at once.
    ThisConnection,
    /// This process, or the machine, has no descriptor or memory left. The connection still waits. Try again when one
    /// of our own connections has closed, and also after a while, since no event tells when the machine has room again.
    Exhausted,
    /// This program does not know the error, and the error may last. Trying again at once could spin, so try again
    /// after a while.
    Unknown,
    /// The listener itself is broken, which no peer can cause.
    Listener,
}

impl Listener {
    /// Listens on a TCP address. The unspecified IPv6 address takes IPv4 connections too if `dual_stack` says so.
    ///
    /// # Errors
    /// As `socket(2)`, `bind(2)` and `listen(2)`.
    pub fn tcp(address: SocketAddr, dual_stack: bool, options: &ListenerOptions) -> io::Result<Listener> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!dual_stack)?;
        }
        // Connections of a predecessor in TIME_WAIT must not keep a restarted server off its port.
        socket.set_reuse_address(true)?;
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        options.set_on_connections(&socket)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(options.backlog.into())?;
        Ok(Listener::Tcp(TcpListener::from_std(socket.into()), None))
    }

    /// Takes over a TCP socket that listens already, on which connections may wait.
    pub(super) fn inherited_tcp(socket: socket2::Socket, options: &ListenerOptions) -> io::Result<Listener> {
        options.set_on_connections(&socket)?;
        socket.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(socket.into()), Some(*options)))
    }

    /// Takes over a Unix socket that listens already. Its file belongs to the process that made it.
    pub(super) fn inherited_unix(socket: socket2::Socket) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        Ok(Listener::Unix(UnixListener::from_std(socket.into()), None, 0))
    }

    /// Listens on a Unix socket. This replaces the socket file of a dead server, but not that of a living one.
    ///
    /// # Errors
    /// When a living server or another file has the path, or as `bind(2)` and `listen(2)`.
    pub fn unix(path: &Path, options: &ListenerOptions) -> Result<Listener, BindError> {
        let (socket, file) = socket_file::listen(path, options.unix_mode, options.backlog.into())?;
        Ok(Listener::Unix(UnixListener::from_std(socket.into()), file, 0))
    }

    /// The address that is really bound, port and all; `None` for a Unix socket.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Listener::Tcp(listener, _) => listener.local_addr().map(Some),
            Listener::Unix(..) => Ok(None),
        }
    }

    /// Accepts one connection, if one waits.
    pub fn accept(&mut self) -> Accept {
        // Take the address from `accept`: if the peer has reset the connection since, `getpeername` would fail.
        let result = match self {
            Listener::Tcp(listener, earlier) => listener.accept().map(|(stream, address)| {
                if let Some(options) = earlier {
                    options.make_up_for(&stream);
                }
                (Socket::Tcp(stream), Peer::from(address))
            }),
            Listener::Unix(listener, _, accepted) => listener.accept().map(|(stream, _)| {
                *accepted = accepted.wrapping_add(1);
                keep_urgent_bytes(&stream);
                (Socket::Unix(stream), Peer::Unix { place: *accepted })
            }),
        };
        match result {
            Ok((socket, peer)) => Accept::Connection(socket, peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.note_drained();
                Accept::Drained
            }
            Err(error) => Accept::Failed(classify_accept_error(&error), error),
        }
    }

    /// Whether a connection waits in the backlog, or might. Asking `accept` instead costs more than ten times as much:
    /// Linux makes the new socket first, and throws it away if no connection waits.
    pub fn has_waiting(&mut self) -> bool {
        let mut listener = [PollFd::new(self, PollFlags::IN)];
        // If `poll` fails, `accept` gives the answer.
        let asked = poll(&mut listener, Some(&Timespec::default()));
        let waiting = asked.is_err() || !listener[0].revents().is_empty();
        if !waiting {
            self.note_drained();
        }
        waiting
    }

    /// No connection waits. Each connection from now on has the options of the listener.
    fn note_drained(&mut self) {
        if let Listener::Tcp(_, earlier) = self {
            *earlier = None;
        }
    }
}

/// Sorts the errors of `accept(2)` by number, since the standard library has no [`ErrorKind`] for most of them.
///
/// Linux also reports network errors of the new connection through `accept` (the man page calls them "already pending
/// network errors"). Each concerns one connection.
pub fn classify_accept_error(error: &io::Error) -> AcceptError {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => AcceptError::Exhausted,
        Some(Errno::BADF | Errno::FAULT | Errno::INVAL | Errno::NOTSOCK) => AcceptError::Listener,
        Some(
            Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::INTR
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::TIMEDOUT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH,
        ) => AcceptError::ThisConnection,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Some(Errno::NONET) => AcceptError::ThisConnection,
        _ => AcceptError::Unknown,
    }
}

/// The backlog that is in force, which the system may have cut.
///
/// # Errors
/// When the system doesn't tell, as outside Linux.
pub fn backlog_in_force(asked: i32) -> io::Result<i32> {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    let most = text.trim().parse::<i32>().map_err(io::Error::other)?;
    Ok(asked.min(most))
}

/// The buffers of a TCP connection that are in force, which the system may have cut to what it allows.
///
/// # Errors
/// When the system doesn't tell, as outside Linux.
pub fn tcp_buffer_in_force(asked: usize) -> io::Result<usize> {
    let most = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/net/core").join(name))?;
        text.trim().parse::<usize>().map_err(io::Error::other)
    };
    Ok(asked.min(most("rmem_max")?).min(most("wmem_max")?))
}

/// A remedy for a backlog that the system cut.
pub fn backlog_remedy(asked: i32) -> String {
    format!("`sysctl -w net.core.somaxconn={asked}` raises it")
}

impl ListenerOptions {
    /// The backlog of a server that asks for no other.
    pub(crate) const USUAL_BACKLOG: u16 = 4096;

    /// Sets the options of connections, on a connection or on its listener.
    fn set_on_connections(&self, socket: &socket2::Socket) -> io::Result<()> {
        // The kernel sends an answer when it is ready, not when the peer has acknowledged the answer before.
        socket.set_tcp_nodelay(true)?;
        // Urgent bytes stay in their place in the stream. So the server echoes them, and they hide nothing behind them.
        socket.set_out_of_band_inline(true)?;
        if let Some(bytes) = self.tcp_buffer {
            socket.set_recv_buffer_size(bytes)?;
            socket.set_send_buffer_size(bytes)?;
        }
        match self.keepalive {
            Some(time) => {
                // The kernel counts in seconds, and drops fractions.
                let seconds = time.as_millis().div_ceil(1000).clamp(1, LONGEST_KEEPALIVE.into()) as u64;
                let interval = (seconds / KEEPALIVE_PROBES).max(1);
                let probes = (seconds + interval / 2) / interval;
                let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(seconds));
                let keepalive = keepalive.with_interval(Duration::from_secs(interval));
                socket.set_tcp_keepalive(&keepalive.with_retries(probes as u32))
            }
            None => Ok(()),
        }
    }

    /// Sets the options of a connection that may have waited before its listener had them.
    fn make_up_for(&self, stream: &TcpStream) {
        if let Err(error) = self.set_on_connections(&SockRef::from(stream)) {
            // The peer reset the connection while it waited. The first read will report that.
            log::debug!(
                "cannot set the options of a connection that waited before the server started: {error}"
            );
        }
    }
}

/// Urgent bytes stay in their place in the stream. An accepted Unix socket doesn't inherit that from its listener.
fn keep_urgent_bytes(stream: &UnixStream) {
    if let Err(error) = SockRef::from(stream).set_out_of_band_inline(true) {
        // Where Unix sockets have no urgent bytes, none can be lost.
        log::debug!("a Unix socket can't keep urgent bytes in line: {error}");
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener, _) => listener.as_fd(),
            Listener::Unix(listener, ..) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_accept_has_its_class() {
        let table = [
            (AcceptError::Exhausted, &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM][..]),
            (AcceptError::Listener, &[Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::FAULT]),
            (AcceptError::ThisConnection, &[Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR, Errno::PROTO]),
            (AcceptError::ThisConnection, &[Errno::NETDOWN, Errno::NETUNREACH, Errno::NOPROTOOPT]),
            (AcceptError::ThisConnection, &[Errno::HOSTDOWN, Errno::HOSTUNREACH, Errno::OPNOTSUPP]),
            (AcceptError::ThisConnection, &[Errno::TIMEDOUT]),
            (AcceptError::Unknown, &[Errno::PERM, Errno::ACCESS, Errno::IO]),
        ];
        for (class, errors) in table {
            for errno in errors {
                assert_eq!(classify_accept_error(&(*errno).into()), class, "{errno:?}");
            }
        }
        assert_eq!(classify_accept_error(&io::Error::other("no number")), AcceptError::Unknown);
    }

    /// A listener, its address, and a client that waits for it.
    fn with_client(options: &ListenerOptions) -> (Listener, SocketAddr, std::net::TcpStream) {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::tcp(address, false, options).expect("a free port");
        let address = listener.local_address().expect("it is bound").expect("it is TCP");
        (listener, address, std::net::TcpStream::connect(address).expect("it listens"))
    }

    fn accepted(listener: &mut Listener) -> TcpStream {
        match listener.accept() {
            Accept::Connection(Socket::Tcp(stream), _) => stream,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_listener_knows_whether_a_connection_waits() {
        let (mut listener, address, _client) = with_client(&ListenerOptions::default());
        assert!(listener.has_waiting());
        accepted(&mut listener);
        assert!(!listener.has_waiting());
        let _another = std::net::TcpStream::connect(address).expect("it listens");
        assert!(listener.has_waiting());
    }

    #[test]
    fn only_connections_that_waited_at_an_inherited_listener_are_made_up_for() {
        let inherited = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = inherited.local_addr().expect("it is bound");
        let _early = std::net::TcpStream::connect(address).expect("it listens");
        let options =
            ListenerOptions { keepalive: Some(Duration::from_secs(9)), ..ListenerOptions::default() };
        let mut listener = Listener::inherited_tcp(inherited.into(), &options).expect("it listens");
        let nodelay_and_keepalive = |listener: &mut Listener| {
            let stream = accepted(listener);
            (stream.nodelay().ok(), SockRef::from(&stream).tcp_keepalive_time().ok())
        };
        assert_eq!(nodelay_and_keepalive(&mut listener), (Some(true), options.keepalive));
        assert!(matches!(listener, Listener::Tcp(_, Some(_))), "there may be more");
        assert!(!listener.has_waiting());
        assert!(matches!(listener, Listener::Tcp(_, None)));
        let _late = std::net::TcpStream::connect(address).expect("it listens");
        assert_eq!(nodelay_and_keepalive(&mut listener), (Some(true), options.keepalive));
    }

    #[test]
    fn accepted_sockets_have_the_buffers_that_were_asked_for() {
        let sizes = |tcp_buffer| {
            let options = ListenerOptions { tcp_buffer, ..ListenerOptions::default() };
            let (mut listener, _, _client) = with_client(&options);
            let stream = accepted(&mut listener);
            let socket = SockRef::from(&stream);
            (socket.recv_buffer_size().expect("a size"), socket.send_buffer_size().expect("a size"))
        };
        let (small, large) = (sizes(Some(8192)), sizes(Some(32_768)));
        assert_eq!((4 * small.0, 4 * small.1), large);
        assert_ne!(sizes(None), large);
    }

    #[test]
    fn the_system_cuts_buffers_to_what_it_allows() {
        let Ok(most) = tcp_buffer_in_force(usize::MAX) else { return };
        assert!(most < usize::MAX);
        assert_eq!(tcp_buffer_in_force(most - 1).expect("it tells"), most - 1);
    }

    #[test]
    fn a_dead_peer_is_found_after_twice_the_time() {
        let seconds = Duration::from_secs;
        for (asked, time, interval, probes) in [
            (Duration::from_millis(1), 1, 1, 1),
            (Duration::from_millis(1500), 2, 1, 2),
            (seconds(2), 2, 1, 2),
            (seconds(9), 9, 1, 9),
            (seconds(14), 14, 2, 7),
            (seconds(300), 300, 60, 5),
            (Duration::MAX, 32_767, 6553, 5),
        ] {
            let options = ListenerOptions { keepalive: Some(asked), ..ListenerOptions::default() };
            let (mut listener, _, _client) = with_client(&options);
            let stream = accepted(&mut listener);
            let socket = SockRef::from(&stream);
            assert_eq!(socket.tcp_keepalive_time().expect("a time"), seconds(time));
            assert_eq!(socket.tcp_keepalive_interval().expect("a time"), seconds(interval));
            assert_eq!(socket.tcp_keepalive_retries().expect("a number"), probes);
            assert!((interval * u64::from(probes)).abs_diff(time) <= interval / 2, "about as long again");
        }
    }
}
