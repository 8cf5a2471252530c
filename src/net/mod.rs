//! Sockets: what every user of the reactor needs to move bytes, whatever the bytes mean.

mod bounds;
mod buffers;
mod connected_datagram;
mod connection;
mod connector;
mod datagram;
mod endpoint;
mod inherited;
mod journal;
mod listener;
mod overflow;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod packet_info;
mod phase;
pub(crate) mod proxy;
mod ring;
mod service;
mod socket_file;
mod transport;

pub use self::bounds::{Limits, Timeout, Timeouts};
pub use self::buffers::{BufferBytes, Traffic, Workspace};
pub use self::connected_datagram::ConnectedDatagramSocket;
pub use self::connection::{Connection, Next};
pub use self::connector::{Target, connect};
pub use self::datagram::{Datagram, DatagramSocket, LONGEST_DATAGRAM, LONGEST_PAYLOAD};
pub use self::endpoint::{DEFAULT_PORT, Endpoint, EndpointError, Host};
pub use self::inherited::{InheritError, Inherited};
pub use self::journal::{Deed, Entry};
pub use self::listener::{
    Accept, AcceptError, Listener, ListenerOptions, Peer, backlog_in_force, backlog_remedy,
    classify_accept_error,
};
pub use self::overflow::Overflow;
pub use self::phase::{End, Phase};
pub use self::service::{Answer, Service};
pub use self::socket_file::BindError;
pub use self::transport::{Socket, Transport};

/// What a connection is registered for: everything, once. Whether it is read or written is decided by its own state,
/// never by changing the registration, which would cost a system call each time.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub const CONNECTION_INTEREST: mio::Interest =
    mio::Interest::READABLE.add(mio::Interest::WRITABLE).add(mio::Interest::PRIORITY);

/// What a connection is registered for: everything, once. Only epoll tells of urgent data.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub const CONNECTION_INTEREST: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);
