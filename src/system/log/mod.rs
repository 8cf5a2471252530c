//! The log: one line an event, on standard error, that can neither block the loop nor end the program.
//!
//! A program in one thread must not wait for the reader of its log: all its clients would wait as well. A line is one
//! nonblocking write. The log drops a line that the kernel does not take, and the next line that the kernel takes tells
//! how many were dropped.
//!
//! [`simple_logger`] decides which records are logged. Where standard error allows no nonblocking write (see
//! [`StandardError::Shared`]) it also prints them, after a poll for room. Elsewhere its `eprintln!` would take two
//! writes a line, tear lines, and panic where it should drop one.

mod escaped;
mod lines;
mod live_line;
mod standard_error;

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _, stderr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simple_logger::SimpleLogger;

pub use self::escaped::Escaped;
use self::escaped::Printable;
use self::lines::Lines;
pub use self::live_line::LiveLine;
use self::standard_error::StandardError;

/// A pipe takes up to `PIPE_BUF` bytes whole or not at all, and a poll promises room for no more; on Linux that is
/// 4096 bytes. The time, the level and the colours fit into the rest.
const LONGEST_MESSAGE: usize = 3800;
/// How long [`Log::flush`] waits for a reader that lags.
const PATIENCE: Duration = Duration::from_millis(500);

/// A [`Log`] that writes to standard error and never waits for its reader.
pub struct StandardErrorLog {
    logger: SimpleLogger,
    output: StandardError,
    coloured: bool,
    /// A thread holds it for one nonblocking write, so no thread waits for a reader behind it.
    lines: Mutex<Lines>,
}

impl StandardErrorLog {
    /// Makes this log the logger of the process. From then on no write of this process to standard error waits, on a
    /// terminal or a pipe; the file description that other processes hold stays as it was.
    ///
    /// # Errors
    /// When the process has a logger already.
    pub fn install(level: LevelFilter) -> Result<(), SetLoggerError> {
        let coloured = stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty())
            && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        log::set_boxed_logger(Box::new(StandardErrorLog {
            logger: SimpleLogger::new().with_level(level).with_utc_timestamps().with_colors(coloured),
            output: StandardError::take(),
            coloured,
            lines: Mutex::default(),
        }))?;
        log::set_max_level(level);
        Ok(())
    }

    /// A message as the bytes that [`StandardErrorLog::write`] takes.
    fn line(&self, level: Level, target: &str, message: &str) -> String {
        if self.output == StandardError::Shared {
            return format!("{message}\n");
        }
        let (wipe, time) = (LiveLine::wipe(), humantime::format_rfc3339_millis(SystemTime::now()));
        match colour(level) {
            Some(colour) if self.coloured => {
                format!("{wipe}{time} \x1b[{colour}m{level:<5}\x1b[0m [{target}] {message}\n")
            }
            _ => format!("{wipe}{time} {level:<5} [{target}] {message}\n"),
        }
    }

    fn write(&self, level: Level, target: &str, bytes: &[u8]) -> io::Result<usize> {
        match self.output {
            StandardError::Shared => self.print(level, target, bytes),
            output => output.write(bytes),
        }
    }

    /// Polls for room before each line, then lets `simple_logger` print it.
    fn print(&self, level: Level, target: &str, messages: &[u8]) -> io::Result<usize> {
        let mut printed = 0;
        for message in messages.split_inclusive(|byte| *byte == b'\n') {
            if !self.output.wait(Duration::ZERO) {
                break;
            }
            // If this write fails, the `eprintln!` that follows fails too.
            let _ = stderr().write_all(LiveLine::wipe().as_bytes());
            let text = String::from_utf8_lossy(message);
            let print = || {
                let args = format_args!("{}", text.trim_end_matches('\n'));
                self.logger.log(&Record::builder().level(level).target(target).args(args).build());
            };
            // The reader can still go between the question and the line, and `eprintln!` panics then.
            if catch_unwind(AssertUnwindSafe(print)).is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            printed += message.len();
        }
        Ok(printed)
    }
}

impl Log for StandardErrorLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level();
        // The crate is enough for a reader of a program's log; the module is in the source.
        let target = record.target().split("::").next().unwrap_or_default();
        let line = self.line(level, target, &message(record.args()));
        let notice = |dropped| {
            let words = format!("{dropped} log lines before this one were dropped: nobody read them");
            self.line(level, target, &words)
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.write(&line, notice, |bytes| self.write(level, target, bytes));
    }

    /// Writes the rest of a begun line, and waits half a second at most until there is room for another line. A
    /// program calls it before its last words, when it has nothing else to do.
    fn flush(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let room = self.output.wait(deadline.saturating_duration_since(Instant::now()));
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let finished = lines.finish(|bytes| self.write(Level::Info, "", bytes));
            if finished || !room || Instant::now() >= deadline {
                return;
            }
        }
    }
}

fn colour(level: Level) -> Option<u8> {
    match level {
        Level::Error => Some(31),
        Level::Warn => Some(33),
        Level::Info => Some(36),
        Level::Debug => Some(35),
        Level::Trace => None,
    }
}

/// The part of a message that surely fits, on one line.
fn message(words: &fmt::Arguments<'_>) -> String {
    let mut message = String::new();
    // A write to memory can't fail. A value that fails to format itself leaves the text that it wrote before.
    let _ = Printable(&mut message).write_fmt(*words);
    let mut end = message.len().min(LONGEST_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        assert_eq!(message(&format_args!("short")), "short");
        let long = "é".repeat(LONGEST_MESSAGE);
        assert_eq!(message(&format_args!("{long}")).len(), LONGEST_MESSAGE);
        assert_eq!(message(&format_args!("x{long}")).len(), LONGEST_MESSAGE - 1);
    }
}
