//! A dump of bytes: time, direction, offset in the stream, hexadecimal, text.

use std::fmt::Write as _;
use std::time::Duration;

/// Bytes to a line.
const WIDTH: usize = 16;

/// The direction in which bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Sent,
    Received,
}

/// Counts the bytes of both directions, so that each line can show its offset.
#[derive(Debug, Default)]
pub(super) struct HexDump {
    sent: u64,
    received: u64,
}

impl HexDump {
    /// The lines for bytes that moved in one direction, `after` the connection was established.
    pub(super) fn lines(&mut self, direction: Direction, bytes: &[u8], after: Duration) -> String {
        let (mark, offset) = match direction {
            Direction::Sent => ('>', &mut self.sent),
            Direction::Received => ('<', &mut self.received),
        };
        let mut lines = String::new();
        for row in bytes.chunks(WIDTH) {
            // Writing to a string can't fail.
            let _ = write!(lines, "{:11.6} {mark} {offset:08x} ", after.as_secs_f64());
            for column in 0..WIDTH {
                let gap = if column % 8 == 0 { " " } else { "" };
                let _ = match row.get(column) {
                    Some(byte) => write!(lines, "{gap}{byte:02x} "),
                    None => write!(lines, "{gap}   "),
                };
            }
            let printable = |&byte: &u8| if (0x20..0x7f).contains(&byte) { byte as char } else { '.' };
            let _ = writeln!(lines, " |{}|", row.iter().map(printable).collect::<String>());
            *offset += row.len() as u64;
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_which_way_where_and_what() {
        let mut dump = HexDump::default();
        let after = Duration::from_micros(1_234);
        assert_eq!(
            dump.lines(Direction::Sent, b"This is the message", after),
            "   0.001234 > 00000000  54 68 69 73 20 69 73 20  74 68 65 20 6d 65 73 73  |This is the mess|\n\
             \x20  0.001234 > 00000010  61 67 65                                          |age|\n"
        );
        assert_eq!(
            dump.lines(Direction::Received, b"\xff\n", after),
            "   0.001234 < 00000000  ff 0a                                             |..|\n",
            "each direction has its own offsets"
        );
        assert!(dump.lines(Direction::Sent, b"!", after).contains("> 00000013 "), "and goes on where it was");
        assert_eq!(dump.lines(Direction::Sent, b"", after), "");
    }
}
