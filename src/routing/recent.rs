//! How far the conversations are that this node stored messages in lately: what to tell again after the connection to
//! NATS was lost. A lost connection is noticed late, so what was published in the last seconds before may be lost
//! as well as what was published since.
//!
//! Kept by the router. Bounded: two generations of entries, the older one is forgotten when the younger is full or
//! old.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::model::{ConvId, Seq};

/// A generation lasts so long: longer than it takes to notice a dead connection (three pings of five seconds).
const AGE: Duration = Duration::from_secs(20);
/// Conversations of one generation.
const MOST: usize = 10_000;

/// Conversations and their highest seq here, lately.
#[derive(Debug)]
pub(super) struct Recent(Mutex<Generations>);

#[derive(Debug)]
struct Generations {
    began: Instant,
    young: HashMap<ConvId, Seq>,
    old: HashMap<ConvId, Seq>,
}

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(Generations { began: Instant::now(), young: HashMap::new(), old: HashMap::new() }))
    }
}

impl Recent {
    /// A message was stored. Nothing grows old while NATS is away, however long that is.
    pub(super) fn note(&self, conv: &ConvId, seq: Seq, connected: bool) {
        let mut kept = self.0.lock();
        if let Some(highest) = kept.young.get_mut(conv) {
            *highest = (*highest).max(seq);
        } else {
            kept.young.insert(conv.clone(), seq);
        }
        if kept.young.len() >= MOST || connected && kept.began.elapsed() > AGE {
            kept.old = mem::take(&mut kept.young);
            kept.began = Instant::now();
        }
    }

    /// All of them, and forgets them.
    pub(super) fn take(&self) -> HashMap<ConvId, Seq> {
        let mut kept = self.0.lock();
        let mut all = mem::take(&mut kept.old);
        for (conv, seq) in mem::take(&mut kept.young) {
            let highest = all.entry(conv).or_insert(0);
            *highest = (*highest).max(seq);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UserId;

    #[test]
    fn the_highest_of_each_within_bounds() {
        let recent = Recent::default();
        let user = |n: usize| UserId::new(&format!("u{n}")).unwrap();
        let conv = |n| ConvId::direct(&user(0), &user(n));
        for n in 0..MOST * 3 {
            recent.note(&conv(n), 7, true);
            recent.note(&conv(n), 3, true);
        }
        let all = recent.take();
        assert!((MOST..=2 * MOST).contains(&all.len()), "{}", all.len());
        assert_eq!(all.get(&conv(MOST * 3 - 1)), Some(&7));
        assert!(recent.take().is_empty());
    }
}
