//! Bound sockets, to which clients come. This process or another one has opened them.
//!
//! A service manager that holds a socket can start the server when the first client comes, and clients wait while the
//! server restarts. The manager keeps the socket, so the server does not change its backlog, remove its file or shut it
//! down.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::datagram::DatagramSocket;
use super::listener::{Listener, ListenerOptions};

/// A bound socket, nonblocking.
#[derive(Debug)]
pub enum BoundSocket {
    /// It listens.
    Listener(Listener),
    /// It takes datagrams.
    Datagrams(DatagramSocket),
}

/// The reason why the server can't serve an open socket, and the remedy where the socket comes from.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The system refused.
    #[error("{}", crate::system::describe(.0))]
    Io(#[from] io::Error),
    /// It has a peer.
    #[error(
        "it is one accepted connection; set `Accept=no` in the socket unit, and the server accepts them all"
    )]
    Connected,
    /// No client can connect to it.
    #[error("it does not listen; call `listen(2)` before you hand it over")]
    NotListening,
    /// It receives the datagrams of one peer only.
    #[error("it takes datagrams of one peer only; do not call `connect(2)` before you hand it over")]
    ConnectedDatagrams,
    /// It can receive no datagram.
    #[error("it is bound to no port; call `bind(2)` before you hand it over")]
    NotBound,
    /// It is neither TCP nor UDP nor a Unix stream.
    #[error(
        "it is {0}; use `ListenStream=` with a port, an address or a path, or `ListenDatagram=` with a port or an \
         address"
    )]
    Kind(String),
}

impl BoundSocket {
    /// Takes over a socket that another process has opened. The socket itself tells its kind. This sets only the
    /// options that connections inherit.
    ///
    /// # Errors
    /// When the server can't serve its kind, when it does not listen, is not bound or is connected, or as
    /// `getsockopt(2)` and `setsockopt(2)`.
    pub fn inherited(socket: OwnedFd, options: &ListenerOptions) -> Result<BoundSocket, InheritError> {
        let socket = socket2::Socket::from(socket);
        match Kind::of(&socket)? {
            Kind::Datagrams if socket.peer_addr().is_ok() => Err(InheritError::ConnectedDatagrams),
            Kind::Datagrams if port(&socket)? == 0 => Err(InheritError::NotBound),
            Kind::Datagrams => Ok(BoundSocket::Datagrams(DatagramSocket::inherited(socket)?)),
            Kind::Tcp | Kind::Unix if !listens(&socket)? => match socket.peer_addr() {
                Ok(_) => Err(InheritError::Connected),
                Err(_) => Err(InheritError::NotListening),
            },
            Kind::Tcp => Ok(BoundSocket::Listener(Listener::inherited_tcp(socket, options)?)),
            Kind::Unix => Ok(BoundSocket::Listener(Listener::inherited_unix(socket)?)),
        }
    }

    /// The endpoint that it is bound to, as the program prints it.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn endpoint(&self) -> io::Result<String> {
        match self {
            BoundSocket::Datagrams(socket) => Ok(format!("udp://{}", socket.local_address())),
            BoundSocket::Listener(listener) => match listener.local_address()? {
                Some(address) => Ok(format!("tcp://{address}")),
                None => SockRef::from(listener).local_addr().map(|address| unix_name(&address)),
            },
        }
    }

    /// The port that it is bound to; `None` for a Unix socket.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn port(&self) -> io::Result<Option<u16>> {
        let address = match self {
            BoundSocket::Datagrams(socket) => Some(socket.local_address()),
            BoundSocket::Listener(listener) => listener.local_address()?,
        };
        Ok(address.map(|address| address.port()))
    }
}

/// The kinds of sockets that the server can serve.
enum Kind {
    Tcp,
    Unix,
    Datagrams,
}

impl Kind {
    fn of(socket: &socket2::Socket) -> Result<Kind, InheritError> {
        // The family comes from the address, since some systems have no SO_DOMAIN.
        let domain = socket.local_addr()?.domain();
        let is_internet = domain == Domain::IPV4 || domain == Domain::IPV6;
        let kind = socket.r#type()?;
        if kind == Type::STREAM && domain == Domain::UNIX {
            return Ok(Kind::Unix);
        }
        if is_internet && (kind == Type::STREAM || kind == Type::DGRAM) {
            return match protocol(socket)? {
                None | Some(Protocol::TCP) if kind == Type::STREAM => Ok(Kind::Tcp),
                None | Some(Protocol::UDP) if kind == Type::DGRAM => Ok(Kind::Datagrams),
                // SCTP and UDP-Lite, among others. A short read or the end of a datagram means something else there.
                protocol => Err(InheritError::Kind(format!(
                    "of another protocol (number {}); leave `SocketProtocol=` out",
                    protocol.map_or(0, i32::from)
                ))),
            };
        }
        let description = if kind == Type::DGRAM && domain == Domain::UNIX {
            "a Unix datagram socket".into()
        } else if kind == Type::SEQPACKET {
            "a sequential packet socket".into()
        } else {
            format!("a socket of family {} and type {}", i32::from(domain), i32::from(kind))
        };
        Err(InheritError::Kind(description))
    }
}

fn port(socket: &socket2::Socket) -> io::Result<u16> {
    Ok(socket.local_addr()?.as_socket().map_or(0, |address| address.port()))
}

/// Whether a socket listens. Where the system does not tell, a socket without a peer does.
fn listens(socket: &socket2::Socket) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let listens = socket.is_listener();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let listens = Ok(socket.peer_addr().is_err());
    listens
}

/// The protocol of a socket. Where the system does not tell, it is the usual one of the socket's type.
fn protocol(socket: &socket2::Socket) -> io::Result<Option<Protocol>> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let protocol = socket.protocol();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let protocol = Ok(None);
    protocol
}

/// The name of a Unix socket as people write it; an `@` begins an abstract name.
fn unix_name(address: &SockAddr) -> String {
    match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => format!("unix:{}", path.display()),
        (None, Some(name)) => format!("unix:@{}", name.escape_ascii()),
        (None, None) => "unix: without a name".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn inherited(socket: impl Into<OwnedFd>) -> Result<BoundSocket, InheritError> {
        BoundSocket::inherited(socket.into(), &ListenerOptions::default())
    }

    fn refusal(socket: impl Into<OwnedFd>) -> String {
        inherited(socket).expect_err("it can't be served").to_string()
    }

    #[test]
    fn what_it_is_comes_from_the_socket_itself() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let tcp = inherited(tcp).expect("it listens");
        assert!(matches!(tcp, BoundSocket::Listener(Listener::Tcp(..))), "{tcp:?}");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let udp = inherited(udp).expect("it is bound");
        assert!(matches!(udp, BoundSocket::Datagrams(_)), "{udp:?}");
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_what_to_change() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let connected = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        assert!(refusal(connected).contains("`Accept=no`"));
        let (one, other) = UnixStream::pair().expect("a pair");
        assert!(refusal(one).contains("`Accept=no`"));
        drop(other);
        let deaf = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        assert!(refusal(deaf).contains("it does not listen"));
        let (one, _) = UnixDatagram::pair().expect("a pair");
        assert!(refusal(one).contains("a Unix datagram socket; use `ListenStream=`"));
        let unbound = socket2::Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
        assert!(refusal(unbound).contains("bound to no port"));
        let connected = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        connected.connect("127.0.0.1:9").expect("nobody is asked");
        assert!(refusal(connected).contains("one peer only"));
        #[cfg(target_os = "linux")]
        {
            let packets = socket2::Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
            assert!(refusal(packets).contains("a sequential packet socket; use `ListenStream=`"));
            // UDP-Lite (RFC 3828), which is built into every kernel that has UDP.
            let lite = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::from(136)));
            if let Ok(lite) = lite {
                assert!(refusal(lite).contains("(number 136); leave `SocketProtocol=` out"));
            }
        }
    }
}
