//! `echoloop send`: a [`Handler`] with one connection.
//!
//! First the addresses race; the winner is *the* socket. From then on every event calls
//! [`StreamConversation::advance`]. It does three things in turn until none of them leads on: it shows the bytes that have
//! arrived on the socket, asks the dialogue for the next step, and takes that step. Nothing in it waits but the writes to
//! standard output.

use std::io::{self, Read};
use std::time::Duration;

use super::addresses::announcement;
use super::dialogue::{Dialogue, Step};
use super::input::Taken;
use super::options::SendOptions;
use super::outcome::ClientError;
use super::output::Output;
use super::racing::race;
use super::source::{STEPS_PER_TURN, Source, insert_input, socket, take_input};
use crate::net::Endpoint;
use crate::net::proxy::ProxyVersion;
use crate::net::{Answer, End, Limits, Next, Service, Socket, Target, Workspace};
use crate::reactor::{Context, Handler, Moment, Reactor, Readiness, Token};
use crate::system::Escaped;

/// Socket reads in one turn: enough to make the poll cheap in comparison.
const TURN_BUDGET: usize = 256 * 1024;

/// One call of [`send`](super::send) over a stream.
pub(super) struct StreamConversation {
    timeout: Option<Duration>,
    peer: String,
    socket: Token,
    input: Option<Token>,
    workspace: Workspace,
    talk: Talk,
    silence: Silence,
    result: Option<Result<(), ClientError>>,
}

/// The dialogue and its output. To the connection it is the service that takes input.
struct Talk {
    dialogue: Box<dyn Dialogue>,
    output: Output,
    /// A failure to show bytes of the server: a [`Service`] has no way to return it.
    failure: Option<ClientError>,
}

/// How long the server has been silent although it had its turn.
struct Silence {
    since: Moment,
    /// Bytes in and out at that time.
    moved: u64,
}

impl StreamConversation {
    /// Connects to one of the targets and talks until the dialogue is over.
    pub(super) fn run(
        endpoint: &Endpoint,
        targets: Vec<Target>,
        options: &SendOptions,
        dialogue: Box<dyn Dialogue>,
    ) -> Result<(), ClientError> {
        let mut reactor = Reactor::new()?;
        let (socket, target) =
            race(&mut reactor, endpoint, targets, options.source, options.connect_timeout)?;
        let output = Output::standard(options.hex, options.raw)?;
        let limits = Limits {
            read_size: options.chunk,
            // The dialogues send only when little is unsent. And they must always read: if both sides stopped reading
            // until the other one reads, neither ever would.
            write_limit: usize::MAX,
            turn_budget: TURN_BUDGET,
        };
        let mut conversation = StreamConversation {
            timeout: options.timeout,
            peer: target.to_string(),
            socket,
            input: if options.messages.is_empty() { Some(insert_input(reactor.context())?) } else { None },
            workspace: Workspace::new(limits),
            talk: Talk { dialogue, output, failure: None },
            silence: Silence { since: Moment::now(), moved: 0 },
            result: None,
        };
        match conversation.begin(reactor.context(), options.proxy_protocol) {
            Ok(()) => conversation.advance(reactor.context()),
            Err(error) => conversation.end(Err(error)),
        }
        while conversation.result.is_none() {
            reactor.turn(&mut conversation)?;
        }
        let result = conversation.result.unwrap_or(Ok(()));
        if result.is_err() {
            // Print the reason on a line of its own, below a partial reply. A failure to end that partial line matters
            // less.
            let _ = conversation.talk.output.end_line();
        }
        result
    }

    /// Speaks first: sends the header of the PROXY protocol, if the options ask for one, and the first message. The
    /// first read comes later. The server's first bytes may have come with the connection, and timing must not decide
    /// whether they count as an answer to the first message.
    fn begin(
        &mut self,
        context: &mut Context<Source>,
        announced: Option<ProxyVersion>,
    ) -> Result<(), ClientError> {
        if let (Some(version), Some(connection)) = (announced, socket(context, self.socket)) {
            let header = announcement(version, connection.transport());
            self.send(context, &header)?;
        }
        self.take_step(context, 0).map(drop)
    }

    /// Takes steps until the next step needs an event.
    fn advance(&mut self, context: &mut Context<Source>) {
        for _ in 0..STEPS_PER_TURN {
            if self.result.is_some() {
                return;
            }
            match self.go_on(context) {
                Ok(true) => {}
                Ok(false) => return self.arm(context),
                Err(error) => return self.end(Err(error)),
            }
        }
        // There is more to do, but the loop must also fetch the socket's events now and then.
        self.arm(context);
        context.run_again(self.socket);
    }

    /// Shows the bytes that have arrived, then takes one step. False: the step led nowhere, and the next one needs an
    /// event.
    fn go_on(&mut self, context: &mut Context<Source>) -> Result<bool, ClientError> {
        let now = context.now();
        let Some(connection) = socket(context, self.socket) else { return Ok(false) };
        let next = connection.pump(&mut self.talk, &mut self.workspace, now);
        let unsent = connection.unsent();
        if let Some(failure) = self.talk.failure.take() {
            return Err(failure);
        }
        match next {
            Next::Close(end) => {
                self.closed(context, end)?;
                Ok(true)
            }
            Next::Again => Ok(true),
            Next::Wait => self.take_step(context, unsent),
        }
    }

    fn take_step(&mut self, context: &mut Context<Source>, unsent: usize) -> Result<bool, ClientError> {
        match self.talk.dialogue.step(unsent, &mut self.talk.output)? {
            Step::Send(bytes) => self.send(context, &bytes)?,
            Step::HalfClose => {
                log::debug!("{}: nothing more to send", self.peer);
                if let Some(connection) = socket(context, self.socket) {
                    connection.half_close(&mut self.workspace);
                }
            }
            Step::ReadInput => return self.read_input(context),
            Step::Wait => return Ok(false),
            Step::Done => {
                log::debug!("{}: closing the connection", self.peer);
                self.end(Ok(()));
            }
        }
        Ok(true)
    }

    fn send(&mut self, context: &mut Context<Source>, bytes: &[u8]) -> Result<(), ClientError> {
        log::debug!("{}: sending {}", self.peer, Escaped(bytes));
        self.talk.output.sent(bytes)?;
        let now = context.now();
        let Some(connection) = socket(context, self.socket) else { return Ok(()) };
        match connection.send(bytes, &mut self.workspace, now) {
            Ok(()) => Ok(()),
            Err(error) => self.closed(context, error.into()),
        }
    }

    /// Reads standard input once. False if nothing is there now.
    fn read_input(&mut self, context: &mut Context<Source>) -> Result<bool, ClientError> {
        let Some(input) = self.input else { return Ok(false) };
        let Talk { dialogue, output, .. } = &mut self.talk;
        match take_input(context, input)? {
            Taken::Nothing => return Ok(false),
            Taken::End => dialogue.input_ended(),
            Taken::Bytes(bytes) => {
                let bytes = dialogue.input(bytes, output);
                if !bytes.is_empty() {
                    self.send(context, &bytes)?;
                }
            }
        }
        Ok(true)
    }

    /// Judges the end of the connection, orderly or by a reset: is anything missing?
    fn closed(&mut self, context: &mut Context<Source>, end: End) -> Result<(), ClientError> {
        let reset = match end {
            End::Finished | End::Lingered => None,
            End::Reset(error) | End::NotConnected(error) | End::NoMemory(error) => Some(error),
        };
        let mut unsent = 0;
        if let Some(connection) = socket(context, self.socket) {
            unsent = connection.unsent();
            if reset.is_some() {
                rescue(connection.transport(), &mut self.talk)?;
            }
        }
        let input_left = unsent > 0
            || match self.input.and_then(|input| context.get_mut(input)) {
                // A reset may have destroyed the last bytes that we sent, and nothing reports such a loss.
                Some(Source::Input(input)) => !input.has_ended() && (reset.is_some() || input.has_more()),
                _ => false,
            };
        let missing = self.talk.dialogue.missing(input_left);
        let peer = self.peer.clone();
        match (reset, missing) {
            (None, None) => {
                let Talk { dialogue, output, .. } = &mut self.talk;
                dialogue.closed(output)?;
                log::debug!("{peer} closed the connection");
                self.end(Ok(()));
                Ok(())
            }
            (None, Some(missing)) => Err(ClientError::Closed { peer, missing }),
            (Some(source), missing) => {
                let missing = missing.unwrap_or_else(|| "the server's end of the reply did not come".into());
                Err(ClientError::Reset { peer, source, missing })
            }
        }
    }

    /// Sets the deadline by which the server has to move, if it is its turn.
    fn arm(&mut self, context: &mut Context<Source>) {
        let Some(timeout) = self.timeout else { return };
        let Some(connection) = socket(context, self.socket) else { return };
        let moved = connection.received() + connection.sent();
        if moved != self.silence.moved || !self.talk.dialogue.awaits_server() {
            // The clock and not the turn's time: the turn may have waited for standard output, and that is no silence
            // of the server.
            self.silence = Silence { since: Moment::now(), moved };
        }
        // A nearer deadline stays: when it is due, this sets the next one.
        context.set_deadline_no_later_than(self.socket, self.silence.since + timeout);
    }

    fn end(&mut self, result: Result<(), ClientError>) {
        self.result.get_or_insert(result);
    }
}

impl Handler for StreamConversation {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        match context.get_mut(token) {
            Some(Source::Socket(connection)) => {
                log::trace!("{}: {readiness:?}", self.peer);
                connection.note(readiness);
                self.advance(context);
            }
            Some(Source::Input(input)) => {
                log::trace!("standard input: {readiness:?}");
                input.note_ready();
                self.advance(context);
            }
            Some(Source::Datagrams(_)) | None => {}
        }
    }

    fn resume(&mut self, context: &mut Context<Source>, _: Token) {
        self.advance(context);
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(timeout) = self.timeout else { return };
        // The reply may have arrived while this process was stopped, and its event may be still to come.
        if let Some(connection) = socket(context, token) {
            connection.note(Readiness::READABLE | Readiness::WRITABLE | Readiness::PRIORITY);
        }
        self.advance(context);
        if self.result.is_none()
            && self.talk.dialogue.awaits_server()
            && self.silence.since + timeout <= context.now()
        {
            let unsent = socket(context, self.socket).is_some_and(|connection| connection.unsent() > 0);
            let missing = self.talk.dialogue.missing(unsent);
            self.end(Err(ClientError::Timeout {
                peer: self.peer.clone(),
                after: timeout,
                missing: missing.unwrap_or_else(|| "it did not end the connection".into()),
            }));
        }
    }
}

impl Service for Talk {
    fn chunk(&self) -> usize {
        usize::MAX
    }

    fn answer<'a>(&'a mut self, bytes: &'a [u8], _: &mut Vec<u8>) -> Answer<'a> {
        if self.failure.is_none() {
            log::debug!("received {}", Escaped(bytes));
            self.failure = self.dialogue.received(bytes, &mut self.output).err();
        }
        Answer::default()
    }
}

/// A server that refuses a message often says why and closes at once, with our bytes unread: then our write fails before
/// we read its answer. The answer still waits in the socket, and the user has to see it.
fn rescue(transport: &Socket, talk: &mut Talk) -> Result<(), ClientError> {
    let mut buffer = [0; 4096];
    // The failed write has consumed the socket's error, so the reads below get the waiting bytes and then the end.
    loop {
        let read = match transport {
            Socket::Tcp(stream) => (&*stream).read(&mut buffer),
            Socket::Unix(stream) => (&*stream).read(&mut buffer),
        };
        match read {
            Ok(count) if count > 0 => talk.dialogue.received(&buffer[..count], &mut talk.output)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return Ok(()),
        }
    }
}
