//! A client that looks as if it blocked: each call turns the loop until it has its result, or its time is up.

use std::time::Duration;

use super::outcome::ClientError;
use super::racing::{candidates, race};
use super::source::{Source, socket};
use crate::net::Endpoint;
use crate::net::{Answer, Connection, End, Limits, Next, Phase, Service, Socket, Target, Workspace};
use crate::reactor::{Context, Handler, Moment, Reactor, Readiness, Token};

/// The longest line that the client accepts: a peer that never ends a line must not fill the memory.
const LONGEST_LINE: usize = 64 * 1024;
/// One read; also the most that a turn reads ahead.
const READ_SIZE: usize = 64 * 1024;
/// The most unasked bytes that the client keeps while it sends: a peer that sends without end and reads nothing must
/// not fill the memory either.
const MOST_READ_AHEAD: usize = 16 * 1024 * 1024;
/// The most reads when the time of a call is up. Together they take more than the kernel keeps for a connection.
/// Without a bound, a peer that sends without end would keep the call busy.
const READS_AT_A_DEADLINE: usize = MOST_READ_AHEAD / READ_SIZE;

/// A connection to a server that speaks in lines: HTTP, SMTP, POP3, Redis and many more.
///
/// Each call has the time that [`LineClient::connect`] was given: it succeeds within that time, or fails with
/// [`ClientError::Timeout`]. After a failure the connection is of no further use.
///
/// ```
/// use std::time::Duration;
///
/// use echoloop::client::{ClientError, LineClient};
/// # use std::io::{BufRead, BufReader, Write};
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// # let server = std::thread::spawn(move || -> std::io::Result<()> {
/// #     let (mut stream, _) = listener.accept()?;
/// #     stream.write_all(b"+OK POP3 ready\r\n")?;
/// #     let mut line = String::new();
/// #     BufReader::new(&stream).read_line(&mut line)?;
/// #     assert_eq!(line, "QUIT\r\n");
/// #     stream.write_all(b"+OK bye\r\n")
/// # });
///
/// let mut client = LineClient::connect(&address.to_string().parse()?, Some(Duration::from_secs(5)))?;
/// assert_eq!(client.read_line()?, b"+OK POP3 ready");
/// client.write_line("QUIT")?;
/// assert_eq!(client.read_line()?, b"+OK bye");
/// assert!(matches!(client.read_line(), Err(ClientError::EndOfInput { .. })));
/// # server.join().expect("the server is fine")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LineClient {
    reactor: Reactor<Source>,
    link: Link,
    token: Token,
    peer: String,
    timeout: Option<Duration>,
}

/// The loop's handler.
struct Link {
    workspace: Workspace,
    inbox: Inbox,
    ended: Option<End>,
    timed_out: bool,
}

/// Bytes that came before a call asked for them.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl LineClient {
    /// Connects to an endpoint, trying its addresses as RFC 8305 says. `timeout` is the time that this and each later
    /// call may take; resolving the name comes on top, since `getaddrinfo(3)` knows no timeout.
    ///
    /// # Errors
    /// When the name does not resolve, or no address can be connected to in time.
    pub fn connect(endpoint: &Endpoint, timeout: Option<Duration>) -> Result<LineClient, ClientError> {
        LineClient::connect_to(endpoint, candidates(endpoint, None)?, timeout)
    }

    /// Connects to the first of these addresses that answers; errors name the endpoint for all of them.
    ///
    /// # Errors
    /// When none can be connected to in time.
    pub fn connect_to(
        endpoint: &Endpoint,
        targets: Vec<Target>,
        timeout: Option<Duration>,
    ) -> Result<LineClient, ClientError> {
        let mut reactor = Reactor::new()?;
        let (token, target) = race(&mut reactor, endpoint, targets, None, timeout)?;
        // The connection's first event may have told more than "established": look at the socket once more.
        reactor.context().run_again(token);
        let limits = Limits { read_size: READ_SIZE, write_limit: usize::MAX, turn_budget: READ_SIZE };
        let (workspace, inbox) = (Workspace::new(limits), Inbox::default());
        let link = Link { workspace, inbox, ended: None, timed_out: false };
        Ok(LineClient { reactor, link, token, peer: target.to_string(), timeout })
    }

    /// The server's address, as it was connected to.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Changes the time that each later call may take.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Sends bytes. Meanwhile it reads and keeps the server's bytes, so that two sides that write at once can't stop each
    /// other.
    ///
    /// # Errors
    /// When the connection is gone, or the server does not take them in time; [`ClientError::ReadAhead`] if the server sends
    /// more than 16 MiB meanwhile.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let now = Moment::now();
        if let Some(connection) = socket(self.reactor.context(), self.token)
            && let Err(error) = connection.send(bytes, &mut self.link.workspace, now)
        {
            self.link.ended.get_or_insert(error.into());
        }
        self.turn_until("not all was sent", MOST_READ_AHEAD, |client| {
            client.link.ended.is_none()
                && client.connection().is_some_and(|connection| connection.unsent() == 0)
        })
    }

    /// Sends a line, with CR LF at its end.
    ///
    /// # Errors
    /// As [`LineClient::write`].
    pub fn write_line(&mut self, line: impl AsRef<[u8]>) -> Result<(), ClientError> {
        self.write(&[line.as_ref(), b"\r\n"].concat())
    }

    /// Reads a line, up to a line feed or the end of input, and takes CR LF, CR or LF off its end.
    ///
    /// # Errors
    /// [`ClientError::EndOfInput`] when there are no more lines, [`ClientError::LineTooLong`] beyond 64 KiB; else when
    /// the connection is gone, or no line comes in time.
    pub fn read_line(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut searched = 0;
        let mut length = None;
        self.turn_until("no line came", usize::MAX, |client| {
            let bytes = client.link.inbox.rest();
            length = bytes[searched..].iter().position(|&byte| byte == b'\n').map(|at| searched + at + 1);
            searched = bytes.len();
            length.is_some() || bytes.len() > LONGEST_LINE || client.at_end()
        })?;
        let length = match length {
            Some(length) if length <= LONGEST_LINE => length,
            None if self.at_end() && searched <= LONGEST_LINE => searched,
            _ => return Err(ClientError::LineTooLong { peer: self.peer.clone(), limit: LONGEST_LINE }),
        };
        if length == 0 {
            return Err(ClientError::EndOfInput { peer: self.peer.clone() });
        }
        let mut line = self.link.inbox.take(length);
        let terminator = match line.as_slice() {
            [.., b'\r', b'\n'] => 2,
            [.., b'\r' | b'\n'] => 1,
            _ => 0,
        };
        line.truncate(length - terminator);
        Ok(line)
    }

    /// Reads `count` bytes, fewer only at the end of input: none at all when there are no more. `usize::MAX` reads all
    /// that comes, so use it only with a server that is trusted to end.
    ///
    /// # Errors
    /// When the connection is gone, or the bytes do not come in time.
    pub fn read(&mut self, count: usize) -> Result<Vec<u8>, ClientError> {
        self.turn_until("not all that was asked for came", usize::MAX, |client| {
            client.link.inbox.rest().len() >= count || client.at_end()
        })?;
        let count = count.min(self.link.inbox.rest().len());
        Ok(self.link.inbox.take(count))
    }

    /// Ends our sending side: the server reads the end of input, and may go on to send.
    ///
    /// # Errors
    /// As [`LineClient::write`].
    pub fn half_close(&mut self) -> Result<(), ClientError> {
        let token = self.token;
        let context = self.reactor.context();
        if let Some(connection) = socket(context, token) {
            connection.half_close(&mut self.link.workspace);
            context.run_again(token);
        }
        self.turn_until("our side could not be ended", MOST_READ_AHEAD, |client| {
            client.at_end()
                || client.connection().is_some_and(|connection| connection.phase() == Phase::HalfClosed)
        })
    }

    /// Turns the loop until `done`, the end of the connection, or the end of the time; or until more than `most` unasked
    /// bytes have come.
    fn turn_until(
        &mut self,
        missing: &str,
        most: usize,
        mut done: impl FnMut(&mut LineClient) -> bool,
    ) -> Result<(), ClientError> {
        self.link.timed_out = false;
        let mut armed = false;
        while !done(self) {
            match self.link.ended.take() {
                Some(End::Reset(source) | End::NotConnected(source) | End::NoMemory(source)) => {
                    // The next call fails as this one does.
                    self.link.ended = Some(End::Reset(source.kind().into()));
                    let (peer, missing) = (self.peer.clone(), missing.to_owned());
                    return Err(ClientError::Reset { peer, source, missing });
                }
                Some(end) => {
                    self.link.ended = Some(end);
                    return Err(ClientError::Closed { peer: self.peer.clone(), missing: missing.to_owned() });
                }
                None => {}
            }
            if self.link.inbox.rest().len() > most {
                return Err(ClientError::ReadAhead { peer: self.peer.clone(), limit: most });
            }
            if let Some(after) = self.timeout {
                if self.link.timed_out {
                    let (peer, missing) = (self.peer.clone(), missing.to_owned());
                    return Err(ClientError::Timeout { peer, after, missing });
                }
                if !armed {
                    armed = true;
                    self.reactor.context().set_deadline(self.token, Moment::now() + after);
                }
            }
            self.reactor.turn(&mut self.link)?;
        }
        if armed {
            self.reactor.context().clear_deadline(self.token);
        }
        Ok(())
    }

    /// The server has ended in an orderly way: nothing more will come into the inbox.
    fn at_end(&self) -> bool {
        matches!(self.link.ended, Some(End::Finished | End::Lingered))
    }

    fn connection(&mut self) -> Option<&mut Connection<Socket>> {
        socket(self.reactor.context(), self.token)
    }
}

impl Link {
    /// Moves one share of the bytes. True: there is more to move.
    fn pump(&mut self, context: &mut Context<Source>, token: Token) -> bool {
        let now = context.now();
        let Some(connection) = socket(context, token) else { return false };
        match connection.pump(&mut self.inbox, &mut self.workspace, now) {
            Next::Wait => return false,
            Next::Again => context.run_again(token),
            Next::Close(end) => {
                self.ended = Some(end);
                return false;
            }
        }
        true
    }
}

impl Handler for Link {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        if let Some(connection) = socket(context, token) {
            connection.note(readiness);
            self.pump(context, token);
        }
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        self.pump(context, token);
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        // Bytes may have arrived while this process was stopped, and their event may be still to come.
        if let Some(connection) = socket(context, token) {
            connection.note(Readiness::READABLE | Readiness::WRITABLE | Readiness::PRIORITY);
        }
        for _ in 0..READS_AT_A_DEADLINE {
            if !self.pump(context, token) {
                break;
            }
        }
        self.timed_out = true;
    }
}

impl Inbox {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let bytes = self.rest()[..count].to_vec();
        self.taken += count;
        // Move bytes to the front only now and then: otherwise each of many short lines would move all bytes behind
        // it.
        if self.taken >= self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        bytes
    }
}

impl Service for Inbox {
    fn chunk(&self) -> usize {
        usize::MAX
    }

    fn answer<'a>(&'a mut self, bytes: &'a [u8], _: &mut Vec<u8>) -> Answer<'a> {
        self.bytes.extend_from_slice(bytes);
        Answer::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    /// Waits, without a poll of the loop, until this many bytes have arrived.
    fn await_input(socket: &Socket, bytes: u64) {
        let start = Instant::now();
        while rustix::io::ioctl_fionread(socket).expect("it is a socket") < bytes {
            assert!(start.elapsed() < Duration::from_secs(60), "they come over loopback");
            std::thread::yield_now();
        }
    }

    #[test]
    fn bytes_that_wait_in_the_kernel_when_the_time_is_over_came_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = listener.local_addr().expect("it is bound").to_string().parse().expect("an endpoint");
        let mut client = LineClient::connect(&endpoint, None).expect("it listens");
        let (mut server, _) = listener.accept().expect("it has connected");
        server.write_all(b"in time").expect("there is room");
        await_input(client.connection().expect("it is connected").transport(), 7);
        let (token, context) = (client.token, client.reactor.context());
        client.link.deadline(context, token);
        assert_eq!(client.link.inbox.rest(), b"in time");
    }
}
