//! Which parts of a room's log were written for one user. Kept with each member, asked for each row that is handed out.

use serde::{Deserialize, Serialize};

use crate::model::Seq;

/// From each join up to the leave that followed it: what lies behind a join and not behind its leave is for the member. A
/// device that was away finds in them what it missed, also when its user left and came back meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spans {
    /// The join that no leave has followed.
    open: Option<Seq>,
    /// Join and leave of those before, in order.
    past: Vec<(Seq, Seq)>,
}

impl Spans {
    /// Nothing.
    pub const NONE: Self = Self { open: None, past: Vec::new() };

    /// Past ones that are kept; of older ones a device that was away all the time gets nothing any more.
    pub const PAST: usize = 8;

    /// Of a member since `since`.
    pub fn since(since: Seq) -> Self {
        Self { open: Some(since), past: Vec::new() }
    }

    /// The present join, while the user is in.
    pub fn open(&self) -> Option<Seq> {
        self.open
    }

    /// The last seq that was for them, when they are out.
    pub fn until(&self) -> Option<Seq> {
        match self.open {
            Some(_) => None,
            None => self.past.last().map(|(_, until)| *until),
        }
    }

    /// They join at `seq`.
    pub fn enter(&mut self, seq: Seq) {
        debug_assert!(self.open.is_none() && self.past.last().is_none_or(|(_, until)| *until < seq));
        self.open = Some(seq);
    }

    /// They leave at `seq`, which is the last one for them.
    pub fn exit(&mut self, seq: Seq) {
        if let Some(since) = self.open.take() {
            self.past.push((since, seq));
            if self.past.len() > Self::PAST {
                self.past.remove(0);
            }
        }
    }

    /// Whether the row at `seq` is for them: since < seq ≤ until.
    pub fn hold(&self, seq: Seq) -> bool {
        self.next_after(seq.saturating_sub(1)) == Some(seq)
    }

    /// The first seq after `after` that is for them, if the log goes so far.
    pub fn next_after(&self, after: Seq) -> Option<Seq> {
        let past = self.past.iter().find(|(_, until)| *until > after).map(|(since, _)| *since);
        past.or(self.open).map(|since| since.max(after) + 1)
    }

    /// The first seq of the part that `seq` lies in.
    pub fn start_of(&self, seq: Seq) -> Option<Seq> {
        let past = self.past.iter().find(|(since, until)| *since < seq && seq <= *until).map(|(since, _)| *since);
        past.or(self.open.filter(|since| *since < seq)).map(|since| since + 1)
    }

    /// The last seq before `before` that is for them, if the log goes so far.
    pub fn last_before(&self, before: Seq) -> Option<Seq> {
        let last = before.checked_sub(1)?;
        if self.open.is_some_and(|since| since < last) {
            return Some(last);
        }
        let past = self.past.iter().rev().find(|(since, _)| *since < last);
        past.map(|(_, until)| last.min(*until))
    }

    /// The last seq of the part that `seq` lies in; none where that part is still open.
    pub fn end_of(&self, seq: Seq) -> Option<Seq> {
        self.past.iter().find(|(since, until)| *since < seq && seq <= *until).map(|(_, until)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_a_join_and_its_leave_is_theirs() {
        let mut spans = Spans::since(3);
        spans.exit(7);
        assert_eq!((spans.until(), spans.open()), (Some(7), None));
        spans.enter(20);
        let held: Vec<Seq> = (0..25).filter(|seq| spans.hold(*seq)).collect();
        assert_eq!(held, [4, 5, 6, 7, 21, 22, 23, 24]);
        assert_eq!([0, 3, 6, 7, 30].map(|seq| spans.next_after(seq)), [4, 4, 7, 21, 31].map(Some));
        assert_eq!(
            [0, 4, 5, 9, 21, 22].map(|seq| spans.last_before(seq)),
            [None, None, Some(4), Some(7), Some(7), Some(21)]
        );
        assert_eq!(
            [3, 4, 7, 8, 21, 99].map(|seq| spans.start_of(seq)),
            [None, Some(4), Some(4), None, Some(21), Some(21)]
        );
        assert_eq!([3, 4, 7, 8, 21].map(|seq| spans.end_of(seq)), [None, Some(7), Some(7), None, None]);
        spans.exit(30);
        assert_eq!(spans.next_after(30), None);
        assert_eq!(Spans::NONE.next_after(0), None);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut spans = Spans::NONE;
        for n in 0..20 {
            spans.enter(10 * n + 1);
            spans.exit(10 * n + 5);
        }
        assert_eq!(spans.past.len(), Spans::PAST);
        assert_eq!(spans.next_after(0), Some(122));
    }
}
