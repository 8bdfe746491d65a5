//! Fills: reading the logs of conversations that are behind, round robin, no more at once than window and socket have
//! room for. What a page reads and nobody can take would only be read again. Used by [`super::Delivery`].

use super::{At, Delivery, Out};
use crate::{
    model::{ConvId, Row, Seq},
    session::{Effect, Tick, Upkeep},
};

/// Back-off of a fill that found nothing, in milliseconds: doubles up to the second figure.
const BACKOFF: (Tick, Tick) = (20, 5_000);
/// Fills under way at once, so that one slow page does not hold the others.
pub(super) const FILLS: u32 = 2;

/// What is kept free for a page that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Room {
    /// Of the window.
    pub(super) rows: u32,
    /// Of the socket's buffer.
    pub(super) bytes: u32,
}

impl Delivery {
    /// A page of a log was read. `cursor` is the stored cursor where the fill was asked to start at it.
    pub fn on_page(
        &mut self,
        conv: &ConvId,
        cursor: Option<Seq>,
        rows: Result<Vec<Row>, ()>,
        at: At<'_>,
        out: &mut Out,
    ) {
        if !self.end_fill(conv) {
            return;
        }
        // Of a page that begins at the cursor nothing is handed out where the device begins above it.
        let jumped = cursor.is_some_and(|cursor| self.start_at(conv, cursor, at.rules, out));
        let Some(entry) = self.convs.get_mut(conv) else { return };
        let before = entry.position;
        self.settle_login(conv);
        let (answered, mut blocked) = (rows.is_ok(), false);
        for row in rows.unwrap_or_default() {
            let Some(position) = self.convs.get(conv).and_then(|entry| entry.position) else { break };
            if row.seq <= position {
                continue;
            }
            if self.convs.get(conv).is_some_and(|entry| entry.closed) {
                break;
            }
            blocked = self.unacked >= at.rules.window || self.credit == 0;
            if row.seq != position + 1 || blocked {
                break;
            }
            self.credit = self.credit.saturating_sub(size_of(&row));
            self.hand_out(conv, row.seq, row.puts_out().as_ref(), at);
            out.push(Effect::HandRow(conv.clone(), row));
        }
        let moved = self.convs.get(conv).is_some_and(|entry| entry.position != before);
        let progress = moved || blocked || jumped;
        if let Some(entry) = self.convs.get_mut(conv) {
            // A store that does not answer says nothing about a row.
            let missing = !progress && answered;
            entry.missing_since = missing.then(|| entry.missing_since.unwrap_or(at.now));
        }
        self.after_page(conv, progress, at);
        self.fill(at, out);
        self.resume_compare(at, out);
    }

    /// What was kept free for a page is free again; false where none was being read.
    pub(super) fn end_fill(&mut self, conv: &ConvId) -> bool {
        let Some(room) = self.convs.get_mut(conv).and_then(|entry| entry.filling.take()) else { return false };
        self.fills -= 1;
        self.kept_rows -= u64::from(room.rows);
        self.kept_bytes -= room.bytes as usize;
        true
    }

    /// Queues the conversation again while it is behind; backs off when the page brought nothing, because the
    /// answer may be older than what was heard (R5).
    pub(super) fn after_page(&mut self, conv: &ConvId, progress: bool, at: At<'_>) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if !entry.has_work() {
            entry.misses = 0;
            return;
        }
        if progress {
            entry.misses = 0;
        } else {
            let wait = (BACKOFF.0 << entry.misses.min(16)).min(BACKOFF.1);
            entry.misses += 1;
            entry.not_before = at.now + wait;
            self.wake_at(at.now + wait);
        }
        self.enqueue(conv);
    }

    pub(super) fn enqueue(&mut self, conv: &ConvId) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if !entry.queued && entry.filling.is_none() {
            entry.queued = true;
            self.queue.push_back(conv.clone());
        }
    }

    /// Whether conversations wait for their part of the window: in the queue, or for a page that is being read.
    pub(super) fn others_wait(&self) -> bool {
        !self.queue.is_empty() || self.fills > 0
    }

    /// Starts fills, round robin, as far as window and socket allow.
    pub(super) fn fill(&mut self, at: At<'_>, out: &mut Out) {
        for _ in 0..self.queue.len() {
            let free = at.rules.window.saturating_sub(self.unacked + self.kept_rows);
            if self.fills >= FILLS || free == 0 || self.credit == 0 {
                return;
            }
            let Some(conv) = self.queue.pop_front() else { return };
            let others_wait = self.others_wait();
            let Some(entry) = self.convs.get_mut(&conv) else { continue };
            entry.queued = false;
            if !entry.has_work() || entry.filling.is_some() {
                continue;
            }
            // Nobody takes more than half of the window while others wait.
            let half = (at.rules.window / 2).max(1);
            let share = if others_wait { half.saturating_sub(entry.unacked()) } else { free };
            if entry.not_before > at.now || share == 0 {
                entry.queued = true;
                self.queue.push_back(conv);
                continue;
            }
            // No further than was heard of: up to there the log is settled, and no store needs to look how far it goes.
            let missing = entry.position.map_or(u64::MAX, |position| entry.want.saturating_sub(position).max(1));
            let rows = u32::try_from(free.min(share).min(missing)).unwrap_or(u32::MAX).min(at.rules.page_rows);
            let left = self.credit.saturating_sub(self.kept_bytes);
            // A page holds one row at least, so one that finds nothing left costs no more than that.
            let bytes = if others_wait { left / 2 } else { left }.max(1);
            self.begin_fill(conv, Room { rows, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }, at, out);
        }
    }

    fn begin_fill(&mut self, conv: ConvId, room: Room, at: At<'_>, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(&conv) else { return };
        self.fills += 1;
        if entry.must_read || entry.position.is_none() && conv.is_room() {
            entry.filling = Some(Room::default());
            let (after, heard, backlog) = (entry.position, entry.unseen, at.rules.backlog);
            return out.push(Effect::Upkeep(Upkeep::ReadRoom { conv, after, at: heard, backlog }));
        }
        if let (Some(after), true) = (entry.position, entry.has_hole(at)) {
            entry.filling = Some(Room::default());
            return out.push(Effect::Upkeep(Upkeep::FindRow { after, upto: entry.want, conv }));
        }
        entry.filling = Some(room);
        self.kept_rows += u64::from(room.rows);
        self.kept_bytes += room.bytes as usize;
        let (rows, bytes) = (room.rows as usize, room.bytes as usize);
        out.push(Effect::Upkeep(Upkeep::Fill { after: entry.position, conv, rows, bytes }));
    }
}

/// What a row takes on the way out, about: the frame around a body is names and numbers.
fn size_of(row: &Row) -> usize {
    row.body.as_msgpack().len() + 96
}
