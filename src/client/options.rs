//! The settings of a conversation.

use std::net::IpAddr;
use std::time::Duration;

use super::outcome::Family;
use super::reply::Expect;
use crate::net::proxy::ProxyVersion;

/// The usual timeout of an answer over UDP, the same as for a query to a name server (`resolv.conf(5)`).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of [`send`](super::send).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// The messages, sent one after the other. Without any: a prompt if standard input is a terminal, else a stream.
    pub messages: Vec<Vec<u8>>,
    /// How a reply ends. By default after as many bytes as were sent, and at a prompt after one read.
    pub expect: Option<Expect>,
    /// Whether the server speaks first, so that the first message waits for its greeting.
    pub greeting: bool,
    /// Whether each reply must equal its message.
    pub verify: bool,
    /// The most bytes that one read of the socket asks for.
    pub chunk: usize,
    /// The only family of addresses to try.
    pub family: Option<Family>,
    /// The address to connect from. It decides on the family.
    pub source: Option<IpAddr>,
    /// How long connecting may take, over all addresses.
    pub connect_timeout: Option<Duration>,
    /// How long the server may be silent while it has its turn. Over UDP, how long an answer may take:
    /// [`ANSWER_TIMEOUT`] is a good choice, and with `None` the client waits for a lost datagram for ever.
    pub timeout: Option<Duration>,
    /// Whether we end our sending side when there is nothing more to send, and read on to the server's end. The default
    /// is yes for a stream, for [`Expect::Close`] and with `verify`.
    pub half_close: Option<bool>,
    /// Whether lines end with CR LF: each message gets one, a line feed from standard input becomes one.
    pub crlf: bool,
    /// Whether both directions are shown as a dump.
    pub hex: bool,
    /// Whether a terminal gets the bytes of replies as they are, instead of control characters as `\x1b`.
    pub raw: bool,
    /// The version of the PROXY protocol whose header announces this client first, as a proxy announces its client.
    pub proxy_protocol: Option<ProxyVersion>,
}

impl SendOptions {
    /// The messages, each with its line end if they have one.
    pub(super) fn ended_messages(&self) -> impl Iterator<Item = Vec<u8>> {
        let end: &[u8] = if self.crlf { b"\r\n" } else { b"" };
        self.messages.iter().map(move |message| [message, end].concat())
    }
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
