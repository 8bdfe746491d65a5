//! What a user of the scenario `mixed` does with its connection, and what all of them know of each other. Called by `lane`.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    mem,
    rc::Rc,
    task::Context,
};

use hdrhistogram::Histogram;

use super::{
    lane::Side,
    mixed::{SIDE, room_name},
    payload::{Payload, Peek},
    run_state::RunState,
    shares::{KINDS, Kind, Shares},
    stats::{histogram, record},
    track::Order,
};
use crate::{
    client::{ConnectError, Connection},
    protocol::{Body, client::Outgoing},
};

/// Messages of a page of history.
const PAGE: usize = 50;
/// What was refused for a while is asked again after this many rounds.
const RETRY_ROUNDS: u64 = 2;

/// What came of one kind, of what was due in the measured time.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) asked: u64,
    pub(super) took: Histogram<u64>,
    pub(super) errors: u64,
}

/// What all persons know.
pub(super) struct Day {
    pub(super) shared: Rc<RunState>,
    pub(super) shares: Shares,
    pub(super) kinds: RefCell<Vec<Done>>,
    room_size: usize,
    /// Where each room stood when all were in it.
    joined: Vec<u64>,
    /// The highest seq of each room that was answered.
    tops: Vec<Cell<u64>>,
    /// How far each person has received its room.
    reached: Vec<Cell<u64>>,
    /// The read mark of each person that its friend has not seen yet, and when it was due.
    reads: Vec<Cell<Option<(u64, u64)>>>,
}

impl Day {
    pub(super) fn new(shared: Rc<RunState>, shares: Shares, room_size: usize, joined: &[u64]) -> anyhow::Result<Self> {
        let users = shared.plan.lanes();
        let none = |_| -> anyhow::Result<Done> { Ok(Done { asked: 0, took: histogram()?, errors: 0 }) };
        Ok(Self {
            shares,
            kinds: RefCell::new(KINDS.iter().map(none).collect::<anyhow::Result<_>>()?),
            room_size,
            joined: joined.to_vec(),
            tops: joined.iter().map(|seq| Cell::new(*seq)).collect(),
            reached: (0..users).map(|user| Cell::new(joined[user / room_size])).collect(),
            reads: vec![Cell::new(None); users],
            shared,
        })
    }

    /// Messages of rooms that members have not received.
    pub(super) fn missing(&self) -> u64 {
        let missing =
            |(user, reached): (usize, &Cell<u64>)| self.tops[user / self.room_size].get().saturating_sub(reached.get());
        self.reached.iter().enumerate().map(missing).sum()
    }

    /// Whether nothing is on its way. What is of the moment may have passed unseen.
    pub(super) fn is_over(&self) -> bool {
        self.shared.drained() && self.missing() == 0 && self.shared.ready.get() == self.shared.plan.lanes()
    }

    fn asked(&self, kind: Kind, due: u64) {
        self.kinds.borrow_mut()[kind as usize].asked += u64::from(self.shared.measured(due));
    }

    fn done(&self, kind: Kind, due: u64, now: u64) {
        if self.shared.measured(due) {
            record(&mut self.kinds.borrow_mut()[kind as usize].took, now.saturating_sub(due));
        }
    }
}

/// Something that waits for an answer with its number.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: Kind,
    due: u64,
}

/// One user.
pub(super) struct Person {
    day: Rc<Day>,
    number: usize,
    friend: usize,
    friend_name: String,
    dm: String,
    room_conv: String,
    next: u64,
    waiting: BTreeMap<u64, Asked>,
    /// To be asked again: refused for a while, or unanswered when the connection was lost.
    again: VecDeque<u64>,
    held: VecDeque<(u64, u64)>,
    /// Read marks that wait for something to read.
    owed: u32,
    /// The last message of the friend, and how far the read mark is.
    heard: u64,
    read: u64,
    /// The connection is to end; or has, and the client is coming back.
    leaving: bool,
    coming: Option<u64>,
    /// When it was caught up the last time.
    back: u64,
}

impl Person {
    pub(super) fn new(day: Rc<Day>, number: usize) -> Self {
        let (mesh, friend) = (&day.shared.plan.mesh, number ^ 1);
        let names = [mesh.user(SIDE, number), mesh.user(SIDE, friend)];
        let mut sorted = names.clone();
        sorted.sort();
        let dm = format!("dm:{}", sorted.join(":"));
        let room_conv = format!("room:{}", room_name(mesh, number / day.room_size));
        let [_, friend_name] = names;
        Self {
            number,
            friend,
            friend_name,
            dm,
            room_conv,
            next: 0,
            waiting: BTreeMap::new(),
            again: VecDeque::new(),
            held: VecDeque::new(),
            owed: 0,
            heard: 0,
            read: 0,
            leaving: false,
            coming: None,
            back: 0,
            day,
        }
    }

    /// Its room's conversation, and where that stood when all were in it.
    pub(super) fn room(&self) -> (String, u64) {
        (self.room_conv.clone(), self.day.joined[self.number / self.day.room_size])
    }

    fn my_room(&self) -> usize {
        self.number / self.day.room_size
    }

    fn unanswered(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.day.shared.senders[self.number].borrow_mut().unanswered);
    }

    /// Something is due: what it is, is chosen now.
    fn begin(&mut self, due: u64, connection: &mut Connection) -> Result<(), ConnectError> {
        let kind = self.day.shares.pick(rand::random());
        match kind {
            Kind::Direct | Kind::Room | Kind::History => {
                self.day.asked(kind, due);
                let number = self.next;
                self.next += 1;
                self.waiting.insert(number, Asked { kind, due });
                self.unanswered(|count| *count += 1);
                self.ask(number, connection)
            }
            Kind::Read => {
                self.owed = self.owed.saturating_add(1);
                Ok(())
            }
            Kind::Typing => {
                self.day.asked(kind, due);
                let body = Body::text(&Payload { sender: self.number, number: 0, due }.text(0));
                let to = format!("@{}", self.friend_name);
                connection.queue(&Outgoing::Signal { to: &to, kind: "typing", body: Some(&body) })
            }
            // Nobody leaves who is on the way back, or was when this was due: one would pile up on the other.
            Kind::Reconnect if self.coming.is_some() || due < self.back => Ok(()),
            Kind::Reconnect => {
                self.day.asked(kind, due);
                self.coming = Some(due);
                self.leaving = true;
                Ok(())
            }
        }
    }

    /// Writes a request that gets an answer, for the first time or again.
    fn ask(&self, number: u64, connection: &mut Connection) -> Result<(), ConnectError> {
        let Some(Asked { kind, due }) = self.waiting.get(&number) else { return Ok(()) };
        let reference = Some(number);
        if *kind == Kind::History {
            let (before, after, around, conv) = (None, None, None, self.dm.as_str());
            let page = Outgoing::History { reference, conv, before, after, around, limit: PAGE, raw: false };
            return connection.queue(&page);
        }
        let to = match kind {
            Kind::Room => format!("#{}", room_name(&self.day.shared.plan.mesh, self.my_room())),
            _ => format!("@{}", self.friend_name),
        };
        let payload = Payload { sender: self.number, number, due: *due };
        let (cid, body) = (number.to_string(), Body::text(&payload.text(self.day.shared.plan.body)));
        let (to, cid, body) = (to.as_str(), cid.as_str(), &body);
        connection.queue(&Outgoing::Send { reference, to, cid, body, reply_to: None, mentions: &[], expires: None })
    }

    /// Marks what was heard as read, once there is something new.
    fn mark(&mut self, now: u64, connection: &mut Connection) -> Result<(), ConnectError> {
        if self.owed == 0 || self.heard <= self.read {
            return Ok(());
        }
        self.owed -= 1;
        self.read = self.heard;
        self.day.asked(Kind::Read, now);
        self.day.reads[self.number].set(Some((self.read, now)));
        connection.queue(&Outgoing::Read { conv: &self.dm, seq: self.read })
    }

    fn on_sent(&mut self, number: u64, seq: u64) {
        let Some(Asked { kind, .. }) = self.waiting.remove(&number) else { return };
        self.unanswered(|count| *count -= 1);
        let shared = &self.day.shared;
        match kind {
            Kind::Room => {
                let top = &self.day.tops[self.my_room()];
                top.set(top.get().max(seq));
            }
            _ => drop(shared.senders[self.number].borrow_mut().answered.insert(number)),
        }
        shared.stats.borrow_mut().all_sent += 1;
    }

    fn on_refused(&mut self, number: u64, retry: bool) {
        if retry {
            return self.held.push_back((self.day.shared.round.get(), number));
        }
        if let Some(Asked { kind, .. }) = self.waiting.remove(&number) {
            self.unanswered(|count| *count -= 1);
            self.day.kinds.borrow_mut()[kind as usize].errors += 1;
        }
    }

    fn on_receipt(&self, frame: &Peek<'_>, now: u64) {
        let read = &self.day.reads[self.friend];
        if frame.user == Some(self.friend_name.as_str())
            && let (Some(up_to), Some((seq, due))) = (frame.read, read.get())
            && up_to >= seq
        {
            read.set(None);
            self.day.done(Kind::Read, due, now);
        }
    }
}

impl Side for Person {
    fn on_message(&mut self, frame: &Peek<'_>, order: Order, now: u64) {
        let (Order::New, Some(seq)) = (order, frame.seq) else { return };
        let in_room = frame.conv == Some(self.room_conv.as_str());
        if in_room {
            self.day.reached[self.number].set(seq);
        }
        let shared = &self.day.shared;
        let Some(payload) = shared.payload_of(frame) else { return };
        if payload.sender == self.number {
            // Sending moves the read mark, too.
            self.read = if in_room { self.read } else { self.read.max(seq) };
            return;
        }
        if !in_room {
            self.heard = seq;
            if !shared.senders[payload.sender].borrow_mut().received.insert(payload.number) {
                shared.stats.borrow_mut().integrity.duplicated += 1;
                return;
            }
        }
        shared.on_delivered(&payload, now);
        self.day.done(if in_room { Kind::Room } else { Kind::Direct }, payload.due, now);
    }

    fn on_frame(&mut self, frame: &Peek<'_>, now: u64) {
        match (frame.op, frame.reference) {
            ("sent", Some(number)) => self.on_sent(number, frame.seq.unwrap_or(0)),
            ("history", Some(number)) => {
                if let Some(Asked { kind, due }) = self.waiting.remove(&number) {
                    self.unanswered(|count| *count -= 1);
                    self.day.done(kind, due, now);
                }
            }
            ("error", Some(number)) => self.on_refused(number, frame.retry),
            ("receipt", _) => self.on_receipt(frame, now),
            ("signal", _) => {
                if let Some(payload) = self.day.shared.payload_of(frame) {
                    self.day.done(Kind::Typing, payload.due, now);
                }
            }
            _ => {}
        }
    }

    fn on_connected(&mut self) {
        self.held.clear();
        self.again = self.waiting.keys().copied().collect();
    }

    fn on_caught_up(&mut self, began: u64, now: u64) {
        self.back = now;
        if let Some(due) = self.coming.take()
            && self.day.shared.measured(due)
        {
            record(&mut self.day.kinds.borrow_mut()[Kind::Reconnect as usize].took, now.saturating_sub(began));
        }
    }

    fn leaves(&mut self) -> bool {
        mem::take(&mut self.leaving)
    }

    fn queue(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), ConnectError> {
        let (shared, now) = (self.day.shared.clone(), self.day.shared.now());
        while let Some((since, number)) = self.held.front().copied()
            && since + RETRY_ROUNDS <= shared.round.get()
        {
            self.held.pop_front();
            self.again.push_back(number);
        }
        while !self.leaving && connection.poll_ready(cx)?.is_ready() {
            if let Some(number) = self.again.pop_front() {
                self.ask(number, connection)?;
                continue;
            }
            let due = shared.senders[self.number].borrow_mut().due.pop_front();
            match due {
                Some(due) => self.begin(due, connection)?,
                None => return self.mark(now, connection),
            }
        }
        Ok(())
    }
}
