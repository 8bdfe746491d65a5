//! Positions of conversations in which nothing is under way: no more than the id, the seq, and when it was used last. One
//! that moves again becomes a [`Conv`](super::Conv). Used by [`super::Delivery`].

use std::cmp::Ordering;

use crate::model::{ConvId, Seq};

/// Room is made for so many at a time: with doubling half of it would be empty.
const STEP: usize = 16;

/// Everything up to `position` was acknowledged, and the store has confirmed it as the cursor (R8).
#[derive(Debug)]
struct Entry {
    conv: ConvId,
    position: Seq,
    used: u32,
}

/// The positions, in the order of their conversations.
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
        self.find(conv).ok().map(|at| self.entries[at].position)
    }

    /// Takes a conversation out.
    pub(super) fn take(&mut self, conv: &ConvId) -> Option<(ConvId, Seq)> {
        let at = self.find(conv).ok()?;
        let Entry { conv, position, .. } = self.entries.remove(at);
        Some((conv, position))
    }

    /// Puts one in, as the one that was used last.
    pub(super) fn put(&mut self, conv: ConvId, position: Seq) {
        self.uses = self.uses.saturating_add(1);
        let entry = Entry { position, used: self.uses, conv };
        match self.find(&entry.conv) {
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

    fn find(&self, conv: &ConvId) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.conv.cmp(conv))
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
        (0..100).for_each(|n| rested.put(conv(n), n as Seq + 1));
        let (first, position) = rested.take(&conv(0)).unwrap();
        rested.put(first, position + 1);
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
        (0..256).for_each(|n| rested.put(conv(n), 1));
        let bytes = rested.entries.capacity() * size_of::<Entry>();
        assert!(bytes <= 256 * (64 + size_of::<ConvId>()) && bytes <= 256 * 64, "{bytes} bytes for 256");
    }
}
