//! Sockets that the service manager opens and hands over: `sd_listen_fds(3)`.

use std::env;
use std::ffi::OsStr;
use std::iter;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process;

use listenfd::ListenFd;
use socket2::{Domain, Type};

use super::endpoints::{self, Bound};
use crate::net::{BoundSocket, Endpoint, ListenerOptions};
use crate::server::error::Error;
use crate::system::DescriptorLimit;
use crate::system::describe;

/// The first descriptor that the manager hands over; `SD_LISTEN_FDS_START`.
const FIRST_DESCRIPTOR: RawFd = 3;
/// systemd's name for a socket whose unit gives it none.
const NO_NAME: &str = "unknown";

/// An open socket for a [`Server`](super::Server) to serve: a TCP or Unix stream socket that listens, or a bound UDP
/// socket. The server finds out its kind from the socket itself.
///
/// The process that opened the socket may keep it. Then connections wait there while no server runs.
///
/// ```
/// use std::net::TcpListener;
///
/// use echoloop::{InheritedSocket, Server, ServerOptions, StopSignal};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let inherited = vec![InheritedSocket::new(listener, "echo")];
/// let server = Server::with_inherited(inherited, &[], ServerOptions::default(), StopSignal::new()?)?;
/// assert_eq!(server.endpoints(), [format!("tcp://{address}")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct InheritedSocket {
    socket: OwnedFd,
    name: String,
}

impl InheritedSocket {
    /// An open socket, and its name in the log and in errors.
    pub fn new(socket: impl Into<OwnedFd>, name: impl Into<String>) -> InheritedSocket {
        InheritedSocket { socket: socket.into(), name: name.into() }
    }

    /// The sockets that the service manager hands over to this process, with the names from its unit
    /// (`FileDescriptorName=`). Without a service manager there are none; a second call has none either.
    ///
    /// Call it before the process has other threads, since it takes `LISTEN_FDS` and `LISTEN_PID` out of the
    /// environment. And call it before the process opens descriptors: if the manager announced a socket and did not
    /// hand it over, this would mistake the next opened descriptor for the socket.
    ///
    /// # Errors
    /// When a descriptor is no socket, or the variables are not as in `sd_listen_fds(3)`.
    pub fn from_environment() -> Result<Vec<InheritedSocket>, Error> {
        let count = offered()?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').chain(iter::repeat(""));
        let named = names.map(|name| if name.is_empty() { NO_NAME } else { name });
        let mut offered = ListenFd::from_env();
        (0..count).zip(named).map(|(index, name)| take(&mut offered, index, name)).collect()
    }

    /// Makes this a socket of the server.
    fn bind(self, options: &ListenerOptions) -> Result<Bound, Error> {
        let InheritedSocket { socket, name } = self;
        let descriptor = socket.as_raw_fd();
        let socket = BoundSocket::inherited(socket, options)
            .map_err(|reason| refusal(&name, descriptor, reason.to_string()))?;
        let endpoint = socket.endpoint().map_err(|error| {
            refusal(&name, descriptor, format!("the system does not tell where it is: {}", describe(&error)))
        })?;
        log::info!("inherited {endpoint}: descriptor {descriptor}, named {name:?}");
        Ok(Bound { socket, endpoint })
    }
}

/// Takes over the inherited sockets, and listens on the endpoints beside them: on all of them, or on none.
pub(super) fn bind(
    inherited: Vec<InheritedSocket>,
    endpoints: &[Endpoint],
    options: &ListenerOptions,
) -> Result<Vec<Bound>, Error> {
    let inherited = inherited.into_iter().map(|socket| socket.bind(options));
    let mut bound = inherited.collect::<Result<Vec<_>, _>>()?;
    bound.extend(endpoints::bind(endpoints, options)?);
    Ok(bound)
}

/// The number of descriptors that the manager hands over to this process. The manager may have meant the variables for
/// a parent process, so this checks `LISTEN_PID`. (`listenfd` requires no `LISTEN_PID`, and accepts any number.)
fn offered() -> Result<usize, Error> {
    let Some(count) = env::var_os("LISTEN_FDS") else { return Ok(0) };
    if env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(process::id())) {
        number_of_descriptors(&count)
    } else {
        log::info!(
            "LISTEN_PID names another process: no sockets are inherited (a wrapper must `exec` the server, and not \
             start it as a child)"
        );
        Ok(0)
    }
}

fn number_of_descriptors(count: &OsStr) -> Result<usize, Error> {
    let most = usize::try_from(DescriptorLimit::current().soft).unwrap_or(usize::MAX);
    let number = count.to_str().and_then(|text| text.parse::<usize>().ok());
    number.filter(|number| *number < most).ok_or_else(|| Error::Inherited {
        sockets: "inherited sockets".into(),
        reason: format!("LISTEN_FDS is {count:?}; a number below {most} is expected"),
    })
}

/// Takes ownership of a descriptor. From now on `exec` closes it.
fn take(offered: &mut ListenFd, index: usize, name: &str) -> Result<InheritedSocket, Error> {
    for family in [Domain::IPV4, Domain::UNIX] {
        for kind in [Type::STREAM, Type::DGRAM, Type::SEQPACKET] {
            // For `listenfd`, `IPV4` stands for both families of IP. `BoundSocket::inherited` examines the socket
            // closely.
            let socket: Result<Option<OwnedFd>, _> =
                offered.take_custom(index, family.into(), kind.into(), "socket");
            if let Ok(Some(socket)) = socket {
                return Ok(InheritedSocket::new(socket, name));
            }
        }
    }
    let reason = "it is no internet or Unix socket, or not open; of the units' `Listen…=`, only `ListenStream=` and \
                  `ListenDatagram=` make sockets that can be served";
    let descriptor = RawFd::try_from(index).unwrap_or(RawFd::MAX).saturating_add(FIRST_DESCRIPTOR);
    Err(refusal(name, descriptor, reason.into()))
}

fn refusal(name: &str, descriptor: RawFd, reason: String) -> Error {
    Error::Inherited { sockets: format!("the inherited socket {name:?} (descriptor {descriptor})"), reason }
}
