//! The load generator: many clients on one reactor, every byte verified, and figures that can be trusted.
//!
//! | file | what it holds |
//! |---|---|
//! | `plan.rs` | the settings and their defaults |
//! | `pattern.rs`, `fault.rs` | the bytes that are sent; what a difference looks like |
//! | `session.rs`, `flights.rs` | one client's messages: the service of its connection |
//! | `shared.rs` | what all of them share |
//! | `schedule.rs` | when messages should leave in an open loop |
//! | `targets.rs`, `sources.rs`, `ramp.rs` | where to, where from, how fast; what the ceiling is |
//! | `connecting.rs` | connections begin |
//! | `datagrams.rs`, `datagram_exchange.rs` | one client over UDP; what becomes of each of its messages |
//! | `driving.rs` | what the reactor calls: messages go, connections end |
//! | `conducting.rs` | the run as a whole: opening, warm-up, measuring, draining |
//! | `figures.rs`, `series.rs`, `cause.rs`, `fairness.rs`, `greetings.rs` | the counts of a run; `times.rs`: distributions |
//! | `report/` | the results, as programs and people read them |
//! | `processes.rs` | one run by several processes |
//! | `rate_search.rs` | the highest rate that a server takes, found by many runs |
//! | `error.rs` | why a run does not take place; `encoding.rs`: settings in JSON |
//!
//! # A run
//!
//! ```text
//!   opening     every client connects, as fast as the ramp allows, and is greeted if it is to be; nothing is sent
//!               (hold: one message each)
//!   warm-up     messages flow; nothing is counted
//!   measuring   messages flow and are counted, until the time is up or the last one is answered
//!   draining    nothing more is sent; what is under way is waited for, as long as a reply may take
//! ```
//!
//! So at the end every message was answered, or (over UDP) is lost, or belongs to a connection that failed, or was cut
//! off by an interrupt: nothing disappears from the figures.
//!
//! # Open and closed loop
//!
//! In a *closed* loop a client sends when it has its reply. When the server stalls for a second, each client sends one
//! message less than it would have, and one slow message is all that the percentiles see. In an *open* loop messages
//! are due by a schedule, as the requests of independent users are, and each counts from when it was due: all those
//! that were due in that second see it. What the server took once it had the message is reported beside it as the
//! service time; what was late although its connection was free is the generator's own lag.
//!
//! The kernel's wait is counted in whole milliseconds. So that messages leave when they are due, the loop sleeps until
//! shortly before and polls for the rest, only in an open loop: it may take a whole core then.

mod cause;
mod conducting;
mod connecting;
mod datagram_exchange;
mod datagrams;
mod driving;
mod encoding;
mod error;
mod fairness;
mod fault;
mod figures;
mod flights;
mod greetings;
mod pattern;
mod plan;
mod processes;
mod ramp;
mod rate_search;
mod report;
mod schedule;
mod series;
mod session;
mod shared;
mod sources;
mod targets;
mod times;

use std::collections::BinaryHeap;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::net::{Connection, Limits, Socket, Workspace};
use crate::reactor::{Interest, Moment, Reactor, Stage, Token};
use crate::system::StopSignal;

use self::conducting::Conductor;
use self::connecting::Waiting;
use self::datagrams::DatagramClient;
use self::figures::Figures;
use self::pattern::Pattern;
use self::ramp::Ramp;
use self::schedule::Schedule;
use self::session::Session;
use self::shared::{Pacing, Run};
use self::targets::{Ceiling, Targets};

pub use self::cause::{Cause, Errors};
pub use self::conducting::{Progress, Watcher};
pub use self::error::LoadError;
pub use self::fairness::Fairness;
pub use self::fault::{LooksLike, Mismatch};
pub use self::figures::DatagramFates;
pub use self::plan::{Arrivals, LONGEST_MESSAGE, Pace, Plan, PlanError, Sizes, Usage};
pub use self::processes::{ProcessesError, Share, run_processes, shares};
pub use self::rate_search::{FoundRate, RateSearch, SearchEnding, SearchPart, SearchStep};
pub use self::report::{
    Bytes, Condition, ConditionError, Connections, FORMAT_VERSION, Generator, GeneratorPart, Histograms,
    MergeError, Merged, Messages, PlotError, ReadError, Report, Side, Table, Verdict, compare, hgrm, merge,
    plot, read,
};
pub use self::series::Point;
pub use self::sources::{Sources, SourcesError};
pub use self::times::{Histogram, Times};

/// The most that one read asks for, and the largest read that is compared at once.
const READ_SIZE: usize = 64 * 1024;
/// How many bytes a connection may move before the others have their turn.
const TURN_BUDGET: usize = 256 * 1024;

/// A load generator with its connections.
///
/// For a whole run with its report, [`Load::run`]. For benchmarks, [`Load::open`] and then [`Load::exchange`] any
/// number of times:
///
/// ```
/// use echoloop::load::{Load, Plan};
/// use echoloop::{Server, ServerOptions, StopSignal};
///
/// let stop = StopSignal::new()?;
/// let handle = stop.handle()?;
/// let server = Server::bind(&["127.0.0.1:0".parse()?], ServerOptions::default(), stop)?;
/// let endpoint = server.endpoints()[0].parse()?;
/// let server = std::thread::spawn(move || server.run());
///
/// let mut load = Load::new(Plan { clients: 4, ..Plan::new(vec![endpoint]) }, StopSignal::new()?)?;
/// load.open()?;
/// let first = load.exchange(1000)?;
/// let second = load.exchange(1000)?;
/// assert!(!first.is_zero() && !second.is_zero());
/// drop(load);
///
/// handle.stop();
/// assert_eq!(server.join().expect("no panic")?.served, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Load {
    reactor: Reactor<Source>,
    state: State,
}

/// What the generator keeps in a slot of the reactor.
enum Source {
    Client(Client),
    Datagrams(DatagramClient),
    /// The request to end early. Its deadline is the next moment at which the run as a whole has something to do.
    Stop(StopSignal),
}

struct Client {
    connection: Connection<Socket>,
    session: Session,
}

/// Everything of the generator but the reactor that drives it.
struct State {
    plan: Plan,
    targets: Targets,
    ceiling: Ceiling,
    run: Run,
    workspace: Workspace,
    /// Bytes of messages that do not go in one piece; empty nearly always.
    staged: Vec<u8>,
    /// Room for one datagram; empty for streams.
    datagram: Vec<u8>,
    ramp: Ramp,
    /// Clients that have not begun to connect yet.
    fresh: Range<u32>,
    /// Clients between two connections.
    waiting: BinaryHeap<Waiting>,
    /// How many connections there have been.
    numbers: u64,
    conductor: Conductor,
    token: Token,
}

impl Load {
    /// Resolves the endpoints and sees whether the plan can be carried out. A request from `stop` ends the run early.
    ///
    /// # Errors
    /// When settings exclude each other, a name does not resolve, or there are not enough ports or descriptors.
    pub fn new(plan: Plan, stop: StopSignal) -> Result<Load, LoadError> {
        plan.check()?;
        let targets = Targets::resolve(&plan)?;
        let ceiling = Ceiling::of(&plan, &targets);
        ceiling.check(plan.clients)?;

        let mut reactor = Reactor::new()?;
        reactor.set_prompt_deadlines(matches!(plan.pace, Pace::Open { .. }));
        let stop = Source::Stop(stop);
        let token = reactor.context().insert(stop, Interest::READABLE, Stage::Signals)?;
        let now = Moment::now();
        let clients = u32::try_from(plan.clients).unwrap_or(u32::MAX);
        let state = State {
            run: Run {
                pattern: Pattern::new(plan.seed, plan.sizes.longest, plan.depth as usize, READ_SIZE),
                figures: Figures::new(matches!(plan.pace, Pace::Open { .. }), now),
                pacing: pacing(&plan, now),
                sizes: plan.sizes,
                random: fastrand::Rng::with_seed(plan.seed),
                depth: plan.depth,
                verify: plan.verify,
                churn: plan.usage == Usage::Churn,
                budget: 0,
                due_until: now + conducting::FOREVER,
                in_flight: 0,
                ungreeted: 0,
            },
            workspace: Workspace::new(Limits {
                read_size: READ_SIZE,
                // Replies are always read, whatever is unsent: a generator that stopped reading while it has
                // something to send, against a server that does the same, would stop both for ever.
                write_limit: usize::MAX,
                turn_budget: TURN_BUDGET,
            }),
            staged: Vec::new(),
            datagram: Vec::new(),
            ramp: Ramp::new(plan.connecting, plan.connect_rate, now),
            fresh: 0..clients,
            waiting: BinaryHeap::new(),
            numbers: 0,
            conductor: Conductor::new(now),
            token,
            plan,
            targets,
            ceiling,
        };
        Ok(Load { reactor, state })
    }

    /// What may stand in the way of the plan, said before it does.
    pub fn warning(&self) -> Option<String> {
        self.state.ceiling.warning(&self.state.plan)
    }

    /// How many connections at once are possible: ports × sources × targets, or descriptors if these are fewer.
    pub fn ceiling(&self) -> u64 {
        self.state.ceiling.connections()
    }

    /// Shows how the run goes on, several times a second.
    pub fn watch(&mut self, watcher: Box<dyn Watcher>) {
        self.state.conductor.watcher = Some(watcher);
    }

    /// Opens all connections of the plan.
    ///
    /// # Errors
    /// When not all of them could be opened, or the plan is not a closed loop over connections that are kept.
    pub fn open(&mut self) -> Result<(), LoadError> {
        self.state.plan.check_exchange()?;
        self.state.conductor.only_open = true;
        self.drive()?;
        self.complete()
    }

    /// Sends so many messages over all open connections, in a closed loop, waits for all replies, and returns the time
    /// from the first message to the last reply.
    ///
    /// # Errors
    /// When a connection has failed, a reply was not what had been sent, a datagram was not answered in time, or the
    /// plan is not a closed loop over connections that are kept.
    pub fn exchange(&mut self, messages: u64) -> Result<Duration, LoadError> {
        self.state.plan.check_exchange()?;
        self.state.begin_exchange(self.reactor.context(), messages);
        self.drive()?;
        self.complete()?;
        let figures = &self.state.run.figures;
        Ok(figures.last_reply.since(figures.from))
    }

    /// Carries the plan out, over the connections that are open already if there are any.
    ///
    /// # Errors
    /// When the loop itself fails. Whatever happens to connections is in the report.
    pub fn run(mut self) -> Result<Report, LoadError> {
        self.state.end_exchanges(self.reactor.context());
        self.drive()?;
        let State { plan, run, .. } = self.state;
        Ok(Report::new(plan, run.figures))
    }

    fn drive(&mut self) -> Result<(), LoadError> {
        self.state.begin(self.reactor.context());
        Ok(self.reactor.run(&mut self.state)?)
    }

    fn complete(&self) -> Result<(), LoadError> {
        let State { plan, run: Run { figures, .. }, .. } = &self.state;
        let all_open = figures.errors.total() == 0 && figures.open == plan.clients as u64;
        let missing = figures.datagrams.lost + figures.datagrams.late;
        if all_open && !figures.interrupted {
            return if missing == 0 { Ok(()) } else { Err(LoadError::Lost(missing)) };
        }
        Err(LoadError::Connections {
            failed: figures.errors.total(),
            asked: plan.clients,
            first: figures.failures.first().cloned().unwrap_or_else(|| "it was interrupted".into()),
        })
    }
}

fn pacing(plan: &Plan, now: Moment) -> Pacing {
    match (plan.usage, plan.pace) {
        (Usage::Hold, _) => Pacing::OnCall,
        (_, Pace::Closed { think: Duration::ZERO }) => Pacing::AtOnce,
        (_, Pace::Closed { think }) => Pacing::Thinking(think),
        (_, Pace::Open { rate, arrivals }) => {
            Pacing::Scheduled(Schedule::new(now, plan.clients, rate, arrivals))
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Client(client) => client.connection.transport().as_fd(),
            Source::Datagrams(client) => client.socket().as_fd(),
            Source::Stop(stop) => stop.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Context;

    #[test]
    fn what_is_kept_of_a_connection_is_at_most_384_bytes() {
        // The slot, its place among the deadlines, a deadline, and what the queue of clients may have kept of it.
        let slot = Context::<Source>::BYTES_PER_SOURCE + size_of::<(Moment, u32)>();
        assert!(slot <= 384, "{slot} bytes");
    }
}
