//! The decision whether to read from a connection as soon as it is accepted.

/// Often a client that speaks first has spoken before the server accepts it. If the server then reads at once, the
/// client gets its answer a turn sooner. If the client is silent, such a read is a wasted call. So after each read that
/// found nothing the server leaves out twice as many first reads, up to [`MOST_LEFT_OUT`].
#[derive(Debug, Default)]
pub(super) struct FirstRead {
    to_leave_out: u8,
    left_out: u8,
}

/// The server still reads from one connection of 64, to notice when clients speak first again.
const MOST_LEFT_OUT: u8 = 63;

impl FirstRead {
    /// Whether to read from the connection that was just accepted. If so, report afterwards whether the read
    /// [found](FirstRead::found) something.
    pub(super) fn is_promising(&mut self) -> bool {
        let is_promising = self.left_out == self.to_leave_out;
        self.left_out = if is_promising { 0 } else { self.left_out + 1 };
        is_promising
    }

    /// Notes whether the read found something.
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
