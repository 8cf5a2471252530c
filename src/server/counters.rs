//! The server's counters. The summary, `/metrics` and the report read the same ones.

use std::fmt;

use super::datagrams::DatagramCounts;
use super::histogram::Histogram;
use crate::net::Traffic;
use crate::reactor::Turn;

/// The work of a server, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections that the server served.
    pub served: u64,
    /// Connections that the server closed at once, because there were too many.
    pub refused: u64,
    /// Connections that the server closed because their PROXY header was missing or wrong.
    pub unannounced: u64,
    /// The most connections at once.
    pub most_at_once: usize,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Connections that ended before we had answered everything and the peer had taken it.
    pub cut_off: u64,
    /// Bytes that we had received and not answered when their connection ended, and bytes of answers that the peer had
    /// not taken.
    pub bytes_cut_off: u64,
    /// Datagrams. The bytes above don't include theirs.
    pub datagrams: DatagramCounts,
}

/// The counters of connections and turns. (UDP counts in [`DatagramCounts`].)
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// Connections at present, including those whose PROXY header is not complete.
    pub(super) open: usize,
    pub(super) accepted: u64,
    /// Some fields of the summary count here; [`Counters::summary`] fills in the others.
    pub(super) summary: Summary,
    /// Bytes that connections have moved, as of the end of the last turn.
    pub(super) traffic: Traffic,
    pub(super) endings: Endings,
    /// Times that accepting paused because the limit of connections was reached.
    pub(super) pauses_at_limit: u64,
    /// Times that accepting paused because it failed, mostly for lack of descriptors or memory.
    pub(super) pauses_exhausted: u64,
    pub(super) turns: Turns,
}

/// The turns of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Turns {
    pub(super) turns: u64,
    pub(super) events: u64,
    /// Sources that had a share from the run queue.
    pub(super) resumed: u64,
    /// The length of the run queue at the beginning of the last turn.
    pub(super) run_queue: usize,
    /// The durations of turns, without the wait for events. Empty unless the turns are timed.
    pub(super) times: Histogram,
}

/// How a connection ended. The names are labels of a metric, on which dashboards rely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client ended its input, and the kernel took all answers.
    Finished,
    /// We ended it, and the client followed.
    EndedByUs,
    /// The client or the network broke it.
    Reset,
    /// The system had no memory for its bytes.
    NoMemory,
    /// Not a byte for too long.
    IdleTimeout,
    /// The client took nothing for too long.
    WriteTimeout,
    /// We ended it, and the client did not follow.
    LingerTimeout,
    /// The server cut it off when the time to drain was over, or at a second request to stop.
    DrainTimeout,
    /// The server required a PROXY header, and none came.
    NoProxyHeader,
}

/// How many connections ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Endings([u64; Ending::ALL.len()]);

impl Counters {
    /// Counts a connection that was accepted and has its slot.
    pub(super) fn took_in(&mut self) {
        self.accepted += 1;
        self.open += 1;
        self.summary.most_at_once = self.summary.most_at_once.max(self.open);
    }

    /// Counts a connection that has ended and leaves its slot.
    pub(super) fn ended(&mut self, ending: Ending) {
        self.open -= 1;
        self.endings.0[ending as usize] += 1;
    }

    /// Counts a connection that was cut off, and its lost bytes.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.summary.cut_off += 1;
        self.summary.bytes_cut_off += bytes;
    }

    pub(super) fn summary(&self, datagrams: DatagramCounts) -> Summary {
        Summary {
            unannounced: self.endings.of(Ending::NoProxyHeader),
            bytes_in: self.traffic.received,
            bytes_out: self.traffic.sent,
            datagrams,
            ..self.summary
        }
    }
}

impl Turns {
    /// Counts a turn that has ended.
    pub(super) fn add(&mut self, turn: &Turn) {
        self.turns += 1;
        self.events += turn.events as u64;
        self.resumed += turn.queued as u64;
        self.run_queue = turn.waiting;
        if let Some(times) = &turn.times {
            self.times.record(times.ended.since(times.poll_ended));
        }
    }
}

impl Ending {
    /// Each with the value of the label `reason`, in the order of their definition.
    const ALL: [(Ending, &'static str); 9] = [
        (Ending::Finished, "finished"),
        (Ending::EndedByUs, "ended_by_us"),
        (Ending::Reset, "reset"),
        (Ending::NoMemory, "no_memory"),
        (Ending::IdleTimeout, "idle_timeout"),
        (Ending::WriteTimeout, "write_timeout"),
        (Ending::LingerTimeout, "linger_timeout"),
        (Ending::DrainTimeout, "drain_timeout"),
        (Ending::NoProxyHeader, "no_proxy_header"),
    ];
}

impl Endings {
    pub(super) fn of(&self, ending: Ending) -> u64 {
        self.0[ending as usize]
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Ending::ALL.into_iter().map(|(_, name)| name).zip(self.0)
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { served, refused, unannounced, most_at_once, bytes_in, bytes_out, .. } = self;
        let Summary { cut_off, bytes_cut_off, datagrams, .. } = self;
        write!(f, "{served} connections served, {most_at_once} at once at most, ")?;
        write!(f, "{bytes_in} bytes in, {bytes_out} bytes out, ")?;
        write!(f, "{cut_off} connections cut off with {bytes_cut_off} bytes")?;
        if *refused > 0 {
            write!(f, ", {refused} refused")?;
        }
        if *unannounced > 0 {
            write!(f, ", {unannounced} without a PROXY header")?;
        }
        let DatagramCounts { received, answered, ignored, dropped, overflowed } = datagrams;
        if *received > 0 || overflowed.is_some_and(|count| count > 0) {
            write!(f, "; {received} datagrams, {answered} answered, {ignored} ignored, {dropped} dropped")?;
            if let Some(overflowed) = overflowed {
                write!(f, ", {overflowed} overflowed")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ending_has_a_counter_and_a_name_of_its_own() {
        let mut counters = Counters { open: 100, ..Counters::default() };
        for (times, (ending, _)) in (1..).zip(Ending::ALL) {
            (0..times).for_each(|_| counters.ended(ending));
        }
        for (times, (counted, (ending, name))) in (1..).zip(counters.endings.each().zip(Ending::ALL)) {
            assert_eq!((counted, counters.endings.of(ending)), ((name, times), times));
        }
        let names: std::collections::HashSet<_> = counters.endings.each().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Ending::ALL.len());
        assert_eq!(counters.open as u64, 100 - counters.endings.total());
    }
}
