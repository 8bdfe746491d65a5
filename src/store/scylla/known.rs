//! What this node knows of each log: the top, and how far the heads are raised. Bounded, and safe to forget:
//! everything in it is true for ever once learnt, and can be learnt again from the store.
//!
//! Used by the append (where is the next free seq?) and by everything that hands out rows (is this row above a
//! head? R4).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::model::{ConvId, Millis, Parties, Seq, UserId};
use crate::store::{StoreError, StoreResult};

/// Conversations per generation; two generations are kept.
const GENERATION: usize = 32_768;

/// A direct conversation with its two users at hand.
pub(super) struct Direct<'a> {
    pub(super) id: &'a ConvId,
    /// The smaller name first; the same twice when one writes to oneself.
    pub(super) users: [UserId; 2],
}

impl<'a> Direct<'a> {
    pub(super) fn of(id: &'a ConvId) -> StoreResult<Self> {
        match id.parties() {
            Parties::Direct(a, b) => Ok(Self { id, users: [a, b] }),
            Parties::Room(_) => Err(StoreError::Unsupported("rooms")),
        }
    }

    /// Which of the two wrote a row.
    pub(super) fn slot_of(&self, sender: &str) -> usize {
        usize::from(sender == self.users[1].as_str() && self.users[0] != self.users[1])
    }
}

/// A row as far as heads are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) seq: Seq,
    pub(super) ts: Millis,
}

/// One write to a head: whose, and up to which row.
pub(super) type Raise = (usize, Mark);

/// What is known of one log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// A row with this seq exists, and so does every row below it.
    pub(super) top: Seq,
    /// Both users' heads are at least here.
    pub(super) heads: Seq,
    /// All buckets below this are full, and a serial read has made every write in them visible to quorums (R15).
    pub(super) sealed: Seq,
    /// The replica that conditional inserts go to: the next one after each that did not answer.
    pub(super) turn: usize,
    /// The rows after `met_from` up to `met_to` were all seen, and `sent` has the last one of each sender.
    pub(super) met_from: Seq,
    met_to: Seq,
    sent: [Mark; 2],
}

impl Known {
    /// Knows nothing but the heads, and will meet the rows after them.
    pub(super) fn starting_at(heads: Seq) -> Self {
        Self { heads, met_from: heads, met_to: heads, ..Self::default() }
    }

    /// A row was read or written.
    pub(super) fn meet(&mut self, slot: usize, mark: Mark) {
        self.top = self.top.max(mark.seq);
        if mark.seq <= self.met_to {
            return;
        }
        if mark.seq > self.met_to + 1 {
            self.met_from = mark.seq - 1;
            self.sent = [Mark::default(); 2];
        }
        self.met_to = mark.seq;
        self.sent[slot] = mark;
    }

    /// The writes that bring both heads to the last row met, and that row's seq. Their order is what R2 asks
    /// for: a head that shows a row to its sender comes after the one that shows it to the recipient.
    pub(super) fn raises(&self) -> (Vec<Raise>, Seq) {
        let mut news: Vec<Raise> =
            self.sent.into_iter().enumerate().filter(|(_, mark)| mark.seq > self.heads).collect();
        news.sort_by_key(|(_, mark)| mark.seq);
        let mut raises: Vec<Raise> = news.iter().map(|(sender, mark)| (1 - sender, *mark)).collect();
        raises.extend(news.last());
        (raises, self.met_to)
    }
}

/// Bounded memory of all logs this node met lately: when a generation is full the one before it is forgotten.
#[derive(Default)]
pub(super) struct Registry(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<ConvId, Known>,
    old: HashMap<ConvId, Known>,
}

impl Registry {
    /// What is known now; nothing at all for a log not met lately.
    pub(super) fn get(&self, conv: &ConvId) -> Known {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.young.get(conv).or_else(|| all.old.get(conv)).copied().unwrap_or_default()
    }

    /// Adds to what is known and gives the result.
    pub(super) fn learn(&self, conv: &ConvId, change: impl FnOnce(&mut Known)) -> Known {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.young.contains_key(conv) {
            let known = all.old.remove(conv).unwrap_or_default();
            if all.young.len() >= GENERATION {
                all.old = std::mem::take(&mut all.young);
            }
            all.young.insert(conv.clone(), known);
        }
        let known = all.young.entry(conv.clone()).or_default();
        change(known);
        *known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: Seq) -> Mark {
        Mark { seq, ts: seq * 10 }
    }

    #[test]
    fn the_recipient_s_head_comes_first() {
        let mut known = Known::default();
        known.meet(0, mark(1));
        assert_eq!(known.raises(), (vec![(1, mark(1)), (0, mark(1))], 1));
        known.meet(1, mark(2));
        // Row 1 is shown to 1 before 2 is shown to 0, who wrote 1.
        assert_eq!(known.raises(), (vec![(1, mark(1)), (0, mark(2)), (1, mark(2))], 2));
        known.heads = 2;
        assert_eq!(known.raises(), (vec![], 2));
    }

    #[test]
    fn rows_that_were_jumped_over_are_not_counted_as_met() {
        let mut known = Known::default();
        known.meet(0, mark(1));
        known.meet(1, mark(5));
        assert_eq!((known.met_from, known.top), (4, 5));
        known.meet(0, mark(3));
        assert_eq!((known.met_from, known.raises().1), (4, 5));
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let registry = Registry::default();
        let conv = |n: usize| ConvId::new(&format!("dm:a:u{n}")).unwrap();
        for n in 0..3 * GENERATION {
            registry.learn(&conv(n), |known| known.top = 7);
            registry.learn(&conv(0), |_| ());
        }
        let all = registry.0.lock().unwrap();
        assert!(all.young.len() <= GENERATION && all.old.len() <= GENERATION);
        drop(all);
        assert_eq!(registry.get(&conv(0)).top, 7, "what is used stays");
        assert_eq!(registry.get(&conv(1)).top, 0);
    }
}
