//! `--trace`: the turns of the loop, and the work of each connection in them, as a picture of bars over time.
//!
//! ```text
//!   loop              │ poll ··········· │ batch            │ poll ······ │ batch       │
//!   127.0.0.1:1234    ······················· read 41 write 41 ························
//!   127.0.0.1:1235    ···· paused ··················································· drained
//! ```
//!
//! The loop has a row, and so has each connection. The file has one too, so that the picture shows the cost of the
//! recording. UDP sockets have no rows: their work is within the batch. Writing to a file can block the loop, and a
//! disk can be slow. Nothing else in the loop writes to a file. So record for a while to look, and not every day.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use serde::Serialize;

use super::trace_file::{FIRST_ROW, Nothing, Over, Row, TraceFile};
use crate::net::{Connection, Deed, Entry, Peer, Phase, Socket, Transport};
use crate::reactor::{Moment, Readiness, Token, Turn};
use crate::server::error::Error;
use crate::system::describe;

const LOOP: Row = FIRST_ROW;
const FILE: Row = Row(LOOP.0 + 1);
const FIRST_CONNECTION: u64 = FILE.0 + 1;

/// The file for the recording, and its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOptions {
    /// The file. If it exists, the server empties it.
    pub path: PathBuf,
    /// The largest size of the file. The server records no turns beyond it.
    pub limit: u64,
}

/// A recording that is under way.
pub(super) struct Trace {
    file: TraceFile,
    options: TraceOptions,
}

impl Trace {
    pub(super) fn create(options: TraceOptions) -> Result<Trace, Error> {
        let mut file = TraceFile::create(&options.path, "echoloop", options.limit)
            .map_err(|error| Error::trace(&options.path, &error))?;
        file.name(LOOP, "loop");
        file.name(FILE, "trace file");
        log::info!("recording at most {} bytes of turns in {}", options.limit, options.path.display());
        Ok(Trace { file, options })
    }

    /// Begins the row of a connection.
    pub(super) fn opened(&mut self, token: Token, peer: &Peer) {
        let (row, now) = (row(token), Moment::now());
        self.file.name(row, &peer.to_string());
        self.file.begin(row, format_args!("{peer}"), now, Nothing {});
    }

    /// Records an event for a connection.
    pub(super) fn ready(&mut self, token: Token, readiness: Readiness) {
        let said: Vec<&str> = readiness.names().collect();
        let name = said.first().unwrap_or(&"woken");
        self.file.instant(row(token), name, Moment::now(), Event { said: said.join(", ") });
    }

    /// Records the steps of a connection, after a pump.
    pub(super) fn record(&mut self, token: Token, steps: Vec<Entry>) {
        let row = row(token);
        for Entry { began, ended, deed } in steps {
            match deed {
                Deed::Read { asked, result } => {
                    let bytes = result.as_ref().ok().copied();
                    self.call(row, "read", &result, (began, ended), Read { asked, bytes });
                }
                Deed::Wrote { offered, result } => {
                    let bytes = result.as_ref().ok().copied();
                    self.call(row, "write", &result, (began, ended), Write { offered, bytes });
                }
                Deed::Paused { unsent } => self.file.begin(row, "paused", began, Unsent { unsent }),
                Deed::Resumed { unsent } => {
                    self.file.end(row, "paused", began, Nothing {});
                    self.file.instant(row, "drained", began, Unsent { unsent });
                }
                // `closed` records the end, with its reason.
                Deed::Entered { to: Phase::Ended, .. } => {}
                Deed::Entered { to, .. } => self.file.instant(row, format_args!("{to:?}"), began, Nothing {}),
            }
        }
    }

    /// Records that a connection has had its share of the turn, and waits for the next.
    pub(super) fn queued(&mut self, token: Token) {
        self.file.instant(row(token), "queued", Moment::now(), Nothing {});
    }

    /// Records the state of a connection after a pump, as counters.
    pub(super) fn looked(&mut self, token: Token, connection: &Connection<Socket>, deadline: Option<Moment>) {
        let (row, now) = (row(token), Moment::now());
        let state = State {
            receive: connection.transport().pending_input().ok(),
            retained: connection.retained(),
            unsent: connection.unsent(),
            readable: connection.is_readable().into(),
            writable: connection.is_writable().into(),
            paused: connection.is_paused().into(),
            deadline: deadline.map(|at| at.since(now).as_micros() as u64),
        };
        self.file.counter(row, format_args!("state {}", row.0), now, state);
    }

    /// Ends the row of a connection that is about to be removed.
    pub(super) fn closed(
        &mut self,
        token: Token,
        connection: &Connection<Socket>,
        peer: &Peer,
        reason: &str,
    ) {
        let (row, now, unsent) = (row(token), Moment::now(), connection.unsent());
        if connection.is_paused() {
            self.file.end(row, "paused", now, Unsent { unsent });
        }
        let closed = Closed { reason, received: connection.received(), sent: connection.sent(), unsent };
        self.file.instant(row, "closed", now, closed);
        self.file.end(row, format_args!("{peer}"), now, Nothing {});
    }

    fn call(
        &mut self,
        row: Row,
        name: &str,
        result: &io::Result<usize>,
        time: (Moment, Moment),
        args: impl Serialize,
    ) {
        match result {
            Ok(count) => self.file.complete(row, format_args!("{name} {count}"), time, args),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.file.complete(row, format_args!("{name} WouldBlock"), time, args);
            }
            Err(error) => self.file.complete(row, format_args!("{name}: {}", describe(error)), time, args),
        }
    }

    /// Records the turn that has just ended, and writes everything recorded in it, so that the file of a killed server
    /// ends with its last turn. Returns whether the recording goes on.
    pub(super) fn turn_ended(&mut self, turn: &Turn) -> bool {
        let Some(times) = turn.times else { return true };
        let parts = [
            ("batch", turn.events, times.poll_ended, times.batch_ended),
            ("run queue", turn.queued, times.batch_ended, times.run_queue_ended),
            ("deadlines", turn.deadlines, times.run_queue_ended, times.deadlines_ended),
        ];
        // A loop that polls without sleeping takes a million empty turns a second.
        if parts.iter().any(|(_, count, ..)| *count > 0) {
            let poll = (times.poll_began, times.poll_ended);
            self.file.complete(LOOP, "poll", poll, Count { count: turn.events });
            for (name, count, began, ended) in parts.into_iter().filter(|(_, count, ..)| *count > 0) {
                self.file.complete(LOOP, name, (began, ended), Count { count });
            }
            let end = (times.deadlines_ended, times.ended);
            self.file.complete(LOOP, "end of turn", end, Nothing {});
            self.write();
        }
        match self.file.over() {
            None => return true,
            Some(Over::Limit) => log::warn!(
                "the trace {} is complete: it has reached its limit of {} bytes (--trace-limit)",
                self.options.path.display(),
                self.options.limit
            ),
            Some(Over::Failed(error)) => complain(&self.options, error),
        }
        false
    }

    /// Completes the file.
    pub(super) fn finish(self) {
        if let Err(error) = self.file.finish() {
            complain(&self.options, &error);
        }
    }

    fn write(&mut self) {
        let began = Moment::now();
        let count = self.file.flush();
        self.file.complete(FILE, format_args!("write {count}"), (began, Moment::now()), Count { count });
    }
}

fn complain(options: &TraceOptions, error: &io::Error) {
    log::warn!("the trace {} ends early: {}", options.path.display(), describe(error));
}

/// Each connection has a row of its own, even in a slot that an earlier connection had.
fn row(token: Token) -> Row {
    Row(FIRST_CONNECTION + u64::from(token.generation()))
}

#[derive(Serialize)]
struct Count {
    count: usize,
}

#[derive(Serialize)]
struct Event {
    said: String,
}

#[derive(Serialize)]
struct Read {
    asked: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

#[derive(Serialize)]
struct Write {
    offered: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

/// Only numbers, since the format's counters have nothing else.
#[derive(Serialize)]
struct State {
    /// Bytes that the kernel holds for us to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    receive: Option<usize>,
    retained: usize,
    unsent: usize,
    readable: u8,
    writable: u8,
    paused: u8,
    /// Microseconds to its deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<u64>,
}

#[derive(Serialize)]
struct Unsent {
    unsent: usize,
}

#[derive(Serialize)]
struct Closed<'a> {
    reason: &'a str,
    received: u64,
    sent: u64,
    unsent: usize,
}
