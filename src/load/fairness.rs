//! How evenly messages are spread over clients.

use serde::{Deserialize, Serialize};

/// How evenly messages were spread over clients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// The number of clients that had a connection.
    pub clients: u64,
    /// The fewest complete replies of a client.
    pub fewest: u64,
    /// The most complete replies of a client.
    pub most: u64,
    /// All complete replies.
    pub messages: u64,
    /// Jain's index: 1 if all clients have the same number of replies, 1/n if one client has them all.
    pub jain: f64,
    /// The sum of the squares of all clients' replies, from which Jain's index of several reports is computed.
    pub squares: f64,
}

impl Fairness {
    /// Adds a client with this many replies.
    pub(super) fn add(&mut self, messages: u64) {
        let squares = (messages as f64).powi(2);
        self.merge(&Fairness { clients: 1, fewest: messages, most: messages, messages, jain: 1.0, squares });
    }

    /// Adds the clients of another report.
    pub(super) fn merge(&mut self, other: &Fairness) {
        if other.clients == 0 {
            return;
        }
        self.fewest = if self.clients == 0 { other.fewest } else { self.fewest.min(other.fewest) };
        self.most = self.most.max(other.most);
        self.clients += other.clients;
        self.messages += other.messages;
        self.squares += other.squares;
        if self.squares > 0.0 {
            self.jain = (self.messages as f64).powi(2) / (self.clients as f64 * self.squares);
        }
    }
}

impl Default for Fairness {
    fn default() -> Fairness {
        Fairness { clients: 0, fewest: 0, most: 0, messages: 0, jain: 1.0, squares: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fairness(messages: &[u64]) -> Fairness {
        let mut fairness = Fairness::default();
        messages.iter().for_each(|&messages| fairness.add(messages));
        fairness
    }

    #[test]
    fn jains_index_tells_even_from_uneven() {
        assert_eq!(fairness(&[5, 5, 5, 5]).jain, 1.0);
        assert_eq!(fairness(&[20, 0, 0, 0]).jain, 0.25);
        assert_eq!(fairness(&[]).jain, 1.0);
    }

    #[test]
    fn the_parts_make_the_whole() {
        let mut merged = fairness(&[3, 9]);
        merged.merge(&fairness(&[]));
        merged.merge(&fairness(&[1, 20, 0]));
        assert_eq!(merged, fairness(&[3, 9, 1, 20, 0]));
        assert_eq!((merged.fewest, merged.most, merged.messages), (0, 20, 33));
    }
}
