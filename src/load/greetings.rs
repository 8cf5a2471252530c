//! The first words of servers, and the number of connections that each greeting came on: they tell which server behind
//! a balancer answered.

use std::collections::BTreeMap;

/// The most greetings that are told apart.
pub(super) const MOST_DIFFERENT: usize = 64;
/// The most bytes of a greeting that are kept. Greetings that differ only behind these bytes count as the same.
const LONGEST_KEPT: usize = 256;

/// Connections by their greeting.
#[derive(Clone, Debug, Default)]
pub(super) struct Greetings {
    counts: BTreeMap<Vec<u8>, u64>,
    others: u64,
}

/// The greeting of one connection, while it comes.
#[derive(Debug)]
pub(super) struct Awaited {
    missing: usize,
    kept: Vec<u8>,
}

impl Awaited {
    pub(super) fn new(length: usize) -> Awaited {
        Awaited { missing: length, kept: Vec::new() }
    }

    /// Takes the bytes that belong to the greeting, and returns the rest.
    pub(super) fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (greeting, rest) = bytes.split_at(bytes.len().min(self.missing));
        let room = LONGEST_KEPT - self.kept.len();
        self.kept.extend_from_slice(&greeting[..greeting.len().min(room)]);
        self.missing -= greeting.len();
        rest
    }

    pub(super) fn missing(&self) -> usize {
        self.missing
    }
}

impl Greetings {
    /// Counts another connection by its greeting.
    pub(super) fn count(&mut self, greeting: Awaited) {
        let room = self.counts.len() < MOST_DIFFERENT;
        match self.counts.get_mut(&greeting.kept) {
            Some(count) => *count += 1,
            None if room => drop(self.counts.insert(greeting.kept, 1)),
            None => self.others += 1,
        }
    }

    /// The counts by the text of the greeting. A greeting that is not UTF-8 is escaped.
    pub(super) fn by_text(&self) -> BTreeMap<String, u64> {
        let text = |bytes: &Vec<u8>| {
            String::from_utf8(bytes.clone()).unwrap_or_else(|_| bytes.escape_ascii().to_string())
        };
        let mut counts = BTreeMap::new();
        for (greeting, count) in &self.counts {
            *counts.entry(text(greeting)).or_default() += count;
        }
        counts
    }

    /// Connections with a greeting that came when [`MOST_DIFFERENT`] others were counted already.
    pub(super) fn others(&self) -> u64 {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(bytes: &[u8]) -> Awaited {
        let mut awaited = Awaited::new(bytes.len());
        assert!(awaited.take(bytes).is_empty());
        awaited
    }

    #[test]
    fn greetings_are_counted_in_bounded_memory() {
        let mut greetings = Greetings::default();
        for number in 0..100 {
            for _ in 0..2 {
                greetings.count(greeting(format!("{number:03}").as_bytes()));
            }
        }
        let counts = greetings.by_text();
        assert_eq!((counts.len(), greetings.others()), (MOST_DIFFERENT, 2 * (100 - MOST_DIFFERENT as u64)));
        assert!(counts.iter().all(|(text, count)| text.len() == 3 && *count == 2));
    }

    #[test]
    fn a_long_greeting_is_taken_whole_and_kept_in_part() {
        let long = [b'x'; 10 * LONGEST_KEPT];
        let mut awaited = Awaited::new(long.len());
        assert!(awaited.take(&long[1..]).is_empty());
        assert_eq!((awaited.missing(), awaited.kept.len()), (1, LONGEST_KEPT));
        assert_eq!(awaited.take(b"xyz"), b"yz");
        assert_eq!(awaited.missing(), 0);
    }

    #[test]
    fn what_is_no_text_is_escaped() {
        let mut greetings = Greetings::default();
        greetings.count(greeting(b"\xff\n"));
        // A greeting that equals the escaped text of another greeting adds to its count; it is not lost.
        greetings.count(greeting(b"\\xff\\n"));
        greetings.count(greeting(b"\xc3\xa9\n"));
        let counts = greetings.by_text();
        assert_eq!(counts, [("\\xff\\n".to_owned(), 2), ("é\n".to_owned(), 1)].into());
    }
}
