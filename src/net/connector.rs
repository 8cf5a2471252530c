//! Beginning to connect: a socket whose handshake is under way. The reactor watches it until the handshake has ended.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mio::net::{TcpStream, UnixStream};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::endpoint::unix_address;
use super::transport::Socket;

/// One address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UDP address, for a [`ConnectedDatagramSocket`](super::ConnectedDatagramSocket).
    Udp(SocketAddr),
    /// The path of a Unix stream socket, or its abstract name behind an `@`.
    Unix(PathBuf),
}

/// Begins to connect, from `source` if one is given; make it a [`Connection`](super::Connection) with
/// [`Connection::connecting`](super::Connection::connecting).
///
/// # Errors
/// When it fails at once: no route, no free port, no descriptor, or a Unix socket where nobody listens. Also for a UDP
/// address, which has no stream.
pub fn connect(target: &Target, source: Option<IpAddr>) -> io::Result<Socket> {
    match target {
        Target::Tcp(address) => {
            let socket = nonblocking(Domain::for_address(*address), Some(Protocol::TCP))?;
            // The kernel sends a message as soon as it is written, and urgent bytes stay in their place, as on the
            // server's side.
            socket.set_tcp_nodelay(true)?;
            socket.set_out_of_band_inline(true)?;
            if let Some(source) = source {
                let_connect_choose_the_port(&socket)?;
                socket.bind(&SocketAddr::new(source, 0).into())?;
            }
            begin(&socket, &SockAddr::from(*address))?;
            Ok(Socket::Tcp(TcpStream::from_std(socket.into())))
        }
        Target::Unix(path) => {
            let socket = nonblocking(Domain::UNIX, None)?;
            begin(&socket, &unix_address(path)?)?;
            Ok(Socket::Unix(UnixStream::from_std(socket.into())))
        }
        Target::Udp(_) => Err(ErrorKind::InvalidInput.into()),
    }
}

fn nonblocking(domain: Domain, protocol: Option<Protocol>) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(domain, Type::STREAM, protocol)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn begin(socket: &socket2::Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(()),
    }
}

/// A port that `bind` chooses must be free towards every target; a port that `connect` chooses, only towards one. So
/// with `connect` each pair of addresses has all ports to itself.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn let_connect_choose_the_port(socket: &socket2::Socket) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
    Ok(setsockopt(socket, IpBindAddressNoPort, &true)?)
}

/// Only Linux lets `connect` choose; elsewhere `bind` chooses the port.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn let_connect_choose_the_port(_: &socket2::Socket) -> io::Result<()> {
    Ok(())
}

fn is_under_way(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::INPROGRESS) || error.kind() == ErrorKind::Interrupted
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Udp(address) => write!(f, "udp://{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn with_a_source_address_the_port_is_chosen_by_connect() {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let_connect_choose_the_port(&socket).expect("Linux knows the option");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback");
        let bound = socket.local_addr().expect("it is bound").as_socket().expect("IPv4");
        assert_eq!(bound.port(), 0, "no port is taken before the target is known");
    }
}
