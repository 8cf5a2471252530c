//! The server's figures at one moment, and their few lines in the log.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::net::BufferBytes;
use crate::server::counters::Counters;
use crate::server::datagrams::DatagramCounts;
use crate::system::{DescriptorLimit, cpu_time, open_descriptors};

/// All figures of `/metrics` and the report.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Connections, without those to the admin endpoint, and the turns of the loop.
    pub(crate) counters: Counters,
    /// The most connections at once.
    pub(crate) connections_allowed: usize,
    /// How often a connection paused because its write buffer was full.
    pub(crate) pauses_of_reading: u64,
    pub(crate) buffers: BufferBytes,
    /// Pipes that hold bytes of a connection.
    pub(crate) pipes_in_use: usize,
    pub(crate) datagrams: DatagramCounts,
    pub(crate) process: ProcessFigures,
    /// The reason why the server accepts no connections; `None`: it does.
    pub(crate) not_accepting: Option<NotAccepting>,
}

/// The reason why the server accepts no connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAccepting {
    /// The server is stopping.
    Stopping,
    /// It has accepted as many as its options ask for.
    Enough,
    /// There are no descriptors, or there is no memory.
    Exhausted,
    /// It is at the limit of connections. Further ones wait, or the server refuses them.
    Full { limit: usize },
}

/// The process at one moment.
#[derive(Clone, Debug)]
pub(crate) struct ProcessFigures {
    pub(super) started: SystemTime,
    pub(super) cpu: Duration,
    /// `None` where the system does not tell.
    pub(super) descriptors_open: Option<usize>,
    pub(super) descriptors_allowed: u64,
}

/// The process since its start.
pub(crate) struct Process {
    started: SystemTime,
    /// Descriptors that are open and not in the loop. `None`: the system does not tell.
    other_descriptors: Option<usize>,
}

impl Process {
    pub(crate) fn new(in_the_loop: usize) -> Process {
        let mut process = Process { started: SystemTime::now(), other_descriptors: None };
        process.count_descriptors(in_the_loop);
        process
    }

    /// Counts the descriptors before the first client connects. From here on the loop knows how many it opens and
    /// closes. To count them all each time would take longer the more connections there are, and would need a
    /// descriptor itself.
    pub(crate) fn count_descriptors(&mut self, in_the_loop: usize) {
        self.other_descriptors = open_descriptors().ok().map(|open| open.saturating_sub(in_the_loop));
    }

    /// Notes that a descriptor outside the loop was closed.
    pub(crate) fn descriptor_closed(&mut self) {
        self.other_descriptors = self.other_descriptors.map(|other| other.saturating_sub(1));
    }

    pub(crate) fn figures(&self, in_the_loop: usize) -> ProcessFigures {
        ProcessFigures {
            started: self.started,
            cpu: cpu_time(),
            descriptors_open: self.other_descriptors.map(|other| other + in_the_loop),
            descriptors_allowed: DescriptorLimit::current().soft,
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
    /// The report: a few lines, each complete in itself.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Figures { counters, datagrams, process, .. } = self;
        let turns = &counters.turns;
        let endings: String = counters
            .endings
            .each()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!(", {count} {reason}"))
            .collect();
        let overflowed =
            datagrams.overflowed.map_or_else(String::new, |count| format!(", {count} overflowed"));
        let descriptors = process.descriptors_open.map_or_else(|| "?".into(), |open| open.to_string());
        let mut lines = vec![
            format!(
                "{} connections open of at most {}, {} accepted, {} refused, {} closed{endings}; {} cut off with {} bytes",
                counters.open,
                self.connections_allowed,
                counters.accepted,
                counters.summary.refused,
                counters.endings.total(),
                counters.summary.cut_off,
                counters.summary.bytes_cut_off,
            ),
            format!(
                "{} bytes in, {} bytes out, {} of them spliced; {} datagrams in, {} answered, {} ignored, {} dropped{overflowed}",
                counters.traffic.received,
                counters.traffic.sent,
                counters.traffic.spliced,
                datagrams.received,
                datagrams.answered,
                datagrams.ignored,
                datagrams.dropped,
            ),
            format!(
                "accepting paused {} times at the limit and {} times for lack of descriptors, reading {} times; buffers: \
                 {} bytes in use, {} kept; {} pipes in use",
                counters.pauses_at_limit,
                counters.pauses_exhausted,
                self.pauses_of_reading,
                self.buffers.in_use,
                self.buffers.pooled,
                self.pipes_in_use,
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
        ];
        lines.extend(self.not_accepting.map(|reason| format!("not accepting: {reason}")));
        lines
    }
}

impl fmt::Display for NotAccepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAccepting::Stopping => f.write_str("stopping"),
            NotAccepting::Enough => f.write_str("as many connections as were asked for were accepted"),
            NotAccepting::Exhausted => {
                f.write_str("the server pauses accepting: out of descriptors or memory")
            }
            NotAccepting::Full { limit } => write!(f, "the limit of {limit} connections is reached"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::server::admin) fn figures() -> Figures {
        Figures {
            counters: Counters { open: 3, ..Counters::default() },
            connections_allowed: 10,
            pauses_of_reading: 0,
            buffers: BufferBytes::default(),
            pipes_in_use: 2,
            datagrams: DatagramCounts::default(),
            process: ProcessFigures {
                started: UNIX_EPOCH,
                cpu: Duration::from_millis(1500),
                descriptors_open: Some(9),
                descriptors_allowed: u64::MAX,
            },
            not_accepting: None,
        }
    }
}
