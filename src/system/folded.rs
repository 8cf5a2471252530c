//! Long lines on a terminal.

use textwrap::{Options, WordSplitter};

/// Stands for a space at which a line must not break.
const UNBREAKABLE: char = '\u{a0}';

/// Folds a line for a terminal of `columns` columns. The line breaks between words, and goes on in lines that are
/// indented by `indent`. A command in backquotes stays whole, so that it can be copied.
///
/// ```
/// let line = "  the limit: `ulimit -n 100` raises it";
/// assert_eq!(echoloop::folded(line, 24, 4), "  the limit:\n    `ulimit -n 100`\n    raises it");
/// ```
pub fn folded(line: &str, columns: usize, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let options = Options::new(columns)
        .subsequent_indent(&indent)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    // Every second part stands between backquotes.
    let parts = line.split('`').enumerate();
    let parts = parts.map(|(number, part)| {
        if number % 2 == 1 { part.replace(' ', &UNBREAKABLE.to_string()) } else { part.to_owned() }
    });
    textwrap::fill(&parts.collect::<Vec<_>>().join("`"), options).replace(UNBREAKABLE, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_its_indentation() {
        assert_eq!(folded("  one two three", 10, 4), "  one two\n    three");
        assert_eq!(folded("columns  stay   apart", 80, 0), "columns  stay   apart");
        assert_eq!(folded("a-long-option --and-another", 15, 2), "a-long-option\n  --and-another");
    }

    #[test]
    fn a_command_that_is_too_long_stays_whole() {
        assert_eq!(folded("say `one two three four` now", 10, 2), "say\n  `one two three four`\n  now");
    }
}
