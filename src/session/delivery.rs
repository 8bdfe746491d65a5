//! Positions, the window, what is behind, and the fills that mend it: everything that makes a session hand out
//! each conversation in order, without gaps and within bounds, whatever the bus loses, repeats or reorders.
//!
//! Called by [`super::joined`]. The rules (R1–R8, R12) are those of the design; the comments name them.

use std::collections::{HashMap, VecDeque};

use super::{Cause, Effect, Rules, Tick};
use crate::model::{ConvId, Seq};

/// A row of a log as far as delivery looks at it.
pub trait Placed {
    /// Its place.
    fn seq(&self) -> Seq;
    /// Its size on the way out, about.
    fn size(&self) -> usize;
}

/// Back-off of a fill that found nothing, in milliseconds: doubles up to the second figure.
const BACKOFF: (Tick, Tick) = (20, 5_000);
/// Fills under way at once, so that one slow page does not hold the others.
const FILLS: usize = 2;

/// One conversation that this session has something to do with.
#[derive(Debug, Default)]
struct Conv {
    /// Last seq handed out. `None`: not known yet, a fill reads the cursor.
    position: Option<Seq>,
    /// Acknowledged by the client, at or below the position.
    acked: Seq,
    /// The cursor as the store confirmed it.
    stored: Seq,
    /// Highest seq heard of, from the bus or from a head (R5).
    want: Seq,
    /// A page is being read.
    filling: bool,
    /// Waits in the queue of those to fill.
    queued: bool,
    /// Not to be filled before.
    not_before: Tick,
    /// Fills in a row that brought nothing.
    misses: u32,
    /// A cursor write is under way.
    writing: bool,
    /// When the last cursor write began; the next one waits for the coalescing time.
    wrote_at: Option<Tick>,
    /// When the oldest unacknowledged message was handed out, until it was told of.
    waiting_since: Option<Tick>,
    /// Must be reached before the first `caught_up`.
    login_head: Option<Seq>,
}

impl Conv {
    fn at(position: Seq) -> Self {
        Self { position: Some(position), acked: position, stored: position, ..Self::default() }
    }

    fn is_behind(&self) -> bool {
        self.position.is_none_or(|position| position < self.want)
    }

    fn unacked(&self) -> u64 {
        self.position.map_or(0, |position| position - self.acked)
    }

    /// R8: nothing is lost by reading the position from the store again.
    fn may_be_forgotten(&self) -> bool {
        let idle = !self.queued && !self.filling && !self.writing;
        idle && !self.is_behind() && self.unacked() == 0 && self.acked <= self.stored
    }

    fn is_dirty(&self) -> bool {
        self.acked > self.stored
    }
}

/// How far a comparison of heads has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Compare {
    /// None under way.
    Idle,
    /// A page is being read.
    Reading,
    /// The next page waits until fewer conversations are behind, so that memory stays bounded.
    Holding(ConvId),
}

/// What a session hands out and in which order. See the module's header.
#[derive(Debug)]
pub struct Delivery {
    convs: HashMap<ConvId, Conv>,
    /// Conversations to fill, round robin.
    queue: VecDeque<ConvId>,
    unacked: u64,
    behind: usize,
    fills: usize,
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

type Out<L, R> = Vec<Effect<L, R>>;

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
    pub fn set_credit<L, R>(&mut self, bytes: usize, rules: &Rules, now: Tick, out: &mut Out<L, R>) {
        let grew = bytes > self.credit;
        self.credit = bytes;
        if grew {
            self.fill(rules, now, out);
        }
    }

    /// A message arrived over the bus or from this node's own router.
    pub fn on_live<L: Placed, R>(&mut self, conv: &ConvId, live: L, rules: &Rules, now: Tick, out: &mut Out<L, R>) {
        let seq = live.seq();
        if self.is_next(conv, seq, rules) {
            self.credit = self.credit.saturating_sub(live.size());
            self.hand_out(conv, seq, rules, now);
            out.push(Effect::HandLive(live));
        } else {
            self.on_heard(conv, seq, rules, now, out);
        }
    }

    /// Whether a live message can go to the socket as it is.
    fn is_next(&self, conv: &ConvId, seq: Seq, rules: &Rules) -> bool {
        let Some(entry) = self.convs.get(conv) else { return false };
        let room = self.unacked < rules.window && self.credit > 0;
        let fair = self.queue.is_empty() || entry.unacked() < rules.window / 2;
        let next = !entry.filling && !entry.is_behind() && entry.position.is_some_and(|position| seq == position + 1);
        next && room && fair
    }

    /// There is a message that cannot be handed out from what arrived: a gap, no room, a fill under way, an unknown
    /// position, or only its seq was told. It is remembered and read from the store (R5).
    pub fn on_heard<L, R>(&mut self, conv: &ConvId, seq: Seq, rules: &Rules, now: Tick, out: &mut Out<L, R>) {
        if !self.convs.contains_key(conv) && !self.make_room(rules) {
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
        self.fill(rules, now, out);
    }

    /// A page of a log was read. `cursor` is the stored cursor where the fill was asked to start at it.
    pub fn on_page<L, R: Placed>(
        &mut self,
        conv: &ConvId,
        cursor: Option<Seq>,
        rows: Result<Vec<R>, ()>,
        rules: &Rules,
        now: Tick,
        out: &mut Out<L, R>,
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
            if row.seq() <= position {
                continue;
            }
            blocked = self.unacked >= rules.window || self.credit == 0;
            if row.seq() != position + 1 || blocked {
                break;
            }
            self.credit = self.credit.saturating_sub(row.size());
            self.hand_out(conv, row.seq(), rules, now);
            out.push(Effect::HandRow(conv.clone(), row));
        }
        let moved = self.convs.get(conv).is_some_and(|entry| entry.position != before);
        self.after_page(conv, moved || blocked, now);
        self.fill(rules, now, out);
        self.resume_compare(rules, out);
    }

    /// Queues the conversation again while it is behind; backs off when the page brought nothing, because the
    /// answer may be older than what was heard (R5).
    fn after_page(&mut self, conv: &ConvId, progress: bool, now: Tick) {
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
            entry.not_before = now + wait;
            self.wake_at(now + wait);
        }
        self.enqueue(conv);
    }

    /// The client acknowledged. `false` when the answer needs the top of the log ([`Delivery::on_top`]).
    #[must_use]
    pub fn on_ack<L, R>(&mut self, conv: &ConvId, seq: Seq, rules: &Rules, now: Tick, out: &mut Out<L, R>) -> bool {
        let Some(entry) = self.convs.get(conv) else { return false };
        match entry.position {
            Some(position) if seq <= position => self.acknowledge(conv, seq, rules, now, out),
            _ => return false,
        }
        true
    }

    /// The top and the stored cursor for an acknowledgement above the position, or where no position is known
    /// (R7). `false` when it is above the top: an error, and nothing changes.
    #[must_use]
    pub fn on_top<L, R>(
        &mut self,
        conv: &ConvId,
        seq: Seq,
        top: Seq,
        cursor: Seq,
        rules: &Rules,
        now: Tick,
        out: &mut Out<L, R>,
    ) -> bool {
        if seq > top {
            return false;
        }
        let entry = self.convs.entry(conv.clone()).or_insert_with(|| Conv::at(cursor));
        let was_behind = entry.is_behind();
        if entry.position.is_none() {
            (entry.acked, entry.stored) = (cursor, entry.stored.max(cursor));
        }
        let before = entry.unacked();
        entry.position = Some(entry.position.unwrap_or(cursor).max(seq));
        self.unacked += entry.unacked() - before;
        if was_behind && !entry.is_behind() {
            self.behind -= 1;
        }
        self.acknowledge(conv, seq, rules, now, out);
        self.settle_login(conv);
        self.make_room(rules);
        self.resume_compare(rules, out);
        true
    }

    fn acknowledge<L, R>(&mut self, conv: &ConvId, seq: Seq, rules: &Rules, now: Tick, out: &mut Out<L, R>) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if seq <= entry.acked {
            return;
        }
        self.unacked -= seq - entry.acked;
        entry.acked = seq;
        entry.waiting_since = (entry.unacked() > 0).then_some(now);
        self.write_cursor(conv, rules, now, out);
        self.fill(rules, now, out);
    }

    /// Writes the cursor now, or when the coalescing time is over.
    fn write_cursor<L, R>(&mut self, conv: &ConvId, rules: &Rules, now: Tick, out: &mut Out<L, R>) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if entry.writing || !entry.is_dirty() {
            return;
        }
        let due = entry.wrote_at.map_or(now, |at| at + rules.ack_coalesce);
        if due > now {
            self.wake_at(due);
            return;
        }
        entry.writing = true;
        entry.wrote_at = Some(now);
        out.push(Effect::RaiseCursor { conv: conv.clone(), seq: entry.acked });
    }

    /// The store confirmed a cursor, or did not: then it is written again after the coalescing time.
    pub fn on_cursor<L, R>(
        &mut self,
        conv: &ConvId,
        stored: Option<Seq>,
        rules: &Rules,
        now: Tick,
        out: &mut Out<L, R>,
    ) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        entry.writing = false;
        entry.stored = entry.stored.max(stored.unwrap_or(0));
        self.write_cursor(conv, rules, now, out);
    }

    /// Cursors that are not written yet, for a session that ends.
    pub fn unwritten(&self) -> impl Iterator<Item = (&ConvId, Seq)> {
        self.convs.iter().filter(|(_, entry)| entry.is_dirty()).map(|(conv, entry)| (conv, entry.acked))
    }

    /// Compares all heads with the cursors; when a comparison is under way, once more after it.
    pub fn compare<L, R>(&mut self, cause: Cause, out: &mut Out<L, R>) {
        if self.compare != Compare::Idle {
            self.again = Some(self.again.unwrap_or(cause));
            return;
        }
        self.compare = Compare::Reading;
        self.cause = cause;
        out.push(Effect::Compare { after: None, cause });
    }

    /// The page could not be read: the comparison ends, the caller compares again later.
    pub fn on_compare_failed(&mut self) {
        self.compare = Compare::Idle;
    }

    /// One page of (conversation, head, cursor) with head above cursor, and where the next page starts. Returns
    /// how many conversations turned out to be behind.
    pub fn on_gaps<L, R>(
        &mut self,
        gaps: Vec<(ConvId, Seq, Seq)>,
        next: Option<ConvId>,
        rules: &Rules,
        now: Tick,
        out: &mut Out<L, R>,
    ) -> usize {
        let mut found = 0;
        for (conv, head, cursor) in gaps {
            // R8: the stored cursor is the position of a conversation without one. No position was forgotten
            // since the page was asked for ([`Delivery::make_room`] waits), so the cursor cannot lie below one.
            let entry = self.convs.entry(conv.clone()).or_insert_with(|| Conv::at(cursor));
            let was_behind = entry.is_behind();
            entry.want = entry.want.max(head);
            if !entry.is_behind() {
                continue;
            }
            found += 1;
            if !was_behind {
                self.behind += 1;
            }
            if !self.caught_up && self.cause == Cause::Login && entry.login_head.is_none() {
                entry.login_head = Some(head);
                self.login_left += 1;
            }
            self.enqueue(&conv);
        }
        self.compare = match next {
            Some(next) => Compare::Holding(next),
            None => Compare::Idle,
        };
        self.compared |= self.compare == Compare::Idle;
        self.fill(rules, now, out);
        self.resume_compare(rules, out);
        found
    }

    fn resume_compare<L, R>(&mut self, rules: &Rules, out: &mut Out<L, R>) {
        match &self.compare {
            Compare::Reading => {}
            Compare::Holding(next) => {
                if self.behind < rules.behind {
                    self.convs.retain(|_, entry| !entry.may_be_forgotten());
                    out.push(Effect::Compare { after: Some(next.clone()), cause: self.cause });
                    self.compare = Compare::Reading;
                }
            }
            Compare::Idle => {
                if let Some(cause) = self.again.take() {
                    self.compare(cause, out);
                }
            }
        }
    }

    /// Whether the first `caught_up` is due: true once.
    pub fn take_caught_up(&mut self) -> bool {
        let due = !self.caught_up && self.compared && self.login_left == 0;
        self.caught_up |= due;
        due
    }

    /// Time passed: fills that backed off, cursors that were coalesced, messages nobody acknowledges.
    pub fn on_tick<L, R>(&mut self, rules: &Rules, now: Tick, out: &mut Out<L, R>) {
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        self.wake = None;
        let mut due = Vec::new();
        for (conv, entry) in &mut self.convs {
            if let Some(since) = entry.waiting_since {
                if since + rules.offline_after <= now {
                    entry.waiting_since = None;
                    out.push(Effect::Unheard { conv: conv.clone(), seq: entry.acked + 1 });
                } else {
                    self.wake = min(self.wake, since + rules.offline_after);
                }
            }
            if entry.not_before > now && entry.queued {
                self.wake = min(self.wake, entry.not_before);
            }
            if entry.is_dirty() && !entry.writing {
                due.push(conv.clone());
            }
        }
        for conv in due {
            self.write_cursor(&conv, rules, now, out);
        }
        self.fill(rules, now, out);
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

    /// Starts fills, round robin, as far as window and socket allow.
    fn fill<L, R>(&mut self, rules: &Rules, now: Tick, out: &mut Out<L, R>) {
        for _ in 0..self.queue.len() {
            let free = rules.window.saturating_sub(self.unacked);
            if self.fills >= FILLS || free == 0 || self.credit == 0 {
                return;
            }
            let Some(conv) = self.queue.pop_front() else { return };
            let others_wait = !self.queue.is_empty();
            let Some(entry) = self.convs.get_mut(&conv) else { continue };
            entry.queued = false;
            if !entry.is_behind() || entry.filling {
                continue;
            }
            // Nobody takes more than half of the window while others wait.
            let half = (rules.window / 2).max(1);
            let share = if others_wait { half.saturating_sub(entry.unacked()) } else { free };
            if entry.not_before > now || share == 0 {
                entry.queued = true;
                self.queue.push_back(conv);
                continue;
            }
            entry.filling = true;
            self.fills += 1;
            let rows = usize::try_from(free.min(share)).unwrap_or(usize::MAX).min(rules.page_rows);
            out.push(Effect::Fill { conv, after: entry.position, rows });
        }
    }

    /// Moves the position over one message.
    fn hand_out(&mut self, conv: &ConvId, seq: Seq, rules: &Rules, now: Tick) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        let was_behind = entry.is_behind();
        entry.position = Some(seq);
        self.unacked += 1;
        if entry.waiting_since.is_none() && entry.unacked() == 1 {
            entry.waiting_since = Some(now);
            self.wake = min(self.wake, now + rules.offline_after);
        }
        if was_behind && !entry.is_behind() {
            self.behind -= 1;
        }
        self.settle_login(conv);
    }

    fn settle_login(&mut self, conv: &ConvId) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if entry.login_head.is_some_and(|head| entry.position >= Some(head)) {
            entry.login_head = None;
            self.login_left -= 1;
        }
    }

    /// Makes room for one more conversation; `false` when there is none. Nothing is forgotten while a page of
    /// heads is being read: its cursors may be older than what would be forgotten, and the conversation would
    /// be handed out a second time.
    fn make_room(&mut self, rules: &Rules) -> bool {
        if self.convs.len() < rules.known {
            return true;
        }
        if self.compare != Compare::Reading {
            self.convs.retain(|_, entry| !entry.may_be_forgotten());
        }
        let most = rules.known + rules.behind + usize::try_from(rules.window).unwrap_or(usize::MAX);
        self.convs.len() < most
    }
}

fn min(old: Option<Tick>, new: Tick) -> Option<Tick> {
    Some(old.map_or(new, |old| old.min(new)))
}

#[cfg(test)]
mod tests;
