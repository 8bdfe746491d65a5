//! The heads that this node has seen: what is at or below one never changes. A bounded cache that may forget anything.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::model::{ConvId, Seq};

/// Conversations per generation; two generations are kept.
const GENERATION: usize = 32_768;

/// The highest head seen of each conversation used lately: when a generation is full the one before it is forgotten.
#[derive(Default)]
pub(super) struct HeadsSeen(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<ConvId, Seq>,
    old: HashMap<ConvId, Seq>,
}

impl HeadsSeen {
    /// The highest seen; 0 for a conversation not used lately.
    pub(super) fn get(&self, conv: &ConvId) -> Seq {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.young.get(conv).or_else(|| all.old.get(conv)).copied().unwrap_or(0)
    }

    /// Sees one; returns the highest seen.
    pub(super) fn raise(&self, conv: &ConvId, head: Seq) -> Seq {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.young.contains_key(conv) {
            let known = all.old.remove(conv).unwrap_or(0);
            if all.young.len() >= GENERATION {
                all.old = std::mem::take(&mut all.young);
            }
            all.young.insert(conv.clone(), known);
        }
        let known = all.young.entry(conv.clone()).or_default();
        *known = head.max(*known);
        *known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let seen = HeadsSeen::default();
        let conv = |n: usize| ConvId::new(&format!("dm:a:u{n}")).unwrap();
        for n in 0..3 * GENERATION {
            seen.raise(&conv(n), 7);
            seen.raise(&conv(0), 3);
        }
        let all = seen.0.lock().unwrap();
        assert!(all.young.len() <= GENERATION && all.old.len() <= GENERATION);
        drop(all);
        assert_eq!(seen.get(&conv(0)), 7, "what is used stays");
        assert_eq!(seen.get(&conv(1)), 0);
    }
}
