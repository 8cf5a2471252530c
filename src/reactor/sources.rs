//! The table of all sources: one slab, whose key is the index part of a [`Token`].
//!
//! Two rules keep a late event from reaching the wrong source:
//!
//! 1. **A slot is never reused within a turn.** [`Sources::remove`] only marks the slot; the slab gets it back in
//!    [`Sources::free_removed`] at the end of the turn. A batch of events can name the same token several times, and
//!    a listener that runs after the connections of its batch must not be handed the slot of one that has just gone.
//! 2. **A token carries a generation.** A token may outlive its source, in a run queue or a list of paused listeners.
//!    The table returns `None` for such a token, even when the slot has a new owner.

use std::collections::TryReserveError;

use slab::Slab;

/// The lower half of a token is the slab key, on machines of any word size. Two bits for the stage follow, and the
/// generation has the rest.
const KEY_BITS: u32 = usize::BITS / 2;
const KEY_MASK: usize = (1 << KEY_BITS) - 1;
const STAGE_MASK: usize = 0b11;
const GENERATION_SHIFT: u32 = KEY_BITS + 2;
const GENERATION_MASK: u32 = (usize::MAX >> GENERATION_SHIFT) as u32;

/// Names a source that the reactor holds, for as long as it holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(usize);

impl Token {
    fn new(key: usize, stage: Stage, generation: u32) -> Token {
        Token((generation as usize) << GENERATION_SHIFT | (stage as usize) << KEY_BITS | key)
    }

    pub(super) fn key(self) -> usize {
        self.0 & KEY_MASK
    }

    /// When in a turn the source gets its events. The token carries the stage, so that the reactor sorts events without
    /// a look at the table.
    #[inline]
    pub(super) fn stage(self) -> Stage {
        match self.0 >> KEY_BITS & STAGE_MASK {
            0 => Stage::Connections,
            1 => Stage::Listeners,
            _ => Stage::Signals,
        }
    }

    /// The number of sources that the table took in before this one. It tells the source from earlier owners of the
    /// slot. The count begins anew at 0 after a billion sources (where a word has 32 bits, after 16,384).
    pub fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }
}

impl From<mio::Token> for Token {
    fn from(token: mio::Token) -> Token {
        Token(token.0)
    }
}

impl From<Token> for mio::Token {
    fn from(token: Token) -> mio::Token {
        mio::Token(token.0)
    }
}

/// When in a turn a source gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// While the batch is walked: open connections are served first.
    Connections,
    /// After the whole batch, so that a new connection never shares a batch with one that has just closed.
    Listeners,
    /// After everything else that was due in the turn, so that a signal to stop finds a settled state.
    Signals,
}

/// The fields that an event needs first share a cache line with the beginning of the source. With ten thousand
/// connections each line that the loop touches is a cache miss.
#[repr(C)]
struct Slot<S> {
    generation: u32,
    stage: Stage,
    removed: bool,
    queued: bool,
    source: S,
}

impl<S> Slot<S> {
    fn token(&self, key: usize) -> Token {
        Token::new(key, self.stage, self.generation)
    }
}

/// The slab with its two rules; `S` is whatever the handler keeps for a source.
pub(super) struct Sources<S> {
    slots: Slab<Slot<S>>,
    removed: Vec<usize>,
    next_generation: u32,
}

impl<S> Sources<S> {
    pub(super) fn new() -> Sources<S> {
        Sources { slots: Slab::new(), removed: Vec::new(), next_generation: 0 }
    }

    /// Makes room for so many more sources.
    pub(super) fn reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        // `Slab::reserve` aborts when memory is short. So first ask for as much in a way that can fail, and give it
        // back. Twice as much, since the slab may double.
        let slots = self.slots.len().saturating_add(additional);
        Vec::<Slot<S>>::new().try_reserve_exact(slots.saturating_mul(2))?;
        self.slots.reserve(additional);
        self.removed.try_reserve(self.capacity().saturating_sub(self.removed.len()))
    }

    /// How many sources the table has room for. Their keys are below this.
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Slots that are taken, also by sources that were removed in this turn.
    pub(super) fn taken(&self) -> usize {
        self.slots.len()
    }

    /// `None` when every key that a token can hold is taken.
    pub(super) fn insert(&mut self, source: S, stage: Stage) -> Option<Token> {
        let entry = self.slots.vacant_entry();
        // `<` and not `<=`: the heap of deadlines uses the largest number of 32 bits for "nowhere", so it must never
        // hold so many entries that this number is a place.
        (entry.key() < KEY_MASK).then(|| {
            let generation = self.next_generation & GENERATION_MASK;
            self.next_generation = self.next_generation.wrapping_add(1);
            let token = Token::new(entry.key(), stage, generation);
            entry.insert(Slot { source, generation, stage, removed: false, queued: false });
            token
        })
    }

    #[inline]
    fn slot(&mut self, token: Token) -> Option<&mut Slot<S>> {
        self.slots.get_mut(token.key()).filter(|slot| slot.generation == token.generation() && !slot.removed)
    }

    pub(super) fn get(&self, token: Token) -> Option<&S> {
        let slot = self.slots.get(token.key())?;
        (slot.generation == token.generation() && !slot.removed).then_some(&slot.source)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut S> {
        self.slot(token).map(|slot| &mut slot.source)
    }

    /// Marks the slot; its source lives on, unreachable, until the end of the turn. False if it was gone already.
    pub(super) fn remove(&mut self, token: Token) -> bool {
        let Some(slot) = self.slot(token) else { return false };
        slot.removed = true;
        self.removed.push(token.key());
        true
    }

    /// Drops the sources that were removed in this turn, which closes their descriptors, and frees their slots.
    pub(super) fn free_removed(&mut self) {
        for key in self.removed.drain(..) {
            self.slots.remove(key);
        }
    }

    /// True if the token was not in the run queue yet, and its source is still there.
    pub(super) fn mark_queued(&mut self, token: Token) -> bool {
        self.slot(token).is_some_and(|slot| !std::mem::replace(&mut slot.queued, true))
    }

    pub(super) fn is_queued(&self, token: Token) -> bool {
        self.slots.get(token.key()).is_some_and(|slot| slot.generation == token.generation() && slot.queued)
    }

    /// True if its source is still there.
    pub(super) fn clear_queued(&mut self, token: Token) -> bool {
        self.slot(token).map(|slot| slot.queued = false).is_some()
    }

    /// How many sources the table holds. Sources that were removed in this turn don't count.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.removed.len()
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.slots.iter().filter(|(_, slot)| !slot.removed).map(|(key, slot)| slot.token(key))
    }

    /// The token of the source in a slot: a deadline knows its source by the key alone.
    pub(super) fn token_of_key(&self, key: usize) -> Option<Token> {
        let slot = self.slots.get(key)?;
        (!slot.removed).then(|| slot.token(key))
    }

    #[cfg(test)]
    pub(super) const SLOT_SIZE: usize = size_of::<Slot<S>>();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_not_reused_before_the_end_of_the_turn() {
        let mut sources = Sources::new();
        let first = sources.insert("first", Stage::Connections).expect("room");
        assert!(sources.remove(first));
        let second = sources.insert("second", Stage::Connections).expect("room");
        assert_ne!(first.key(), second.key());
        sources.free_removed();
        let third = sources.insert("third", Stage::Connections).expect("room");
        assert_eq!(first.key(), third.key());
    }

    #[test]
    fn a_stale_token_does_not_reach_the_new_owner_of_its_slot() {
        let mut sources = Sources::new();
        let old = sources.insert("old", Stage::Connections).expect("room");
        sources.remove(old);
        assert_eq!(sources.get_mut(old), None, "removed, though its slot is not free yet");
        sources.free_removed();
        let new = sources.insert("new", Stage::Connections).expect("room");
        assert_eq!(old.key(), new.key());
        assert_eq!(sources.get_mut(old), None);
        assert!(!sources.remove(old) && !sources.mark_queued(old));
        assert_eq!(sources.get_mut(new), Some(&mut "new"));
    }

    #[test]
    fn a_source_is_queued_once() {
        let mut sources = Sources::new();
        let token = sources.insert((), Stage::Connections).expect("room");
        assert!(sources.mark_queued(token));
        assert!(!sources.mark_queued(token));
        assert!(sources.clear_queued(token));
        assert!(sources.mark_queued(token));
    }

    #[test]
    fn what_is_removed_is_neither_counted_nor_listed() {
        let mut sources = Sources::new();
        let gone = sources.insert(1, Stage::Connections).expect("room");
        let kept = sources.insert(2, Stage::Listeners).expect("room");
        sources.remove(gone);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources.tokens().collect::<Vec<_>>(), [kept]);
        assert_eq!(kept.stage(), Stage::Listeners);
        assert_eq!(sources.token_of_key(gone.key()), None);
    }
}
