//! Read marks. They get no answer, so the latest of each conversation is sent again after every reconnect until the
//! user's own receipt shows that it arrived. No I/O. Called by the driver.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{ConvId, Seq};

/// How many marks are remembered; above this, an arbitrary one is sent only once.
const REMEMBERED: usize = 1024;

/// Read marks on their way.
#[derive(Debug, Default)]
pub(super) struct Marks {
    latest: BTreeMap<ConvId, Seq>,
    waiting: VecDeque<(ConvId, Seq)>,
}

impl Marks {
    pub(super) fn set(&mut self, conv: ConvId, seq: Seq) {
        if self.latest.get(&conv).is_some_and(|latest| *latest >= seq) {
            return;
        }
        self.waiting.retain(|(other, _)| *other != conv);
        self.waiting.push_back((conv.clone(), seq));
        self.latest.insert(conv, seq);
        if self.latest.len() > REMEMBERED {
            self.latest.pop_first();
        }
    }

    pub(super) fn next(&mut self) -> Option<(ConvId, Seq)> {
        self.waiting.pop_front()
    }

    /// What has no receipt yet is written again.
    pub(super) fn repeat(&mut self) {
        self.waiting = self.latest.iter().map(|(conv, seq)| (conv.clone(), *seq)).collect();
    }

    /// The user's own receipt.
    pub(super) fn on_read(&mut self, conv: &ConvId, seq: Seq) {
        if self.latest.get(conv).is_some_and(|latest| *latest <= seq) {
            self.latest.remove(conv);
        }
    }

    /// The node refused one and does not say which: none is sent again, or a bad one would be sent forever.
    pub(super) fn forget(&mut self) {
        self.latest.clear();
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_mark_is_repeated_until_its_receipt() {
        let conv = ConvId::new("dm:a:b").unwrap();
        let mut marks = Marks::default();
        marks.set(conv.clone(), 3);
        marks.set(conv.clone(), 5);
        marks.set(conv.clone(), 4);
        assert_eq!((marks.next(), marks.next()), (Some((conv.clone(), 5)), None));
        marks.on_read(&conv, 3);
        marks.repeat();
        assert_eq!((marks.next(), marks.next()), (Some((conv.clone(), 5)), None));
        marks.on_read(&conv, 5);
        marks.repeat();
        assert_eq!(marks.next(), None);
    }
}
