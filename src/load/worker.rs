//! One process of several, as its parent process sees it.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin};

use mio::unix::pipe::Receiver;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::progress::Progress;
use super::series::Point;
use super::times::Histogram;

/// The longest line that is read. The report of a day has some hundred kilobytes.
const LONGEST_LINE: usize = 64 << 20;
/// The last words of a generator that are kept.
const LAST_WORDS: usize = 16 * 1024;

/// A line that a generator prints while it runs, before its report.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerRecord {
    /// The generator heeds signals from now on.
    Ready,
    /// The progress of its run.
    Progress(Progress),
    /// An interval that is over.
    Interval(IntervalRecord),
}

/// An interval of one generator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IntervalRecord {
    /// When it ended, in seconds since 1970.
    pub ended: f64,
    /// Its figures.
    pub point: Point,
    /// Its latencies.
    pub latency: Histogram,
}

/// One process, and all that it has said so far.
pub(super) struct Worker {
    pub(super) process: Child,
    pub(super) input: Option<ChildStdin>,
    /// A line that has not ended yet.
    line: Vec<u8>,
    /// The report on the last order.
    pub(super) report: Option<Vec<u8>>,
    pub(super) progress: Option<Progress>,
    /// Intervals that were not taken yet.
    pub(super) intervals: Vec<IntervalRecord>,
    pub(super) words: Vec<u8>,
    /// Whether a signal makes it end its run and report.
    pub(super) is_ready: bool,
    /// Whether it became ready since the last look.
    has_become_ready: bool,
    /// Whether it prints nothing more.
    pub(super) has_ended: bool,
}

impl Worker {
    pub(super) fn new(process: Child, input: Option<ChildStdin>) -> Worker {
        Worker {
            process,
            input,
            line: Vec::new(),
            report: None,
            progress: None,
            intervals: Vec::new(),
            words: Vec::new(),
            is_ready: false,
            has_become_ready: false,
            has_ended: false,
        }
    }

    /// Writes a line to it.
    pub(super) fn tell(&mut self, something: &impl Serialize) -> io::Result<()> {
        let Some(input) = &mut self.input else { return Ok(()) };
        let line = serde_json::to_string(something)? + "\n";
        match input.write_all(line.as_bytes()) {
            // The process has died already. Its last words are still to be read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Reads what there is. True at the end.
    pub(super) fn read(&mut self, pipe: &mut Receiver, is_output: bool) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match pipe.read(&mut buffer) {
                Ok(count @ 1..) if is_output => self.take_lines(&buffer[..count]),
                Ok(count @ 1..) => self.keep_words(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// Each line is a record or a report.
    fn take_lines(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // A longer line is cut off, so it can't be read as a report.
            let room = LONGEST_LINE - self.line.len();
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if !piece.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            match serde_json::from_slice::<WorkerRecord>(&line) {
                Ok(WorkerRecord::Ready) => (self.is_ready, self.has_become_ready) = (true, true),
                Ok(WorkerRecord::Progress(progress)) => self.progress = Some(progress),
                Ok(WorkerRecord::Interval(interval)) => self.intervals.push(interval),
                Err(_) => self.report = Some(line),
            }
        }
    }

    /// Whether it has become ready since this was asked.
    pub(super) fn take_ready(&mut self) -> bool {
        std::mem::take(&mut self.has_become_ready)
    }

    fn keep_words(&mut self, bytes: &[u8]) {
        self.words.extend_from_slice(bytes);
        let surplus = self.words.len().saturating_sub(LAST_WORDS);
        self.words.drain(..surplus);
    }

    pub(super) fn last_words(&self) -> String {
        let words = String::from_utf8_lossy(&self.words).trim().to_owned();
        if words.is_empty() { "it said nothing".into() } else { words.replace("echoloop: ", "") }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // It fails only if the process has ended.
        let _ = kill_process(Pid::from_child(&self.process), signal);
    }
}
