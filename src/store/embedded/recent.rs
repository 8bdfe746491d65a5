//! A bounded cache of recently written values, so that the writer does not read what it wrote a moment ago.
//! Used by the writer thread only.

use std::{collections::HashMap, hash::Hash, mem};

/// Keeps at least the last `half` entries that were put in, and at most twice as many: when the young half is
/// full it replaces the old one. Nothing to maintain per entry, and a hit costs a look-up or two.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// An empty cache of `half` to twice `half` entries.
    pub(super) fn new(half: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half }
    }

    /// The value last put in under `key`, unless it is forgotten.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    /// Remembers a value.
    pub(super) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_wins_and_the_size_stays_bounded() {
        let mut recent = Recent::new(4);
        for n in 0..100u32 {
            recent.put(n, n);
            recent.put(7, 1_000 + n);
            assert_eq!(recent.get(&7), Some(1_000 + n), "an old value behind a newer one would repeat a seq");
            assert_eq!(recent.get(&n), Some(if n == 7 { 1_007 } else { n }));
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&50), None);
    }
}
