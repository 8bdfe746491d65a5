//! What this node knows of each log: the top, and how far the heads are raised. A bounded cache that may forget
//! anything: whatever is in it stays true and can be read again from the store.
//!
//! Used by the append (where is the next free seq?) and by everything that hands out rows (is this row above a
//! head? R4).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    model::{Audience, ConvId, Millis, Seq, UserId},
    store::{StoreResult, audience_of},
};

/// Conversations per generation; two generations are kept.
const GENERATION: usize = 32_768;

/// A conversation and its audience.
pub(super) struct Log<'a> {
    pub(super) id: &'a ConvId,
    pub(super) audience: Audience,
}

impl<'a> Log<'a> {
    /// The log of a conversation that the store serves.
    pub(super) fn of(id: &'a ConvId) -> StoreResult<Self> {
        Ok(Self { id, audience: audience_of(id)? })
    }

    /// Where state about a sender is kept. Only members send; a row by anybody else would count as the first user's.
    pub(super) fn place_of(&self, sender: &str) -> usize {
        self.audience.position(sender).unwrap_or(0)
    }
}

/// What a head says: a row's place and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub(super) seq: Seq,
    pub(super) ts: Millis,
}

/// One write to a head: whose, and up to which row.
pub(super) type Raise<'a> = (&'a UserId, Head);

/// What is known of one log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// A row with this seq exists, and so does every row below it.
    pub(super) top: Seq,
    /// All users' heads are at least here.
    pub(super) heads: Seq,
    /// All buckets below this are full, and a serial read has made every write in them visible to quorums (R15).
    pub(super) sealed: Seq,
    /// How many replicas conditional inserts skip: one more after each that did not answer.
    pub(super) skip: usize,
    /// This node has seen every row after `seen_from` up to `seen_to`, and `last` has the last one of each sender.
    pub(super) seen_from: Seq,
    seen_to: Seq,
    last: [Head; Audience::MAX],
}

impl Known {
    /// Knows nothing but the heads; the rows after them are to be seen next.
    pub(super) fn starting_at(heads: Seq) -> Self {
        Self { heads, seen_from: heads, seen_to: heads, ..Self::default() }
    }

    /// A row was read or written: `sender` is its [`Log::place_of`].
    pub(super) fn see(&mut self, sender: usize, row: Head) {
        self.top = self.top.max(row.seq);
        if row.seq <= self.seen_to {
            return;
        }
        if row.seq > self.seen_to + 1 {
            self.seen_from = row.seq - 1;
            self.last = [Head::default(); Audience::MAX];
        }
        self.seen_to = row.seq;
        self.last[sender] = row;
    }

    /// The writes that bring all heads to the last row seen, and that row's seq. Their order keeps R2 for every row:
    /// a head that shows a row to its sender comes after those that show it to its recipients. So each sender's last
    /// row first goes to the others, the oldest row first, and the newest row goes to its sender at the very end.
    pub(super) fn raises<'a>(&self, audience: &'a Audience) -> (Vec<Raise<'a>>, Seq) {
        let mut news: Vec<Raise> = audience.users().zip(self.last).filter(|(_, row)| row.seq > self.heads).collect();
        news.sort_by_key(|(_, row)| row.seq);
        let mut raises = Vec::new();
        let newest = news.pop();
        for (sender, row) in news {
            raises.extend(audience.others(sender).map(|user| (user, row)));
        }
        if let Some((sender, row)) = newest {
            raises.extend(audience.recipients_first(sender).map(|user| (user, row)));
        }
        (raises, self.seen_to)
    }
}

/// What is known of all logs that this node used lately: when a generation is full the one before it is forgotten.
#[derive(Default)]
pub(super) struct KnownLogs(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<ConvId, Known>,
    old: HashMap<ConvId, Known>,
}

impl KnownLogs {
    /// What is known now; nothing at all for a log not used lately.
    pub(super) fn get(&self, conv: &ConvId) -> Known {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.young.get(conv).or_else(|| all.old.get(conv)).copied().unwrap_or_default()
    }

    /// Adds to what is known and returns the result. A log of which nothing is known takes nobody's place: anybody can
    /// ask for logs that do not exist.
    pub(super) fn update(&self, conv: &ConvId, change: impl FnOnce(&mut Known)) -> Known {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.young.contains_key(conv) {
            let mut known = all.old.remove(conv).unwrap_or_default();
            change(&mut known);
            if known == Known::default() {
                return known;
            }
            if all.young.len() >= GENERATION {
                all.old = std::mem::take(&mut all.young);
            }
            all.young.insert(conv.clone(), known);
            return known;
        }
        let known = all.young.entry(conv.clone()).or_default();
        change(known);
        *known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: Seq) -> Head {
        Head { seq, ts: seq * 10 }
    }

    fn raises(known: &Known, audience: &Audience) -> (Vec<(String, Head)>, Seq) {
        let (raises, reached) = known.raises(audience);
        (raises.into_iter().map(|(user, row)| (user.to_string(), row)).collect(), reached)
    }

    #[test]
    fn the_recipient_s_head_comes_first() {
        let conv = ConvId::new("dm:a:b").unwrap();
        let audience = Audience::of(&conv).unwrap();
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let mut known = Known::default();
        known.see(0, row(1));
        assert_eq!(raises(&known, &audience), (vec![(b.clone(), row(1)), (a.clone(), row(1))], 1));
        known.see(1, row(2));
        // b sees row 1 before a sees row 2: a wrote row 1.
        assert_eq!(raises(&known, &audience), (vec![(b.clone(), row(1)), (a, row(2)), (b, row(2))], 2));
        known.heads = 2;
        assert_eq!(raises(&known, &audience), (vec![], 2));
    }

    #[test]
    fn with_oneself_there_is_one_head() {
        let conv = ConvId::new("dm:a:a").unwrap();
        let audience = Audience::of(&conv).unwrap();
        let mut known = Known::default();
        known.see(0, row(1));
        assert_eq!(raises(&known, &audience), (vec![("a".to_owned(), row(1))], 1));
    }

    #[test]
    fn rows_that_were_jumped_over_do_not_count_as_seen() {
        let conv = ConvId::new("dm:a:b").unwrap();
        let audience = Audience::of(&conv).unwrap();
        let mut known = Known::default();
        known.see(0, row(1));
        known.see(1, row(5));
        assert_eq!((known.seen_from, known.top), (4, 5));
        known.see(0, row(3));
        assert_eq!((known.seen_from, known.raises(&audience).1), (4, 5));
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let logs = KnownLogs::default();
        let conv = |n: usize| ConvId::new(&format!("dm:a:u{n}")).unwrap();
        for n in 0..3 * GENERATION {
            logs.update(&conv(n), |known| known.top = 7);
            logs.update(&conv(0), |_| ());
        }
        let all = logs.0.lock().unwrap();
        assert!(all.young.len() <= GENERATION && all.old.len() <= GENERATION);
        drop(all);
        assert_eq!(logs.get(&conv(0)).top, 7, "what is used stays");
        assert_eq!(logs.get(&conv(1)).top, 0);
    }

    #[test]
    fn logs_that_do_not_exist_displace_nobody() {
        let logs = KnownLogs::default();
        let conv = |n: usize| ConvId::new(&format!("dm:a:u{n}")).unwrap();
        logs.update(&conv(0), |known| known.top = 7);
        for n in 1..3 * GENERATION {
            logs.update(&conv(n), |known| known.heads = 0);
        }
        assert_eq!(logs.get(&conv(0)).top, 7);
    }
}
