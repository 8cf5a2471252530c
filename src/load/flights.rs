//! Messages that are under way on a connection.

use std::collections::VecDeque;

use crate::reactor::Moment;

/// Messages under way, oldest first. The first message is kept in place, so that one message at a time takes no memory
/// elsewhere.
#[derive(Debug)]
pub(super) struct Flights {
    count: u32,
    first: Flight,
    others: VecDeque<Flight>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) intended: Moment,
    pub(super) sent: Moment,
    pub(super) size: u32,
}

impl Flights {
    pub(super) fn new(now: Moment) -> Flights {
        let none = Flight { intended: now, sent: now, size: 0 };
        Flights { count: 0, first: none, others: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn len(&self) -> u32 {
        self.count
    }

    pub(super) fn oldest(&self) -> Option<&Flight> {
        (self.count > 0).then_some(&self.first)
    }

    /// The message that was taken out last, while none is under way.
    pub(super) fn latest(&self) -> Option<&Flight> {
        (self.count == 0).then_some(&self.first)
    }

    pub(super) fn push(&mut self, flight: Flight) {
        if self.count == 0 {
            self.first = flight;
        } else {
            self.others.push_back(flight);
        }
        self.count += 1;
    }

    /// Removes the oldest message; the caller knows that there is one.
    pub(super) fn pop(&mut self) -> Flight {
        let oldest = self.first;
        debug_assert!(self.count > 0);
        self.count -= 1;
        if let Some(next) = self.others.pop_front() {
            self.first = next;
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_out_in_the_order_in_which_they_left() {
        let now = Moment::now();
        let mut flights = Flights::new(now);
        assert!(flights.oldest().is_none());
        for round in 0..3 {
            for size in round..round + 4 {
                flights.push(Flight { intended: now, sent: now, size });
            }
            for size in round..round + 4 {
                assert_eq!(flights.oldest().map(|flight| flight.size), Some(size));
                assert_eq!(flights.pop().size, size);
            }
            assert!(flights.is_empty());
            assert_eq!(flights.latest().map(|flight| flight.size), Some(round + 3));
        }
    }
}
