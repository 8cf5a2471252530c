//! The log: one line an event, on standard error, that can neither block the loop nor end the program.
//!
//! [`simple_logger`] writes with `eprintln!`, which blocks while a pipe is full and panics when its reader has gone.
//! For a program in one thread the first stops everyone's echo because nobody reads the log, and the second kills the
//! server because somebody typed `| head`. So [`StandardErrorLog`] asks the kernel first whether a line can be
//! written at once, drops and counts it if not, and falls silent when there is no reader any more.

use std::fmt;
use std::io::{IsTerminal, stderr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_logger::SimpleLogger;

/// A pipe that can be written to takes at least `PIPE_BUF` bytes, 4096 on Linux, without blocking (`pipe(7)`). What
/// `simple_logger` puts around a message has room in the rest.
const LONGEST_MESSAGE: usize = 3800;
/// The most payload bytes that one line shows; escaped, each takes up to four characters.
const LONGEST_PAYLOAD: usize = 512;

/// A [`Log`] that writes to standard error whenever that is possible without waiting.
pub struct StandardErrorLog {
    inner: SimpleLogger,
    dropped: AtomicU64,
    reader_gone: AtomicBool,
}

impl StandardErrorLog {
    /// Makes it the logger of this process.
    ///
    /// # Errors
    /// When the process has a logger already.
    pub fn install(level: LevelFilter) -> Result<(), SetLoggerError> {
        let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let inner = SimpleLogger::new().with_level(level).with_utc_timestamps().with_colors(colours);
        log::set_boxed_logger(Box::new(StandardErrorLog {
            inner,
            dropped: AtomicU64::new(0),
            reader_gone: AtomicBool::new(false),
        }))?;
        log::set_max_level(level);
        Ok(())
    }

    /// Waits for a reader that lags, at most for so long: for the last line of a program, which has nothing else to do.
    pub fn wait_for_reader(at_most: Duration) {
        let stderr = stderr();
        let mut descriptors = [PollFd::new(&stderr, PollFlags::OUT)];
        // Ready, gone, interrupted or too late: the line is tried in any case.
        let _ = poll(&mut descriptors, Timespec::try_from(at_most).ok().as_ref());
    }

    /// Whether a line can be written now. Notices when it never can again.
    fn can_write(&self) -> bool {
        if self.reader_gone.load(Ordering::Relaxed) {
            return false;
        }
        let stderr = stderr();
        let mut descriptors = [PollFd::new(&stderr, PollFlags::OUT)];
        match poll(&mut descriptors, Some(&Timespec::default())) {
            Ok(_) => {
                let events = descriptors[0].revents();
                if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
                    self.reader_gone.store(true, Ordering::Relaxed);
                    return false;
                }
                events.contains(PollFlags::OUT)
            }
            // Interrupted, or out of memory: this line is one of those that can't be written now.
            Err(_) => false,
        }
    }

    fn write(&self, record: &Record<'_>, message: fmt::Arguments<'_>) {
        // The crate is enough for who reads the log of a program; the module is in the source.
        let target = record.target().split("::").next().unwrap_or_default();
        // The reader can still go between the question and the line; `eprintln!` panics then.
        let write = || {
            let record = Record::builder().level(record.level()).target(target).args(message).build();
            self.inner.log(&record);
        };
        if catch_unwind(AssertUnwindSafe(write)).is_err() {
            self.reader_gone.store(true, Ordering::Relaxed);
        }
    }
}

impl Log for StandardErrorLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if self.dropped.load(Ordering::Relaxed) > 0 && self.can_write() {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            self.write(
                record,
                format_args!("{dropped} log lines before this one were dropped: nobody read them"),
            );
        }
        if !self.can_write() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let message = record.args().to_string();
        self.write(record, format_args!("{}", cut(&message)));
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// As much of the message as surely fits.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(LONGEST_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// Bytes as the log shows them: `b'This is the mess'`, unprintable ones escaped, and not more of them than a line
/// has room for.
///
/// ```
/// use echoloop::Escaped;
///
/// assert_eq!(Escaped(b"This is the mess").to_string(), "b'This is the mess'");
/// assert_eq!(Escaped(b"\0\xff\r\n'").to_string(), r"b'\x00\xff\r\n\''");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(LONGEST_PAYLOAD)];
        write!(f, "b'{}'", shown.escape_ascii())?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            hidden => write!(f, " and {hidden} more bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        assert_eq!(cut("short"), "short");
        let long = "é".repeat(LONGEST_MESSAGE);
        assert_eq!(cut(&long).len(), LONGEST_MESSAGE);
        assert_eq!(cut(&format!("x{long}")).len(), LONGEST_MESSAGE - 1);
    }

    #[test]
    fn a_long_payload_is_cut_and_says_so() {
        let text = Escaped(&[0xff; 65_536]).to_string();
        assert!(text.ends_with("' and 65024 more bytes"), "{text}");
        assert!(text.len() < LONGEST_MESSAGE);
    }
}
