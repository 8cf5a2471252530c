//! The client: `echoloop send` as a function, and a line client for programs.
//!
//! Both use the reactor, the connection and the buffers that the server uses. [`send`] is a conversation with standard
//! input and standard output at its other end: messages and their replies, a prompt, or a stream both ways.
//! [`LineClient`] looks as if it blocked, and turns the loop itself while its caller waits.
//!
//! | file | its one idea |
//! |---|---|
//! | `racing` | from a name to a connection: the addresses raced as RFC 8305 says |
//! | `stream` | a conversation over TCP or a Unix socket: one connection, its dialogue, standard input |
//! | `dialogue` | the question to each of the three ways of talking: "which step is next?" |
//! | `script`, `prompt`, `pipe` | the three ways: messages that were given, a person, standard input as a stream |
//! | `datagrams`, `datagram_messages` | a conversation over UDP: one message, one datagram, one answer |
//! | `reply` | where a reply ends, and whether it equals its message |
//! | `input`, `output`, `hex`, `plain` | the user's side: descriptor 0, descriptor 1, the dump, text on a terminal |
//! | `source`, `addresses` | the slots of the reactor; a socket's addresses in words |
//! | `line` | the line client |
//! | `options` | the settings of `send` |
//! | `outcome` | the failures, and the exit status for each |

mod addresses;
mod datagram_messages;
mod datagrams;
mod dialogue;
mod hex;
mod input;
mod line;
mod options;
mod outcome;
mod output;
mod pipe;
mod plain;
mod prompt;
mod racing;
mod reply;
mod script;
mod source;
mod stream;

use std::io::{ErrorKind, IsTerminal};

use self::datagrams::DatagramConversation;
use self::dialogue::Dialogue;
use self::pipe::Pipe;
use self::prompt::Prompt;
use self::racing::addresses;
use self::script::Script;
use self::stream::StreamConversation;
use crate::net::Endpoint;

pub use self::line::LineClient;
pub use self::options::{ANSWER_TIMEOUT, SendOptions};
pub use self::outcome::{Byte, ClientError, Failure, Family};
pub use self::racing::candidates;
pub use self::reply::Expect;

/// Connects, talks between the server and standard input and output as the options say, and returns when the
/// conversation is over.
///
/// Writes to standard output block. Meanwhile the client reads nothing from the server, so the server has to wait. A
/// closed standard output ends the conversation, and is no error.
///
/// Over `udp://` each message, or each line of standard input, is a datagram, and the client sends the next one when
/// an answer has come. The options for streams do nothing then: the end of a reply, the greeting, the half-close.
///
/// # Errors
/// When the conversation did not begin, or did not come to its end; [`ClientError::exit_code`] tells the reasons apart.
pub fn send(endpoint: &Endpoint, options: &SendOptions) -> Result<(), ClientError> {
    let family = options.source.map(Family::of).or(options.family);
    let result = match endpoint {
        Endpoint::Udp { host, port } => addresses(host, *port, family)
            .and_then(|addresses| DatagramConversation::run(addresses.into(), options)),
        _ => candidates(endpoint, family)
            .and_then(|targets| StreamConversation::run(endpoint, targets, options, dialogue(options))),
    };
    match result {
        Err(ClientError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            log::debug!("nobody reads standard output any more");
            Ok(())
        }
        result => result,
    }
}

fn dialogue(options: &SendOptions) -> Box<dyn Dialogue> {
    let SendOptions { verify, crlf, .. } = *options;
    if !options.messages.is_empty() {
        let expect = options.expect.unwrap_or(Expect::Same);
        let half_close = options.half_close.unwrap_or(verify || expect == Expect::Close);
        let messages = options.ended_messages().collect();
        return Box::new(Script::new(messages, expect, options.greeting, verify, half_close));
    }
    if std::io::stdin().is_terminal() {
        let expect = options.expect.unwrap_or(Expect::Any);
        return Box::new(Prompt::new(expect, verify, crlf, options.half_close.unwrap_or(false)));
    }
    Box::new(Pipe::new(verify, crlf, options.half_close.unwrap_or(true)))
}
