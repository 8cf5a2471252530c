//! The client: `echoloop send` as a function, and a line client for programs.
//!
//! Both use the reactor, the connection and the buffers that the server uses. [`send`] is a conversation with standard
//! input and standard output at its other end: messages and their replies, a prompt, or a stream both ways.
//! [`LineClient`] looks as if it blocked, and turns the loop itself while its caller waits.
//!
//! | file | what it is about |
//! |---|---|
//! | `racing` | from a name to a connection: the addresses raced as RFC 8305 says |
//! | `session` | the loop's handler of `send`: one connection, its dialogue, standard input |
//! | `dialogue` | what the three ways of talking have in common: "what to do next?" |
//! | `exchange`, `prompt`, `stream` | the three ways |
//! | `datagrams`, `datagram_messages` | the handler of `send udp://…`: one message, one datagram, one answer |
//! | `reply` | where a reply ends, and whether it is what was sent |
//! | `input`, `output`, `hex`, `plain` | the user's side: descriptor 0, descriptor 1, the dump, text on a terminal |
//! | `line` | the line client |
//! | `outcome` | how it can fail, and the exit status for each |

mod datagram_messages;
mod datagrams;
mod dialogue;
mod exchange;
mod hex;
mod input;
mod line;
mod outcome;
mod output;
mod plain;
mod prompt;
mod racing;
mod reply;
mod session;
mod stream;

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use self::datagram_messages::Messages;
use self::datagrams::Conversation;
use self::dialogue::Dialogue;
use self::exchange::Exchange;
use self::input::Input;
use self::prompt::Prompt;
use self::session::Session;
use self::stream::Stream;
use crate::net::Endpoint;
use crate::net::proxy::{self, ProxyVersion};
use crate::net::{ConnectedDatagramSocket, Connection, Socket, Target};
use crate::reactor::{Context, Token};

pub use self::datagrams::ANSWER_TIMEOUT;
pub use self::line::LineClient;
pub use self::outcome::{Byte, ClientError, Failure, Family};
pub use self::racing::candidates;
pub use self::reply::Expect;

/// What [`send`] can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// What to send, one after the other. Without any: a prompt if standard input is a terminal, else a stream.
    pub messages: Vec<Vec<u8>>,
    /// How a reply ends. By default after as many bytes as were sent, and at a prompt after one read.
    pub expect: Option<Expect>,
    /// Whether the server speaks first, so that the first message waits for what it says.
    pub greeting: bool,
    /// Whether the reply has to be what was sent.
    pub verify: bool,
    /// The most bytes that one read of the socket asks for.
    pub chunk: usize,
    /// The only family of addresses to try.
    pub family: Option<Family>,
    /// The address to connect from.
    pub source: Option<IpAddr>,
    /// How long connecting may take, over all addresses.
    pub connect_timeout: Option<Duration>,
    /// How long the server may be silent while it is its turn. Over UDP, how long an answer may take:
    /// [`ANSWER_TIMEOUT`] is a good choice, and without any a lost datagram is waited for without end.
    pub timeout: Option<Duration>,
    /// Whether our sending side ends when there is nothing more to send, and the server's is read to its end. By
    /// default so for a stream, for [`Expect::Close`] and to verify.
    pub half_close: Option<bool>,
    /// Whether lines end with CR LF: each message gets one, a line feed from standard input becomes one.
    pub crlf: bool,
    /// Whether both directions are shown as a dump.
    pub hex: bool,
    /// Whether a terminal gets the bytes of replies as they are. Otherwise it is shown control characters as `\x1b`.
    pub raw: bool,
    /// Announce ourselves by a header of the PROXY protocol, as a proxy would announce its client.
    pub proxy_protocol: Option<ProxyVersion>,
}

impl Default for SendOptions {
    fn default() -> SendOptions {
        SendOptions {
            messages: Vec::new(),
            expect: None,
            greeting: false,
            verify: false,
            chunk: 64 * 1024,
            family: None,
            source: None,
            connect_timeout: Some(Duration::from_secs(10)),
            timeout: None,
            half_close: None,
            crlf: false,
            hex: false,
            raw: false,
            proxy_protocol: None,
        }
    }
}

/// Connects, talks as the options say with standard input and standard output at this end, and returns when the
/// conversation is over.
///
/// Writes to standard output block, and while they do nothing is read from the server: that is how it learns to wait.
/// A standard output that nobody reads any more ends the conversation, which is no error.
///
/// To a `udp://` endpoint each message, or each line of standard input, is a datagram, and the next one is sent when an
/// answer has come. What is about streams does nothing then: how a reply ends, who speaks first, the half-close.
///
/// # Errors
/// When the conversation could not be had, or not to its end; [`ClientError::exit_code`] says which of the two, and
/// more.
pub fn send(endpoint: &Endpoint, options: &SendOptions) -> Result<(), ClientError> {
    let result = match endpoint {
        Endpoint::Udp { host, port } => {
            Conversation::run(endpoint, (host, *port), options, datagrams(options))
        }
        _ => send_stream(endpoint, options),
    };
    match result {
        Err(ClientError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            log::debug!("nobody reads standard output any more");
            Ok(())
        }
        result => result,
    }
}

fn send_stream(endpoint: &Endpoint, options: &SendOptions) -> Result<(), ClientError> {
    let mut targets = candidates(endpoint, options.family)?;
    if let Some(source) = options.source {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        targets
            .retain(|target| matches!(target, Target::Tcp(address) if address.is_ipv4() == source.is_ipv4()));
        if targets.is_empty() {
            return Err(ClientError::NoAddress { host: endpoint.to_string(), family });
        }
    }
    Session::run(endpoint, targets, options, dialogue(options))
}

fn dialogue(options: &SendOptions) -> Box<dyn Dialogue> {
    let SendOptions { verify, crlf, .. } = *options;
    if !options.messages.is_empty() {
        let expect = options.expect.unwrap_or(Expect::Same);
        let half_close = options.half_close.unwrap_or(verify || expect == Expect::Close);
        let messages = messages(options).collect();
        return Box::new(Exchange::new(messages, expect, options.greeting, verify, half_close));
    }
    if std::io::stdin().is_terminal() {
        let expect = options.expect.unwrap_or(Expect::Any);
        return Box::new(Prompt::new(expect, verify, crlf, options.half_close.unwrap_or(false)));
    }
    Box::new(Stream::new(verify, crlf, options.half_close.unwrap_or(true)))
}

fn datagrams(options: &SendOptions) -> Messages {
    if options.messages.is_empty() {
        Messages::typed(std::io::stdin().is_terminal(), options.crlf)
    } else {
        Messages::given(messages(options))
    }
}

/// The messages that were given, each with its line end if they have one.
fn messages(options: &SendOptions) -> impl Iterator<Item = Vec<u8>> {
    let end: &[u8] = if options.crlf { b"\r\n" } else { b"" };
    options.messages.iter().map(move |message| [message, end].concat())
}

/// What a client keeps in a slot of the reactor.
enum Source {
    Socket(Connection<Socket>),
    Datagrams(ConnectedDatagramSocket),
    Input(Input),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Socket(connection) => connection.transport().as_fd(),
            Source::Datagrams(socket) => socket.as_fd(),
            Source::Input(input) => input.as_fd(),
        }
    }
}

/// The connection that a token names.
fn socket(context: &mut Context<Source>, token: Token) -> Option<&mut Connection<Socket>> {
    match context.get_mut(token) {
        Some(Source::Socket(connection)) => Some(connection),
        _ => None,
    }
}

/// The header by which a socket announces its own two addresses; of those of a Unix socket there is nothing to say.
fn announcement(version: ProxyVersion, socket: &Socket) -> Vec<u8> {
    let ends = match socket {
        Socket::Tcp(stream) => stream.local_addr().ok().zip(stream.peer_addr().ok()),
        Socket::Unix(_) => None,
    };
    proxy::header(version, ends)
}

/// Family, type and protocol of a socket and its two addresses, in the names of `socket(2)`.
fn describe_socket(socket: &Socket) -> String {
    let mut text = String::new();
    let stream = match socket {
        Socket::Tcp(stream) => stream,
        Socket::Unix(_) => return "family AF_UNIX, type SOCK_STREAM, protocol 0".into(),
    };
    let (local, peer) = (stream.local_addr(), stream.peer_addr());
    let family = match &peer {
        Ok(SocketAddr::V6(_)) => "AF_INET6",
        _ => "AF_INET",
    };
    // Writing to a string can't fail.
    let _ = write!(text, "family {family}, type SOCK_STREAM, protocol IPPROTO_TCP");
    for (name, address) in [("local", local), ("peer", peer)] {
        let _ = match address {
            Ok(address) => write!(text, ", {name} {address}"),
            Err(error) => write!(text, ", {name} unknown ({error})"),
        };
    }
    text
}
