//! Sockets: everything that a program on the reactor needs to move bytes. Nothing here gives the bytes a meaning.

mod bound_socket;
mod bounds;
mod buffers;
mod bulk;
mod connected_datagram;
mod connection;
mod connector;
mod datagram;
mod endpoint;
mod flow;
mod interest;
mod journal;
mod listener;
mod overflow;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod packet_info;
mod peer;
mod phase;
mod pipes;
mod pool;
pub(crate) mod proxy;
mod ring;
mod service;
mod socket_file;
mod transport;
mod wire;
mod workspace;

pub use self::bound_socket::{BoundSocket, InheritError};
pub use self::bounds::{Judgement, Limits, Timeout, Timeouts};
pub use self::connected_datagram::ConnectedDatagramSocket;
pub use self::connection::{Connection, Next};
pub use self::connector::{Target, connect};
pub use self::datagram::{Datagram, DatagramSocket, LONGEST_DATAGRAM, LONGEST_PAYLOAD};
pub use self::endpoint::{DEFAULT_PORT, Endpoint, EndpointError, Host};
pub use self::interest::CONNECTION_INTEREST;
pub use self::journal::{Deed, Entry};
pub use self::listener::{
    Accept, AcceptError, Listener, ListenerOptions, backlog_in_force, backlog_remedy, classify_accept_error,
    tcp_buffer_in_force,
};
pub use self::overflow::Overflow;
pub use self::peer::Peer;
pub use self::phase::{End, Phase};
pub use self::pool::BufferBytes;
pub use self::service::{Answer, Service};
pub use self::socket_file::BindError;
pub use self::transport::{Socket, Transport};
pub use self::workspace::{Traffic, Workspace};
