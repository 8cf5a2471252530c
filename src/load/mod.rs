//! The load generator: many clients on one reactor, every byte verified, and figures that can be trusted.
//!
//! Plain data flows in one direction: plan → run → figures → report.
//!
//! | file | its contents |
//! |---|---|
//! | `plan.rs`, `sizes.rs` | the settings and their defaults |
//! | `generator.rs` | the generator as others use it |
//! | `run.rs` | the parts of a run; what the reactor calls |
//! | `clients.rs`, `surroundings.rs` | all clients; the surroundings of the client that has its turn |
//! | `dialler.rs` | the clients that need a connection: where to, and when again |
//! | `stream_clients.rs`, `datagram_clients.rs` | the clients with a connection: they use it, end it, lose it |
//! | `queue.rs`, `ramp.rs` | the order in which clients connect, and how fast |
//! | `targets.rs`, `sources.rs` | where to, where from; how many connections there can be |
//! | `slot.rs`, `client.rs` | a client with its connection; a client without |
//! | `pacer.rs`, `schedule.rs` | when a client may send |
//! | `stream.rs`, `exchange.rs`, `flights.rs` | the messages of one connection |
//! | `datagram_client.rs`, `datagrams.rs` | the messages of one client over UDP |
//! | `replies.rs` | services that do not echo: their replies, and the messages for them |
//! | `traffic.rs`, `pattern.rs`, `mismatch.rs` | the things that clients share; the bytes; a difference between bytes |
//! | `figures.rs`, `series.rs`, `outages.rs`, `cause.rs`, `fairness.rs`, `greetings.rs` | the counts of a run; `times.rs`: distributions |
//! | `starvation.rs`, `cores.rs` | the generator's own cost; signs that something kept it from working |
//! | `report/` | the results, as programs and people read them |
//! | `processes.rs`, `worker.rs`, `shares.rs` | one run by several processes; one process; its share and orders |
//! | `intervals.rs` | the intervals of several processes as one series |
//! | `progress.rs` | a run as its watchers see it |
//! | `rate_search.rs`, `step.rs`, `found_rate.rs` | the highest rate that a server takes, found by many steps |
//! | `error.rs`, `encoding.rs` | reasons for no run; settings in JSON |
//!
//! # A run
//!
//! ```text
//!   opening     every client connects, as fast as the ramp allows, and awaits a greeting if there is one;
//!               no message leaves (hold: one message each)
//!   warm-up     messages flow; nothing is counted
//!   measuring   messages flow and are counted, until the time is up or the last message is answered
//!   draining    no message leaves; the run waits for the replies that are due, as long as a reply may take
//! ```
//!
//! So at the end every message has one of a few fates: it was answered, a network lost it (over UDP), its connection
//! failed, or an interrupt cut it off. Nothing disappears from the figures.
//!
//! # Open and closed loop
//!
//! In a *closed* loop a client sends when it has its reply. When the server stalls for a second, each client has one slow
//! message and does not send the others, so the percentiles hardly see the stall. In an *open* loop messages are due by
//! a schedule, as the requests of independent users are, and latency counts from the due moment: every message that was
//! due in that second sees the stall. The *service time*, beside it, counts from the moment at which the message left.
//! The *lag* is the delay of messages whose connection was free: the generator caused it.
//!
//! The kernel counts waits in whole milliseconds. To send on time, the loop of an open run sleeps until shortly before a
//! message is due and polls for the rest, which may take a whole core.

mod cause;
mod client;
mod clients;
mod cores;
mod datagram_client;
mod datagram_clients;
mod datagrams;
mod dialler;
mod encoding;
mod error;
mod exchange;
mod fairness;
mod figures;
mod flights;
mod found_rate;
mod generator;
mod greetings;
mod intervals;
mod mismatch;
mod outages;
mod pacer;
mod pattern;
mod plan;
mod processes;
mod progress;
mod queue;
mod ramp;
mod rate_search;
mod replies;
mod report;
mod run;
mod schedule;
mod series;
mod shares;
mod sizes;
mod slot;
mod sources;
mod starvation;
mod step;
mod stream;
mod stream_clients;
mod surroundings;
mod targets;
mod times;
mod traffic;
mod worker;

pub use self::cause::{Cause, Errors};
pub use self::error::{LoadError, ProcessesError};
pub use self::fairness::Fairness;
pub use self::figures::{Bytes, Connections, DatagramFates, Messages};
pub use self::found_rate::{FoundRate, SearchEnding};
pub use self::generator::Load;
pub use self::mismatch::{LooksLike, Mismatch};
pub use self::outages::{OutageFigures, OutageRecord};
pub use self::plan::{Arrivals, LONGEST_MESSAGE, Pace, Plan, PlanError, Reconnect, Usage};
pub use self::processes::Processes;
pub use self::progress::{Doing, Progress, Watcher};
pub use self::rate_search::RateSearch;
pub use self::replies::Replies;
pub use self::report::{
    Condition, ConditionError, FORMAT_VERSION, GeneratorPart, MergeError, Merged, PlotError, ReadError,
    Report, Side, Table, Verdict, compare, hgrm, in_a_line, merge, plot, read,
};
pub use self::series::Point;
pub use self::shares::{Order, Share, SharesError, shares};
pub use self::sizes::Sizes;
pub use self::sources::{Sources, SourcesError};
pub use self::starvation::Generator;
pub use self::step::{SearchPart, SearchStep, StepPlan};
pub use self::times::{Histogram, Histograms, Times};
pub use self::worker::{IntervalRecord, WorkerRecord};
