//! Deadlines: a binary heap that knows where each source's entry is.
//!
//! A source has at most one deadline; a handler that waits for several things sets the nearest. The heap remembers the
//! place of each entry, so it moves or removes a deadline in `O(log n)`, and a deadline dies with its source: a server
//! that opens and closes thousands of connections a second does not collect entries that outlive their connection.

use std::collections::TryReserveError;

use super::moment::Moment;

const NOWHERE: u32 = u32::MAX;

/// The heap, earliest first. Sources are named by their slab key.
#[derive(Default)]
pub(super) struct Deadlines {
    heap: Vec<(Moment, u32)>,
    /// Where in `heap` the entry of a key is; 4 bytes a slot is all that a source without a deadline costs.
    place: Vec<u32>,
}

impl Deadlines {
    /// Makes room for the deadlines of so many sources in all, whose keys are below `keys`.
    pub(super) fn reserve(&mut self, sources: usize, keys: usize) -> Result<(), TryReserveError> {
        grow(&mut self.heap, sources)?;
        grow(&mut self.place, keys)
    }

    /// How many deadlines there is memory for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.heap.capacity().min(self.place.capacity())
    }

    /// Sets or moves the deadline of `key`.
    pub(super) fn set(&mut self, key: usize, at: Moment) {
        if self.place.len() <= key {
            self.place.resize(key + 1, NOWHERE);
        }
        match self.place[key] {
            NOWHERE => {
                self.place[key] = self.heap.len() as u32;
                self.heap.push((at, key as u32));
                self.rise(self.heap.len() - 1);
            }
            place => {
                self.heap[place as usize].0 = at;
                self.settle(place as usize);
            }
        }
    }

    /// The deadline of `key`, if it has one.
    pub(super) fn get(&self, key: usize) -> Option<Moment> {
        match self.place.get(key) {
            None | Some(&NOWHERE) => None,
            Some(&place) => Some(self.heap[place as usize].0),
        }
    }

    /// Takes the deadline of `key` out, if it has one.
    pub(super) fn clear(&mut self, key: usize) {
        match self.place.get(key) {
            None | Some(&NOWHERE) => {}
            Some(&place) => self.take(place as usize),
        }
    }

    /// When the poll has to return at the latest.
    pub(super) fn nearest(&self) -> Option<Moment> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Takes out one key whose deadline is not after `now`.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<usize> {
        let &(at, key) = self.heap.first()?;
        (at <= now).then(|| {
            self.take(0);
            key as usize
        })
    }

    fn take(&mut self, place: usize) {
        let (_, key) = self.heap.swap_remove(place);
        self.place[key as usize] = NOWHERE;
        if let Some(&(_, moved)) = self.heap.get(place) {
            self.place[moved as usize] = place as u32;
            self.settle(place);
        }
    }

    fn settle(&mut self, place: usize) {
        let place = self.rise(place);
        self.sink(place);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= self.heap[place].0 {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            let Some(&(left_at, _)) = self.heap.get(left) else { break };
            let child = match self.heap.get(left + 1) {
                Some(&(right_at, _)) if right_at < left_at => left + 1,
                _ => left,
            };
            if self.heap[place].0 <= self.heap[child].0 {
                break;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a].1 as usize] = a as u32;
        self.place[self.heap[b].1 as usize] = b as u32;
    }
}

/// Makes room for so many entries, or for twice as many as before. A new vector takes the entries over: `realloc` would
/// also copy the unused rest, and so touch pages that cost nothing while they are untouched.
fn grow<T>(entries: &mut Vec<T>, most: usize) -> Result<(), TryReserveError> {
    if entries.capacity() < most {
        let mut larger = Vec::new();
        larger.try_reserve_exact(most.max(2 * entries.capacity()))?;
        larger.append(entries);
        *entries = larger;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, u64),
        Clear(usize),
        Pop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..40_usize, 0..100_u64).prop_map(|(key, at)| Step::Set(key, at)),
            1 => (0..40_usize).prop_map(Step::Clear),
            1 => (0..100_u64).prop_map(Step::Pop),
        ]
    }

    proptest! {
        /// The heap agrees with a plain map that is searched from end to end.
        #[test]
        fn agrees_with_a_plain_map(steps in proptest::collection::vec(step(), 1..300)) {
            let start = Moment::now();
            let time = |milliseconds| start + Duration::from_millis(milliseconds);
            let mut deadlines = Deadlines::default();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(key, at) => {
                        deadlines.set(key, time(at));
                        model.insert(key, time(at));
                    }
                    Step::Clear(key) => {
                        deadlines.clear(key);
                        model.remove(&key);
                    }
                    Step::Pop(now) => {
                        let mut last = None;
                        while let Some(key) = deadlines.pop_due(time(now)) {
                            let at = model.remove(&key).expect("only what was set comes out");
                            prop_assert!(at <= time(now) && last <= Some(at));
                            last = Some(at);
                        }
                        prop_assert!(model.values().all(|&at| at > time(now)));
                    }
                }
                prop_assert_eq!(deadlines.nearest(), model.values().min().copied());
                prop_assert!((0..40).all(|key| deadlines.get(key) == model.get(&key).copied()));
            }
        }
    }
}
