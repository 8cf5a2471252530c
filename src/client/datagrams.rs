//! `echoloop send udp://…`: a message is a datagram, and so is its answer. The next message leaves after the answer.
//!
//! UDP has nothing to connect and nothing to close. If no answer comes in time, the network lost the message or the
//! answer, or nobody received the message. The client can't tell these apart, so it does not send the message again.
//! The client tries the next address of the name only if the socket reports an error (nobody listens, or no route
//! leads there) and that address has never answered.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::datagram_messages::{Messages, Next};
use super::input::Taken;
use super::options::SendOptions;
use super::outcome::ClientError;
use super::output::Output;
use super::source::{STEPS_PER_TURN, Source, insert_input, take_input};
use crate::net::{ConnectedDatagramSocket, LONGEST_DATAGRAM};
use crate::reactor::{Context, Handler, Interest, Moment, Reactor, Readiness, Stage, Token};
use crate::system::Escaped;
use crate::system::describe;

/// One call of [`send`](super::send) over UDP.
pub(super) struct DatagramConversation {
    /// The addresses of the name that are left to try.
    addresses: VecDeque<SocketAddr>,
    source: Option<IpAddr>,
    timeout: Option<Duration>,
    verify: bool,
    peer: SocketAddr,
    socket: Token,
    /// Whether the peer has answered, and so is the right one.
    heard: bool,
    messages: Messages,
    question: Option<Question>,
    /// The message that was answered last.
    answered: Option<Vec<u8>>,
    input: Option<Token>,
    buffer: Vec<u8>,
    output: Output,
    result: Option<Result<(), ClientError>>,
}

/// A message that waits for its answer.
struct Question {
    message: Vec<u8>,
    /// `None`: the socket had no room for the message yet.
    sent: Option<Moment>,
}

impl DatagramConversation {
    /// Sends all messages to the first of these addresses where a server listens.
    pub(super) fn run(mut addresses: VecDeque<SocketAddr>, options: &SendOptions) -> Result<(), ClientError> {
        let output = Output::standard(options.hex, options.raw)?;
        let mut reactor = Reactor::new()?;
        let (peer, socket) = connect_to_next(reactor.context(), &mut addresses, options.source)?;
        let mut conversation = DatagramConversation {
            addresses,
            source: options.source,
            timeout: options.timeout,
            verify: options.verify,
            peer,
            socket,
            heard: false,
            messages: Messages::of(options),
            question: None,
            answered: None,
            input: if options.messages.is_empty() { Some(insert_input(reactor.context())?) } else { None },
            buffer: vec![0; LONGEST_DATAGRAM],
            output,
            result: None,
        };
        conversation.advance(reactor.context());
        while conversation.result.is_none() {
            reactor.turn(&mut conversation)?;
        }
        conversation.result.unwrap_or(Ok(()))
    }

    /// Takes steps until the next step needs an event.
    fn advance(&mut self, context: &mut Context<Source>) {
        for _ in 0..STEPS_PER_TURN {
            if self.result.is_some() {
                return;
            }
            match self.go_on(context) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => self.result = Some(Err(error)),
            }
        }
        // There is more to do, but the loop must also fetch the events of the other descriptor now and then.
        context.run_again(self.socket);
    }

    /// Takes a datagram that has come, or sends the next one. False: the next step needs an event.
    fn go_on(&mut self, context: &mut Context<Source>) -> Result<bool, ClientError> {
        let Some(Source::Datagrams(socket)) = context.get(self.socket) else { return Ok(false) };
        match socket.receive(&mut self.buffer) {
            Ok(Some(length)) => return self.received(context, length).map(|()| true),
            Ok(None) => {}
            Err(error) => return self.undeliverable(context, error).map(|()| true),
        }
        match &self.question {
            Some(Question { sent: Some(_), .. }) => Ok(false),
            Some(_) => self.send(context),
            None => self.next(context),
        }
    }

    /// Finds the next message.
    fn next(&mut self, context: &mut Context<Source>) -> Result<bool, ClientError> {
        match self.messages.next(&mut self.output)? {
            Next::Message(message) => self.question = Some(Question { message, sent: None }),
            Next::Input => return self.read_input(context),
            Next::End => self.result = Some(Ok(())),
        }
        Ok(true)
    }

    fn send(&mut self, context: &mut Context<Source>) -> Result<bool, ClientError> {
        let Some(Source::Datagrams(socket)) = context.get(self.socket) else { return Ok(false) };
        let Some(question) = &mut self.question else { return Ok(false) };
        log::debug!("{}: sending {}", self.peer, Escaped(&question.message));
        match socket.send(&question.message) {
            Ok(false) => return Ok(false),
            Ok(true) => {}
            Err(error) => return self.undeliverable(context, error).map(|()| true),
        }
        let now = Moment::now();
        question.sent = Some(now);
        self.output.sent(&question.message)?;
        if let Some(timeout) = self.timeout {
            context.set_deadline(self.socket, now + timeout);
        }
        Ok(true)
    }

    /// Reads standard input once. False if nothing is there now.
    fn read_input(&mut self, context: &mut Context<Source>) -> Result<bool, ClientError> {
        let Some(input) = self.input else { return Ok(false) };
        match take_input(context, input)? {
            Taken::Nothing => return Ok(false),
            Taken::End => self.messages.input_ended(),
            Taken::Bytes(bytes) => self.messages.input(&bytes, &mut self.output),
        }
        Ok(true)
    }

    /// Judges a datagram that has come: is it the answer?
    fn received(&mut self, context: &mut Context<Source>, length: usize) -> Result<(), ClientError> {
        let answer = &self.buffer[..length];
        log::debug!("received {}", Escaped(answer));
        self.heard = true;
        let Some(Question { message, sent: Some(_) }) = &self.question else {
            log::warn!("{} sent a datagram of {length} bytes unasked: {}", self.peer, Escaped(answer));
            return Ok(());
        };
        if self.verify && answer != message && self.answered.as_deref() == Some(answer) {
            // A network may duplicate datagrams. The duplicate is no wrong answer to the next message.
            log::warn!("{} sent the last answer once more: {}", self.peer, Escaped(answer));
            return Ok(());
        }
        self.output.received(answer)?;
        self.output.end_line()?;
        if self.verify {
            compare(message, answer)?;
        }
        self.answered = self.question.take().map(|question| question.message);
        context.clear_deadline(self.socket);
        Ok(())
    }

    /// Handles a datagram that could not be delivered. If the peer never answered, another address of the name may be
    /// the right one.
    fn undeliverable(&mut self, context: &mut Context<Source>, error: io::Error) -> Result<(), ClientError> {
        if self.heard || self.addresses.is_empty() {
            return Err(ClientError::Undeliverable { peer: self.peer, source: error });
        }
        log::debug!("{}: {}; trying the next address", self.peer, describe(&error));
        context.remove(self.socket);
        (self.peer, self.socket) = connect_to_next(context, &mut self.addresses, self.source)?;
        if let Some(question) = &mut self.question {
            question.sent = None;
        }
        Ok(())
    }
}

impl Handler for DatagramConversation {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        if let Some(Source::Input(input)) = context.get_mut(token) {
            log::trace!("standard input: {readiness:?}");
            input.note_ready();
        }
        self.advance(context);
    }

    fn resume(&mut self, context: &mut Context<Source>, _: Token) {
        self.advance(context);
    }

    fn deadline(&mut self, context: &mut Context<Source>, _: Token) {
        // An answer may have come in the very turn in which its time was up.
        self.advance(context);
        let sent = self.question.as_ref().and_then(|question| question.sent);
        if let (Some(timeout), Some(sent), None) = (self.timeout, sent, &self.result)
            && sent + timeout <= context.now()
        {
            self.result = Some(Err(ClientError::Unanswered { peer: self.peer, after: timeout }));
        }
    }
}

/// Opens a socket to the first of the addresses for which the system grants one.
fn connect_to_next(
    context: &mut Context<Source>,
    addresses: &mut VecDeque<SocketAddr>,
    source: Option<IpAddr>,
) -> Result<(SocketAddr, Token), ClientError> {
    loop {
        let Some(peer) = addresses.pop_front() else {
            return Err(ClientError::Loop(io::Error::other("the name has no address")));
        };
        let token = ConnectedDatagramSocket::connect(peer, source).and_then(|socket| {
            let local = socket.local_address()?;
            let family = if peer.is_ipv4() { "AF_INET" } else { "AF_INET6" };
            log::debug!("family {family}, type SOCK_DGRAM, protocol IPPROTO_UDP, local {local}, peer {peer}");
            let interest = Interest::READABLE | Interest::WRITABLE;
            context.insert(Source::Datagrams(socket), interest, Stage::Connections)
        });
        match token {
            Ok(token) => return Ok((peer, token)),
            Err(source) if addresses.is_empty() => return Err(ClientError::Undeliverable { peer, source }),
            Err(error) => log::debug!("{peer}: {}; trying the next address", describe(&error)),
        }
    }
}

/// Names the first difference.
fn compare(sent: &[u8], answer: &[u8]) -> Result<(), ClientError> {
    if sent == answer {
        return Ok(());
    }
    let offset = sent.iter().zip(answer).take_while(|(a, b)| a == b).count();
    Err(ClientError::differs(offset as u64, answer.get(offset), sent.get(offset)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::super::options::ANSWER_TIMEOUT;
    use super::*;

    #[test]
    fn where_nobody_listens_the_next_address_is_tried() {
        let [dead, alive] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback"));
        let addresses = [&dead, &alive].map(|socket| socket.local_addr().expect("it is bound"));
        drop(dead);
        alive.set_read_timeout(Some(Duration::from_secs(60))).expect("a positive time");
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (length, from) = alive.recv_from(&mut []).expect("an empty datagram comes");
                alive.send_to(&[0; 0][..length], from).expect("it can be sent");
            }
        });
        // Empty messages, so that nothing is printed in the midst of the tests.
        let (messages, timeout) = (vec![Vec::new(); 2], Some(ANSWER_TIMEOUT));
        let options = SendOptions { messages, verify: true, timeout, ..SendOptions::default() };
        DatagramConversation::run(addresses.into(), &options).expect("the second address answers");
        server.join().expect("no panic");
        let error = DatagramConversation::run([addresses[0]].into(), &options).expect_err("nobody is there");
        assert_eq!(error.exit_code(), 4, "{error}");
    }

    #[test]
    fn an_answer_is_compared_to_its_end() {
        let differs = |sent: &[u8], answer: &[u8]| match compare(sent, answer) {
            Ok(()) => None,
            Err(ClientError::Differs { offset, got, expected }) => Some((offset, got.0, expected.0)),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(differs(b"spam", b"spam"), None);
        assert_eq!(differs(b"", b""), None);
        assert_eq!(differs(b"spam", b"spim"), Some((2, Some(b'i'), Some(b'a'))));
        assert_eq!(differs(b"spam", b"spa"), Some((3, None, Some(b'm'))));
        assert_eq!(differs(b"spam", b"spam!"), Some((4, Some(b'!'), None)));
    }
}
