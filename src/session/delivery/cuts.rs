//! What a session hands nothing out of: rows that cannot be written in the client's encoding, and holes in a log. Its
//! client is told that its backlog was cut, and everything behind it goes on. Used by [`super::Delivery`].
//!
//! R18 stays: a row that is merely late is waited for, and what the session steps over is no acknowledgement, so the
//! stored cursor does not move over it on its own.

use super::{At, Delivery, Out};
use crate::{
    model::{ConvId, Seq},
    session::Effect,
};

/// The seqs above the acknowledged ones that the client is not asked to acknowledge, as ranges in their order. Almost
/// no conversation has any.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "one word in each conversation, and not three")]
pub(super) struct Cuts(Option<Box<Vec<(Seq, Seq)>>>);

impl Cuts {
    /// From `first` to `last`, above all that are there.
    pub(super) fn add(&mut self, first: Seq, last: Seq) {
        let ranges = self.0.get_or_insert_default();
        match ranges.last_mut() {
            Some(before) if before.1 + 1 >= first => before.1 = before.1.max(last),
            _ => ranges.push((first, last)),
        }
    }

    /// How many of them are above `acked`.
    pub(super) fn above(&self, acked: Seq) -> u64 {
        let ranges = self.0.iter().flat_map(|ranges| ranges.iter());
        ranges.filter(|(_, last)| *last > acked).map(|(first, last)| last - acked.max(first - 1)).sum()
    }

    /// Those up to `acked` matter no more.
    pub(super) fn forget(&mut self, acked: Seq) {
        if let Some(ranges) = &mut self.0 {
            ranges.retain(|(_, last)| *last > acked);
            if ranges.is_empty() {
                self.0 = None;
            }
        }
    }
}

impl Delivery {
    /// The row that was handed out last cannot be written to this client.
    pub fn on_unwritable(&mut self, conv: &ConvId, seq: Seq, at: At<'_>, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        let before = entry.unacked();
        entry.cuts.add(seq, seq);
        self.unacked -= before - entry.unacked();
        out.push(Effect::Cut { conv: conv.clone(), first: seq, from: seq + 1 });
        self.fill(at, out);
    }

    /// Where the log goes on behind a row that was missing for long: there, or nowhere yet, or the store did not say.
    pub fn on_row_found(&mut self, conv: &ConvId, next: Result<Option<Seq>, ()>, at: At<'_>, out: &mut Out) {
        if !self.end_fill(conv) {
            return;
        }
        let Some(entry) = self.convs.get_mut(conv) else { return };
        entry.missing_since = None;
        let found = match (next, entry.position) {
            (Ok(Some(next)), Some(position)) if next > position => {
                // It is a row, so the log is at least so far (R1).
                let was_behind = entry.is_behind();
                entry.want = entry.want.max(next);
                if !was_behind {
                    self.behind += 1;
                }
                if next > position + 1 {
                    self.step_over(conv, position + 1, next, out);
                }
                true
            }
            _ => false,
        };
        self.after_page(conv, found, at);
        self.fill(at, out);
        self.resume_compare(at, out);
    }

    fn step_over(&mut self, conv: &ConvId, first: Seq, from: Seq, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        entry.cuts.add(first, from - 1);
        let was_behind = entry.is_behind();
        entry.position = Some(from - 1);
        if conv.is_room() {
            // What is lost may have put the user out.
            entry.close();
            self.behind -= usize::from(was_behind);
        }
        out.push(Effect::Cut { conv: conv.clone(), first, from });
        self.settle_login(conv);
    }
}
