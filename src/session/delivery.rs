//! Positions, the window, what is behind, and the fills that bring it up: everything that makes a session hand out
//! each conversation in order, without gaps and within bounds, whatever the bus loses, repeats or reorders.
//!
//! Called by [`super::Session`]. The rules (R1–R8, R12) stand in `docs/rules.md`.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use self::{compare::Compare, conv::Conv};
use super::{Cause, Effect, Rules, Tick, Upkeep};
use crate::{
    model::{ConvId, Row, Seq},
    protocol::LiveMessage,
};

mod compare;
mod conv;
mod marks;
#[cfg(any(debug_assertions, test))]
mod sound;

/// What every step needs to know: the rules, and what time it is.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// What the session keeps to.
    pub rules: &'a Rules,
    /// The session's clock.
    pub now: Tick,
}

/// Back-off of a fill that found nothing, in milliseconds: doubles up to the second figure.
const BACKOFF: (Tick, Tick) = (20, 5_000);
/// Fills under way at once, so that one slow page does not hold the others.
const FILLS: usize = 2;

/// What a session hands out and in which order. See the module's header.
#[derive(Debug)]
pub struct Delivery {
    convs: HashMap<ConvId, Conv>,
    /// Conversations to fill, round robin.
    queue: VecDeque<ConvId>,
    unacked: u64,
    behind: usize,
    fills: usize,
    /// Acknowledgements whose top and cursor are being read.
    checks: usize,
    /// Bytes that the socket still takes.
    credit: usize,
    compare: Compare,
    cause: Cause,
    /// Compare again when this comparison is done.
    again: Option<Cause>,
    /// Conversations of the first comparison that are not yet handed out.
    login_left: usize,
    /// A first comparison came to its end.
    compared: bool,
    caught_up: bool,
    /// The next moment at which [`Delivery::on_tick`] has something to do.
    wake: Option<Tick>,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            convs: HashMap::new(),
            queue: VecDeque::new(),
            unacked: 0,
            behind: 0,
            fills: 0,
            checks: 0,
            credit: 0,
            compare: Compare::Idle,
            cause: Cause::Login,
            again: None,
            login_left: 0,
            compared: false,
            caught_up: false,
            wake: None,
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
        self.convs.len()
    }

    /// Messages handed out and not acknowledged.
    pub fn unacked(&self) -> u64 {
        self.unacked
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
        if self.is_next(conv, seq, at) {
            self.credit = self.credit.saturating_sub(live.size());
            self.hand_out(conv, seq, at);
            out.push(Effect::HandLive(live));
        } else {
            self.on_notice(conv, seq, at, out);
        }
    }

    /// Whether a live message can go to the socket as it is.
    fn is_next(&self, conv: &ConvId, seq: Seq, at: At<'_>) -> bool {
        let Some(entry) = self.convs.get(conv) else { return false };
        let room = self.unacked < at.rules.window && self.credit > 0;
        let fair = !self.others_wait() || entry.unacked() < at.rules.window / 2;
        let next = !entry.filling && !entry.is_behind() && entry.position.is_some_and(|position| seq == position + 1);
        next && room && fair
    }

    /// There is a message that cannot be handed out from what arrived: a gap, no room, a fill under way, an unknown
    /// position, or only its seq was told. It is remembered and read from the store (R5).
    pub fn on_notice(&mut self, conv: &ConvId, seq: Seq, at: At<'_>, out: &mut Out) {
        if !self.convs.contains_key(conv) && !self.make_room(at) {
            // No room to remember it: the heads will tell, they were raised before this was published.
            self.compare(Cause::Lagged, out);
            return;
        }
        let entry = self.convs.entry(conv.clone()).or_insert_with(|| {
            self.behind += 1;
            Conv::default()
        });
        if entry.position.is_some_and(|position| seq <= position) {
            return;
        }
        if !entry.is_behind() {
            self.behind += 1;
        }
        entry.want = entry.want.max(seq);
        self.enqueue(conv);
        self.fill(at, out);
    }

    /// A page of a log was read. `cursor` is the stored cursor where the fill was asked to start at it.
    pub fn on_page(
        &mut self,
        conv: &ConvId,
        cursor: Option<Seq>,
        rows: Result<Vec<Row>, ()>,
        at: At<'_>,
        out: &mut Out,
    ) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        entry.filling = false;
        self.fills -= 1;
        if let (None, Some(cursor)) = (entry.position, cursor) {
            (entry.position, entry.acked, entry.stored) = (Some(cursor), cursor, entry.stored.max(cursor));
            if !entry.is_behind() {
                self.behind -= 1;
            }
        }
        let before = entry.position;
        self.settle_login(conv);
        let mut blocked = false;
        for row in rows.unwrap_or_default() {
            let Some(position) = self.convs.get(conv).and_then(|entry| entry.position) else { break };
            if row.seq <= position {
                continue;
            }
            blocked = self.unacked >= at.rules.window || self.credit == 0;
            if row.seq != position + 1 || blocked {
                break;
            }
            self.credit = self.credit.saturating_sub(size_of(&row));
            self.hand_out(conv, row.seq, at);
            out.push(Effect::HandRow(conv.clone(), row));
        }
        let moved = self.convs.get(conv).is_some_and(|entry| entry.position != before);
        self.after_page(conv, moved || blocked, at);
        self.fill(at, out);
        self.resume_compare(at, out);
    }

    /// Queues the conversation again while it is behind; backs off when the page brought nothing, because the
    /// answer may be older than what was heard (R5).
    fn after_page(&mut self, conv: &ConvId, progress: bool, at: At<'_>) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if !entry.is_behind() {
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

    /// Time passed: fills that backed off, cursors that were coalesced, messages nobody acknowledges.
    pub fn on_tick(&mut self, at: At<'_>, out: &mut Out) {
        if self.wake.is_none_or(|wake| wake > at.now) {
            return;
        }
        self.wake = None;
        let mut due = Vec::new();
        for (conv, entry) in &mut self.convs {
            if let Some(since) = entry.waiting_since {
                if since + at.rules.offline_after <= at.now {
                    entry.waiting_since = None;
                    out.push(Effect::Upkeep(Upkeep::Undelivered { conv: conv.clone(), seq: entry.acked + 1 }));
                } else {
                    self.wake = min(self.wake, since + at.rules.offline_after);
                }
            }
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
        self.fill(at, out);
    }

    fn wake_at(&mut self, at: Tick) {
        self.wake = min(self.wake, at);
    }

    fn enqueue(&mut self, conv: &ConvId) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if !entry.queued && !entry.filling {
            entry.queued = true;
            self.queue.push_back(conv.clone());
        }
    }

    /// Whether conversations wait for their part of the window: in the queue, or for a page that is being read.
    fn others_wait(&self) -> bool {
        !self.queue.is_empty() || self.fills > 0
    }

    /// Starts fills, round robin, as far as window and socket allow.
    fn fill(&mut self, at: At<'_>, out: &mut Out) {
        for _ in 0..self.queue.len() {
            let free = at.rules.window.saturating_sub(self.unacked);
            if self.fills >= FILLS || free == 0 || self.credit == 0 {
                return;
            }
            let Some(conv) = self.queue.pop_front() else { return };
            let others_wait = self.others_wait();
            let Some(entry) = self.convs.get_mut(&conv) else { continue };
            entry.queued = false;
            if !entry.is_behind() || entry.filling {
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
            entry.filling = true;
            self.fills += 1;
            let rows = usize::try_from(free.min(share)).unwrap_or(usize::MAX).min(at.rules.page_rows);
            out.push(Effect::Upkeep(Upkeep::Fill { conv, after: entry.position, rows }));
        }
    }

    /// Moves the position over one message.
    fn hand_out(&mut self, conv: &ConvId, seq: Seq, at: At<'_>) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        let was_behind = entry.is_behind();
        entry.position = Some(seq);
        self.unacked += 1;
        if entry.waiting_since.is_none() && entry.unacked() == 1 {
            entry.waiting_since = Some(at.now);
            self.wake = min(self.wake, at.now + at.rules.offline_after);
        }
        if was_behind && !entry.is_behind() {
            self.behind -= 1;
        }
        self.settle_login(conv);
    }

    /// Makes room for one more conversation; `false` when there is none.
    fn make_room(&mut self, at: At<'_>) -> bool {
        if self.convs.len() < at.rules.known {
            return true;
        }
        self.forget();
        let most = at.rules.known + at.rules.behind + usize::try_from(at.rules.window).unwrap_or(usize::MAX);
        self.convs.len() < most
    }

    /// Forgets what may be forgotten (R8). Nothing is while cursors are being read, for a page of heads or for an
    /// acknowledgement: they may be older than what would be forgotten, and the conversation would be handed out a
    /// second time.
    fn forget(&mut self) {
        if self.compare != Compare::Reading && self.checks == 0 {
            self.convs.retain(|_, entry| !entry.may_be_forgotten());
        }
    }
}

/// What a row takes on the way out, about: the frame around a body is names and numbers.
fn size_of(row: &Row) -> usize {
    row.body.as_msgpack().len() + 96
}

fn min(old: Option<Tick>, new: Tick) -> Option<Tick> {
    Some(old.map_or(new, |old| old.min(new)))
}

#[cfg(test)]
mod tests;
