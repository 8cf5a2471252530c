//! Bytes and words of a peer, as a line shows them.

use std::fmt;
use std::fmt::Write;

/// The most payload bytes that one line shows; escaped, each takes up to four characters.
const LONGEST_PAYLOAD: usize = 512;

/// Bytes as the log shows them: `b'This is the mess'`, unprintable ones escaped, and no more than a line has room for.
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

/// Writes text on to `line`, its control characters as `\n` or `\x1b`: no word of a peer may move the cursor of the
/// terminal that shows the line, nor begin a line of its own.
pub(crate) struct Printable<'a>(pub(crate) &'a mut String);

impl Write for Printable<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            let mut characters = piece.chars();
            match characters.next_back() {
                Some(last) if last.is_control() => {
                    self.0.push_str(characters.as_str());
                    match u8::try_from(last) {
                        Ok(byte) if byte.is_ascii() => write!(self.0, "{}", byte.escape_ascii())?,
                        _ => write!(self.0, "{}", last.escape_unicode())?,
                    }
                }
                _ => self.0.push_str(piece),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_payload_is_cut_and_says_so() {
        let text = Escaped(&[0xff; 65_536]).to_string();
        assert!(text.ends_with("' and 65024 more bytes"), "{text}");
        assert!(text.len() < 3000, "{text}");
    }

    #[test]
    fn control_characters_are_escaped_and_all_others_are_left() {
        let mut line = String::new();
        write!(Printable(&mut line), "é\x1b[2J\t\x07\r\n\u{9b}1m 'x'\\").expect("memory takes all");
        assert_eq!(line, r"é\x1b[2J\t\x07\r\n\u{9b}1m 'x'\");
    }
}
