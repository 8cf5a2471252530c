//! The terminals of the program.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Columns that a report has where it stands on no terminal, and on one that does not know its size.
const USUAL: usize = 80;

/// Columns of the terminal that standard output is; `COLUMNS` overrides what the terminal says. `None` for a pipe or a
/// file.
pub(super) fn columns() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|&said| said > 0);
    io::stdout().is_terminal().then(|| said.unwrap_or_else(|| width(io::stdout())))
}

/// Text as the terminal shows it: a line that is too long for it goes on below its own indentation. Elsewhere it is as it
/// was.
pub(super) fn wrapped(text: &str) -> String {
    let Some(columns) = columns() else { return text.to_owned() };
    text.lines().map(|line| folded(line, columns) + "\n").collect()
}

fn folded(line: &str, columns: usize) -> String {
    let indent = " ".repeat(line.len() - line.trim_start().len() + 2);
    let options = textwrap::Options::new(columns)
        .subsequent_indent(&indent)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(line, options)
}

/// Columns of a terminal, as it says itself.
pub(super) fn width(terminal: impl AsFd) -> usize {
    tcgetwinsize(terminal).map_or(USUAL, |size| match size.ws_col {
        0 => USUAL,
        columns => columns.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_its_indentation() {
        assert_eq!(folded("  one two three", 10), "  one two\n    three");
        assert_eq!(folded("columns  stay   apart", 80), "columns  stay   apart");
        assert_eq!(folded("a-long-option --and-another", 15), "a-long-option\n  --and-another");
    }
}
