//! The terminals of the program.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use echoloop::folded;
use rustix::termios::tcgetwinsize;

/// Columns of text for a pipe or a file, and for a terminal that does not know its size.
pub(super) const USUAL: usize = 80;

/// Columns of the terminal behind standard output; `COLUMNS` overrides the terminal's own number. `None` for a pipe or a
/// file.
pub(super) fn columns() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|&said| said > 0);
    io::stdout().is_terminal().then(|| said.unwrap_or_else(|| width(io::stdout())))
}

/// Text as the terminal shows it: a line that is too long for it goes on below its own indentation. A pipe or a file gets
/// the text unchanged.
pub(super) fn wrapped(text: &str) -> String {
    let Some(columns) = columns() else { return text.to_owned() };
    let indent = |line: &str| line.len() - line.trim_start().len() + 2;
    text.lines().map(|line| folded(line, columns, indent(line)) + "\n").collect()
}

/// Columns of a terminal, as the kernel reports them.
pub(super) fn width(terminal: impl AsFd) -> usize {
    tcgetwinsize(terminal).map_or(USUAL, |size| match size.ws_col {
        0 => USUAL,
        columns => columns.into(),
    })
}
