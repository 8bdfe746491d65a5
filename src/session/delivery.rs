//! Positions, the window, what is behind, and the fills that bring it up: everything that makes a session hand out
//! each conversation in order, without gaps and within bounds, whatever the bus loses, repeats or reorders.
//!
//! Called by [`super::Session`]. The rules (R1–R8, R12) stand in `docs/rules.md`.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use self::{compare::Compare, conv::Conv, rested::Rested, rooms::Due, stamps::Seen};
use super::{Cause, Effect, Rules, Tick, View};
use crate::{
    model::{ConvId, Seq, UserId},
    protocol::LiveMessage,
};

mod absences;
mod compare;
mod conv;
mod cuts;
mod fills;
mod held;
mod marks;
mod offline;
mod rested;
mod rooms;
#[cfg(any(debug_assertions, test))]
mod sound;
mod stamps;

/// What every step needs to know: the rules, and what time it is.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// What the session keeps to.
    pub rules: &'a Rules,
    /// The session's clock.
    pub now: Tick,
}

/// What a session hands out and in which order. See the module's header.
#[derive(Debug)]
pub struct Delivery {
    convs: HashMap<ConvId, Conv>,
    /// Positions in which nothing is under way; none of `convs`.
    rested: Rested,
    /// Conversations to fill, round robin.
    queue: VecDeque<ConvId>,
    unacked: u64,
    behind: usize,
    fills: u32,
    /// Rows of the window and bytes of the socket's buffer that pages under way are to fill.
    kept_rows: u64,
    kept_bytes: usize,
    /// Acknowledgements whose top and cursor are being read.
    checks: u32,
    /// Bytes that the socket still takes.
    credit: usize,
    compare: Compare,
    cause: Cause,
    seen: Seen,
    /// A comparison failed, and its retry is not due yet.
    backing_off: bool,
    /// Compare again when this comparison is done.
    again: Option<Cause>,
    /// Conversations of the first comparison that are not yet handed out.
    login_left: usize,
    /// A first comparison came to its end.
    compared: bool,
    caught_up: bool,
    /// What the next comparison does about rooms.
    rooms_due: Due,
    /// No room had ever heard of the user when the stamps of the comparison under way were read.
    roomless: bool,
    /// What the one under way does.
    rooms_read: Due,
    /// Whose session it is: an event about this user may put it out of a room.
    me: Option<UserId>,
    /// At least this long between two writes of a cursor in a room.
    room_coalesce: Tick,
    /// When anything was acknowledged last.
    acked_at: Tick,
    /// Push services were told since then that it acknowledges nothing.
    is_deaf: bool,
    /// The next moment at which [`Delivery::on_tick`] has something to do.
    wake: Option<Tick>,
    /// When what is at rest by then gives its memory back; [`NEVER`] where nothing moved since the last time.
    rest_at: Tick,
}

const NEVER: Tick = Tick::MAX;

impl Default for Delivery {
    fn default() -> Self {
        Self {
            convs: HashMap::new(),
            rested: Rested::default(),
            queue: VecDeque::new(),
            unacked: 0,
            behind: 0,
            fills: 0,
            kept_rows: 0,
            kept_bytes: 0,
            checks: 0,
            credit: 0,
            compare: Compare::Idle,
            cause: Cause::Login,
            seen: Seen::default(),
            backing_off: false,
            again: None,
            login_left: 0,
            compared: false,
            caught_up: false,
            rooms_due: Due::All,
            roomless: false,
            rooms_read: Due::Nothing,
            me: None,
            room_coalesce: 0,
            acked_at: 0,
            is_deaf: false,
            wake: None,
            rest_at: NEVER,
        }
    }
}

type Out = Vec<Effect>;

impl Delivery {
    /// When [`Delivery::on_tick`] wants to be called.
    pub fn wake(&self) -> Option<Tick> {
        self.wake
    }

    /// Conversations that are behind now.
    pub fn behind(&self) -> usize {
        self.behind
    }

    /// Conversations held in memory.
    pub fn known(&self) -> usize {
        self.convs.len() + self.rested.len()
    }

    /// Messages handed out and not acknowledged.
    pub fn unacked(&self) -> u64 {
        self.unacked
    }

    /// The client was handed everything of the conversation up to here, or has acknowledged it; 0 where the session does
    /// not know.
    pub fn handed(&self, conv: &ConvId) -> Seq {
        let position = self.convs.get(conv).map_or_else(|| self.rested.get(conv), |entry| entry.position);
        position.unwrap_or(0)
    }

    /// How it stands to a conversation; what only the session knows is left out.
    pub fn view(&self, conv: &ConvId, now: Tick) -> View {
        let of_all = View {
            unacked: self.unacked,
            is_full: self.credit == 0,
            comparing: self.is_comparing() || self.backing_off,
            ..View::default()
        };
        let Some(entry) = self.convs.get(conv) else {
            let position = self.rested.get(conv);
            let acked = position.unwrap_or(0);
            return View { position, acked, stored: acked, heard: acked, ..of_all };
        };
        View {
            position: entry.position,
            acked: entry.acked,
            stored: entry.stored,
            heard: entry.want.max(entry.heard).max(entry.position.unwrap_or(0)),
            closed: entry.closed,
            reading: entry.filling.is_some() || entry.queued,
            asks_again_in: entry.not_before.checked_sub(now).filter(|left| *left > 0 && entry.queued),
            row_missing_for: entry.missing_since.map(|since| now.saturating_sub(since)),
            ..of_all
        }
    }

    /// Whether a comparison of heads is under way.
    pub fn is_comparing(&self) -> bool {
        self.compare != Compare::Idle
    }

    /// Tells how many bytes the socket takes now; hands out more where that was the obstacle.
    pub fn set_credit(&mut self, bytes: usize, at: At<'_>, out: &mut Out) {
        let grew = bytes > self.credit;
        self.credit = bytes;
        if grew {
            self.fill(at, out);
        }
    }

    /// A message arrived over the bus or from this node's own router.
    pub fn on_live(&mut self, live: Arc<LiveMessage>, at: At<'_>, out: &mut Out) {
        let (conv, seq) = (&live.conv, live.seq);
        self.wake_up(conv, at);
        if self.is_next(conv, seq, at) {
            self.credit = self.credit.saturating_sub(live.size());
            let is_exit = self.hand_out(conv, seq, live.puts_out.as_ref(), at);
            if let Some(entry) = self.convs.get_mut(conv) {
                entry.heard = entry.heard.max(seq);
            }
            out.push(Effect::HandLive(live));
            if is_exit {
                self.fill(at, out);
            }
        } else if self.may_hold(conv, at) && self.make_room(at) {
            self.begin_hold(live, at, out);
        } else {
            self.on_notice(conv, seq, at, out);
        }
    }

    /// Whether a live message can go to the socket as it is.
    fn is_next(&self, conv: &ConvId, seq: Seq, at: At<'_>) -> bool {
        let Some(entry) = self.convs.get(conv) else { return false };
        let room = self.unacked < at.rules.window && self.credit > 0;
        let fair = !self.others_wait() || entry.unacked() < at.rules.window / 2;
        let next = entry.filling.is_none()
            && !entry.closed
            && !entry.is_behind()
            && entry.position.is_some_and(|position| seq == position + 1);
        next && room && fair
    }

    /// There is a message that cannot be handed out from what arrived: a gap, no room, a fill under way, an unknown
    /// position, or only its seq was told. It is remembered and read from the store (R5).
    pub fn on_notice(&mut self, conv: &ConvId, seq: Seq, at: At<'_>, out: &mut Out) {
        self.wake_up(conv, at);
        if !self.convs.contains_key(conv) && !self.make_room(at) {
            // No room to remember it: the heads will tell, they were raised before this was published.
            self.tell_unkept(conv, seq, out);
            self.compare(Cause::Lagged, out);
            return;
        }
        let entry = self.convs.entry(conv.clone()).or_insert_with(|| {
            self.behind += 1;
            Conv::default()
        });
        entry.heard = entry.heard.max(seq);
        if entry.position.is_some_and(|position| seq <= position) {
            return;
        }
        entry.unseen = entry.unseen.max(seq);
        if entry.closed {
            // The user may be in the room again by now.
            entry.must_read = true;
            self.enqueue(conv);
            return self.fill(at, out);
        }
        if !entry.is_behind() {
            self.behind += 1;
        }
        entry.want = entry.want.max(seq);
        self.watch(conv, at);
        self.enqueue(conv);
        self.fill(at, out);
    }

    /// Time passed: fills that backed off, cursors that were coalesced, messages nobody acknowledges.
    pub fn on_tick(&mut self, at: At<'_>, out: &mut Out) {
        if self.wake.is_none_or(|wake| wake > at.now) {
            return;
        }
        self.wake = None;
        let mut due = Vec::new();
        self.tell_offline(at, out);
        for (conv, entry) in &self.convs {
            if entry.not_before > at.now && entry.queued {
                self.wake = min(self.wake, entry.not_before);
            }
            if entry.is_dirty() && !entry.writing {
                due.push(conv.clone());
            }
        }
        for conv in due {
            self.write_cursor(&conv, at, out);
        }
        self.rest_when_due(at);
        self.fill(at, out);
    }

    fn wake_at(&mut self, at: Tick) {
        self.wake = min(self.wake, at);
    }

    /// Moves the position over one message. True where it puts the user out of the room: then the conversation is closed.
    fn hand_out(&mut self, conv: &ConvId, seq: Seq, puts_out: Option<&UserId>, at: At<'_>) -> bool {
        let is_exit = puts_out.is_some() && puts_out == self.me.as_ref();
        let Some(entry) = self.convs.get_mut(conv) else { return false };
        let was_behind = entry.is_behind();
        entry.position = Some(seq);
        if is_exit {
            entry.close();
        }
        self.unacked += 1;
        if was_behind && !entry.is_behind() {
            self.behind -= 1;
        }
        self.watch(conv, at);
        self.settle_login(conv);
        if is_exit {
            self.enqueue(conv);
        }
        is_exit
    }

    /// A conversation that rested moves again.
    fn wake_up(&mut self, conv: &ConvId, at: At<'_>) {
        if self.rested.len() == 0 || self.convs.contains_key(conv) {
            return;
        }
        let Some(position) = self.rested.take(conv) else { return };
        if self.convs.len() >= at.rules.warm {
            self.rest();
        }
        self.rest_later(at);
        self.convs.insert(conv.clone(), Conv::at(position));
    }

    /// Makes room for one more conversation; `false` when there is none.
    fn make_room(&mut self, at: At<'_>) -> bool {
        if self.convs.len() >= at.rules.warm {
            self.rest();
        }
        self.rest_later(at);
        self.forget(at);
        let most = at.rules.known + at.rules.behind + usize::try_from(at.rules.window).unwrap_or(usize::MAX);
        self.known() < most
    }

    /// Something moves: what it needs is given back when it has come to rest.
    fn rest_later(&mut self, at: At<'_>) {
        if self.rest_at == NEVER {
            self.rest_at = at.now + at.rules.rest_after;
            self.wake_at(self.rest_at);
        }
    }

    fn rest_when_due(&mut self, at: At<'_>) {
        if self.rest_at == NEVER {
            return;
        }
        if self.rest_at > at.now {
            return self.wake_at(self.rest_at);
        }
        self.rest_at = NEVER;
        // What still moves is looked at again when its cursor is stored.
        self.rest();
        // Half empty is what a growing map is anyway.
        if self.convs.capacity() > 4 * self.convs.len() {
            self.convs.shrink_to_fit();
        }
        if self.queue.is_empty() {
            self.queue.shrink_to_fit();
        }
    }

    /// Where nothing is under way the position alone is kept.
    fn rest(&mut self) {
        let keeps_all = self.may_bring_old_cursors();
        for (conv, entry) in self.convs.extract_if(|_, entry| entry.may_be_forgotten() && !(keeps_all && entry.closed))
        {
            match entry.position {
                // A room that the user is out of has no position to go on from.
                _ if entry.closed => {}
                // What was jumped over there is not for the user.
                Some(position) if conv.is_room() => self.rested.put(&conv, position),
                _ => self.rested.put(&conv, entry.acked),
            }
        }
    }

    /// Forgets what may be forgotten (R8), the least recently used first. Nothing is while cursors are being read, for a
    /// page of heads or for an acknowledgement: they may be older than what would be forgotten, and the conversation would
    /// be handed out a second time.
    fn forget(&mut self, at: At<'_>) {
        if !self.may_bring_old_cursors() {
            self.rested.keep(at.rules.known);
        }
    }

    fn may_bring_old_cursors(&self) -> bool {
        matches!(self.compare, Compare::Reading | Compare::Rooms) || self.checks > 0
    }
}

fn min(old: Option<Tick>, new: Tick) -> Option<Tick> {
    Some(old.map_or(new, |old| old.min(new)))
}

#[cfg(test)]
mod tests;
