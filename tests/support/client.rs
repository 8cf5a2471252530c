//! A client over TCP or a Unix socket that never waits longer than the deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, assert_same};

/// A connected stream. Reading and writing take a shared reference, so that two threads can do one each.
#[derive(Debug)]
pub(crate) enum Client {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A TCP socket, not connected yet, with small buffers in the kernel: its peer soon has to wait.
pub(crate) fn socket_with_small_buffers() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Segments as on an Ethernet: the 64 KiB ones of the loopback interface do not fit a small buffer, and what
    // the kernel does then is to try again after a while, and after twice as long each time.
    socket.set_tcp_mss(1000).expect("smaller segments");
    socket.set_recv_buffer_size(16 * 1024).expect("a smaller receive buffer");
    socket.set_send_buffer_size(16 * 1024).expect("a smaller send buffer");
    socket
}

impl Client {
    #[track_caller]
    pub(crate) fn tcp(address: SocketAddr) -> Client {
        Client::connect(
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket"),
            address,
        )
    }

    /// From an address of this machine's own network 127/8, so that a test with thousands of clients takes no port
    /// from the others.
    #[track_caller]
    pub(crate) fn from_source(source: IpAddr, address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("a loopback address of our own");
        Client::connect(socket, address)
    }

    #[track_caller]
    pub(crate) fn connect(socket: Socket, address: SocketAddr) -> Client {
        socket.connect_timeout(&address.into(), DEADLINE).expect("the server takes the connection");
        let stream = TcpStream::from(socket);
        // A test must not wait for the delayed acknowledgement of the message before.
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Client::Tcp(stream).with_deadline(DEADLINE)
    }

    #[track_caller]
    pub(crate) fn unix(path: &Path) -> Client {
        Client::Unix(UnixStream::connect(path).expect("the server takes the connection"))
            .with_deadline(DEADLINE)
    }

    /// Sets how long a read or a write waits before it fails.
    pub(crate) fn with_deadline(self, deadline: Duration) -> Client {
        let socket = self.socket();
        socket.set_read_timeout(Some(deadline)).expect("a positive time");
        socket.set_write_timeout(Some(deadline)).expect("a positive time");
        self
    }

    pub(crate) fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.socket().local_addr().expect("it is connected").as_socket().expect("it is TCP")
    }

    #[track_caller]
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut stream = self;
        stream.write_all(bytes).expect("the server takes what is sent");
    }

    /// Reads exactly this many bytes.
    #[track_caller]
    pub(crate) fn receive(&self, count: usize) -> Vec<u8> {
        let (mut stream, mut bytes) = (self, vec![0; count]);
        stream.read_exact(&mut bytes).expect("the reply comes");
        bytes
    }

    /// Reads everything to the clean end of the connection.
    #[track_caller]
    pub(crate) fn receive_rest(&self) -> Vec<u8> {
        let (mut stream, mut bytes) = (self, Vec::new());
        if let Err(error) = stream.read_to_end(&mut bytes) {
            panic!("{error} instead of an end, after {} bytes", bytes.len());
        }
        bytes
    }

    /// One round trip with a server that echoes what it gets.
    #[track_caller]
    pub(crate) fn echo(&self, message: &[u8]) {
        self.ask(message, message);
    }

    /// As [`Client::echo`]; false if the connection ends instead.
    pub(crate) fn try_echo(&self, message: &[u8]) -> bool {
        let (mut stream, mut reply) = (self, vec![0; message.len()]);
        stream.write_all(message).is_ok() && stream.read_exact(&mut reply).is_ok() && reply == message
    }

    /// One round trip.
    #[track_caller]
    pub(crate) fn ask(&self, message: &[u8], reply: &[u8]) {
        self.send(message);
        assert_same(&self.receive(reply.len()), reply);
    }

    #[track_caller]
    pub(crate) fn end_sending(&self) {
        self.socket().shutdown(Shutdown::Write).expect("it is connected");
    }

    /// Sends everything and ends sending, and reads to the end meanwhile: neither side has to wait for the other.
    #[track_caller]
    pub(crate) fn exchange(&self, message: &[u8]) -> Vec<u8> {
        thread::scope(|scope| {
            scope.spawn(|| {
                self.send(message);
                self.end_sending();
            });
            self.receive_rest()
        })
    }

    /// Closes it with a reset (RST) instead of an end (FIN).
    pub(crate) fn reset(self) {
        self.socket().set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Sends, without reading, until the server takes no more or has taken everything; returns how much it took.
    #[track_caller]
    pub(crate) fn send_until_stalled(&self, bytes: &[u8]) -> usize {
        // Long enough that a server that still reads has had a turn.
        self.socket().set_write_timeout(Some(Duration::from_millis(300))).expect("a positive time");
        let (mut stream, mut sent) = (self, 0);
        while sent < bytes.len() {
            match stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The server's time limit passed before this thread looked again.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    break;
                }
                Err(error) => panic!("the server takes what is sent: {error}"),
            }
        }
        self.socket().set_write_timeout(Some(DEADLINE)).expect("a positive time");
        sent
    }

    /// True if a byte, or the end, can be read at once.
    pub(crate) fn has_input(&self) -> bool {
        let mut poll = [rustix::event::PollFd::new(self, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut poll, Some(&rustix::event::Timespec::default())).expect("poll") > 0
    }
}

impl Read for &Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Client::Tcp(stream) => { stream }.read(buffer),
            Client::Unix(stream) => { stream }.read(buffer),
        }
    }
}

impl Write for &Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Client::Tcp(stream) => { stream }.write(bytes),
            Client::Unix(stream) => { stream }.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Client::Tcp(stream) => stream.as_fd(),
            Client::Unix(stream) => stream.as_fd(),
        }
    }
}
