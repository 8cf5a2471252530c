//! What is counted, at one moment, and how it is said in a few lines of the log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::net::BufferBytes;
use crate::reactor::Turn;
use crate::server::datagrams::DatagramCounts;

use super::histogram::Histogram;

/// Everything that a server counts.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) connections: ConnectionFigures,
    pub(crate) datagrams: DatagramCounts,
    pub(crate) turns: LoopFigures,
    pub(crate) process: ProcessFigures,
}

/// The connections of the echo; those of the admin endpoint are not among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionFigures {
    pub(crate) open: usize,
    pub(crate) allowed: usize,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) closed: Closed,
    pub(crate) cut_off: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_cut_off: u64,
    /// Times that accepting was paused because there were as many connections as there may be.
    pub(crate) pauses_at_limit: u64,
    /// Times that accepting was paused because there was no descriptor or no memory.
    pub(crate) pauses_exhausted: u64,
    /// Times that a connection was not read because too much was unsent.
    pub(crate) pauses_of_reading: u64,
    pub(crate) buffers: BufferBytes,
}

/// What the turns of the loop consisted of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoopFigures {
    pub(crate) turns: u64,
    pub(crate) events: u64,
    /// Sources that were served from the run queue.
    pub(crate) resumed: u64,
    /// The length of the run queue when it last came up.
    pub(crate) run_queue: usize,
    /// How long turns took, the wait for events left out; empty unless the turns are timed.
    pub(crate) times: Histogram,
}

/// The process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessFigures {
    pub(crate) started: SystemTime,
    pub(crate) cpu: Duration,
    /// `None` where the system does not tell.
    pub(crate) descriptors_open: Option<usize>,
    pub(crate) descriptors_allowed: u64,
}

/// How connections ended, in words that are kept for those who have dashboards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client ended its input, and everything was answered.
    Finished,
    /// We ended it, and the client followed.
    EndedByUs,
    /// Broken by the client or the network.
    Reset,
    /// Not a byte for too long.
    IdleTimeout,
    /// The client took nothing for too long.
    WriteTimeout,
    /// We ended it, and the client did not follow.
    LingerTimeout,
    /// Cut off when the time to drain was over.
    DrainTimeout,
    /// A header of the PROXY protocol was required, and there was none.
    NoProxyHeader,
}

impl Ending {
    pub(crate) const ALL: [Ending; 8] = [
        Ending::Finished,
        Ending::EndedByUs,
        Ending::Reset,
        Ending::IdleTimeout,
        Ending::WriteTimeout,
        Ending::LingerTimeout,
        Ending::DrainTimeout,
        Ending::NoProxyHeader,
    ];

    /// The value of the label `reason`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ending::Finished => "finished",
            Ending::EndedByUs => "ended_by_us",
            Ending::Reset => "reset",
            Ending::IdleTimeout => "idle_timeout",
            Ending::WriteTimeout => "write_timeout",
            Ending::LingerTimeout => "linger_timeout",
            Ending::DrainTimeout => "drain_timeout",
            Ending::NoProxyHeader => "no_proxy_header",
        }
    }
}

/// How many connections ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closed([u64; Ending::ALL.len()]);

impl Closed {
    pub(crate) fn count(&mut self, ending: Ending) {
        self.0[ending as usize] += 1;
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Ending::ALL.into_iter().map(Ending::name).zip(self.0)
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl LoopFigures {
    /// Counts a turn that has ended.
    pub(crate) fn add(&mut self, turn: &Turn) {
        self.turns += 1;
        self.events += turn.events as u64;
        self.resumed += turn.queued as u64;
        self.run_queue = turn.queued;
        if let Some(times) = &turn.times {
            self.times.record(times.ended.since(times.poll_ended));
        }
    }
}

impl ProcessFigures {
    /// Seconds since 1970 at which the process started.
    pub(super) fn start_time(&self) -> f64 {
        self.started.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
    }

    /// How long it has run, in whole seconds.
    fn age(&self) -> Duration {
        Duration::from_secs(self.started.elapsed().map_or(0, |time| time.as_secs()))
    }
}

impl Figures {
    /// The same in a few lines, each of which is complete in itself.
    pub(crate) fn lines(&self) -> [String; 4] {
        let Figures { connections, datagrams, turns, process } = self;
        let closed: String = connections
            .closed
            .each()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!(", {count} {reason}"))
            .collect();
        let overflowed =
            datagrams.overflowed.map_or_else(String::new, |count| format!(", {count} overflowed"));
        let descriptors = process.descriptors_open.map_or_else(|| "?".into(), |open| open.to_string());
        [
            format!(
                "{} connections open of at most {}, {} accepted, {} refused, {} closed{closed}; {} cut off with {} bytes",
                connections.open,
                connections.allowed,
                connections.accepted,
                connections.refused,
                connections.closed.total(),
                connections.cut_off,
                connections.bytes_cut_off,
            ),
            format!(
                "{} bytes in, {} bytes out; {} datagrams in, {} answered, {} ignored, {} dropped{overflowed}",
                connections.bytes_in,
                connections.bytes_out,
                datagrams.received,
                datagrams.answered,
                datagrams.ignored,
                datagrams.dropped,
            ),
            format!(
                "accepting paused {} times at the limit and {} times for lack of descriptors, reading {} times; buffers: \
                 {} bytes in use, {} kept",
                connections.pauses_at_limit,
                connections.pauses_exhausted,
                connections.pauses_of_reading,
                connections.buffers.in_use,
                connections.buffers.pooled,
            ),
            format!(
                "{} turns with {} events, run queue {}; {descriptors} of {} descriptors; up {}, processor time {:.1?}",
                turns.turns,
                turns.events,
                turns.run_queue,
                process.descriptors_allowed,
                humantime::format_duration(process.age()),
                process.cpu,
            ),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::server::admin) fn figures() -> Figures {
        Figures {
            connections: ConnectionFigures { open: 3, ..ConnectionFigures::default() },
            datagrams: DatagramCounts::default(),
            turns: LoopFigures::default(),
            process: ProcessFigures {
                started: UNIX_EPOCH,
                cpu: Duration::from_millis(1500),
                descriptors_open: Some(9),
                descriptors_allowed: u64::MAX,
            },
        }
    }

    #[test]
    fn each_ending_has_a_counter_and_a_name_of_its_own() {
        let mut closed = Closed::default();
        for (times, ending) in (1..).zip(Ending::ALL) {
            (0..times).for_each(|_| closed.count(ending));
        }
        for (times, ((name, count), ending)) in (1..).zip(closed.each().zip(Ending::ALL)) {
            assert_eq!((count, name), (times, ending.name()));
        }
        let names: std::collections::HashSet<_> = closed.each().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Ending::ALL.len());
    }
}
