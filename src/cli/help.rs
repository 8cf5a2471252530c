//! The texts behind the options, for a terminal and for `man`.
//!
//! Indented lines are commands and terms: they appear as they stand here, within 72 columns, since `man` indents them
//! by 7 more. Lines at the margin make a paragraph, and the width of the terminal alone wraps it.

/// The text as clap takes it.
pub(super) fn terminal(text: &str) -> String {
    let mut shown = String::new();
    for block in blocks(text) {
        shown += if shown.is_empty() || is_literal(&block) { "" } else { "\n" };
        shown += &block;
        shown.push('\n');
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// The text for `man(7)`: a paragraph that ends in a colon before commands or terms becomes a heading.
pub(super) fn manual(text: &str) -> String {
    let mut page = String::from(".SH NOTES\n");
    let mut blocks = blocks(text).into_iter().peekable();
    while let Some(block) = blocks.next() {
        let text = escaped(&block);
        page += &match text.strip_suffix(':') {
            _ if is_literal(&block) => format!(".nf\n{text}\n.fi\n"),
            Some(heading) if blocks.peek().is_some_and(|next| is_literal(next)) => {
                format!(".SH {}\n", heading.to_uppercase())
            }
            _ => format!(".PP\n{text}\n"),
        };
    }
    // A text that begins with a heading needs none above it.
    page.replacen(".SH NOTES\n.SH", ".SH", 1)
}

/// Paragraphs, the lines of each joined, and between them runs of indented lines.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut before = "";
    for line in text.lines() {
        match blocks.last_mut() {
            _ if line.is_empty() => {}
            Some(block) if !before.is_empty() && is_literal(before) == is_literal(line) => {
                block.push(if is_literal(line) { '\n' } else { ' ' });
                block.push_str(line);
            }
            _ => blocks.push(line.to_owned()),
        }
        before = line;
    }
    blocks
}

fn is_literal(text: &str) -> bool {
    text.starts_with(' ')
}

/// Text that `man` shows as it stands.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
One paragraph in
two lines.

Status:
  0  fine
  1  a failure

Examples:
  echoloop doctor --connections 100000
      are these? If not, what then?
  echoloop -v";

    #[test]
    fn paragraphs_are_one_line_and_indented_lines_stand_as_they_are() {
        assert_eq!(terminal(TEXT), TEXT.replace("in\ntwo", "in two"));
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
