//! echoloop: an echo server for very many connections, in one thread, on one hand-rolled event loop.
//!
//! This is the guide to its source. The program is described in the README and by `echoloop --help`.
//!
//! To learn nonblocking I/O, open the [`guide`]: climb the ladder of six small servers, then read a chapter for each
//! question.
//!
//! # The one idea
//!
//! A reactor is a loop around one blocking call. All else is small state machines: the loop tells them "you may read
//! now", "you may write now", "your time is up", and they never wait.
//!
//! ```text
//!         poll ──► events ──► token ──► slab slot ──┬─► connection: read ─► service ─► write buffer ─► write
//!           ▲                                       ├─► listener:   accept until the backlog is empty, within a budget
//!           │                                       ├─► signal:     begin to stop, or report
//!           │                                       └─► and others: datagrams, scrapers of figures, standard input
//!           └── timeout = nearest deadline ◄── end of turn: closed slots are freed ◄── deadlines ◄── run queue
//! ```
//!
//! # The map
//!
//! The program uses the server and the client, these use the sockets, and the sockets use the loop. A folder uses only
//! folders below it in this table.
//!
//! | file | its one idea |
//! |---|---|
//! | `guide.rs` | the pages of `docs/`, and their links |
//! | `main.rs`, `cli/` | the program: arguments in, exit status out |
//! | `server/` | a [`Handler`](reactor::Handler): accept, pump, time out, stop |
//! | [`load`] | a `Handler` with very many connections: schedules, verification, figures |
//! | [`client`] | a `Handler` with one connection: messages, a prompt or a stream; a line client for programs |
//! | [`doctor`] | what bounds the connections of this machine, and what raises it |
//! | [`net`] | sockets; it gives the bytes no meaning |
//! | `net/endpoint.rs` | endpoints as people write them |
//! | `net/proxy.rs` | headers of the PROXY protocol: a balancer names the client in them |
//! | `net/bound_socket.rs` | bound sockets, our own or opened by another process |
//! | `net/listener.rs`, `net/peer.rs` | bind, accept, the classes of a failed accept, and the peer's name |
//! | `net/connector.rs` | beginning to connect |
//! | `net/socket_file.rs` | the file of a Unix socket: making, replacing and removing it |
//! | `net/datagram.rs`, `net/packet_info.rs` | UDP, and the address that an answer comes from |
//! | `net/overflow.rs` | datagrams that a full receive buffer drops |
//! | `net/connected_datagram.rs` | UDP with one peer, for clients |
//! | `net/connection.rs` | **one connection**: its phases, and its next action |
//! | `net/phase.rs` | where a connection stands, and how it ends |
//! | `net/flow.rs` | the path of its bytes: socket, read buffer, service, write buffer, socket |
//! | `net/wire.rs` | a socket and its readiness: every read, write and splice |
//! | `net/transport.rs`, `net/interest.rs` | the socket calls of a connection, as a trait, and its registration |
//! | `net/service.rs` | the trait that turns input into answers |
//! | `net/buffers.rs` | read and write buffers that exist only while they hold bytes |
//! | `net/ring.rs` | a ring of bytes in memory of its own |
//! | `net/pool.rs` | the memory of all buffers together |
//! | `net/bulk.rs`, `net/pipes.rs` | when bulk data passes through a pipe, so that nobody copies it |
//! | `net/workspace.rs` | everything that the connections of one loop share |
//! | `net/journal.rs` | the steps of a connection, for the log and for `--trace` |
//! | `net/bounds.rs` | the bounds of a connection: of memory, share of a turn, time |
//! | [`reactor`] | **the loop**: poll, dispatch, run queue, deadlines, end of turn. Knows no sockets |
//! | `reactor/handler.rs`, `reactor/context.rs` | the calls of the loop to a program, and of the program to the loop |
//! | `reactor/readiness.rs` | the bits of an event |
//! | `reactor/deadlines.rs`, `reactor/timer.rs` | a heap that gives the poll its timeout |
//! | `reactor/sources.rs` | the slab; why a late event never reaches the wrong source |
//! | `reactor/turn.rs` | the record of a turn |
//! | `reactor/moment.rs` | a point in time in eight bytes |
//! | `system/` | limits, signals, the log; every folder may use them |
//!
//! # Another protocol
//!
//! The reactor drives anything with a descriptor. This server answers each read with the number of bytes so far. It
//! drops a client that does not read its answers; [`net::Connection`] would keep them for it.
//!
//! ```
//! use std::{io::{Read, Write}, os::fd::{AsFd, BorrowedFd}};
//!
//! use echoloop::reactor::{Context, Handler, Interest, Reactor, Readiness, Stage, Token};
//! use mio::net::{TcpListener, TcpStream};
//!
//! enum Source {
//!     Listener(TcpListener),
//!     Client { stream: TcpStream, count: usize },
//! }
//!
//! impl AsFd for Source {
//!     fn as_fd(&self) -> BorrowedFd<'_> {
//!         match self {
//!             Source::Listener(listener) => listener.as_fd(),
//!             Source::Client { stream, .. } => stream.as_fd(),
//!         }
//!     }
//! }
//!
//! struct Counter;
//!
//! impl Handler for Counter {
//!     type Source = Source;
//!
//!     fn ready(&mut self, context: &mut Context<Source>, token: Token, _: Readiness) {
//!         while let Some(source) = context.get_mut(token) { // until WouldBlock: there is no second event
//!             match source {
//!                 Source::Listener(listener) => {
//!                     let Ok((stream, _)) = listener.accept() else { return };
//!                     let source = Source::Client { stream, count: 0 };
//!                     let _ = context.insert(source, Interest::READABLE, Stage::Connections);
//!                 }
//!                 Source::Client { stream, count } => match stream.read(&mut [0; 16]) {
//!                     Ok(read @ 1..) if { *count += read; writeln!(stream, "{count}").is_ok() } => {}
//!                     Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
//!                     _ => context.remove(token),
//!                 },
//!             }
//!         }
//! #       if context.len() == 1 { context.stop() }
//!     }
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
//! # let address = listener.local_addr()?;
//! # let client = std::thread::spawn(move || -> std::io::Result<String> {
//! #     let mut stream = std::net::TcpStream::connect(address)?;
//! #     let mut reply = [0; 2];
//! #     stream.write_all(b"four")?;
//! #     stream.read_exact(&mut reply)?;
//! #     stream.write_all(b"five5")?;
//! #     stream.shutdown(std::net::Shutdown::Write)?;
//! #     let mut rest = String::new();
//! #     stream.read_to_string(&mut rest)?;
//! #     Ok(String::from_utf8_lossy(&reply).into_owned() + &rest)
//! # });
//! let mut reactor = Reactor::new()?;
//! reactor.context().insert(Source::Listener(listener), Interest::READABLE, Stage::Listeners)?;
//! reactor.run(&mut Counter)?;
//! # assert_eq!(client.join().expect("no panic")?, "4\n9\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg(unix)]

pub mod client;
pub mod doctor;
pub mod guide;
pub mod load;
pub mod net;
pub mod reactor;
mod server;
mod system;

pub use crate::net::proxy::ProxyVersion;
pub use crate::net::{DEFAULT_PORT, Endpoint, EndpointError, Host};
pub use crate::server::{
    DatagramCounts, Error, Greeting, GreetingError, InheritedSocket, Protocol, ProxyProtocol, Server,
    ServerOptions, Splice, Summary, TraceOptions, WhenFull,
};
pub use crate::system::{
    DescriptorLimit, Escaped, LiveLine, ReportSignal, StandardErrorLog, StopHandle, StopSignal, Text,
    TextError, describe, folded, survive_file_size_limit,
};
