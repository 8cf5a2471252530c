//! `load --interval --json-lines`: a record an interval on standard output, while the run goes on.
//!
//! A loop that waited for the reader of its records would measure the reader. So it writes without waiting, and keeps
//! records that the reader has not taken yet. Beyond a bound it drops further ones, and counts them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use echoloop::load::{Point, Progress, ProgressRecord};
use rustix::fs::OFlags;
use serde::Serialize;

/// The most bytes that wait for a reader that lags: records of an hour and more.
const MOST_KEPT: usize = 1 << 20;

/// Standard output, written to without waiting.
pub(super) struct Records {
    output: Box<dyn Write>,
    /// Whole records; the first may have left in part.
    kept: Vec<u8>,
    dropped: u64,
}

#[derive(Serialize)]
struct Record<'a> {
    interval: &'a Point,
}

impl Records {
    pub(super) fn new() -> Records {
        // A file never waits. A pipe or a terminal is opened once more: O_NONBLOCK is a flag of the description, which
        // others share.
        let output: Box<dyn Write> = match nonblocking_output() {
            Some(file) => Box::new(file),
            None => Box::new(io::stdout()),
        };
        Records { output, kept: Vec::new(), dropped: 0 }
    }

    pub(super) fn write(&mut self, point: &Point) {
        // A record of numbers can't fail to be encoded.
        let Ok(mut line) = serde_json::to_vec(&Record { interval: point }) else { return };
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
}

impl Drop for Records {
    /// The run is over: now the reader can be waited for.
    fn drop(&mut self) {
        let mut output = io::stdout().lock();
        match output.write_all(&self.kept).and_then(|()| output.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                log::warn!("cannot write records to standard output: {error}");
            }
            _ => {}
        }
        if self.dropped > 0 {
            log::warn!("{} records were dropped: nobody read standard output", self.dropped);
        }
    }
}

/// The progress of one generator of several, for the process that started it.
pub(super) struct ProgressRecords {
    output: Option<File>,
}

impl ProgressRecords {
    pub(super) fn new() -> ProgressRecords {
        ProgressRecords { output: nonblocking_output() }
    }

    /// A pipe takes a short line whole or not at all. One that it doesn't take is dropped: the next one comes soon.
    pub(super) fn write(&mut self, progress: &Progress) {
        // A record of numbers can't fail to be encoded.
        let Ok(mut line) = serde_json::to_vec(&ProgressRecord { progress: *progress }) else { return };
        line.push(b'\n');
        if let Some(output) = &mut self.output {
            let _ = output.write(&line);
        }
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
