//! The ladder, sixth step: another protocol on this crate's reactor and connections. Each line is answered with its number.
//!
//! ```text
//! cargo run --example 06_reactor -- [ADDRESS]
//! printf 'one\ntwo\nthree\n' | nc -N localhost 10000      # 1 2 3, each on a line
//! ```
//!
//! The protocol is [`LineCounter`], which sees bytes and nothing else. What the steps below it got wrong is not its
//! business: the loop sleeps, reads are repeated until nothing is left, a client that does not read is not read from,
//! and one that sends without a pause has its turn like the others.
#![allow(clippy::print_stdout, reason = "it talks to whoever runs it")]

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use echoloop::net::{Accept, Answer, Connection, Limits, Listener, ListenerOptions, Next, Service, Socket};
use echoloop::net::{CONNECTION_INTEREST, Workspace};
use echoloop::reactor::{Context, Handler, Interest, Reactor, Readiness, Stage, Token};

#[derive(Default)]
struct LineCounter(u64);

impl Service for LineCounter {
    fn chunk(&self) -> usize {
        1024 // at most so many answers before the write buffer is looked at
    }
    fn answer<'a>(&'a mut self, chunk: &'a [u8], staged: &mut Vec<u8>) -> Answer<'a> {
        for _ in chunk.iter().filter(|&&byte| byte == b'\n') {
            self.0 += 1;
            writeln!(staged, "{}", self.0).expect("memory takes everything");
        }
        Answer::default()
    }
}

enum Source {
    Listener(Listener),
    Client(Connection<Socket>, LineCounter),
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
                    let client = Source::Client(Connection::new(socket, now), LineCounter::default());
                    // Refused, it is dropped, which closes it.
                    let _ = context.insert(client, CONNECTION_INTEREST, Stage::Connections);
                    context.run_again(token); // There may be more, and no event will say so.
                }
                Accept::Drained => {}
                // Out of descriptors, perhaps. Nobody tells when there are some: look again soon.
                Accept::Failed(..) => context.set_deadline(token, now + Duration::from_millis(100)),
            },
            Some(Source::Client(connection, counter)) => {
                connection.note(readiness);
                match connection.pump(counter, &mut self.0, now) {
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
    let options = ListenerOptions { backlog: 4096, reuse_port: false, keepalive: None };
    let listener = Listener::tcp(address, true, &options)?;
    println!("listening on tcp://{}", listener.local_address()?.unwrap_or(address));
    let limits = Limits { read_size: 65536, write_limit: 65536, turn_budget: 262_144 };
    let mut reactor = Reactor::new()?;
    reactor.context().insert(Source::Listener(listener), Interest::READABLE, Stage::Listeners)?;
    reactor.run(&mut Server(Workspace::new(limits)))
}
