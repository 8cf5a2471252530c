//! The progress line of a load run, on a terminal. The loop says when to draw it, so it needs no thread.

use std::io;
use std::time::Duration;

use echoloop::LiveLine;
use echoloop::load::{Progress, Watcher};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal;

/// After this time without a reply, the line shows the stall instead of an outdated rate.
const STALL: Duration = Duration::from_secs(1);
/// Steps of the bar.
const STEPS: u64 = 1000;
/// The shortest bar that is worth its brackets.
const SHORTEST_BAR: usize = 8;
/// Columns of the elapsed time, the brackets and the spaces.
const FRAME: usize = 9;

/// A line on standard error. It takes one line of the terminal at any width.
pub(super) struct ProgressLine {
    bar: ProgressBar,
    with_bar: ProgressStyle,
    words_alone: ProgressStyle,
    /// Keeps the log from writing behind the line.
    _live: LiveLine,
}

impl ProgressLine {
    /// Begins the line, if standard error is a terminal that can draw one.
    pub(super) fn begin() -> Option<ProgressLine> {
        // One update changes the bar several times, and the last change must be drawn. So the limit on drawings is far
        // above our rate.
        let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr_with_hz(u8::MAX));
        if bar.is_hidden() {
            return None;
        }
        let style = |template| {
            // The templates are constants; should one be wrong, the default has to do.
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        Some(ProgressLine {
            bar,
            with_bar: style("{elapsed:>4} {prefix} [{wide_bar}] {msg}").progress_chars("=> "),
            words_alone: style("{elapsed:>4} {prefix} {wide_msg}"),
            _live: LiveLine::begin(),
        })
    }
}

impl Watcher for ProgressLine {
    fn watch(&mut self, progress: &Progress) {
        let Progress { doing, done, rate, p99_us, stalled, errors, open, clients } = *progress;
        let speed = match p99_us {
            _ if stalled >= STALL => format!("stalled {:.1} s", stalled.as_secs_f64()),
            Some(p99_us) => format!("{rate:.0}/s, p99 {p99_us:.0} µs"),
            None => format!("{rate:.0}/s"),
        };
        let words = format!("{open}/{clients} open, {speed}, {errors} errors");
        let doing = doing.to_string();
        let needed = FRAME + doing.len() + SHORTEST_BAR + words.chars().count();
        let style = if needed <= terminal::width(io::stderr()) { &self.with_bar } else { &self.words_alone };
        self.bar.set_style(style.clone());
        self.bar.set_prefix(doing);
        self.bar.set_position((done * STEPS as f64) as u64);
        self.bar.set_message(words);
        self.bar.tick();
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
