//! One conversation at its home, in one epoch: from a send to its answer.
//!
//! One batch at a time is written and then validated (F4, F5); only then the next one is written, while the heads of
//! the one before are still under way (F6). So every cid that this epoch placed is in memory before the next
//! batch is looked at, and a cid is never judged against a batch in flight.

use std::{collections::VecDeque, mem, sync::Arc};

use super::{
    Effect, Epoch, Event, Head, Limits, Look, Placed, Ticket, Waiting,
    cids::{Cids, Place},
    heads::{Heads, Top},
    recovery::{End, Recovery},
    rooms::{Draft, RoomState},
};
use crate::{
    model::{Cid, ConvId, Counts, NewMessage, Row, Seq, UserId},
    store::{Appended, StoreError, StoreResult},
};

mod rooms;

/// The shortest queue that is looked through.
const CROWDED: usize = 64;

/// A conversation at its home. Whoever owns it carries out the effects, and drops the role when the epoch ends (F7, F8):
/// nothing of it may be kept for a later epoch.
pub struct Role<T> {
    conv: ConvId,
    limits: Limits,
    epoch: Epoch,
    stage: Stage<T>,
    queue: VecDeque<Waiting<T>>,
    /// From this length on the queue is looked through for those who have gone.
    crowded: usize,
    heads: Heads<T>,
    cids: Cids,
    /// Of a room.
    room: Option<Box<RoomState>>,
    /// The recovery's cids are not there yet.
    loading: bool,
    effects: Vec<Effect<T>>,
}

enum Stage<T> {
    Recovering(Recovery),
    Open(Open, Writer<T>),
}

/// The end of the log: everything up to `top` is validated.
struct Open {
    top: Seq,
    w: Epoch,
    last: Option<Row>,
    counts: Counts,
    /// The seq of the last event, in a room.
    event: Seq,
}

enum Writer<T> {
    Idle,
    /// Asking the store about some of the messages: for each message whether it was asked about.
    Looking(Vec<Waiting<T>>, Vec<bool>),
    /// Asking the store how these users stand to the room.
    Learning(Vec<Waiting<T>>, Vec<UserId>),
    Writing(Batch<T>),
    Proving(Batch<T>),
    /// What the batch makes besides the log is being written.
    Applying(Batch<T>),
}

struct Batch<T> {
    rows: Arc<[Placed]>,
    /// How far each row's sender has been handed the conversation.
    read_upto: Vec<Seq>,
    answers: Vec<(T, StoreResult<Appended>)>,
}

impl<T: Ticket> Role<T> {
    /// A conversation of which nothing is known, in a slot that this process holds in `epoch`.
    pub fn new(conv: ConvId, epoch: Epoch, limits: Limits) -> Self {
        let stage = Stage::Recovering(Recovery::Fresh);
        let (queue, heads, cids) = (VecDeque::new(), Heads::default(), Cids::default());
        let room = conv.is_room().then(Box::default);
        let (crowded, effects) = (CROWDED, Vec::new());
        Self { conv, limits, epoch, stage, queue, crowded, heads, cids, room, loading: false, effects }
    }

    /// Takes a send; it is answered exactly once, unless the role is dropped.
    pub fn submit(&mut self, ticket: T, message: NewMessage) {
        // While the store does not answer, senders give up and come again: what they left is no memory.
        if self.queue.len() >= self.crowded {
            self.queue.retain(|waiting| !waiting.ticket.is_gone());
            self.crowded = CROWDED.max(2 * self.queue.len());
        }
        self.queue.push_back(Waiting { ticket, message });
        self.advance();
    }

    /// Makes sure that all heads are at the end of the log: as a send it recovers what this epoch has not recovered, but it
    /// places nothing. Answered exactly once, unless the role is dropped.
    pub fn mend(&mut self, ticket: T) {
        self.heads.mend(ticket);
        self.advance();
    }

    /// What is to be done now. Empty it after every call.
    pub fn take_effects(&mut self) -> Vec<Effect<T>> {
        mem::take(&mut self.effects)
    }

    /// Everything written in this epoch is acknowledged and nobody waits: the role may be forgotten (F7).
    pub fn is_quiet(&self) -> bool {
        let resting = matches!(self.stage, Stage::Recovering(Recovery::Fresh) | Stage::Open(_, Writer::Idle));
        resting && self.queue.is_empty() && self.heads.is_quiet()
    }

    /// How many sends wait to be written.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many cids it holds, and members: most of its memory.
    pub fn cids(&self) -> usize {
        self.cids.len() + self.room.as_ref().map_or(0, |room| room.len())
    }

    /// Ends it: everybody who waits hears that this is not the home any more. What was written may be adopted by
    /// the next home, which then recognises the cid.
    pub fn end(self) -> Vec<T> {
        let Self { stage, queue, mut heads, .. } = self;
        let mut tickets: Vec<T> = heads.abandon().collect();
        match stage {
            Stage::Open(_, Writer::Looking(taken, _) | Writer::Learning(taken, _)) => {
                tickets.extend(taken.into_iter().map(|waiting| waiting.ticket))
            }
            Stage::Open(_, Writer::Writing(batch) | Writer::Proving(batch) | Writer::Applying(batch)) => {
                tickets.extend(batch.answers.into_iter().map(|(ticket, _)| ticket));
            }
            _ => {}
        }
        tickets.extend(queue.into_iter().map(|waiting| waiting.ticket));
        tickets
    }

    /// The answer to an effect.
    pub fn on(&mut self, event: Event) {
        match event {
            Event::Heads(head) if matches!(self.stage, Stage::Recovering(Recovery::Heads)) => self.on_heads(head, 0),
            Event::Heads(_) => {}
            Event::Room(at) => self.on_room(at),
            Event::Events(rows) => self.on_events(rows),
            Event::Members(members) => self.on_members(members),
            Event::Applied => self.on_applied(),
            Event::Rows { rows, more } => self.on_rows(rows, more),
            Event::Cids { found, from } => self.on_cids(&found, from),
            Event::Written => self.on_written(),
            Event::Validated => self.on_validated(),
            Event::Raised => self.on_raised(),
            Event::Looked(rows) => self.on_looked(rows),
        }
        self.advance();
    }

    fn advance(&mut self) {
        if !self.is_caught_up() {
            return;
        }
        let room = self.room.as_ref().and_then(|room| room.room());
        match &self.stage {
            Stage::Recovering(Recovery::Fresh) if !self.queue.is_empty() || !self.heads.is_quiet() => {
                self.stage = Stage::Recovering(Recovery::Heads);
                let is_room = self.room.is_some();
                self.effects.push(if is_room { Effect::ReadRoom } else { Effect::ReadHeads });
            }
            Stage::Recovering(Recovery::Announcing(end)) => {
                let top = Top { seq: end.top, row: end.last.as_ref(), counts: end.counts, event: end.event, room };
                self.heads.advance(&self.conv, top, &mut self.effects);
                if self.heads.is_quiet() && !self.loading {
                    self.open();
                    self.advance();
                }
            }
            Stage::Open(open, _) => {
                let top = Top { seq: open.top, row: open.last.as_ref(), counts: open.counts, event: open.event, room };
                self.heads.advance(&self.conv, top, &mut self.effects);
                self.next_batch();
            }
            Stage::Recovering(_) => {}
        }
    }

    fn on_heads(&mut self, head: Head, event: Seq) {
        let (end, head) = (End::at_head(head, event), head.seq);
        self.effects.push(Effect::ReadRows { from: end.next() });
        if head > 0 {
            // Rows up to a head are settled: their cids can be read beside the rows above.
            let down_to = self.limits.cids_from(head);
            self.effects.push(Effect::ReadCids { upto: head, down_to });
            self.loading = true;
        }
        self.stage = Stage::Recovering(Recovery::Rows(end));
    }

    fn on_rows(&mut self, rows: Vec<Placed>, more: bool) {
        let Stage::Recovering(Recovery::Rows(end)) = &mut self.stage else { return };
        let before = end.top;
        let (adopted, more) = end.on_rows(rows, more, &self.limits);
        adopted.iter().for_each(|placed| self.cids.add(&placed.row.sender, &placed.row.cid, placed.row.seq));
        if self.limits.bucket_of(before) != self.limits.bucket_of(end.top) {
            // Of a long log that lost its heads only the end counts.
            self.cids.trim(self.limits.cids_from(end.top + 1));
        }
        self.stage = Stage::Recovering(end.clone().adopt(adopted, more, &mut self.effects));
    }

    fn on_cids(&mut self, found: &[(Seq, UserId, Cid)], from: Seq) {
        self.cids.load(found, from);
        self.loading = false;
    }

    fn open(&mut self) {
        let Stage::Recovering(Recovery::Announcing(end)) = &self.stage else { return };
        let End { top, w, counts, event, .. } = *end;
        let open = Open { top, w, last: end.last.clone(), counts, event };
        self.stage = Stage::Open(open, Writer::Idle);
    }

    fn on_written(&mut self) {
        match &mut self.stage {
            Stage::Recovering(Recovery::Adopting(end, more, beside)) => {
                let recovery = end.clone().adopted(*more, mem::take(beside), &mut self.effects);
                self.stage = Stage::Recovering(recovery);
            }
            Stage::Open(_, writer @ Writer::Writing(_)) => {
                let Writer::Writing(batch) = mem::replace(writer, Writer::Idle) else { return };
                *writer = Writer::Proving(batch);
                self.effects.push(Effect::Validate);
            }
            _ => {}
        }
    }

    fn on_validated(&mut self) {
        match &mut self.stage {
            Stage::Recovering(Recovery::Proving(end)) => {
                self.stage = Stage::Recovering(Recovery::Announcing(end.clone()));
            }
            Stage::Recovering(Recovery::ProvingPage(end, more, rows)) => {
                let recovery = end.clone().proved(*more, rows.clone(), &mut self.effects);
                self.stage = Stage::Recovering(recovery);
            }
            Stage::Open(_, writer @ Writer::Proving(_)) => {
                let Writer::Proving(batch) = mem::replace(writer, Writer::Idle) else { return };
                self.apply(batch);
            }
            _ => {}
        }
    }

    /// The batch is in the log for ever.
    fn settle(&mut self, batch: Batch<T>) {
        for (Placed { row, .. }, read_upto) in batch.rows.iter().zip(batch.read_upto) {
            self.heads.placed(row, read_upto);
        }
        if let Some(room) = &mut self.room {
            room.apply(batch.rows.iter().filter_map(Placed::made));
        }
        if let (Stage::Open(open, _), Some(last)) = (&mut self.stage, batch.rows.last()) {
            let (top, counts, event) = (last.row.seq, last.row.counts, last.last_event());
            *open = Open { top, w: last.w, last: Some(last.row.clone()), counts, event };
        }
        for (ticket, result) in batch.answers {
            self.heads.answer_later(ticket, result);
        }
    }

    fn on_raised(&mut self) {
        self.heads.on_raised(&mut self.effects);
    }

    fn on_looked(&mut self, rows: Vec<Option<Row>>) {
        let Stage::Open(_, writer @ Writer::Looking(..)) = &mut self.stage else { return };
        let Writer::Looking(taken, asked) = mem::replace(writer, Writer::Idle) else { return };
        let mut rows = rows.into_iter();
        let mut fresh = Vec::with_capacity(taken.len());
        for (waiting, asked) in taken.into_iter().zip(asked) {
            match asked.then(|| rows.next().flatten()).flatten() {
                Some(row) => self.answer_stored(waiting, &row),
                None => fresh.push(waiting),
            }
        }
        self.learn_then_write(fresh);
    }

    /// The message is stored: it is answered when the heads are at or above it (R3).
    fn answer_stored(&mut self, waiting: Waiting<T>, row: &Row) {
        let result = if waiting.message.is_stored_as(row) {
            self.heads.mark(row, waiting.message.read_upto);
            Ok(Appended { seq: row.seq, ts: row.ts, fresh: false, expires: row.expires() })
        } else {
            Err(StoreError::CidReused { seq: row.seq })
        };
        self.heads.answer_later(waiting.ticket, result);
    }

    /// Takes what waits, as much as one write holds, and asks the store about what may be stored already.
    fn next_batch(&mut self) {
        let Stage::Open(open, Writer::Idle) = &self.stage else { return };
        let next = open.top + 1;
        let (top, from) = (open.top, self.limits.cids_from(next));
        let taken = self.take(self.limits.room(next).min(self.limits.rows));
        if taken.is_empty() {
            return;
        }
        let mut asked = Vec::new();
        let mut looks = Vec::new();
        for NewMessage { sender, cid, .. } in taken.iter().map(|waiting| &waiting.message) {
            let at = match self.cids.find(sender, cid, from) {
                Place::At(seq) => Some(Some(seq)),
                Place::Unknown => Some(None),
                Place::Nowhere => None,
            };
            asked.push(at.is_some());
            looks.extend(at.map(|at| Look { sender: sender.clone(), cid: cid.clone(), at }));
        }
        if looks.is_empty() {
            self.learn_then_write(taken);
        } else {
            self.effects.push(Effect::Look { asked: looks, top });
            self.set_writer(Writer::Looking(taken, asked));
        }
    }

    fn take(&mut self, most: usize) -> Vec<Waiting<T>> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(waiting) = self.queue.front() {
            bytes += waiting.message.body.size();
            if taken.len() >= most || (!taken.is_empty() && bytes > self.limits.bytes) {
                break;
            }
            taken.extend(self.queue.pop_front().filter(|waiting| !waiting.ticket.is_gone()));
        }
        taken
    }

    /// Places messages that are not stored, each cid once.
    fn write(&mut self, fresh: Vec<Waiting<T>>) {
        let Stage::Open(open, _) = &self.stage else { return };
        let (top, mut w, mut counts, mut event) = (open.top, open.w, open.counts, open.event);
        let mut draft = Draft::default();
        let mut rows: Vec<Placed> = Vec::with_capacity(fresh.len());
        let mut answers = Vec::with_capacity(fresh.len());
        let mut read_upto = Vec::with_capacity(fresh.len());
        for Waiting { ticket, message } in fresh {
            if let Some(twin) = twin_of(&rows, &message) {
                let same = message.is_stored_as(twin);
                let stored = Appended { seq: twin.seq, ts: twin.ts, fresh: false, expires: twin.expires() };
                answers.push((ticket, if same { Ok(stored) } else { Err(StoreError::CidReused { seq: twin.seq }) }));
                continue;
            }
            let seq = top + 1 + rows.len() as Seq;
            let (made, told) = match self.admit(&mut draft, &message, seq) {
                Ok(admitted) => admitted,
                Err(refused) => {
                    answers.push((ticket, Err(refused)));
                    continue;
                }
            };
            let message = message.within(self.room.as_ref().and_then(|room| draft.room(room)));
            let expires = message.expires();
            let NewMessage { kind, sender, service, cid, ts, body, read_upto: handed, refs } = message;
            self.cids.add(&sender, &cid, seq);
            read_upto.push(handed);
            answers.push((ticket, Ok(Appended { seq, ts, fresh: true, expires })));
            counts = counts.with(kind, &self.conv, &sender);
            let row = Row { seq, kind, sender, service, cid, ts, body, counts, refs };
            let placed = Placed { row, w: self.epoch, pw: w, event, made, told };
            (w, event) = (self.epoch, placed.last_event());
            rows.push(placed);
        }
        if rows.is_empty() {
            self.prove_refusals(answers);
            return;
        }
        let next = top + 1;
        if self.limits.bucket_of(next) != self.limits.bucket_of(top) {
            self.cids.trim(self.limits.cids_from(next));
        }
        let rows: Arc<[Placed]> = Arc::from(rows);
        self.effects.push(Effect::Write(rows.clone()));
        self.set_writer(Writer::Writing(Batch { rows, read_upto, answers }));
    }

    fn set_writer(&mut self, to: Writer<T>) {
        if let Stage::Open(_, writer) = &mut self.stage {
            *writer = to;
        }
    }
}

/// The row of this batch that has the message's sender and cid. Batches are small.
fn twin_of<'a>(rows: &'a [Placed], message: &NewMessage) -> Option<&'a Row> {
    rows.iter().map(|placed| &placed.row).find(|row| row.sender == message.sender && row.cid == message.cid)
}
