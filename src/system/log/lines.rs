//! Lines on their way to a writer that may take a part of a line, or nothing.

use std::io::{self, ErrorKind};

/// Whole lines in their order. The rest of a line goes before the next one. If the writer takes nothing of a line, the
/// line is dropped and counted. So this never keeps more than a line and a notice of dropped lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    unwritten: Vec<u8>,
    dropped: u64,
}

impl Lines {
    /// Writes a line with one call of `write`, after the rest of the line before and a notice of dropped lines. `notice`
    /// makes that notice from their number.
    pub(super) fn write(
        &mut self,
        line: &str,
        notice: impl FnOnce(u64) -> String,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) {
        let rest = self.unwritten.len();
        if self.dropped > 0 {
            self.unwritten.extend_from_slice(notice(self.dropped).as_bytes());
        }
        self.unwritten.extend_from_slice(line.as_bytes());
        match write(&self.unwritten) {
            Ok(taken) if taken > rest => {
                self.unwritten.drain(..taken);
                self.dropped = 0;
            }
            result => {
                self.unwritten.truncate(rest);
                self.settle(result);
                self.dropped += 1;
            }
        }
    }

    /// Writes the rest of a line that was begun. Says whether nothing is left of it.
    pub(super) fn finish(&mut self, write: impl FnOnce(&[u8]) -> io::Result<usize>) -> bool {
        if !self.unwritten.is_empty() {
            let result = write(&self.unwritten);
            self.settle(result);
        }
        self.unwritten.is_empty()
    }

    fn settle(&mut self, result: io::Result<usize>) {
        match result {
            Ok(taken) => drop(self.unwritten.drain(..taken)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The reader has gone. Should another one come, it can't use the end of a line.
            Err(_) => self.unwritten.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notice(dropped: u64) -> String {
        format!("{dropped} dropped\n")
    }

    proptest! {
        /// However little the writer takes at a time, it gets whole lines in their order, and the number of the others.
        #[test]
        fn no_line_is_torn_and_none_is_missed(room in prop::collection::vec(0_usize..20, 1..60)) {
            let (mut lines, mut output) = (Lines::default(), Vec::new());
            for (number, room) in room.iter().enumerate() {
                lines.write(&format!("line {number}\n"), notice, |bytes| {
                    let taken = bytes.len().min(*room);
                    output.extend_from_slice(&bytes[..taken]);
                    if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
                });
            }
            let last = room.len();
            for line in [format!("line {last}\n"), format!("line {}\n", last + 1)] {
                lines.write(&line, notice, |bytes| {
                    output.extend_from_slice(bytes);
                    Ok(bytes.len())
                });
            }
            let output = String::from_utf8(output).expect("lines of text");
            let mut expected = 0;
            for line in output.lines() {
                match line.strip_suffix(" dropped") {
                    Some(dropped) => expected += dropped.parse::<usize>().expect("a number"),
                    None => {
                        prop_assert_eq!(line, format!("line {}", expected));
                        expected += 1;
                    }
                }
            }
            prop_assert_eq!(expected, last + 2, "{}", output);
        }
    }

    #[test]
    fn what_is_unwritten_can_be_finished_without_another_line() {
        let (mut lines, mut output) = (Lines::default(), Vec::new());
        lines.write("a line\n", notice, |_| Ok(2));
        assert!(!lines.finish(|_| Err(ErrorKind::WouldBlock.into())));
        assert!(lines.finish(|bytes| {
            output.extend_from_slice(bytes);
            Ok(bytes.len())
        }));
        assert_eq!(output, b"line\n");
    }

    #[test]
    fn a_reader_that_comes_after_another_one_begins_with_a_whole_line() {
        let (mut lines, mut output) = (Lines::default(), Vec::new());
        lines.write("first\n", notice, |_| Ok(2));
        lines.write("second\n", notice, |_| Err(ErrorKind::BrokenPipe.into()));
        lines.write("third\n", notice, |bytes| {
            output.extend_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(String::from_utf8(output).expect("text"), "1 dropped\nthird\n");
    }
}
