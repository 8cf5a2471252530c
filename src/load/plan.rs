//! The plan of a load run: the settings, their defaults, and what can't go together.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::encoding::{optional_text, seconds, texts};
use super::replies::Replies;
use super::sizes::Sizes;
use super::sources::Sources;
use crate::net::Endpoint;
use crate::net::LONGEST_PAYLOAD;
use crate::system::Text;

/// Over UDP each message begins with its number, most significant byte first.
pub(super) const NUMBER_SIZE: usize = size_of::<u64>();

/// The longest message. The pattern that it is compared with is twice as long, and in memory once.
pub const LONGEST_MESSAGE: usize = 64 << 20;

/// The longest time to open all connections, in seconds: a year.
const LONGEST_OPENING: f64 = 365.0 * 86_400.0;

/// All settings of a run. Change what matters, leave the rest:
///
/// ```
/// use echoloop::load::{Plan, Sizes};
///
/// let plan = Plan { clients: 64, sizes: Sizes::fixed(512), ..Plan::new(vec!["127.0.0.1:7".parse()?]) };
/// assert_eq!(plan.depth, 1);
/// # Ok::<(), echoloop::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where to connect to; clients are dealt out to the endpoints in turn.
    #[serde(with = "texts")]
    pub endpoints: Vec<Endpoint>,
    /// How many clients there are at once.
    pub clients: usize,
    /// How long messages are.
    pub sizes: Sizes,
    /// The most messages that a client has under way.
    pub depth: u32,
    /// When a client sends its next message.
    pub pace: Pace,
    /// The use of a connection.
    pub usage: Usage,
    /// How long the measured part lasts, unless `messages` ends it.
    #[serde(rename = "duration_s", with = "seconds")]
    pub duration: Duration,
    /// How many messages all clients together send in the measured part.
    pub messages: Option<u64>,
    /// How long messages flow before any of them counts.
    #[serde(rename = "warmup_s", with = "seconds")]
    pub warmup: Duration,
    /// Bytes, sizes and arrivals follow from this number.
    pub seed: u64,
    /// Whether the clients compare each byte that comes back with the byte that was sent.
    pub verify: bool,
    /// How a reply ends. Only echoes can be verified.
    #[serde(default)]
    pub replies: Replies,
    /// The only message, for a service that does not echo. It is as long as `sizes` says.
    #[serde(with = "optional_text", default)]
    pub message: Option<Text>,
    /// The most connections begun in a second.
    pub connect_rate: Option<f64>,
    /// The most connections whose handshake is under way.
    pub connecting: usize,
    /// How long a handshake may take.
    #[serde(rename = "connect_timeout_s", with = "seconds")]
    pub connect_timeout: Duration,
    /// How long a reply may take; over UDP, after how long a message counts as lost.
    #[serde(rename = "timeout_s", with = "seconds")]
    pub timeout: Duration,
    /// How clients connect again after they lost their connection, or failed to get one; `None`: they don't.
    #[serde(with = "optional_text", default)]
    pub reconnect: Option<Reconnect>,
    /// The addresses to connect from.
    #[serde(with = "optional_text")]
    pub sources: Option<Sources>,
    /// Bytes that the server sends first, and that clients skip.
    pub greeting: u32,
    /// Whether clients end connections by a reset, which leaves no port in TIME_WAIT.
    pub reset: bool,
}

/// How clients connect again: the first time at once, then after a delay that doubles from `first` to `longest`.
/// Chance shortens the delay by up to a half. A reply starts the delays anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The delay after the second failure.
    pub first: Duration,
    /// The longest delay.
    pub longest: Duration,
}

impl Default for Reconnect {
    /// From 10 milliseconds to a second.
    fn default() -> Reconnect {
        Reconnect { first: Duration::from_millis(10), longest: Duration::from_secs(1) }
    }
}

impl FromStr for Reconnect {
    type Err = String;

    /// Two times with dots between them, such as `10ms..1s`.
    fn from_str(text: &str) -> Result<Reconnect, String> {
        let (first, longest) = text.split_once("..").ok_or("write FIRST..LONGEST, as in 100ms..5s")?;
        let time =
            |text: &str| humantime::parse_duration(text.trim()).map_err(|error| format!("{text}: {error}"));
        let (first, longest) = (time(first)?, time(longest)?);
        if first.is_zero() || first > longest {
            return Err("the first time is above zero and not above the longest".into());
        }
        Ok(Reconnect { first, longest })
    }
}

impl fmt::Display for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", humantime::format_duration(self.first), humantime::format_duration(self.longest))
    }
}

/// When a client sends its next message.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Closed loop: some time after the reply to the one before. A slow server slows these clients down, and so hides
    /// how slow it would have been for users who come in their own time.
    Closed {
        /// How long a client thinks before its next message.
        #[serde(rename = "think_s", with = "seconds")]
        think: Duration,
    },
    /// Open loop: by a schedule that does not care whether replies have come. Latency counts from the moment at which
    /// a message should have left.
    Open {
        /// Messages a second, over all clients.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
    },
}

/// How the messages of an open loop are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// At equal distances.
    Fixed,
    /// At random, as from very many independent users.
    Poisson,
}

/// The use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// Messages and replies, all the time.
    Exchange,
    /// One message and its reply; then the client closes the connection and opens another one.
    Churn,
    /// One message at the beginning and one at the end; in between the client only holds the connection.
    Hold,
}

/// Settings that make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// There is nothing to connect to.
    #[error("no endpoint to connect to")]
    NoEndpoint,
    /// A number that must be at least one is zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// The sizes are the wrong way round, or too large.
    #[error(
        "messages of {shortest} to {longest} bytes: 1 to {LONGEST_MESSAGE} are possible, the shorter one first"
    )]
    Sizes {
        /// The shortest that was asked for.
        shortest: usize,
        /// The longest that was asked for.
        longest: usize,
    },
    /// A rate that no schedule can have.
    #[error("{0} is no rate: a number above 0 and up to 1e9 a second is expected")]
    Rate(f64),
    /// Opening the connections would take too long.
    #[error("at {rate} connections a second it would take more than a year to open {clients}")]
    Opening {
        /// How many are to be opened.
        clients: usize,
        /// How many of them a second.
        rate: f64,
    },
    /// A setting that only streams have, or messages that no datagram can hold.
    #[error("udp:// endpoints: {0}")]
    Datagrams(&'static str),
    /// Replies that are no echoes, with a setting that only echoes allow.
    #[error("replies other than echoes: {0}")]
    Replies(&'static str),
    /// Two settings that exclude each other.
    #[error("{0} and {1} exclude each other")]
    Exclusive(&'static str, &'static str),
    /// A closed loop can't run at a given rate.
    #[error("only an open loop can be carried out at another rate")]
    Closed,
    /// A schedule, or another use of connections, says when messages leave. So nobody can ask for a number of them.
    #[error("only a closed loop over connections that are kept can be opened and exchange messages")]
    Exchange,
}

impl Plan {
    /// Eight clients with one message of 64 bytes under way each, for ten seconds.
    pub fn new(endpoints: Vec<Endpoint>) -> Plan {
        // A late reply on a stream still comes. A lost datagram never does, and the client waits for it. A second is
        // also what TCP gives the first packet before it sends it again (RFC 6298).
        let seconds = if endpoints.iter().any(is_udp) { 1 } else { 10 };
        Plan {
            endpoints,
            clients: 8,
            sizes: Sizes::fixed(64),
            depth: 1,
            pace: Pace::Closed { think: Duration::ZERO },
            usage: Usage::Exchange,
            duration: Duration::from_secs(10),
            messages: None,
            warmup: Duration::ZERO,
            seed: 1,
            verify: true,
            replies: Replies::Echo,
            message: None,
            connect_rate: None,
            connecting: 100,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(seconds),
            reconnect: Some(Reconnect::default()),
            sources: None,
            greeting: 0,
            reset: false,
        }
    }

    /// Checks that the settings can hold together.
    ///
    /// # Errors
    /// When some of them can't.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.endpoints.is_empty() {
            return Err(PlanError::NoEndpoint);
        }
        for (number, name) in [
            (self.clients as u64, "clients"),
            (self.depth.into(), "depth"),
            (self.connecting as u64, "connecting"),
            (self.messages.unwrap_or(1), "messages"),
        ] {
            if number == 0 {
                return Err(PlanError::Zero(name));
            }
        }
        let Sizes { shortest, longest } = self.sizes;
        if shortest == 0 || shortest > longest || longest > LONGEST_MESSAGE {
            return Err(PlanError::Sizes { shortest, longest });
        }
        for rate in [self.rate(), self.connect_rate].into_iter().flatten() {
            if !(rate > 0.0 && rate <= 1e9) {
                return Err(PlanError::Rate(rate));
            }
        }
        if let Some(rate) = self.connect_rate.filter(|rate| self.clients as f64 / rate > LONGEST_OPENING) {
            return Err(PlanError::Opening { clients: self.clients, rate });
        }
        if self.endpoints.iter().any(is_udp) {
            self.check_datagrams()?;
        }
        self.check_replies()?;
        match self.usage {
            Usage::Hold if self.rate().is_some() => Err(PlanError::Exclusive("hold", "rate")),
            Usage::Hold if self.messages.is_some() => Err(PlanError::Exclusive("hold", "messages")),
            Usage::Churn if self.depth > 1 => Err(PlanError::Exclusive("a connection per message", "depth")),
            _ => Ok(()),
        }
    }

    /// Whether messages are datagrams.
    pub(super) fn is_over_udp(&self) -> bool {
        self.endpoints.iter().any(is_udp)
    }

    /// Messages a second, over all clients, in an open loop.
    pub(super) fn rate(&self) -> Option<f64> {
        match self.pace {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Closed { .. } => None,
        }
    }

    /// The same plan at another rate.
    pub(super) fn at_rate(&self, rate: f64) -> Result<Plan, PlanError> {
        let Pace::Open { arrivals, .. } = self.pace else { return Err(PlanError::Closed) };
        let plan = Plan { pace: Pace::Open { rate, arrivals }, ..self.clone() };
        plan.check()?;
        Ok(plan)
    }

    /// Checks that messages can be exchanged on request.
    pub(super) fn check_exchange(&self) -> Result<(), PlanError> {
        match (self.usage, self.pace) {
            (Usage::Exchange, Pace::Closed { .. }) => Ok(()),
            _ => Err(PlanError::Exchange),
        }
    }

    fn check_datagrams(&self) -> Result<(), PlanError> {
        let Sizes { shortest, longest } = self.sizes;
        Err(PlanError::Datagrams(match self.usage {
            _ if !self.endpoints.iter().all(is_udp) => "one run is over UDP or over streams, not over both",
            Usage::Churn => "there is no connection that could be opened for each message",
            Usage::Hold => "there is no connection that could be held",
            Usage::Exchange if self.reset => "there is no connection that could be reset",
            Usage::Exchange if self.greeting > 0 => "a server can't speak first: it knows no client yet",
            Usage::Exchange if self.replies != Replies::Echo => {
                "an answer is known by the number that it begins with, so it has to be an echo"
            }
            Usage::Exchange if shortest < NUMBER_SIZE || longest > LONGEST_PAYLOAD => {
                "messages have 8 to 65507 bytes: each begins with its number, which has 8"
            }
            Usage::Exchange => return Ok(()),
        }))
    }

    fn check_replies(&self) -> Result<(), PlanError> {
        let is_as_long = |message: &Text| self.sizes == Sizes::fixed(message.0.len());
        Err(PlanError::Replies(match self.replies {
            Replies::Echo if self.message.is_some() => {
                "a message of your own can't be verified; say how its reply ends (--expect line or any)"
            }
            Replies::Echo => return Ok(()),
            _ if self.verify => "only an echo can be verified",
            Replies::Any if self.depth > 1 => {
                "nothing tells where a reply of any bytes ends, so each client has one message under way (no --depth)"
            }
            _ if !self.message.as_ref().is_none_or(is_as_long) => {
                "messages are as long as the one that is given, and not empty"
            }
            _ => return Ok(()),
        }))
    }
}

fn is_udp(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Udp { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_hold_together_is_refused() {
        let plan = Plan::new(vec![Endpoint::default()]);
        assert_eq!(plan.check(), Ok(()));
        let open = |rate| Pace::Open { rate, arrivals: Arrivals::Fixed };
        for wrong in [
            Plan { endpoints: Vec::new(), ..plan.clone() },
            Plan { clients: 0, ..plan.clone() },
            Plan { depth: 0, ..plan.clone() },
            Plan { messages: Some(0), ..plan.clone() },
            Plan { sizes: Sizes::fixed(0), ..plan.clone() },
            Plan { sizes: Sizes { shortest: 2, longest: 1 }, ..plan.clone() },
            Plan { sizes: Sizes::fixed(LONGEST_MESSAGE + 1), ..plan.clone() },
            Plan { pace: open(0.0), ..plan.clone() },
            Plan { pace: open(f64::NAN), ..plan.clone() },
            Plan { connect_rate: Some(-1.0), ..plan.clone() },
            Plan { connect_rate: Some(1e-18), ..plan.clone() },
            Plan { usage: Usage::Hold, pace: open(1.0), ..plan.clone() },
            Plan { usage: Usage::Churn, depth: 2, ..plan.clone() },
            Plan { message: Some(Text(b"PING".to_vec())), ..plan.clone() },
            Plan { replies: Replies::Line, ..plan.clone() },
            Plan {
                replies: Replies::Line,
                message: Some(Text(b"PING".to_vec())),
                verify: false,
                ..plan.clone()
            },
            Plan { replies: Replies::Any, depth: 2, verify: false, ..plan.clone() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_bounds_of_reconnecting_are_two_times() {
        let reconnect: Reconnect = "100ms..5s".parse().expect("two times");
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(reconnect, Reconnect { first, longest });
        assert_eq!(reconnect.to_string(), "100ms..5s");
        for wrong in ["", "1s", "..1s", "0s..1s", "2s..1s", "1..2", "1s..2s..3s"] {
            assert!(wrong.parse::<Reconnect>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_plan_is_json_and_comes_back_whole() {
        let usual = Plan::new(vec!["unix:/run/echo.sock".parse().expect("a path")]);
        for plan in [
            Plan {
                pace: Pace::Open { rate: 1234.5, arrivals: Arrivals::Poisson },
                sources: Some("127.0.0.0/8,10.0.0.7".parse().expect("addresses")),
                warmup: Duration::from_micros(1),
                connect_rate: Some(7.0),
                messages: Some(9),
                replies: Replies::Line,
                message: Some(Text(b"PING\r\n\xff".to_vec())),
                ..Plan::new(vec!["[::1]:7".parse().expect("an endpoint"), Endpoint::default()])
            },
            usual,
        ] {
            let json = serde_json::to_string(&plan).expect("it can be written");
            assert_eq!(serde_json::from_str::<Plan>(&json).expect("it can be read"), plan, "{json}");
        }
    }

    #[test]
    fn what_datagrams_cannot_do_is_refused() {
        let udp: Endpoint = "udp://127.0.0.1:7".parse().expect("an endpoint");
        let plan = Plan::new(vec![udp.clone()]);
        assert_eq!((plan.check(), plan.timeout), (Ok(()), Duration::from_secs(1)));
        for size in [NUMBER_SIZE, LONGEST_PAYLOAD] {
            assert_eq!(Plan { sizes: Sizes::fixed(size), ..plan.clone() }.check(), Ok(()));
        }
        for (wrong, reason) in [
            (Plan { endpoints: vec![Endpoint::default(), udp], ..plan.clone() }, "not over both"),
            (Plan { sizes: Sizes { shortest: 7, longest: 9 }, ..plan.clone() }, "8 to 65507"),
            (Plan { sizes: Sizes::fixed(65_508), ..plan.clone() }, "8 to 65507"),
            (Plan { usage: Usage::Churn, ..plan.clone() }, "opened"),
            (Plan { usage: Usage::Hold, ..plan.clone() }, "held"),
            (Plan { reset: true, ..plan.clone() }, "reset"),
            (Plan { greeting: 1, ..plan.clone() }, "speak first"),
            (Plan { replies: Replies::Any, verify: false, ..plan.clone() }, "has to be an echo"),
        ] {
            let error = wrong.check().expect_err(reason).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
