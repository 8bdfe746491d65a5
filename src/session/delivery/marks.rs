//! Acknowledgements: they free the window, move the cursor, and can move the position of a client that knows more than
//! the cursor does (R7). Cursors are written from acknowledgements only.

use super::{At, Conv, Delivery, Out};
use crate::{
    model::{ConvId, Seq},
    session::{Effect, Tick, Upkeep},
};

/// A cursor that the store does not take is written again at the latest after this long, in milliseconds: losing it only
/// means handing out again.
const WRITE_LATEST: Tick = 60_000;

impl Delivery {
    /// The client acknowledged. `false` when the answer needs the top of the log: then exactly one of
    /// [`Delivery::on_top`] and [`Delivery::on_check_failed`] follows.
    #[must_use]
    pub fn on_ack(&mut self, conv: &ConvId, seq: Seq, at: At<'_>, out: &mut Out) -> bool {
        if self.rested.get(conv).is_some_and(|position| seq <= position) {
            // All of it is acknowledged and stored.
            return true;
        }
        let position = self.convs.get(conv).and_then(|entry| entry.position);
        if position.is_none_or(|position| seq > position) {
            self.checks += 1;
            return false;
        }
        self.acknowledge(conv, seq, at, out);
        true
    }

    /// The top and the cursor could not be read: the acknowledgement is refused.
    pub fn on_check_failed(&mut self) {
        self.checks -= 1;
    }

    /// The top and the stored cursor for an acknowledgement above the position, or where no position is known
    /// (R7). `false` when it is above the top: an error, and nothing changes.
    #[must_use]
    pub fn on_top(&mut self, conv: &ConvId, seq: Seq, top: Seq, cursor: Seq, at: At<'_>, out: &mut Out) -> bool {
        self.checks -= 1;
        if seq > top {
            return false;
        }
        self.wake_up(conv, at);
        if !self.convs.contains_key(conv) && !self.make_room(at) {
            // No room to remember it. The cursor alone says it all: whoever needs a position here reads it.
            if seq > cursor {
                out.push(Effect::Upkeep(Upkeep::RaiseCursor { conv: conv.clone(), seq }));
            }
            return true;
        }
        let is_new = !self.convs.contains_key(conv);
        let entry = self.convs.entry(conv.clone()).or_insert_with(|| Conv::at(cursor));
        let was_behind = entry.is_behind();
        if entry.position.is_none() {
            (entry.acked, entry.stored) = (cursor, entry.stored.max(cursor));
        }
        let before = entry.unacked();
        let moved = entry.position.is_none_or(|position| position < seq);
        entry.position = Some(entry.position.unwrap_or(cursor).max(seq));
        self.unacked += entry.unacked() - before;
        let is_jump = (moved || is_new) && conv.is_room();
        if is_jump {
            // What was jumped over may have put the user out.
            entry.close();
        }
        if was_behind && !entry.is_behind() {
            self.behind -= 1;
        }
        self.acknowledge(conv, seq, at, out);
        self.settle_login(conv);
        if is_jump {
            self.enqueue(conv);
            self.fill(at, out);
        }
        self.make_room(at);
        self.resume_compare(at, out);
        true
    }

    pub(super) fn acknowledge(&mut self, conv: &ConvId, seq: Seq, at: At<'_>, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if seq <= entry.acked {
            return;
        }
        let before = entry.unacked();
        entry.acked = seq;
        entry.cuts.forget(seq);
        self.unacked -= before - entry.unacked();
        entry.waiting_since = None;
        (self.acked_at, self.is_deaf) = (at.now, false);
        self.watch(conv, at);
        self.write_cursor(conv, at, out);
        self.fill(at, out);
    }

    /// Writes the cursor now, or when the coalescing time is over.
    pub(super) fn write_cursor(&mut self, conv: &ConvId, at: At<'_>, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if entry.writing || !entry.is_dirty() {
            return;
        }
        let is_room = conv.is_room();
        let least = if is_room { self.room_coalesce } else { at.rules.ack_coalesce };
        let wait = least << entry.failed_writes.min(16);
        let wait = if entry.failed_writes > 0 { wait.min(WRITE_LATEST.max(least)) } else { wait };
        if is_room && entry.wrote_at.is_none() {
            // Waits before the first write too: when the last one was is forgotten with the conversation.
            entry.wrote_at = Some(at.now);
        }
        let due = entry.wrote_at.map_or(at.now, |began| began + wait);
        if due > at.now {
            self.wake_at(due);
            return;
        }
        entry.writing = true;
        entry.wrote_at = Some(at.now);
        out.push(Effect::Upkeep(Upkeep::RaiseCursor { conv: conv.clone(), seq: entry.acked }));
    }

    /// The store confirmed a cursor, or did not: then it is written again, each time after twice as long.
    pub fn on_cursor(&mut self, conv: &ConvId, stored: Option<Seq>, at: At<'_>, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        entry.writing = false;
        entry.failed_writes = if stored.is_some() { 0 } else { entry.failed_writes + 1 };
        entry.stored = entry.stored.max(stored.unwrap_or(0));
        self.rest_later(at);
        self.write_cursor(conv, at, out);
    }

    /// Cursors that are not written yet, for a session that ends.
    pub fn unwritten(&self) -> impl Iterator<Item = (&ConvId, Seq)> {
        self.convs.iter().filter(|(_, entry)| entry.is_dirty()).map(|(conv, entry)| (conv, entry.acked))
    }
}
