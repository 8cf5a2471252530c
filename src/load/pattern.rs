//! The bytes of all messages: one seeded table, read round and round, from another place for each connection.
//!
//! The table's period is a prime. It is larger than a message, larger than the number of clients, and where possible
//! larger than all that a connection has under way. So a message never begins where the one before began, and a message
//! that is lost, doubled or taken from another connection does not fit. One `memcmp` against the table
//! compares any piece of the stream. Only the loss of exactly one period would fit; it shows in the totals, because the
//! generator waits for every reply.

/// The shortest period: small messages are then checked against a table that stays in the first level cache.
const SHORTEST_PERIOD: usize = 4093;
/// Messages under way enlarge a period up to this, and no further.
const LONGEST_WINDOW: usize = 64 * 1024;
/// How far apart the streams of two connections begin: prime to every period, since the period is prime and larger.
const STEP: usize = 1597;
/// The places in the pattern for each client: with so many, few clients of a long run share a place by chance.
const PLACES_PER_CLIENT: usize = 4;

/// The endless stream of bytes that every connection's stream is a part of.
#[derive(Debug)]
pub(super) struct Pattern {
    /// One period, followed by as much of it again as keeps any piece of `reach` bytes in one place.
    table: Box<[u8]>,
    period: usize,
    reach: usize,
    seed: u64,
}

/// Where in the pattern a stream stands: always less than the period.
pub(super) type Place = u32;

impl Pattern {
    /// A pattern for `clients` that have `under_way` messages of up to `longest` bytes under way each, and for pieces of
    /// up to `read_size` more.
    pub(super) fn new(
        seed: u64,
        longest: usize,
        under_way: usize,
        clients: usize,
        read_size: usize,
    ) -> Pattern {
        let window = longest.saturating_mul(under_way).min(LONGEST_WINDOW);
        let places = clients.saturating_mul(PLACES_PER_CLIENT).min(LONGEST_WINDOW * PLACES_PER_CLIENT);
        let period = prime_above(longest.max(window).max(places).max(SHORTEST_PERIOD - 1));
        let reach = longest + read_size;
        let mut table = vec![0; period + reach].into_boxed_slice();
        fastrand::Rng::with_seed(seed).fill(&mut table[..period]);
        let mut filled = period;
        while filled < table.len() {
            let count = period.min(table.len() - filled);
            table.copy_within(..count, filled);
            filled += count;
        }
        Pattern { table, period, reach, seed }
    }

    /// Where the stream of the connection with this number begins. Within a round, which has as many connections as
    /// the period has bytes, all streams begin at different places. In each further round the seed moves all
    /// beginnings, so that connections a period apart differ as well.
    pub(super) fn beginning(&self, connection: u64) -> Place {
        let period = self.period as u64;
        let (round, number) = (connection / period, connection % period);
        let shift = match round {
            0 => 0,
            round => fastrand::Rng::with_seed(self.seed ^ round.rotate_left(32)).u64(..period),
        };
        ((number * STEP as u64 + shift) % period) as Place
    }

    /// The place `count` bytes further.
    pub(super) fn advance(&self, place: Place, count: usize) -> Place {
        let next = place as usize + count;
        // Nearly always a message is shorter than the period: no division then.
        if next < self.period { next as Place } else { (next % self.period) as Place }
    }

    /// The bytes there, at most [`Pattern::reach`] of them.
    pub(super) fn bytes(&self, place: Place, count: usize) -> &[u8] {
        &self.table[place as usize..place as usize + count]
    }

    /// The longest piece.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    pub(super) fn period(&self) -> usize {
        self.period
    }

    /// Whether these are the bytes there.
    pub(super) fn matches(&self, place: Place, bytes: &[u8]) -> bool {
        *bytes == *self.bytes(place, bytes.len())
    }

    /// How many bytes at the front agree with the pattern there.
    pub(super) fn agreement(&self, place: Place, bytes: &[u8]) -> usize {
        let mut agreed = 0;
        for piece in bytes.chunks(self.reach) {
            let expected = self.bytes(self.advance(place, agreed), piece.len());
            let same = piece.iter().zip(expected).take_while(|(a, b)| a == b).count();
            agreed += same;
            if same < piece.len() {
                break;
            }
        }
        agreed
    }

    /// Every place at which these bytes stand; there are few if there are four bytes or more.
    pub(super) fn places_of<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let bytes = &bytes[..bytes.len().min(self.reach)];
        (0..self.period).filter(move |&place| self.table[place..].starts_with(bytes))
    }
}

/// The smallest prime above `number`.
fn prime_above(number: usize) -> usize {
    let is_prime = |candidate: &usize| {
        (2..)
            .take_while(|factor| factor * factor <= *candidate)
            .all(|factor| !candidate.is_multiple_of(factor))
    };
    (number + 1..).find(is_prime).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_period_is_prime_and_longer_than_a_message() {
        assert_eq!(prime_above(4092), 4093);
        assert_eq!(Pattern::new(1, 16, 1, 1, 100).period(), 4093);
        assert_eq!(Pattern::new(1, 4093, 1, 1, 100).period(), 4099);
        assert_eq!(Pattern::new(1, 1000, 32, 1, 100).period(), 32_003, "all that is under way fits into it");
        assert_eq!(Pattern::new(1, 1000, 1 << 20, 1, 100).period(), 65_537);
        assert!(Pattern::new(1, 1 << 20, 1, 1, 100).period() > 1 << 20);
    }

    #[test]
    fn streams_begin_in_different_places_and_repeat_with_the_seed() {
        let pattern = Pattern::new(7, 16, 1, 1, 100);
        let places: std::collections::HashSet<_> =
            (0..4093).map(|number| pattern.beginning(number)).collect();
        assert_eq!(places.len(), 4093);
        assert!(pattern.beginning(u64::MAX) < 4093);
        let same =
            (0..4093).filter(|&number| pattern.beginning(number) == pattern.beginning(number + 4093)).count();
        assert_eq!(same, 0, "a reply that another connection should have had does not fit");
        assert!(Pattern::new(7, 16, 1, 15_000, 100).period() > 15_000, "each client has a place of its own");
        assert_eq!(pattern.table, Pattern::new(7, 16, 1, 1, 100).table);
        assert_ne!(pattern.table, Pattern::new(8, 16, 1, 1, 100).table);
    }

    proptest! {
        /// The stream is the same however it is cut, and one wrong byte is found at its offset in every cut.
        #[test]
        fn any_split_is_verified(
            cuts in proptest::collection::vec(1..3000_usize, 1..40), connection: u64, wrong: proptest::sample::Index,
        ) {
            let pattern = Pattern::new(3, 2000, 2, 1, 1000);
            let total: usize = cuts.iter().sum();
            let start = pattern.beginning(connection);
            let mut stream: Vec<u8> =
                (0..total).map(|offset| pattern.bytes(pattern.advance(start, offset), 1)[0]).collect();
            prop_assert_eq!(pattern.agreement(start, &stream), total);
            let wrong = wrong.index(total);
            for broken in [false, true] {
                if broken {
                    stream[wrong] ^= 0x40;
                }
                let (mut place, mut offset) = (start, 0);
                for &cut in &cuts {
                    let piece = &stream[offset..offset + cut];
                    let here = broken && (offset..offset + cut).contains(&wrong);
                    prop_assert_eq!(pattern.matches(place, piece), !here);
                    if here {
                        prop_assert_eq!(offset + pattern.agreement(place, piece), wrong);
                    }
                    place = pattern.advance(place, cut);
                    offset += cut;
                }
            }
        }
    }
}
