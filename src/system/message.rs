//! The system's errors as parts of a sentence.

use std::io;

/// The message of an I/O error as part of a sentence: without the number, and without a capital.
///
/// ```
/// let error = std::io::Error::from_raw_os_error(2);
/// assert_eq!(echoloop::describe(&error), "no such file or directory");
/// ```
pub fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    // The standard library names its call; our caller names the attempt better.
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(text);
    let mut characters = text.chars();
    match characters.next() {
        // `EOF` and the like keep their capitals.
        Some(first) if characters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_becomes_part_of_a_sentence() {
        let error = io::Error::from(rustix::io::Errno::ADDRINUSE);
        assert_eq!(error.to_string(), "Address already in use (os error 98)");
        assert_eq!(describe(&error), "address already in use");
        assert_eq!(describe(&io::Error::other("EOF while reading")), "EOF while reading");
        let unknown = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(describe(&unknown), "name or service not known");
    }
}
