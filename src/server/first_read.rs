//! Whether to read from a connection as soon as it is accepted.

/// A client that speaks first has often spoken by the time that it is accepted, and gets its answer a turn sooner if the
/// server reads at once. From a client that only holds its connection open such a read is a wasted call. So after each
/// read that found nothing the server leaves out twice as many, up to [`MOST_LEFT_OUT`].
#[derive(Debug, Default)]
pub(super) struct FirstRead {
    to_leave_out: u8,
    left_out: u8,
}

/// One connection of 64 is read all the same, to notice when clients speak first again.
const MOST_LEFT_OUT: u8 = 63;

impl FirstRead {
    /// Whether to read from the connection that was just accepted. If so, say afterwards whether that
    /// [found](FirstRead::found) something.
    pub(super) fn is_promising(&mut self) -> bool {
        let is_promising = self.left_out == self.to_leave_out;
        self.left_out = if is_promising { 0 } else { self.left_out + 1 };
        is_promising
    }

    /// A read found something, or nothing.
    pub(super) fn found(&mut self, something: bool) {
        self.to_leave_out = if something { 0 } else { (2 * self.to_leave_out + 1).min(MOST_LEFT_OUT) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(first_read: &mut FirstRead, clients: usize, speak: bool) -> usize {
        let mut reads = 0;
        for _ in 0..clients {
            if first_read.is_promising() {
                reads += 1;
                first_read.found(speak);
            }
        }
        reads
    }

    #[test]
    fn silent_clients_are_read_once_in_64_and_the_first_that_speaks_changes_that() {
        let mut first_read = FirstRead::default();
        assert_eq!(reads(&mut first_read, 1000, true), 1000);
        // 1, and one each after 1, 3, 7, 15 and 31 that were left out: 63 clients.
        assert_eq!(reads(&mut first_read, 63, false), 6);
        assert_eq!(reads(&mut first_read, 6400, false), 100);
        assert_eq!(reads(&mut first_read, 64, true), 1);
        assert_eq!(reads(&mut first_read, 1000, true), 1000);
    }
}
