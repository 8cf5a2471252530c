//! Bytes of the server on a terminal: as text, without power over the terminal.
//!
//! Control characters could move the cursor, clear the screen, rename the window or type into it. Line ends and tabs stay;
//! all other control characters appear as `\\x1b`, and so do bytes that are no UTF-8.

use std::fmt::Write;

/// Makes text that is safe to show. A character may come in two reads, so the last bytes may wait for the next.
#[derive(Debug, Default)]
pub(super) struct PlainText {
    /// The beginning of a character, or a carriage return: at most three bytes.
    waiting: Vec<u8>,
}

impl PlainText {
    /// The text of these bytes, up to a character that the next read may complete.
    pub(super) fn of(&mut self, bytes: &[u8]) -> String {
        self.waiting.extend_from_slice(bytes);
        let known = self.waiting.len() - self.undecided();
        let rest = self.waiting.split_off(known);
        let text = plain(&self.waiting);
        self.waiting = rest;
        text
    }

    /// The text of the waiting bytes, now that no more bytes come.
    pub(super) fn rest(&mut self) -> String {
        plain(&std::mem::take(&mut self.waiting))
    }

    /// The number of bytes at the end whose meaning depends on the next byte.
    fn undecided(&self) -> usize {
        if self.waiting.ends_with(b"\r") {
            return 1;
        }
        match self.waiting.utf8_chunks().last() {
            Some(chunk) => match std::str::from_utf8(chunk.invalid()) {
                Err(error) if error.error_len().is_none() => chunk.invalid().len(),
                _ => 0,
            },
            None => 0,
        }
    }
}

fn plain(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut characters = chunk.valid().chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\n' | '\t' => text.push(character),
                // The terminal begins a line by itself.
                '\r' if characters.peek() == Some(&'\n') => {}
                _ if !character.is_control() => text.push(character),
                // Writing to a string can't fail.
                _ if character.is_ascii() => drop(write!(text, "{}", (character as u8).escape_ascii())),
                _ => drop(write!(text, "{}", character.escape_unicode())),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reads: &[&[u8]]) -> String {
        let mut text = PlainText::default();
        let mut shown: String = reads.iter().map(|read| text.of(read)).collect();
        shown += &text.rest();
        shown
    }

    #[test]
    fn text_is_shown_as_it_is() {
        assert_eq!(shown(&["één\tline\n 'x' \\ \u{1f980}\n".as_bytes()]), "één\tline\n 'x' \\ \u{1f980}\n");
        assert_eq!(shown(&[b"HTTP\r\n\r\n"]), "HTTP\n\n");
    }

    #[test]
    fn what_drives_a_terminal_is_escaped() {
        assert_eq!(shown(&[b"\x1b[2J\x07\x00\x7f\rover"]), r"\x1b[2J\x07\x00\x7f\rover");
        assert_eq!(shown(&["\u{9b}2J".as_bytes()]), r"\u{9b}2J");
        assert_eq!(shown(&[b"\x9b2J\xff"]), r"\x9b2J\xff");
    }

    #[test]
    fn a_character_in_two_reads_is_one() {
        assert_eq!(shown(&[b"\xf0\x9f", b"\xa6", b"\x80!"]), "\u{1f980}!");
        assert_eq!(shown(&[b"line\r", b"\nnext"]), "line\nnext");
        assert_eq!(shown(&[b"\xf0\x9f", b"A\r"]), r"\xf0\x9fA\r");
        assert_eq!(shown(&[b"cut \xc3"]), r"cut \xc3");
    }
}
