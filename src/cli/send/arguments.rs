//! The options of `echoloop send`.

use std::net::IpAddr;

use clap::Args;
use echoloop::client::{ANSWER_TIMEOUT, ClientError, Expect, Family, SendOptions};
use echoloop::net::LONGEST_PAYLOAD;
use echoloop::{DEFAULT_PORT, Endpoint, Host, ProxyVersion, Text};
use log::LevelFilter;

use crate::cli::values::{Size, Timeout, target};
use crate::cli::verbosity::Verbosity;

pub(crate) const EXAMPLES: &str = "\
Three ways to talk:
  send ENDPOINT TEXT…   it sends a message, waits for the reply and
                        prints it, then the next
  send ENDPOINT         on a terminal: a prompt; an empty line or end of
                        input ends it. For a history of lines say
                        `rlwrap echoloop send ENDPOINT`
  send ENDPOINT < FILE  a stream both ways at once; the end of input
                        ends our side, and the server's close ends it
                        all

ENDPOINT is HOST, HOST:PORT, PORT, [V6ADDRESS]:PORT, unix:PATH or udp://HOST:PORT. The default port is 10000.

TEXT may hold \\n, \\r, \\t, \\0, \\\\ and \\xHH. It goes out as it is: a newline is sent only if TEXT has one, or with
--crlf. An empty TEXT sends nothing and only waits for a reply (of a line, or one read).

Standard output gets the bytes of the replies and nothing else. On a terminal each reply ends its line, and control
characters appear as \\x1b, so that the server can't drive the terminal; --raw prints them as they are.
If bytes beyond a reply have come when the next message leaves, a warning on standard error shows them; they do not
count for the next reply. While standard output takes nothing, `send` reads nothing more from the server. A closed
standard output ends the conversation quietly.

Over UDP each TEXT (also an empty one), or each line of standard input with its line feed, is a datagram of at most
65507 bytes. The next one leaves when the answer has come. A datagram that has no answer within --timeout ends the
conversation; it is never sent again. With --verify, an answer that comes twice is a warning. The next address of the
name is tried if the machine says that nobody listens on the port, or can't be reached, and never answered before.

Examples:
  echoloop send localhost 'This is the message.'
      the message comes back
  echoloop send --expect any :50007 Hello network world
      three messages, each answered by one read
  echoloop send --crlf --expect line localhost:6379 PING
      ask a Redis server: +PONG
  echoloop send --crlf --expect line --greeting :110 'USER me' QUIT
      a POP3 server, which speaks first
  echoloop send --expect close localhost:80 'GET / HTTP/1.0\\r\\n\\r\\n'
      everything until the server closes
  echoloop send localhost < file | cmp - file
      a file through an echo server and back
  echoloop send localhost --verify < file > /dev/null
      the same, compared here
  echoloop send --timeout 2s --hex localhost hi
      both directions with times and offsets
  echoloop send --proxy-protocol v2 10.0.0.7:7777 hi
      as a balancer would, to a server that stands behind one
  echoloop send --verify udp://localhost hello
      a datagram, and its echo within 5 seconds

Exit status:
  0  fine
  1  another failure, such as an unreachable network or an unreadable
     standard input
  2  wrong usage
  3  the name was not resolved
  4  the connection was refused
  5  timed out, connecting or waiting for the server
  6  closed or reset before the reply was complete or the input sent;
     with --verify also if more came than the reply
  7  the reply differs from the message (--verify)";

#[derive(Args, Clone, Debug)]
pub(crate) struct SendArguments {
    /// Connect to this endpoint [default: localhost:10000]
    #[arg(value_name = "ENDPOINT", value_parser = target)]
    endpoint: Option<Endpoint>,

    /// Send these messages, one after the other
    #[arg(value_name = "TEXT")]
    messages: Vec<Text>,

    /// End a reply here [default: same; at a prompt: any]
    #[arg(short, long, value_name = "HOW", help_heading = "Replies")]
    expect: Option<Expect>,

    /// Let the server speak first: wait for a line (with --expect line) or one read before the first message
    #[arg(long, help_heading = "Replies")]
    greeting: bool,

    /// Check that the reply equals the message, and name the first offset where it does not
    #[arg(long, help_heading = "Replies")]
    verify: bool,

    /// Read at most this much at a time
    #[arg(long, value_name = "SIZE", default_value_t = Size(usual().chunk), help_heading = "Replies")]
    chunk: Size,

    /// End lines with CR LF: each TEXT gets one, and a line feed from standard input becomes one
    #[arg(long, help_heading = "Messages")]
    crlf: bool,

    /// End our side when nothing more is to be sent, and read on until the server closes [default for a stream,
    /// --expect close and --verify]
    #[arg(short = 'N', long, overrides_with = "no_half_close", help_heading = "Messages")]
    half_close: bool,

    /// Keep our side open, for a server that ends the connection when we end our side
    #[arg(long, overrides_with = "half_close", help_heading = "Messages")]
    no_half_close: bool,

    /// Give up if no connection is established in this time (`none`: no limit). Resolving the name takes its own time:
    /// nothing can interrupt it
    #[arg(long, value_name = "DURATION", default_value_t = Timeout(usual().connect_timeout),
          help_heading = "Connection")]
    connect_timeout: Timeout,

    #[arg(short, long, value_name = "DURATION", help = timeout_help(), help_heading = "Connection")]
    timeout: Option<Timeout>,

    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = "Connection")]
    ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long, help_heading = "Connection")]
    ipv6: bool,

    /// Connect from this address
    #[arg(long, value_name = "ADDRESS", help_heading = "Connection")]
    source: Option<IpAddr>,

    /// Begin with a header of the PROXY protocol that announces this client, as a balancer does
    #[arg(long, value_name = "VERSION", help_heading = "Connection")]
    proxy_protocol: Option<ProxyVersion>,

    /// Print a dump of both directions, with times and offsets, instead of the replies
    #[arg(long, help_heading = "Output")]
    hex: bool,

    /// Print replies on a terminal byte for byte, instead of control characters as \x1b
    #[arg(long, help_heading = "Output")]
    raw: bool,

    #[command(flatten)]
    verbosity: Verbosity,
}

/// The library's defaults.
fn usual() -> SendOptions {
    SendOptions::default()
}

fn timeout_help() -> String {
    let (usual, udp) = (Timeout(usual().timeout), Timeout(Some(ANSWER_TIMEOUT)));
    format!(
        "Give up when it is the server's turn and it moves no byte for this time (`none`: no limit) [default: {usual}; udp:// {udp}]"
    )
}

impl SendArguments {
    /// Checks the arguments against each other; clap has checked each of them alone.
    pub(crate) fn check(&self) -> Result<(), String> {
        let about_addresses = self.ipv4 || self.ipv6 || self.source.is_some();
        match self.endpoint() {
            Endpoint::Unix(_) if about_addresses => {
                Err("--ipv4, --ipv6 and --source are about IP addresses, and a Unix socket has none".into())
            }
            _ if self
                .source
                .is_some_and(|source| source.is_ipv4() && self.ipv6 || source.is_ipv6() && self.ipv4) =>
            {
                Err("--source is an address of the other family: leave out --ipv4 or --ipv6".into())
            }
            Endpoint::Udp { .. } => self.check_datagrams(),
            _ => Ok(()),
        }
    }

    /// Refuses the options for streams over UDP.
    fn check_datagrams(&self) -> Result<(), String> {
        let end = if self.crlf { 2 } else { 0 };
        let longest = self.messages.iter().map(|text| text.0.len() + end).max().unwrap_or(0);
        if longest > LONGEST_PAYLOAD {
            return Err(ClientError::DatagramTooLong { length: longest }.to_string());
        }
        let reason = match self.expect {
            Some(Expect::Same | Expect::Line | Expect::Close) => {
                "--expect: an answer over UDP is one datagram"
            }
            _ if self.greeting => {
                "--greeting: over UDP a server can't speak first, since it knows no client yet"
            }
            _ if self.half_close => "--half-close: UDP has no end that a client could announce",
            _ if self.proxy_protocol.is_some() => {
                "--proxy-protocol: it announces a connection, and UDP has none"
            }
            _ if self.chunk.0 != usual().chunk => "--chunk: a datagram is read whole, or cut off",
            _ => return Ok(()),
        };
        Err(format!("{reason} (udp:// takes no such option)"))
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone().unwrap_or_default()
    }

    pub(crate) fn options(&self) -> SendOptions {
        SendOptions {
            messages: self.messages.iter().map(|text| text.0.clone()).collect(),
            expect: self.expect,
            greeting: self.greeting,
            verify: self.verify,
            chunk: self.chunk.0,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Some(Family::V4),
                (_, true) => Some(Family::V6),
                _ => None,
            },
            source: self.source,
            connect_timeout: self.connect_timeout.0,
            timeout: match (self.timeout, &self.endpoint) {
                (Some(timeout), _) => timeout.0,
                (None, Some(Endpoint::Udp { .. })) => Some(ANSWER_TIMEOUT),
                (None, _) => usual().timeout,
            },
            half_close: match (self.half_close, self.no_half_close) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            crlf: self.crlf,
            hex: self.hex,
            raw: self.raw,
            proxy_protocol: self.proxy_protocol,
        }
    }

    /// Names the misunderstanding that a failure to connect may come from.
    pub(crate) fn hint(&self, error: &ClientError) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        match (error, endpoint, self.messages.first()) {
            (ClientError::Resolve { .. }, Endpoint::Tcp { host: Host::Name(name), .. }, None) => {
                Some(format!("a message comes after the endpoint: `echoloop send localhost {name}`"))
            }
            (
                ClientError::Connect { .. } | ClientError::ConnectTimeout { .. },
                Endpoint::Tcp { host, port: DEFAULT_PORT },
                Some(Text(first)),
            ) => {
                let port = std::str::from_utf8(first).ok()?.parse::<u16>().ok()?;
                let meant = Endpoint::Tcp { host: host.clone(), port };
                Some(format!(
                    "`{port}` became a message: to connect to that port, write `echoloop send {meant}`"
                ))
            }
            _ => None,
        }
    }

    /// A client prints only replies, unless something is wrong.
    pub(crate) fn log_level(&self) -> LevelFilter {
        match self.verbosity.level() {
            LevelFilter::Warn => LevelFilter::Error,
            LevelFilter::Info => LevelFilter::Warn,
            level => level,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::values::parsed;

    fn send(arguments: &[&str]) -> Result<SendArguments, clap::Error> {
        parsed(arguments)
    }

    #[test]
    fn no_option_is_needed() {
        let arguments = send(&[]).expect("no arguments at all");
        assert_eq!(arguments.options(), SendOptions::default());
        assert_eq!(arguments.endpoint(), Endpoint::default());
        assert_eq!(arguments.log_level(), LevelFilter::Warn);
    }

    #[test]
    fn options_reach_the_client() {
        let options =
            "--expect=line --greeting --verify --chunk=16 -6 --source=::1 --connect-timeout=none --timeout=1s
            --no-half-close --crlf --hex --raw --proxy-protocol=v2";
        let options: Vec<&str> = options.split_whitespace().chain(["[::1]:7", "a\\n", ""]).collect();
        let arguments = send(&options).expect("well formed");
        let expected = SendOptions {
            messages: vec![b"a\n".to_vec(), Vec::new()],
            expect: Some(Expect::Line),
            greeting: true,
            verify: true,
            chunk: 16,
            family: Some(Family::V6),
            source: Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
            connect_timeout: None,
            timeout: Some(Duration::from_secs(1)),
            half_close: Some(false),
            crlf: true,
            hex: true,
            raw: true,
            proxy_protocol: Some(ProxyVersion::V2),
        };
        assert_eq!(arguments.options(), expected);
        assert_eq!(arguments.endpoint(), "[::1]:7".parse().expect("an endpoint"));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for arguments in [
            &["-4", "unix:/run/echo.sock"] as &[_],
            &["--source", "::1", "unix:/run/echo.sock"],
            &["-4", "--source", "::1"],
            &["-6", "--source", "127.0.0.1"],
            &["-4", "--source", "::1", "udp://localhost"],
            &["--expect", "same", "udp://localhost"],
            &["--expect", "line", "udp://localhost"],
            &["--expect", "close", "udp://localhost"],
            &["--greeting", "udp://localhost"],
            &["--half-close", "udp://localhost"],
            &["--proxy-protocol=v1", "udp://localhost"],
            &["--chunk", "16", "udp://localhost"],
            &["udp://localhost", &"x".repeat(65_508)],
            &["--crlf", "udp://localhost", &"x".repeat(65_506)],
        ] {
            assert!(send(arguments).expect("each alone is fine").check().is_err(), "{arguments:?}");
        }
        let longest = "x".repeat(65_507);
        for arguments in
            [&["--expect", "any", "--verify", "--hex", "udp://localhost"] as &[_], &["udp://:7", &longest]]
        {
            assert_eq!(send(arguments).expect("well formed").check(), Ok(()));
        }
        assert!(send(&["-4", "--source", "127.0.0.1"]).expect("well formed").check().is_ok());
    }

    #[test]
    fn only_an_answer_over_udp_is_not_waited_for_without_end() {
        let timeout = |arguments: &[&str]| send(arguments).expect("well formed").options().timeout;
        assert_eq!(timeout(&["localhost"]), None);
        assert_eq!(timeout(&["udp://localhost"]), Some(ANSWER_TIMEOUT));
        assert_eq!(timeout(&["--timeout=none", "udp://localhost"]), None);
        assert_eq!(timeout(&["--timeout=1s", "udp://localhost"]), Some(Duration::from_secs(1)));
    }

    #[test]
    fn of_two_that_contradict_each_other_the_last_one_counts() {
        let half_close = |arguments: &[&str]| send(arguments).expect("well formed").options().half_close;
        assert_eq!(half_close(&["--no-half-close", "--half-close"]), Some(true));
        assert_eq!(half_close(&["--half-close", "--no-half-close"]), Some(false));
        assert_eq!(half_close(&["-N"]), Some(true));
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            &["-4", "-6"] as &[_],
            &["--expect", "nothing"],
            &["--chunk", "0"],
            &["--source", "localhost"],
            &["--timeout", "0s"],
            &["--proxy-protocol", "v3"],
            &["-q", "-v"],
            &["localhost:http"],
            &["localhost", "\\q"],
            &["--no-such-option"],
        ] {
            let error = send(arguments).expect_err(&format!("{arguments:?}"));
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
