//! From endpoints to bound sockets: a name may have several addresses, and `:PORT` means every interface.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use crate::net::{BindError, BoundSocket, DatagramSocket, Endpoint, Host, Listener, ListenerOptions};
use crate::server::error::Error;
use crate::system::describe;

use super::datagrams;

/// How often to try to bind several addresses to one port of the system's choice: another program may use that port on
/// the second address.
const SHARED_PORT_TRIES: usize = 16;

/// A bound socket, and its endpoint as the program prints it.
pub(super) struct Bound {
    pub(super) socket: BoundSocket,
    pub(super) endpoint: String,
}

/// Listens on all of the endpoints, or on none.
pub(super) fn bind(endpoints: &[Endpoint], options: &ListenerOptions) -> Result<Vec<Bound>, Error> {
    let mut bound: Vec<Bound> = Vec::new();
    let mut seen = HashSet::new();
    for endpoint in endpoints {
        // Two endpoints with port 0 get two ports.
        if !seen.insert(endpoint)
            && !matches!(endpoint, Endpoint::Tcp { port: 0, .. } | Endpoint::Udp { port: 0, .. })
        {
            return Err(Error::ListedTwice(endpoint.to_string()));
        }
        for new in bind_one(endpoint, options)? {
            // With --reuse-port the system would allow two sockets on one address.
            if bound.iter().any(|other| other.endpoint == new.endpoint) {
                return Err(Error::ListedTwice(new.endpoint));
            }
            bound.push(new);
        }
    }
    Ok(bound)
}

fn bind_one(endpoint: &Endpoint, options: &ListenerOptions) -> Result<Vec<Bound>, Error> {
    match endpoint {
        Endpoint::Unix(path) => match Listener::unix(path, options) {
            Ok(listener) => {
                Ok(vec![Bound { socket: BoundSocket::Listener(listener), endpoint: endpoint.to_string() }])
            }
            Err(BindError::Io(error)) => Err(Error::listen(endpoint, endpoint, &error)),
            Err(error) => Err(Error::Listen { endpoint: endpoint.to_string(), reason: error.to_string() }),
        },
        Endpoint::Udp { host, port } => {
            let addresses = datagrams::addresses(host, *port).map_err(|error| unresolved(endpoint, error))?;
            each(endpoint, &addresses, &|address| {
                DatagramSocket::bind(address, options.reuse_port).map(BoundSocket::Datagrams)
            })
        }
        Endpoint::Tcp { host: Host::Any, port } => every_interface(endpoint, *port, options),
        Endpoint::Tcp { host, port } => {
            let addresses = host.addresses(*port).map_err(|error| unresolved(endpoint, error))?;
            each(endpoint, &addresses, &|address| {
                Listener::tcp(address, false, options).map(BoundSocket::Listener)
            })
        }
    }
}

fn unresolved(endpoint: &Endpoint, source: io::Error) -> Error {
    let host = match endpoint {
        Endpoint::Tcp { host: Host::Name(name), .. } | Endpoint::Udp { host: Host::Name(name), .. } => {
            name.clone()
        }
        _ => endpoint.to_string(),
    };
    Error::Resolve { host, source }
}

/// One socket for IPv6 and IPv4; where the system has no IPv6, one for IPv4.
fn every_interface(endpoint: &Endpoint, port: u16, options: &ListenerOptions) -> Result<Vec<Bound>, Error> {
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let (listener, asked) = match Listener::tcp(both, true, options) {
        Err(error) if is_absent(&error) => {
            let only = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            (Listener::tcp(only, false, options), only)
        }
        result => (result, both),
    };
    let listener = listener.map_err(|error| Error::listen(endpoint, &asked, &error))?;
    Ok(vec![named(BoundSocket::Listener(listener), asked)?])
}

/// Binds a socket of one protocol to an address.
type Bind<'a> = &'a dyn Fn(SocketAddr) -> io::Result<BoundSocket>;

/// Binds a socket for each address: for all of them, or for none. This passes over an address that the machine lacks if
/// another one works. With port 0 the system picks a port for the first address, and the others get the same port.
fn each(endpoint: &Endpoint, addresses: &[SocketAddr], bind: Bind<'_>) -> Result<Vec<Bound>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(endpoint, addresses, bind) {
            Err(Attempt::PortTaken(_)) if tries < SHARED_PORT_TRIES => {}
            Err(Attempt::PortTaken(error) | Attempt::Failed(error)) => return Err(error),
            Ok(bound) => return Ok(bound),
        }
    }
}

enum Attempt {
    PortTaken(Error),
    Failed(Error),
}

fn attempt(endpoint: &Endpoint, addresses: &[SocketAddr], bind: Bind<'_>) -> Result<Vec<Bound>, Attempt> {
    let (mut bound, mut absent, mut picked) = (Vec::new(), Vec::new(), None);
    for &(mut address) in addresses {
        let shared = picked.filter(|_| address.port() == 0);
        address.set_port(shared.unwrap_or(address.port()));
        match bind(address) {
            Ok(socket) => {
                picked = picked.or(socket.port().unwrap_or(None));
                bound.push(named(socket, address).map_err(Attempt::Failed)?);
            }
            Err(error) if is_absent(&error) => absent.push((address, error)),
            Err(error) => {
                let is_taken = shared.is_some() && error.kind() == ErrorKind::AddrInUse;
                let error = Error::listen(endpoint, &address, &error);
                return Err(if is_taken { Attempt::PortTaken(error) } else { Attempt::Failed(error) });
            }
        }
    }
    if !bound.is_empty() {
        for (address, error) in absent {
            log::warn!(
                "cannot listen on {}, and goes on without it: {}",
                in_words(endpoint, address),
                describe(&error)
            );
        }
        return Ok(bound);
    }
    Err(Attempt::Failed(match absent.pop() {
        Some((address, error)) => Error::listen(endpoint, &address, &error),
        None => {
            let reason = "the name has no address".into();
            Error::Listen { endpoint: endpoint.to_string(), reason }
        }
    }))
}

/// An address as the program prints it: with the protocol.
fn in_words(endpoint: &Endpoint, address: SocketAddr) -> String {
    match endpoint {
        Endpoint::Udp { .. } => format!("udp://{address}"),
        _ => address.to_string(),
    }
}

/// A socket with its real endpoint, which the kernel knows.
fn named(socket: BoundSocket, asked: SocketAddr) -> Result<Bound, Error> {
    let endpoint = socket.endpoint().map_err(|error| nowhere(&asked, &error))?;
    Ok(Bound { socket, endpoint })
}

/// The error for a socket that listens, though the kernel does not say where.
pub(super) fn nowhere(asked: &impl ToString, error: &io::Error) -> Error {
    let reason = format!("the system does not tell where it is: {}", describe(error));
    Error::Listen { endpoint: asked.to_string(), reason }
}

/// True if the machine has no such address, or no such family at all (a hosts file may list `::1` where IPv6 is off).
fn is_absent(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::NODEV)
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn tcp(address: SocketAddr) -> io::Result<BoundSocket> {
        Listener::tcp(address, false, &ListenerOptions::default()).map(BoundSocket::Listener)
    }

    fn udp(address: SocketAddr) -> io::Result<BoundSocket> {
        DatagramSocket::bind(address, false).map(BoundSocket::Datagrams)
    }

    fn port(bound: &Bound) -> u16 {
        let (_, port) = bound.endpoint.rsplit_once(':').expect("an address");
        port.parse().expect("a port")
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn the_addresses_of_a_name_share_the_port_that_the_system_picks() {
        let addresses = addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]);
        for bind in [tcp, udp] {
            let bound = each(&Endpoint::default(), &addresses, &bind).expect("loopback addresses");
            let ports: HashSet<u16> = bound.iter().map(port).collect();
            assert_eq!((bound.len(), ports.len()), (3, 1));
            assert!(!ports.contains(&0));
        }
    }

    #[test]
    fn another_port_is_tried_when_the_one_that_was_picked_is_taken() {
        let addresses = addresses(&["127.0.0.1:0", "127.0.0.2:0"]);
        let taken_so_often = |times: usize| {
            let left = Cell::new(times);
            each(&Endpoint::default(), &addresses, &|address| {
                if address.port() != 0 && left.get() > 0 {
                    left.set(left.get() - 1);
                    return Err(ErrorKind::AddrInUse.into());
                }
                tcp(address)
            })
        };
        assert_eq!(taken_so_often(SHARED_PORT_TRIES - 1).expect("the last one is free").len(), 2);
        let Err(error) = taken_so_often(SHARED_PORT_TRIES) else { panic!("each was taken") };
        assert!(error.to_string().contains("address already in use"), "{error}");
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_passed_over_if_another_one_works() {
        // 203.0.113.0/24 is for documentation (RFC 5737): no machine has it, and nothing is sent there by binding.
        let some = addresses(&["203.0.113.1:0", "127.0.0.1:0", "203.0.113.2:0"]);
        let none = addresses(&["203.0.113.1:0"]);
        for bind in [tcp, udp] {
            assert_eq!(each(&Endpoint::default(), &some, &bind).expect("one works").len(), 1);
            let Err(error) = each(&Endpoint::default(), &none, &bind) else { panic!("nothing to listen on") };
            let expected = "cannot listen on 203.0.113.1:0: this machine does not have that address";
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_address_in_use_is_fatal() {
        let free = addresses(&["127.0.0.1:0"]);
        let first = each(&Endpoint::default(), &free, &tcp).expect("a free port");
        let port = port(&first[0]);
        let taken = [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))];
        let Err(error) = each(&Endpoint::default(), &taken, &tcp) else { panic!("it is in use") };
        assert!(error.to_string().contains("address already in use"), "{error}");
    }
}
