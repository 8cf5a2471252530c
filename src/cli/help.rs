//! The texts behind the options, laid out for a terminal and for `man`.
//!
//! In the source, lines of a text break where they read best there. Lines at the margin make a paragraph, and the width of
//! the terminal alone wraps it. An indented line is an entry: a command or a term, then two or more spaces, then its
//! description, which may go on in lines that are indented further. Entries stay within 80 columns, also where `man`
//! indents them.

use std::borrow::Cow;

/// The columns that entries have, with the 7 that `man` puts before them.
const COLUMNS: usize = 72;
/// The longest term whose description stands beside it.
const LONGEST_TERM: usize = 22;

enum Block {
    Paragraph(String),
    Entries(Vec<Entry>),
}

struct Entry {
    term: String,
    description: String,
}

/// The text as clap takes it: paragraphs in one line each, entries laid out.
pub(super) fn terminal(text: &str) -> String {
    let mut shown = String::new();
    for block in blocks(text) {
        match block {
            Block::Paragraph(words) => {
                if !shown.is_empty() {
                    shown.push('\n');
                }
                shown.push_str(&words);
                shown.push('\n');
            }
            Block::Entries(entries) => {
                for line in layout(&entries) {
                    shown.push_str(&line);
                    shown.push('\n');
                }
            }
        }
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// The same for `man(7)`: a paragraph that ends in a colon before entries is a heading.
pub(super) fn manual(text: &str) -> String {
    let mut page = String::from(".SH NOTES\n");
    let mut blocks = blocks(text).into_iter().peekable();
    while let Some(block) = blocks.next() {
        match block {
            Block::Paragraph(words) => match words.strip_suffix(':') {
                Some(heading)
                    if matches!(blocks.peek(), Some(Block::Entries(_))) && heading.len() < LONGEST_TERM =>
                {
                    page += &format!(".SH {}\n", escaped(&heading.to_uppercase()));
                }
                _ => page += &format!(".PP\n{}\n", escaped(&words)),
            },
            Block::Entries(entries) => {
                page += ".nf\n";
                for line in layout(&entries) {
                    page += &escaped(&line);
                    page.push('\n');
                }
                page += ".fi\n";
            }
        }
    }
    // Nothing but headings and what belongs to them.
    page.replacen(".SH NOTES\n.SH", ".SH", 1)
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut between = true;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (blocks.last_mut(), indent) {
            _ if line.trim().is_empty() => between = true,
            (Some(Block::Entries(entries)), 3..) if !between => {
                if let Some(Entry { description, .. }) = entries.last_mut() {
                    if !description.is_empty() {
                        description.push(' ');
                    }
                    description.push_str(line.trim());
                }
            }
            (Some(Block::Entries(entries)), 1..) if !between => entries.push(entry(line)),
            (_, 1..) => {
                blocks.push(Block::Entries(vec![entry(line)]));
                between = false;
            }
            (Some(Block::Paragraph(words)), 0) if !between && !words.ends_with(':') => {
                words.push(' ');
                words.push_str(line);
            }
            (_, 0) => {
                blocks.push(Block::Paragraph(line.to_owned()));
                between = false;
            }
        }
    }
    blocks
}

fn entry(line: &str) -> Entry {
    let line = line.trim();
    let (term, description) = line.split_once("  ").unwrap_or((line, ""));
    Entry { term: term.to_owned(), description: description.trim().to_owned() }
}

/// Descriptions stand beside short terms, and below long ones.
fn layout(entries: &[Entry]) -> Vec<String> {
    let widest = entries.iter().map(|entry| entry.term.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Entry { term, description } in entries {
        if widest > LONGEST_TERM {
            lines.push(format!("  {term}"));
            lines.extend(wrapped(description, COLUMNS - 6).iter().map(|line| format!("      {line}")));
            continue;
        }
        let margin = widest + 4;
        let mut described = wrapped(description, COLUMNS - margin).into_iter();
        let first = described.next().unwrap_or_default();
        lines.push(format!("  {term:widest$}  {first}").trim_end().to_owned());
        lines.extend(described.map(|line| format!("{:margin$}{line}", "")));
    }
    lines
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let options = textwrap::Options::new(columns)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return Vec::new();
    }
    textwrap::wrap(&words.join(" "), options).into_iter().map(Cow::into_owned).collect()
}

/// A line that `man` takes as it is.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
One paragraph in
two lines.

Status:
  0  fine
  1  a failure that takes many words to tell, so many that they do not fit into one line of them
Examples:
  echoloop doctor --connections 100000   are these?
                                         If not, what then?
  echoloop -v";

    #[test]
    fn paragraphs_are_one_line_and_entries_are_laid_out() {
        let expected = "\
One paragraph in two lines.

Status:
  0  fine
  1  a failure that takes many words to tell, so many that they do not
     fit into one line of them

Examples:
  echoloop doctor --connections 100000
      are these? If not, what then?
  echoloop -v";
        assert_eq!(terminal(TEXT), expected);
        assert_eq!(terminal(expected), expected, "what is laid out stays as it is");
    }

    #[test]
    fn a_manual_page_has_headings_and_literal_blocks() {
        let page = manual(TEXT);
        assert!(
            page.starts_with(".SH NOTES\n.PP\nOne paragraph in two lines.\n.SH STATUS\n.nf\n  0  fine\n"),
            "{page}"
        );
        assert!(page.ends_with(".SH EXAMPLES\n.nf\n  echoloop doctor \\-\\-connections 100000\n      are these? If not, what then?\n  echoloop \\-v\n.fi\n"), "{page}");
    }
}
