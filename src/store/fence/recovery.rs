//! Finding the end of a log before the first append of an epoch (F3).
//!
//! Row n + 1 belongs to the log if and only if it exists and its `pw` is the `w` of row n; timestamps say nothing. What
//! is found above the heads may stand on one replica only: it is *adopted*, written again as it is at this epoch's
//! timestamp, before it counts.

use std::sync::Arc;

use super::{Applied, Effect, Epoch, Head, Limits, Made, Placed, stands_beside};
use crate::model::{Counts, Row, Seq};

/// Where a recovery stands.
#[derive(Debug)]
pub(super) enum Recovery {
    /// Nothing was asked yet.
    Fresh,
    /// The heads are being read.
    Heads,
    /// The rows are being read.
    Rows(End),
    /// What was found is being written again; then more rows are read, or not. With the rows, where something stands beside
    /// them.
    Adopting(End, bool, Option<Arc<[Placed]>>),
    /// These rows are acknowledged, and something stands beside them; the incarnation is being read.
    ProvingPage(End, bool, Arc<[Placed]>),
    /// What stands beside them is being written.
    Beside(End, bool),
    /// Everything adopted is acknowledged; the incarnation is being read.
    Proving(End),
    /// The events that no table has are being read.
    CatchingUp(End),
    /// What these made is being written.
    Applying(End, Vec<(Seq, Made)>),
    /// The heads are being raised to the end.
    Announcing(End),
}

/// The end of the log as far as it was found.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) top: Seq,
    /// The `w` of the row there.
    pub(super) w: Epoch,
    /// The row itself; `None` in an empty log, and where the row of the head is lost.
    pub(super) last: Option<Row>,
    /// What was counted there: the row says it, or the head where the row is lost.
    pub(super) counts: Counts,
    /// The seq of the last event there or below.
    pub(super) event: Seq,
    /// Rows from here on are adopted.
    head: Seq,
    adopted: bool,
}

impl End {
    /// Before the rows are read: the head's own row comes first.
    pub(super) fn at_head(head: Head, event: Seq) -> Self {
        let Head { seq: head, counts } = head;
        Self { top: head.saturating_sub(1), w: 0, last: None, counts, event, head, adopted: false }
    }

    pub(super) fn next(&self) -> Seq {
        self.top + 1
    }

    /// Takes a page; returns what is to be adopted, and whether the log may go on.
    pub(super) fn on_rows(&mut self, rows: Vec<Placed>, more: bool, limits: &Limits) -> (Vec<Placed>, bool) {
        let mut adopted = Vec::new();
        let mut goes_on = more;
        if self.top < self.head && rows.first().is_none_or(|first| first.row.seq != self.head) {
            // A majority lost what it had acknowledged. The log goes on behind the gap, for no seq is given twice.
            tracing::error!(seq = self.head, "the row of a head is lost; see `natter repair` in docs/operations.md");
            self.top = self.head;
            return (adopted, true);
        }
        for placed in rows {
            let seq = placed.row.seq;
            if seq > self.head && placed.pw != self.w {
                goes_on = false;
                break;
            }
            if seq > self.head && limits.bucket_of(seq) != limits.bucket_of(self.top.max(1)) && !adopted.is_empty() {
                // One write is one partition; the rest is read again.
                goes_on = true;
                break;
            }
            (self.top, self.w, self.counts) = (seq, placed.w, placed.row.counts);
            self.event = placed.last_event();
            self.last = Some(placed.row.clone());
            if seq > self.head {
                adopted.push(placed);
            }
        }
        self.adopted |= !adopted.is_empty();
        (adopted, goes_on)
    }

    /// What comes when all rows are read: those adopted must be proved first.
    pub(super) fn found<T>(self, effects: &mut Vec<Effect<T>>) -> Recovery {
        if self.adopted {
            effects.push(Effect::Validate);
            Recovery::Proving(self)
        } else {
            Recovery::Announcing(self)
        }
    }

    /// Reads on, or ends.
    pub(super) fn go_on<T>(self, more: bool, effects: &mut Vec<Effect<T>>) -> Recovery {
        if !more {
            return self.found(effects);
        }
        effects.push(Effect::ReadRows { from: self.next() });
        Recovery::Rows(self)
    }

    /// Writes again what was found, or goes on.
    pub(super) fn adopt<T>(self, rows: Vec<Placed>, more: bool, effects: &mut Vec<Effect<T>>) -> Recovery {
        if rows.is_empty() {
            return self.go_on(more, effects);
        }
        let rows: Arc<[Placed]> = Arc::from(rows);
        effects.push(Effect::Write(rows.clone()));
        let beside = stands_beside(&rows).then_some(rows);
        Recovery::Adopting(self, more, beside)
    }

    /// What was found is written again. Only a row that is proved may have anything beside the log: whoever wrote it did not
    /// get so far, or is not known to.
    pub(super) fn adopted<T>(
        self,
        more: bool,
        beside: Option<Arc<[Placed]>>,
        effects: &mut Vec<Effect<T>>,
    ) -> Recovery {
        let Some(rows) = beside else { return self.go_on(more, effects) };
        effects.push(Effect::Validate);
        Recovery::ProvingPage(self, more, rows)
    }

    /// Everything adopted so far is in the log for ever.
    pub(super) fn proved<T>(mut self, more: bool, rows: Arc<[Placed]>, effects: &mut Vec<Effect<T>>) -> Recovery {
        self.adopted = false;
        effects.push(Effect::Apply(Applied { members: Vec::new(), rows }));
        Recovery::Beside(self, more)
    }
}
