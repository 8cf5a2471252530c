//! From endpoints to listening sockets: a name may have several addresses, and `:PORT` means every interface.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use crate::endpoint::{Endpoint, Host};
use crate::error::{Error, describe};
use crate::net::{BindError, DatagramSocket, Listener, ListenerOptions};

use super::datagrams;

/// How often a set of listeners that is to share one port chosen by the system is tried: the port that is free on the
/// first address may be in use on the second.
const SHARED_PORT_TRIES: usize = 16;

/// A socket and the endpoint that it is bound to, as the program prints it.
pub(super) struct Bound {
    pub(super) socket: BoundSocket,
    pub(super) endpoint: String,
}

pub(super) enum BoundSocket {
    Listener(Listener),
    Datagrams(DatagramSocket),
}

/// Listens on all of the endpoints, or on none.
pub(super) fn bind(endpoints: &[Endpoint], options: &ListenerOptions) -> Result<Vec<Bound>, Error> {
    let mut bound: Vec<Bound> = Vec::new();
    let mut seen = HashSet::new();
    for endpoint in endpoints {
        // Two free ports may be asked for in the same words.
        if !seen.insert(endpoint)
            && !matches!(endpoint, Endpoint::Tcp { port: 0, .. } | Endpoint::Udp { port: 0, .. })
        {
            return Err(Error::ListedTwice(endpoint.to_string()));
        }
        for new in bind_one(endpoint, options)? {
            // With --reuse-port the system would not mind.
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
            let sockets = datagrams::bind(endpoint, host, *port, options.reuse_port)?;
            let named = |socket: DatagramSocket| Bound {
                endpoint: format!("udp://{}", socket.local_address()),
                socket: BoundSocket::Datagrams(socket),
            };
            Ok(sockets.into_iter().map(named).collect())
        }
        Endpoint::Tcp { host: Host::Any, port } => every_interface(endpoint, *port, options),
        Endpoint::Tcp { host, port } => {
            let addresses = host.addresses(*port).map_err(|source| {
                let host = match host {
                    Host::Name(name) => name.clone(),
                    _ => endpoint.to_string(),
                };
                Error::Resolve { host, source }
            })?;
            if *port == 0 {
                sharing_a_port(endpoint, &addresses, options)
            } else {
                each(endpoint, &addresses, options)
            }
        }
    }
}

/// One socket for IPv6 and IPv4; where the system has no IPv6, one for IPv4.
fn every_interface(endpoint: &Endpoint, port: u16, options: &ListenerOptions) -> Result<Vec<Bound>, Error> {
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match Listener::tcp(both, true, options) {
        Err(error) if is_absent(&error) => {
            let only = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            let listener = Listener::tcp(only, false, options);
            Ok(vec![named(listener.map_err(|error| Error::listen(endpoint, &only, &error))?, only)?])
        }
        Err(error) => Err(Error::listen(endpoint, &both, &error)),
        Ok(listener) => Ok(vec![named(listener, both)?]),
    }
}

/// Each address of a name. One that this machine doesn't have is passed over as long as another one works.
fn each(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    options: &ListenerOptions,
) -> Result<Vec<Bound>, Error> {
    let mut bound = Vec::new();
    let mut absent = None;
    for &address in addresses {
        match Listener::tcp(address, false, options) {
            Ok(listener) => bound.push(named(listener, address)?),
            Err(error) if is_absent(&error) => absent = Some((address, error)),
            Err(error) => return Err(Error::listen(endpoint, &address, &error)),
        }
    }
    match absent {
        Some((address, error)) if bound.is_empty() => Err(Error::listen(endpoint, &address, &error)),
        Some((address, error)) => {
            log::warn!("not listening on {address}: {}", describe(&error));
            Ok(bound)
        }
        None if bound.is_empty() => {
            let reason = "the name has no address".into();
            Err(Error::Listen { endpoint: endpoint.to_string(), reason })
        }
        None => Ok(bound),
    }
}

/// The system picks the port for the first address, the others get the same one.
fn sharing_a_port(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    options: &ListenerOptions,
) -> Result<Vec<Bound>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let result = on_one_free_port(endpoint, addresses, options);
        match result {
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

fn on_one_free_port(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    options: &ListenerOptions,
) -> Result<Vec<Bound>, Attempt> {
    let mut absent = None;
    for (index, &address) in addresses.iter().enumerate() {
        let first = match Listener::tcp(address, false, options) {
            Ok(listener) => named(listener, address).map_err(Attempt::Failed)?,
            Err(error) if is_absent(&error) => {
                absent = Some(Error::listen(endpoint, &address, &error));
                continue;
            }
            Err(error) => return Err(Attempt::Failed(Error::listen(endpoint, &address, &error))),
        };
        let port = local_port(&first).map_err(|error| Attempt::Failed(nowhere(&address, &error)))?;
        let mut bound = vec![first];
        for other in &addresses[index + 1..] {
            let address = SocketAddr::new(other.ip(), port);
            match Listener::tcp(address, false, options) {
                Ok(listener) => bound.push(named(listener, address).map_err(Attempt::Failed)?),
                Err(error) if is_absent(&error) => {
                    log::warn!("not listening on {address}: {}", describe(&error));
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    return Err(Attempt::PortTaken(Error::listen(endpoint, &address, &error)));
                }
                Err(error) => return Err(Attempt::Failed(Error::listen(endpoint, &address, &error))),
            }
        }
        return Ok(bound);
    }
    let reason = "the name has no address".into();
    Err(Attempt::Failed(absent.unwrap_or(Error::Listen { endpoint: endpoint.to_string(), reason })))
}

/// What a TCP listener is really bound to, as the kernel says.
fn named(listener: Listener, asked: SocketAddr) -> Result<Bound, Error> {
    let address = listener.local_address().map_err(|error| nowhere(&asked, &error))?;
    let endpoint = address.map_or_else(String::new, |address| format!("tcp://{address}"));
    Ok(Bound { socket: BoundSocket::Listener(listener), endpoint })
}

/// It listens, and the kernel does not say where.
pub(super) fn nowhere(asked: &impl ToString, error: &io::Error) -> Error {
    let reason = format!("the system does not tell where it is: {}", describe(error));
    Error::Listen { endpoint: asked.to_string(), reason }
}

fn local_port(bound: &Bound) -> io::Result<u16> {
    let address = match &bound.socket {
        BoundSocket::Listener(listener) => listener.local_address()?,
        BoundSocket::Datagrams(socket) => Some(socket.local_address()),
    };
    Ok(address.map_or(0, |address| address.port()))
}

/// The machine has no such address, or no such family at all (a hosts file may list `::1` where IPv6 is off).
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::NODEV)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: ListenerOptions = ListenerOptions { backlog: 16, reuse_port: false, keepalive: None };

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn the_addresses_of_a_name_share_the_port_that_the_system_picks() {
        let addresses = addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]);
        let bound = sharing_a_port(&Endpoint::default(), &addresses, &OPTIONS).expect("loopback addresses");
        let ports: HashSet<u16> = bound.iter().map(|bound| local_port(bound).expect("bound")).collect();
        assert_eq!((bound.len(), ports.len()), (3, 1));
        assert!(!ports.contains(&0));
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_passed_over_if_another_one_works() {
        // 203.0.113.0/24 is for documentation (RFC 5737): no machine has it, and nothing is sent there by binding.
        let some = addresses(&["203.0.113.1:0", "127.0.0.1:0", "203.0.113.2:0"]);
        assert_eq!(sharing_a_port(&Endpoint::default(), &some, &OPTIONS).expect("one works").len(), 1);
        assert_eq!(each(&Endpoint::default(), &some, &OPTIONS).expect("one works").len(), 1);
        let none = addresses(&["203.0.113.1:0"]);
        for result in [
            sharing_a_port(&Endpoint::default(), &none, &OPTIONS),
            each(&Endpoint::default(), &none, &OPTIONS),
        ] {
            let Err(error) = result else { panic!("nothing to listen on") };
            assert_eq!(error.to_string(), "cannot listen on 203.0.113.1:0: cannot assign requested address");
        }
    }

    #[test]
    fn an_address_in_use_is_fatal() {
        let first = each(&Endpoint::default(), &addresses(&["127.0.0.1:0"]), &OPTIONS).expect("a free port");
        let port = local_port(&first[0]).expect("bound");
        let taken = [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))];
        let Err(error) = each(&Endpoint::default(), &taken, &OPTIONS) else { panic!("it is in use") };
        assert!(error.to_string().contains("address already in use"), "{error}");
    }
}
