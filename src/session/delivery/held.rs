//! A live message of a conversation whose position is not known: it is kept in hand while the cursor is read, and goes to
//! the socket if it is the next one. Used by [`super::Delivery`].
//!
//! Only where the cursor can be read at once, so no more of them are kept than fills may be under way.

use std::sync::Arc;

use super::{
    At, Conv, Delivery, Out,
    fills::{FILLS, Room},
};
use crate::{
    model::{ConvId, Seq},
    protocol::LiveMessage,
    session::{Effect, Upkeep},
};

impl Delivery {
    /// Whether a live message of this conversation may wait for its cursor.
    pub(super) fn may_hold(&self, conv: &ConvId, at: At<'_>) -> bool {
        let room = self.unacked + self.kept_rows < at.rules.window && self.credit > self.kept_bytes;
        room && self.fills < FILLS && self.queue.is_empty() && !self.convs.contains_key(conv)
    }

    pub(super) fn begin_hold(&mut self, live: Arc<LiveMessage>, at: At<'_>, out: &mut Out) {
        let (conv, seq) = (live.conv.clone(), live.seq);
        let room = Room { rows: 1, bytes: u32::try_from(live.size()).unwrap_or(u32::MAX) };
        self.fills += 1;
        self.kept_rows += u64::from(room.rows);
        self.kept_bytes += room.bytes as usize;
        self.behind += 1;
        let need = if conv.is_room() {
            Upkeep::ReadRoom { conv: conv.clone(), after: None, at: seq, backlog: at.rules.backlog }
        } else {
            Upkeep::ReadCursor { conv: conv.clone() }
        };
        let entry =
            Conv { want: seq, heard: seq, unseen: seq, filling: Some(room), held: Some(live), ..Conv::default() };
        self.rest_later(at);
        self.convs.insert(conv.clone(), entry);
        self.watch(&conv, at);
        out.push(Effect::Upkeep(need));
    }

    /// The cursor of a conversation was read, or could not be.
    pub fn on_cursor_read(&mut self, conv: &ConvId, cursor: Result<Seq, ()>, at: At<'_>, out: &mut Out) {
        if !self.end_fill(conv) {
            return;
        }
        let held = self.convs.get_mut(conv).and_then(|entry| entry.held.take());
        if let Ok(cursor) = cursor {
            self.start_at(conv, cursor, at.rules, out);
            self.settle_login(conv);
            self.hand_held(conv, held, at, out);
        }
        // What lies between the cursor and the message is read next.
        self.after_page(conv, cursor.is_ok(), at);
        self.fill(at, out);
        self.resume_compare(at, out);
    }

    /// What waited in hand goes to the socket, if it is the next one.
    pub(super) fn hand_held(&mut self, conv: &ConvId, held: Option<Arc<LiveMessage>>, at: At<'_>, out: &mut Out) {
        if let Some(live) = held
            && self.follows(conv, live.seq)
            && self.unacked < at.rules.window
            && self.credit > 0
        {
            self.credit = self.credit.saturating_sub(live.size());
            self.hand_out(conv, live.seq, live.puts_out.as_ref(), at);
            out.push(Effect::HandLive(live));
        }
    }

    fn follows(&self, conv: &ConvId, seq: Seq) -> bool {
        self.convs.get(conv).and_then(|entry| entry.position).is_some_and(|position| seq == position + 1)
    }
}
