//! A file of trace events: the JSON array that Perfetto and `chrome://tracing` open, of bounded size.
//!
//! The viewers do not need the closing bracket, so the file of a killed process opens as well. Each event is a line,
//! and the server writes only whole lines: after a crash of the machine, at most the last line is torn.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use serde::Serialize;

use crate::reactor::Moment;

/// The buffer holds events until they are this many bytes, or the turn ends.
const BUFFERED: usize = 64 * 1024;
/// Bytes below the limit, kept for the event that mentions the limit and for the closing bracket.
const RESERVED: u64 = 512;

/// Reasons to refuse a file.
const PIPE: &str = "it is a pipe, whose reader could hold the server up (name a file)";
const TERMINAL: &str = "it is a terminal, which could hold the server up (name a file)";

/// A thread of the trace, which viewers draw as a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Row(pub(super) u64);

/// The first row. Viewers take thread 0 for the idle thread.
pub(super) const FIRST_ROW: Row = Row(1);

/// The reason why the recording is over.
#[derive(Debug)]
pub(super) enum Over {
    /// The file has reached its limit, and is complete.
    Limit,
    /// Writing failed.
    Failed(io::Error),
}

/// The file, and the events that are not written yet.
pub(super) struct TraceFile {
    file: File,
    process: u32,
    start: Moment,
    buffer: Vec<u8>,
    written: u64,
    limit: u64,
    over: Option<Over>,
}

/// An event in the format's own names. The file leaves out fields that are `None`.
#[derive(Serialize)]
struct Event<N, A> {
    name: N,
    ph: char,
    pid: u32,
    tid: Row,
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<char>,
    args: A,
}

impl TraceFile {
    /// Creates the file, or empties it if it exists.
    ///
    /// # Errors
    /// When the system can't create it, or it is a pipe or a terminal, whose reader may be slow.
    pub(super) fn create(path: &Path, process: &str, limit: u64) -> io::Result<TraceFile> {
        let mut trace = TraceFile {
            file: create(path)?,
            process: std::process::id(),
            start: Moment::now(),
            buffer: Vec::with_capacity(BUFFERED),
            written: 0,
            limit,
            over: None,
        };
        trace.buffer.push(b'[');
        trace.append("\n", &trace.naming("process_name", FIRST_ROW, process));
        Ok(trace)
    }

    /// Names a row.
    pub(super) fn name(&mut self, row: Row, name: &str) {
        self.record(&self.naming("thread_name", row, name));
    }

    /// Records something that took from `began` to `ended`.
    pub(super) fn complete(
        &mut self,
        row: Row,
        name: impl Serialize,
        (began, ended): (Moment, Moment),
        args: impl Serialize,
    ) {
        let event = self.event('X', row, name, began, args);
        self.record(&Event { dur: Some(microseconds(ended.since(began))), ..event });
    }

    /// Records something without a duration.
    pub(super) fn instant(&mut self, row: Row, name: impl Serialize, at: Moment, args: impl Serialize) {
        let event = self.event('i', row, name, at, args);
        self.record(&Event { s: Some('t'), ..event });
    }

    /// Records numbers that hold from this moment on.
    pub(super) fn counter(&mut self, row: Row, name: impl Serialize, at: Moment, args: impl Serialize) {
        self.record(&self.event('C', row, name, at, args));
    }

    /// Records the beginning of something whose end is not known yet. Until then, everything on this row is within it.
    pub(super) fn begin(&mut self, row: Row, name: impl Serialize, at: Moment, args: impl Serialize) {
        self.record(&self.event('B', row, name, at, args));
    }

    /// Records the end of the last beginning on this row.
    pub(super) fn end(&mut self, row: Row, name: impl Serialize, at: Moment, args: impl Serialize) {
        self.record(&self.event('E', row, name, at, args));
    }

    /// Writes the buffered events; returns their bytes. A failure ends the trace, never the server.
    pub(super) fn flush(&mut self) -> usize {
        let length = self.buffer.len();
        match self.file.write_all(&self.buffer) {
            Ok(()) => self.written += length as u64,
            Err(error) => {
                // The system may have written a part. Viewers open a file only if it ends with a whole event.
                let _ = self.file.set_len(self.written);
                self.over = Some(Over::Failed(error));
            }
        }
        self.buffer.clear();
        length
    }

    /// The reason why the recording is over, if it is.
    pub(super) fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When the system can't write the file.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.over.is_none() {
            self.close();
        }
        match self.over {
            Some(Over::Failed(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        self.buffer.extend_from_slice(b"\n]\n");
        self.flush();
    }

    fn event<N, A>(&self, phase: char, row: Row, name: N, at: Moment, args: A) -> Event<N, A> {
        let ts = microseconds(at.since(self.start));
        Event { name, ph: phase, pid: self.process, tid: row, ts, dur: None, s: None, args }
    }

    /// An event that names something, and that viewers don't draw.
    fn naming<'a>(&self, what: &'static str, row: Row, name: &'a str) -> Event<&'static str, Name<'a>> {
        self.event('M', row, what, self.start, Name { name })
    }

    fn record(&mut self, event: &Event<impl Serialize, impl Serialize>) {
        if self.over.is_some() {
            return;
        }
        let before = self.buffer.len();
        // The comma stands before an event and not behind it, so that the file never ends with a comma.
        self.append(",\n", event);
        if self.written + self.buffer.len() as u64 > self.limit.saturating_sub(RESERVED) {
            self.buffer.truncate(before);
            self.end_at_limit();
        } else if self.buffer.len() >= BUFFERED {
            self.flush();
        }
    }

    fn end_at_limit(&mut self) {
        let name = "the limit of the trace is reached";
        let event = self.event('i', FIRST_ROW, name, Moment::now(), Nothing {});
        self.append(",\n", &Event { s: Some('g'), ..event });
        self.over = Some(Over::Limit);
        self.close();
    }

    fn append(&mut self, separator: &str, event: &Event<impl Serialize, impl Serialize>) {
        self.buffer.extend_from_slice(separator.as_bytes());
        serde_json::to_writer(&mut self.buffer, event)
            .expect("memory takes everything, and the keys are strings");
    }
}

/// Opens the file without blocking: neither opening nor writing may wait for a reader. If a device takes no more bytes,
/// or a pipe has taken the file's place, the write fails, and this ends the trace.
fn create(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let opened = open(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::from_raw_mode(0o666));
    match opened.map(File::from) {
        // A pipe that nobody reads from.
        Err(Errno::NXIO) => Err(io::Error::other(PIPE)),
        Ok(file) if file.metadata()?.file_type().is_fifo() => Err(io::Error::other(PIPE)),
        Ok(file) if file.is_terminal() => Err(io::Error::other(TERMINAL)),
        opened => Ok(opened?),
    }
}

/// The arguments of an event that has none.
#[derive(Serialize)]
pub(super) struct Nothing {}

/// The arguments of an event that names something.
#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

/// The format's unit. Nanoseconds are its decimals.
fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
