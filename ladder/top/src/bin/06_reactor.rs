//! The ladder, sixth step: another protocol on echoloop's reactor and connections. Each line comes back with its
//! number.
//!
//! ```text
//! cargo run -p ladder-top -- [ADDRESS]
//! printf 'one\ntwo\nthree\n' | echoloop send      # 1 one, 2 two, 3 three
//! ```
//!
//! The protocol is [`Lines`], which sees bytes and nothing else. TCP keeps bytes in order and knows no messages, so a
//! read may end within a line: `Lines` keeps the part until its end comes, up to a bound.
//!
//! ```text
//! (printf 'on'; sleep 1; printf 'e\n') | echoloop send      # 1 one: two reads, one line
//! ```
//!
//! **Mended:** the server sleeps, reads until nothing is left, stops reading from a client that does not read, and gives a
//! client that sends without a pause its turn like the others. The commands of `05_poll_drained` show it.
#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use echoloop::net::{Accept, Answer, Connection, Limits, Listener, ListenerOptions, Next, Service, Socket};
use echoloop::net::{CONNECTION_INTEREST, Workspace};
use echoloop::reactor::{Context, Handler, Interest, Reactor, Readiness, Stage, Token};

/// The longest line, with its end. Without a bound a client that never sends a line feed would fill our memory.
const LONGEST: usize = 1024;

#[derive(Default)]
struct Lines {
    count: u64,
    /// The beginning of a line whose end has not come yet.
    part: Vec<u8>,
}

impl Service for Lines {
    fn chunk(&self) -> usize {
        1024 // at most this many answers between two looks at the write buffer
    }
    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            self.part.extend_from_slice(piece);
            if self.part.len() > LONGEST {
                return Answer { bytes: b"line too long\n", last: true };
            }
            if piece.ends_with(b"\n") {
                self.count += 1;
                write!(staged, "{} ", self.count).expect("memory takes everything");
                staged.append(&mut self.part);
            }
        }
        Answer::default()
    }
}

enum Source {
    Listener(Listener),
    Client(Connection<Socket>, Lines),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Listener(listener) => listener.as_fd(),
            Source::Client(connection, _) => connection.transport().as_fd(),
        }
    }
}

struct Server(Workspace);

impl Handler for Server {
    type Source = Source;
    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        let now = context.now();
        match context.get_mut(token) {
            Some(Source::Listener(listener)) => match listener.accept() {
                Accept::Connection(socket, _) => {
                    let client = Source::Client(Connection::new(socket, now), Lines::default());
                    // If the kernel refuses the registration, this drops the client, which closes its socket.
                    let _ = context.insert(client, CONNECTION_INTEREST, Stage::Connections);
                    context.run_again(token); // There may be more, and no event will say so.
                }
                Accept::Drained => {}
                // Perhaps descriptors ran out. No event says that one is free, so look again soon.
                Accept::Failed(..) => context.set_deadline(token, now + Duration::from_millis(100)),
            },
            Some(Source::Client(connection, lines)) => {
                connection.note(readiness);
                match connection.pump(lines, &mut self.0, now) {
                    Next::Wait => {}
                    Next::Again => context.run_again(token),
                    Next::Close(_) => context.remove(token),
                }
            }
            None => {}
        }
    }
    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        self.ready(context, token, Readiness::default());
    }
    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        self.ready(context, token, Readiness::default());
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:10000".into());
    let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let listener = Listener::tcp(address, true, &ListenerOptions::default())?;
    println!("listening on tcp://{}", listener.local_address()?.unwrap_or(address));
    let limits = Limits { read_size: 65536, write_limit: 65536, turn_budget: 262_144 };
    let mut reactor = Reactor::new()?;
    reactor.context().insert(Source::Listener(listener), Interest::READABLE, Stage::Listeners)?;
    reactor.run(&mut Server(Workspace::new(limits)))
}
