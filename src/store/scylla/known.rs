//! The heads that this node has seen: what is at or below one never changes. A bounded cache that may forget anything.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::model::{ConvId, Counts, Seq};

/// Conversations per generation; two generations are kept.
const GENERATION: usize = 32_768;

/// The highest head seen of each conversation used lately: when a generation is full the one before it is forgotten.
#[derive(Default)]
pub(super) struct HeadsSeen(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<ConvId, Seen>,
    old: HashMap<ConvId, Seen>,
}

/// The highest head seen of a conversation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// 0 for a conversation not used lately.
    pub(super) head: Seq,
    /// What was counted there, where that is known.
    pub(super) counts: Option<Counts>,
}

impl HeadsSeen {
    /// The highest seen.
    pub(super) fn get(&self, conv: &ConvId) -> Seen {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.young.get(conv).or_else(|| all.old.get(conv)).copied().unwrap_or_default()
    }

    /// Sees one; returns the highest seen.
    pub(super) fn raise(&self, conv: &ConvId, head: Seq, counts: Option<Counts>) -> Seen {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.young.contains_key(conv) {
            let known = all.old.remove(conv).unwrap_or_default();
            if all.young.len() >= GENERATION {
                all.old = std::mem::take(&mut all.young);
            }
            all.young.insert(conv.clone(), known);
        }
        let known = all.young.entry(conv.clone()).or_default();
        if head > known.head {
            *known = Seen { head, counts };
        } else if head == known.head {
            known.counts = known.counts.or(counts);
        }
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
            seen.raise(&conv(n), 7, Some(Counts { first: 7, second: 0 }));
            seen.raise(&conv(0), 3, None);
        }
        let all = seen.0.lock().unwrap();
        assert!(all.young.len() <= GENERATION && all.old.len() <= GENERATION);
        drop(all);
        let (used, forgotten) = (seen.get(&conv(0)), seen.get(&conv(1)));
        assert_eq!((used.head, used.counts.map(|counts| counts.first)), (7, Some(7)), "what is used stays");
        assert_eq!(forgotten.head, 0);
        assert_eq!(seen.raise(&conv(0), 8, None).counts, None, "what was counted below says nothing");
    }
}
