//! The options of `echoloop load`.

use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args};
use echoloop::load::{Arrivals, Pace, Plan, RateSearch, Reconnect, Replies, Sizes, Sources, Usage};
use echoloop::{Endpoint, Text};

use crate::cli::results::ResultArguments;
use crate::cli::values::{
    Size, at_least_one, message, percent, positive_duration, rate, sizes, target, time,
};
use crate::cli::verbosity::Verbosity;

pub(crate) const EXAMPLES: &str = "\
Endpoints are written as for `serve`. If there are several, clients take them in turn. If a name has several
addresses, clients use the first one where a server listens.

In an open loop, latency counts from the moment at which a message was due, even if its connection was busy then.
`service` counts from the moment at which the message left. `lag` is the delay that the generator caused itself. To be
on time the generator sleeps until shortly before a message is due and polls for the rest, which takes up to a core. It
waits for every reply, as long as --timeout.

A client that loses its connection connects again, and the run lasts as long as asked. Its messages under way are cut
off, never sent twice; messages that fall due meanwhile keep their moment. The report shows the loss as an outage; judge
it by --fail-if 'outage>2s' or 'outages>0'. If no server is there at the beginning, the run ends at once.

With --expect line or any the service need not echo: a reply is a line, or the bytes of one read. The generator times
and counts these replies, but verifies no byte, and the results say so. Messages are printable lines, or --message. A
line that answers no message is an error (7). With any, the generator may take a reply that comes in several pieces for
several replies, unless the client thinks before it sends again (--think) or opens a connection for each message.

Over UDP each client is a socket, and each message a datagram of 8 to 65507 bytes that begins with its number. So the
report counts lost, late, duplicated, reordered and corrupted messages apart. A message without an answer within
--timeout is lost, and the next message leaves; should the answer come after all, the message is late instead. A run
over UDP fails only if bytes are corrupted (7) or no message is ever answered (4, 5), unless you say
--fail-if 'loss>1%', or late, duplicated or reordered.

Examples:
  echoloop load localhost
      8 clients in a closed loop for 10 seconds
  echoloop load --clients 1000 --size 512 localhost
      a thousand clients
  echoloop load --rate 20k --warmup 1s localhost
      open loop: latency from when a message should have left
  echoloop load --connect-per-message --reset localhost
      connections per second
  echoloop load --hold --clients 15000 --source 127.0.0.0/8 127.0.0.1
  echoloop load --connect-per-message --greeting 7 localhost
      count connections by greeting, such as `node-1\\n`
  echoloop load --messages 1000 --fail-if 'p99>5ms' --json > a.json
  echoloop load --rate 5000 -d 60s --fail-if 'outage>2s' localhost
      does the service survive a failover?
  echoloop load --processes 4 -c 1000 localhost
      four cores at once
  echoloop load --find-rate -c 100 --fail-if 'p99>5ms' localhost
      the highest rate before the server is slow
  echoloop load --repeat 5 --json > a.json
      five runs, for `echoloop compare a.json b.json`
  echoloop load --expect line --message 'PING\\r\\n' localhost:6379
      a Redis server, which answers +PONG
  echoloop load --rate 20k -s 1400 --fail-if 'loss>0.1%' udp://localhost

Exit status:
  0  every message was echoed (or answered, with --expect), or (UDP) was
     lost; also when a signal ended the run early
  1  connections failed, no reply came, --find-rate has no answer, or
     another failure
  2  wrong usage
  3  a name does not resolve
  4  no connection was ever established, or (UDP) no message answered:
     refused
  5  the same: timed out
  7  other bytes came back than were sent, or more lines than messages
  8  a --fail-if condition held (with --find-rate: at every rate)";

/// The rate at which a search begins.
const FIRST_RATE: f64 = 1000.0;
/// How long a step of a search settles before it is measured.
const SETTLING: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("end").args(["duration", "messages"])))]
pub(crate) struct LoadArguments {
    /// Where to connect to, any number of endpoints [default: localhost:10000]
    #[arg(value_name = "ENDPOINT", value_parser = target)]
    endpoints: Vec<Endpoint>,

    /// Clients at once
    #[arg(short, long, value_name = "N", default_value_t = usual().clients as u64, value_parser = at_least_one,
          help_heading = "Load")]
    clients: u64,

    /// Length of a message, or of the shortest and the longest as MIN-MAX
    #[arg(short, long, value_name = "SIZE", default_value_t = usual().sizes, value_parser = sizes, help_heading = "Load")]
    size: Sizes,

    /// Let each client have at most N messages under way
    #[arg(long, value_name = "N", default_value_t = usual().depth, value_parser = clap::value_parser!(u32).range(1..),
          help_heading = "Load")]
    depth: u32,

    /// How long a client waits after a reply before it sends again
    #[arg(long, value_name = "DURATION", default_value_t = Duration::ZERO.into(), hide_default_value = true,
          conflicts_with = "rate", help_heading = "Load")]
    think: humantime::Duration,

    /// Open loop: send R messages a second over all clients, whether or not replies have come
    #[arg(short, long, value_name = "R", value_parser = rate, help_heading = "Load")]
    rate: Option<f64>,

    /// Find the highest rate at which no --fail-if condition holds [default conditions: p99>10ms, errors>0,
    /// not_sent>0]; --rate is the first to be tried
    #[arg(long, conflicts_with_all = ["hold", "think", "messages", "repeat", "hgrm"], help_heading = "Find a rate")]
    find_rate: bool,

    /// Measure each step for this time, after --warmup (1s here unless given)
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = positive_duration,
          requires = "find_rate", help_heading = "Find a rate")]
    step: humantime::Duration,

    /// Stop when the best rate and the lowest failing one are this close
    #[arg(long, value_name = "PERCENT", default_value = "2%", value_parser = percent, requires = "find_rate",
          help_heading = "Find a rate")]
    precision: f64,

    /// How an open loop spreads its messages over time
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Arrivals::Fixed, requires = "rate",
          help_heading = "Load")]
    arrivals: Arrivals,

    /// Open a connection for each message
    #[arg(long, conflicts_with_all = ["hold", "depth"], help_heading = "Load")]
    connect_per_message: bool,

    /// End connections by a reset, which leaves no port in TIME_WAIT
    #[arg(long, help_heading = "Load")]
    reset: bool,

    /// Hold the connections: one message on each at the beginning, one at the end
    #[arg(long, conflicts_with_all = ["rate", "think", "depth", "messages", "warmup"], help_heading = "Load")]
    hold: bool,

    /// How long the measured part lasts
    #[arg(short, long, value_name = "DURATION", default_value_t = usual().duration.into(),
          value_parser = positive_duration, help_heading = "Length")]
    duration: humantime::Duration,

    /// Send N messages instead, over all clients
    #[arg(short, long, value_name = "N", value_parser = at_least_one, help_heading = "Length")]
    messages: Option<u64>,

    /// Run for this time before anything counts
    #[arg(long, value_name = "DURATION", default_value_t = usual().warmup.into(), hide_default_value = true,
          help_heading = "Length")]
    warmup: humantime::Duration,

    /// Repeat the whole run K times, and sum it up: medians, and how far the runs lie apart
    #[arg(long, value_name = "K", default_value = "1", hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["hgrm", "plot"],
          help_heading = "Length")]
    pub(super) repeat: u32,

    /// Run in N processes, each with its share of clients and rate, and merge their results
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true, value_parser = at_least_one,
          help_heading = "Processes and machines")]
    processes: u64,

    /// Open connections now, and let messages flow from this time on: RFC 3339 such as 2026-01-31T12:00:00Z, or seconds
    /// since 1970. Generators on several machines that have the same time begin together
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["repeat", "find_rate"],
          help_heading = "Processes and machines")]
    pub(super) start_at: Option<SystemTime>,

    /// Be one of several processes: the share of the plan is on standard input
    #[arg(long, hide = true)]
    pub(super) worker: bool,

    /// Begin R connections a second; after a delay, at most a second's worth at once
    #[arg(long, value_name = "R", value_parser = rate, help_heading = "Connections")]
    connect_rate: Option<f64>,

    /// Have at most N handshakes under way
    #[arg(long, value_name = "N", default_value_t = usual().connecting as u64, value_parser = at_least_one,
          help_heading = "Connections")]
    connecting: u64,

    /// How long a handshake may take
    #[arg(long, value_name = "DURATION", default_value_t = usual().connect_timeout.into(),
          value_parser = positive_duration, help_heading = "Connections")]
    connect_timeout: humantime::Duration,

    /// How long a reply may take [default: 10s; udp:// 1s]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Connections")]
    timeout: Option<humantime::Duration>,

    /// How clients connect again: at once, then after a delay that doubles from the first of these times to the second,
    /// until a reply comes
    #[arg(long, value_name = "FIRST..LONGEST", default_value_t = Reconnect::default(), help_heading = "Connections")]
    reconnect: Reconnect,

    /// Drop a client from the run if it loses its connection or can't get one
    #[arg(long, conflicts_with = "reconnect", help_heading = "Connections")]
    no_reconnect: bool,

    /// Connect from these addresses in turn: an address, a network such as 127.0.0.0/8, or a list of such
    #[arg(long, value_name = "ADDRESSES", help_heading = "Connections")]
    source: Option<Sources>,

    /// The server speaks first: wait for a greeting of LENGTH bytes, and count connections by greeting (at most 64
    /// greetings are told apart, by their first 256 bytes)
    #[arg(long, value_name = "LENGTH", alias = "greeting-bytes", help_heading = "Connections")]
    greeting: Option<Size>,

    /// Choose bytes, sizes and arrivals by this number: the same number repeats them [default: a random number, which
    /// the results name]
    #[arg(long, value_name = "N", help_heading = "Verification")]
    seed: Option<u64>,

    /// How a reply ends. The generator verifies only echoes
    #[arg(long, value_name = "HOW", value_enum, default_value_t = usual().replies, help_heading = "Verification")]
    expect: Replies,

    /// Send this text each time; \n, \r, \t, \0, \\ and \xHH stand for bytes [default: printable lines of --size]
    #[arg(long, value_name = "TEXT", value_parser = message, requires = "expect", conflicts_with = "size",
          help_heading = "Verification")]
    message: Option<Text>,

    /// Count bytes only, don't compare them
    #[arg(long, help_heading = "Verification")]
    no_verify: bool,

    /// Length of the intervals of the series and of --json-lines
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive_duration,
          help_heading = "Results")]
    pub(super) interval: humantime::Duration,

    #[command(flatten)]
    pub(super) results: ResultArguments,

    #[command(flatten)]
    pub(super) verbosity: Verbosity,
}

/// The library's defaults.
fn usual() -> Plan {
    Plan::new(vec![Endpoint::default()])
}

impl LoadArguments {
    pub(crate) fn plan(&self) -> Plan {
        let endpoints =
            if self.endpoints.is_empty() { vec![Endpoint::default()] } else { self.endpoints.clone() };
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let usual = Plan::new(endpoints);
        Plan {
            clients: count(self.clients),
            sizes: self.message.as_ref().map_or(self.size, |message| Sizes::fixed(message.0.len())),
            depth: self.depth,
            pace: match self.first_rate() {
                Some(rate) => Pace::Open { rate, arrivals: self.arrivals },
                None => Pace::Closed { think: *self.think },
            },
            usage: match (self.connect_per_message, self.hold) {
                (true, _) => Usage::Churn,
                (false, true) => Usage::Hold,
                (false, false) => Usage::Exchange,
            },
            duration: *self.duration,
            messages: self.messages,
            warmup: *self.warmup,
            // Short, so that people can type it, and exact in every reader of JSON.
            seed: self.seed.unwrap_or_else(|| fastrand::u32(..).into()),
            verify: !self.no_verify && self.expect == Replies::Echo,
            replies: self.expect,
            message: self.message.clone(),
            connect_rate: self.connect_rate,
            connecting: count(self.connecting),
            connect_timeout: *self.connect_timeout,
            timeout: self.timeout.map_or(usual.timeout, Into::into),
            reconnect: (!self.no_reconnect).then_some(self.reconnect),
            sources: self.source.clone(),
            greeting: self.greeting.map_or(0, |size| u32::try_from(size.0).unwrap_or(u32::MAX)),
            reset: self.reset,
            ..usual
        }
    }

    /// The rate of an open loop, or the first rate of a search.
    fn first_rate(&self) -> Option<f64> {
        self.rate.or(self.find_rate.then_some(FIRST_RATE))
    }

    /// The search for a rate, if the user asked for one.
    pub(super) fn rate_search(&self) -> Option<RateSearch> {
        let warmup = if self.warmup.is_zero() { SETTLING } else { *self.warmup };
        let plan = Plan { duration: *self.step, warmup, ..self.plan() };
        let conditions = match self.results.fail_if.as_slice() {
            [] => RateSearch::usual_conditions(),
            conditions => conditions.to_vec(),
        };
        self.find_rate.then_some(RateSearch { plan, conditions, precision: self.precision })
    }

    pub(super) fn processes(&self) -> usize {
        usize::try_from(self.processes).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::values::parsed;

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        parsed::<LoadArguments>(arguments)
            .map(|arguments| arguments.plan())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_it_is_the_plan_of_the_library() {
        let usual = Plan::new(vec![Endpoint::default()]);
        assert_eq!(plan(&["--seed", &usual.seed.to_string()]), Ok(usual));
        let seed = || plan(&[]).expect("no options are well formed").seed;
        assert!((0..9).any(|_| seed() != seed()), "another one each time");
    }

    #[test]
    fn an_escape_is_shown_as_one_types_it() {
        assert!(EXAMPLES.contains(r"such as `node-1\n`"), "{EXAMPLES}");
    }

    #[test]
    fn options_reach_the_plan() {
        let plan =
            plan(&["-c", "100", "-s", "16-1KiB", "--rate", "1e4", "--arrivals", "poisson", "-m", "5", ":7"]);
        let plan = plan.expect("they go together");
        assert_eq!((plan.clients, plan.messages), (100, Some(5)));
        assert_eq!(plan.sizes, Sizes { shortest: 16, longest: 1024 });
        assert_eq!(plan.pace, Pace::Open { rate: 1e4, arrivals: Arrivals::Poisson });
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        for wrong in [
            vec!["--rate", "1", "--think", "1s"],
            vec!["--hold", "--rate", "1"],
            vec!["--hold", "--connect-per-message"],
            vec!["--connect-per-message", "--depth", "2"],
            vec!["--duration", "1s", "--messages", "1"],
            vec!["--clients", "0"],
            vec!["--rate", "0"],
            vec!["--size", "9-3"],
            vec!["--size", "65MiB"],
            vec!["--source", "somewhere"],
            vec!["--fail-if", "p99"],
        ] {
            assert!(plan(&wrong).is_err(), "{wrong:?}");
        }
    }
}
