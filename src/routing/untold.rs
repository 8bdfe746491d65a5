//! What this node could not publish: how far each conversation is that others were not told of, and who wrote that. Told
//! again when the connection moves again (R12).
//!
//! Kept by the router. Bounded: beyond it nobody is told again, which a metric counts, and a sweep finds it.

use std::{collections::HashMap, mem};

use parking_lot::Mutex;

use super::audience::Sender;
use crate::model::{ConvId, Seq};

/// Conversations that are remembered.
const MOST: usize = 10_000;

/// The highest message of a conversation that was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    /// Its place.
    pub(super) seq: Seq,
    /// Who wrote it.
    pub(super) from: Sender,
}

/// Conversations and their last messages that were not published.
#[derive(Debug, Default)]
pub(super) struct Untold(Mutex<HashMap<ConvId, Last>>);

impl Untold {
    /// A message was not published; false when there is no room to remember it.
    pub(super) fn note(&self, conv: &ConvId, last: Last) -> bool {
        let mut kept = self.0.lock();
        if let Some(known) = kept.get_mut(conv) {
            if last.seq > known.seq {
                *known = last;
            }
        } else if kept.len() < MOST {
            kept.insert(conv.clone(), last);
        } else {
            return false;
        }
        true
    }

    /// All of them, and forgets them.
    pub(super) fn take(&self) -> HashMap<ConvId, Last> {
        mem::take(&mut self.0.lock())
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UserId;

    fn user(n: usize) -> UserId {
        UserId::new(&format!("u{n}")).unwrap()
    }

    fn last(seq: Seq, n: usize) -> Last {
        Last { seq, from: Sender { name: user(n), service: false } }
    }

    #[test]
    fn the_highest_of_each_within_bounds() {
        let untold = Untold::default();
        let conv = |n| ConvId::direct(&user(0), &user(n));
        for n in 0..MOST + 5 {
            assert_eq!(untold.note(&conv(n), last(7, 0)), n < MOST);
            assert_eq!(untold.note(&conv(n), last(3, n)), n < MOST);
        }
        let all = untold.take();
        assert_eq!(all.len(), MOST);
        assert_eq!(all.get(&conv(1)), Some(&last(7, 0)));
        assert!(untold.is_empty());
    }
}
