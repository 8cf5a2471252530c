//! The progress line of a load run, on a terminal. The loop says when to draw it, so it needs no thread.

use std::io::{self, IsTerminal};
use std::time::Duration;

use echoloop::load::{Progress, Watcher};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// When no reply has come for so long, the line says so instead of a rate that is over.
const STALL: Duration = Duration::from_secs(1);
/// Steps of the bar.
const STEPS: u64 = 1000;

/// A line on standard error.
pub(super) struct ProgressLine {
    bar: ProgressBar,
}

impl ProgressLine {
    /// A line, if standard error is a terminal.
    pub(super) fn on_terminal() -> Option<ProgressLine> {
        io::stderr().is_terminal().then(ProgressLine::new)
    }

    fn new() -> ProgressLine {
        // An update takes several steps, and the last must be drawn: so its limit is far above our rate.
        let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr_with_hz(u8::MAX));
        // The bar has the columns that the words leave, so the line never wraps. The template is a constant; should it be wrong, the default one has to do.
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} {prefix} [{wide_bar}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        ProgressLine { bar }
    }
}

impl Watcher for ProgressLine {
    fn watch(&mut self, progress: &Progress) {
        let Progress { doing, done, rate, p99_us, stalled, errors, open, clients } = *progress;
        self.bar.set_prefix(doing.to_string());
        self.bar.set_position((done * STEPS as f64) as u64);
        let speed = match p99_us {
            _ if stalled >= STALL => format!("stalled {:.1} s", stalled.as_secs_f64()),
            Some(p99_us) => format!("{rate:.0}/s, p99 {p99_us:.0} µs"),
            None => format!("{rate:.0}/s"),
        };
        self.bar.set_message(format!("{open}/{clients} open, {speed}, {errors} errors"));
        self.bar.tick();
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
