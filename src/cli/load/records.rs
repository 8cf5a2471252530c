//! Records on standard output while a run goes on: the intervals of `load --json-lines`, and the records that one of
//! several processes prints for its parent process.
//!
//! A loop that waited for the reader of its records would measure the reader. So this loop writes without waiting, and
//! keeps records that the reader has not taken yet. Beyond a bound the loop drops further records, and counts them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::SystemTime;

use echoloop::load::{Histogram, IntervalRecord, Point, Progress, Watcher, WorkerRecord};
use rustix::fs::OFlags;
use serde::Serialize;

/// The most bytes kept for a slow reader: the records of an hour and more.
const MOST_KEPT: usize = 1 << 20;

/// Standard output, written to without waiting.
pub(super) struct Records {
    output: Box<dyn Write>,
    /// Whole records, except that the kernel may have taken the beginning of the first.
    kept: Vec<u8>,
    dropped: u64,
}

/// The records of one process of several.
pub(super) struct WorkerRecords {
    records: Records,
    has_progress: bool,
    /// When the measured part began, in seconds since 1970.
    began: f64,
}

#[derive(Serialize)]
struct Record<'a> {
    interval: &'a Point,
}

impl Records {
    pub(super) fn new() -> Records {
        // A write to a file never waits. A pipe or a terminal is opened once more: O_NONBLOCK is a flag of the file
        // description, and other processes share the old description.
        let output: Box<dyn Write> = match nonblocking_output() {
            Some(file) => Box::new(file),
            None => Box::new(io::stdout()),
        };
        Records { output, kept: Vec::new(), dropped: 0 }
    }

    /// An interval is over.
    pub(super) fn interval(&mut self, point: &Point) {
        self.write(&Record { interval: point });
    }

    fn write(&mut self, record: &impl Serialize) {
        // A record of numbers can't fail to be encoded.
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        if self.kept.len() + line.len() > MOST_KEPT {
            self.dropped += 1;
        } else {
            self.kept.extend_from_slice(&line);
        }
        while !self.kept.is_empty() {
            match self.output.write(&self.kept) {
                Ok(count @ 1..) => drop(self.kept.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The reader lags, or has gone; the end of the run tells which.
                Ok(_) | Err(_) => break,
            }
        }
        let _ = self.output.flush();
    }

    /// Waits until the reader has taken all records.
    fn finish(&mut self) {
        let mut output = io::stdout().lock();
        match output.write_all(&std::mem::take(&mut self.kept)).and_then(|()| output.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                log::warn!("cannot write records to standard output: {error}");
            }
            _ => {}
        }
        if self.dropped > 0 {
            log::warn!(
                "{} records were dropped: nobody read standard output",
                std::mem::take(&mut self.dropped)
            );
        }
    }
}

impl Drop for Records {
    /// The run is over, so now it may wait for the reader.
    fn drop(&mut self) {
        self.finish();
    }
}

impl WorkerRecords {
    /// Tells the parent process that this process heeds signals now. `has_progress`: whether the parent shows the
    /// progress of this process.
    pub(super) fn begin(has_progress: bool) -> WorkerRecords {
        let mut records = Records::new();
        records.write(&WorkerRecord::Ready);
        WorkerRecords { records, has_progress, began: 0.0 }
    }
}

impl Watcher for WorkerRecords {
    fn watch(&mut self, progress: &Progress) {
        // While the reader lags, keep only intervals: the next progress comes soon.
        if self.has_progress && self.records.kept.is_empty() {
            self.records.write(&WorkerRecord::Progress(*progress));
        }
    }

    fn interval(&mut self, point: &Point, latency: &Histogram) {
        if point.at == 0.0 {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.began = now.as_secs_f64() - point.seconds;
        }
        // The last interval comes when the last client rests, perhaps long after the last reply.
        let ended = self.began + point.at + point.seconds;
        let record = IntervalRecord { ended, point: *point, latency: latency.clone() };
        self.records.write(&WorkerRecord::Interval(record));
    }

    /// Waits until the reader has all records: the report of the step comes next on standard output.
    fn pause(&mut self) {
        self.records.finish();
    }
}

fn nonblocking_output() -> Option<File> {
    let kind = std::fs::metadata("/proc/self/fd/1").ok()?.file_type();
    if !kind.is_fifo() && !kind.is_char_device() {
        return None;
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().write(true).custom_flags(i32::try_from(flags).ok()?).open("/proc/self/fd/1").ok()
}
