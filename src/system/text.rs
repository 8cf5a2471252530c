//! Bytes as people write them: text, with escapes for bytes that are no text.

use std::fmt;
use std::str::FromStr;

/// Bytes that may be written as text with the escapes `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH`.
///
/// ```
/// let text: echoloop::Text = r"PING\r\n\xff".parse()?;
/// assert_eq!(text.0, b"PING\r\n\xff");
/// assert_eq!(text.to_string(), r"PING\r\n\xff");
/// # Ok::<(), echoloop::TextError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

/// A mistake in an escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No byte has this escape.
    #[error("a backslash is followed by n, r, t, 0, \\ or xHH")]
    Escape,
    /// A byte in hex has two digits.
    #[error("`\\x` takes two hexadecimal digits")]
    Digits,
}

impl FromStr for Text {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Text, TextError> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            bytes.push(match rest.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let mut digit = || (rest.next()? as char).to_digit(16);
                    let (high, low) = digit().zip(digit()).ok_or(TextError::Digits)?;
                    (high * 16 + low) as u8
                }
                _ => return Err(TextError::Escape),
            });
        }
        Ok(Text(bytes))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\0' => f.write_str("\\0")?,
                    '\n' | '\r' | '\t' | '\\' => write!(f, "{}", character.escape_default())?,
                    _ if character.is_control() => {
                        let mut buffer = [0; 4];
                        character
                            .encode_utf8(&mut buffer)
                            .bytes()
                            .try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
                    }
                    _ => write!(f, "{character}")?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_may_hold_any_byte() {
        assert_eq!(r"a\n\r\t\0\\\xff é".parse(), Ok(Text(b"a\n\r\t\0\\\xff \xc3\xa9".to_vec())));
        for (nonsense, error) in [
            ("\\q", TextError::Escape),
            ("\\", TextError::Escape),
            ("\\x4", TextError::Digits),
            ("\\xgg", TextError::Digits),
            ("\\x", TextError::Digits),
        ] {
            assert_eq!(nonsense.parse::<Text>(), Err(error), "{nonsense}");
        }
    }

    proptest! {
        /// Bytes written as text come back, and the text moves no cursor.
        #[test]
        fn any_bytes_can_be_written(bytes: Vec<u8>, text: String) {
            for text in [Text(bytes), Text(text.into_bytes())] {
                let written = text.to_string();
                prop_assert!(!written.contains(char::is_control), "{:?}", written);
                prop_assert_eq!(written.parse(), Ok(text));
            }
        }
    }
}
