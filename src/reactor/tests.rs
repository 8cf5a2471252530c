//! The reactor alone, with pipes and a toy handler: no TCP, no echo.

mod bounds;
mod deadlines;
mod turns;

use std::io::Write;
use std::os::fd::BorrowedFd;

use mio::unix::pipe::{self, Receiver, Sender};

use super::*;

/// The calls that the toy handler got, in order.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Ready(&'static str),
    Resumed(&'static str),
    Deadline(&'static str),
    Timer(u8),
    TurnEnd,
}

struct Source {
    name: &'static str,
    receiver: Receiver,
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

type Action = Box<dyn FnMut(&mut Context<Source>, Token, &Told)>;

/// Notes each call of the reactor, and performs the action of the test.
struct Toy {
    told: Vec<Told>,
    action: Action,
}

impl Toy {
    fn new() -> Toy {
        Toy::doing(|_, _, _| {})
    }

    fn doing(action: impl FnMut(&mut Context<Source>, Token, &Told) + 'static) -> Toy {
        Toy { told: Vec::new(), action: Box::new(action) }
    }

    fn note(&mut self, context: &mut Context<Source>, token: Token, told: fn(&'static str) -> Told) {
        // An earlier event of the batch may have removed it.
        let Some(Source { name, .. }) = context.get(token) else { return };
        let told = told(name);
        (self.action)(context, token, &told);
        self.told.push(told);
    }
}

impl Handler for Toy {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, _: Readiness) {
        self.note(context, token, Told::Ready);
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        self.note(context, token, Told::Resumed);
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        self.note(context, token, Told::Deadline);
    }

    fn timer(&mut self, _: &mut Context<Source>, Timer(number): Timer) {
        self.told.push(Told::Timer(number));
    }

    fn turn_end(&mut self, _: &mut Context<Source>) {
        self.told.push(Told::TurnEnd);
    }
}

fn reactor() -> Reactor<Source> {
    Reactor::new().expect("a poll descriptor")
}

fn source(reactor: &mut Reactor<Source>, name: &'static str, stage: Stage) -> (Token, Sender) {
    let (sender, receiver) = pipe::new().expect("a pipe");
    let token =
        reactor.context().insert(Source { name, receiver }, Interest::READABLE, stage).expect("registered");
    (token, sender)
}

/// A source that is ready: one byte waits in its pipe.
fn ready_source(reactor: &mut Reactor<Source>, name: &'static str, stage: Stage) -> (Token, Sender) {
    let (token, mut sender) = source(reactor, name, stage);
    sender.write_all(b"x").expect("room in the pipe");
    (token, sender)
}
