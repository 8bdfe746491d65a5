//! Positions of conversations in which nothing is under way: no more than a mark of the id, the seq, and when it was used
//! last. One that moves again becomes a [`Conv`](super::Conv). Used by [`super::Delivery`].

use std::{
    cmp::Ordering,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use crate::model::{ConvId, Seq};

/// Room is made for so many at a time: with doubling half of it would be empty.
const STEP: usize = 16;

/// What stands for a conversation's id: 96 bits of it, hashed (SipHash 1-3) with keys that nobody outside knows. Ids have any
/// length and nearly every one is somebody's alone, so that there is nothing to share. That two of 1,000 conversations have one
/// mark, and one is taken to be as far as the other, happens once in 10²³ sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark([u32; 3]);

impl Mark {
    fn of(conv: &ConvId) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        let [one, other] = KEYS.each_ref().map(|keys| keys.hash_one(conv));
        Self([(one >> 32) as u32, one as u32, other as u32])
    }
}

/// Everything up to `position` was acknowledged, and the store has confirmed it as the cursor (R8).
#[derive(Debug)]
struct Entry {
    mark: Mark,
    used: u32,
    position: Seq,
}

/// The positions, in the order of their marks.
#[derive(Debug, Default)]
pub(super) struct Rested {
    entries: Vec<Entry>,
    uses: u32,
}

impl Rested {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A conversation's position, if it is here.
    pub(super) fn get(&self, conv: &ConvId) -> Option<Seq> {
        self.find(Mark::of(conv)).ok().map(|at| self.entries[at].position)
    }

    /// Takes a conversation out.
    pub(super) fn take(&mut self, conv: &ConvId) -> Option<Seq> {
        let at = self.find(Mark::of(conv)).ok()?;
        Some(self.entries.remove(at).position)
    }

    /// Puts one in, as the one that was used last.
    pub(super) fn put(&mut self, conv: &ConvId, position: Seq) {
        self.uses = self.uses.saturating_add(1);
        let entry = Entry { mark: Mark::of(conv), used: self.uses, position };
        match self.find(entry.mark) {
            Ok(at) => self.entries[at] = entry,
            Err(at) => {
                if self.entries.len() == self.entries.capacity() {
                    self.entries.reserve_exact(STEP);
                }
                self.entries.insert(at, entry);
            }
        }
    }

    /// Forgets those that were not used for longest, where there are more than `most`: a few more than that, so that it is
    /// not done each time.
    pub(super) fn keep(&mut self, most: usize) {
        if self.entries.len() <= most {
            return;
        }
        let mut used: Vec<u32> = self.entries.iter().map(|entry| entry.used).collect();
        let gone = self.entries.len() - most + most / 8;
        let (_, first_kept, _) = used.select_nth_unstable(gone.min(self.entries.len() - 1));
        self.entries.retain(|entry| entry.used.cmp(first_kept) != Ordering::Less);
    }

    fn find(&self, mark: Mark) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&mark, |entry| entry.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(n: usize) -> ConvId {
        ConvId::new(&format!("dm:me:peer{n}")).unwrap()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut rested = Rested::default();
        (0..100).for_each(|n| rested.put(&conv(n), n as Seq + 1));
        let position = rested.take(&conv(0)).unwrap();
        rested.put(&conv(0), position + 1);
        rested.keep(100);
        assert_eq!(rested.len(), 100);
        rested.keep(10);
        assert!((8..=10).contains(&rested.len()), "{}", rested.len());
        assert_eq!((rested.get(&conv(0)), rested.get(&conv(99)), rested.get(&conv(1))), (Some(2), Some(100), None));
        rested.keep(0);
        assert!(rested.len() <= 1);
    }

    #[test]
    fn an_entry_is_small() {
        let mut rested = Rested::default();
        (0..256).for_each(|n| rested.put(&conv(n), 1));
        let bytes = rested.entries.capacity() * size_of::<Entry>();
        assert!(bytes <= 256 * 24, "{bytes} bytes for 256");
    }
}
