//! A process that may be home: takes the slot, serves it with the real [`Role`], hands it over, crashes.

use super::{
    Mutant,
    check::newest,
    folds::{self, reacts},
    rooms::{change, room_id},
    world::{Cell, Proposal, Replica, Shared, Stored, further, take_fold, take_member},
};
use crate::{
    model::{
        Body, Cid, ConvId, Kind, NewMessage, Row, Seq, UserId,
        room::{self, Member, RoomLimits, Standing},
    },
    store::StoreError,
    store::fence::{Applied, Effect, Epoch, Event, Head, Limits, Placed, Raise, Role, RoomAt, Ticket, Told},
};

pub(super) const LIMITS: Limits = Limits {
    bucket: 4,
    rows: 2,
    bytes: 1 << 20,
    page: 2,
    cids: 3,
    events: 2,
    members: 1,
    room: RoomLimits { members: 3 },
};

/// Who waits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// A client's send: which message, and the last seq that was answered when it came.
    Send(u8, Seq),
    /// A mend, and the last seq that was answered when it came.
    Mend(Seq),
}

impl Ticket for Asker {
    fn is_gone(&self) -> bool {
        false
    }
}

/// What a process is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not home, and not trying.
    Idle,
    /// Fencing the home on record: which replicas have it.
    Fencing {
        term: (Epoch, u64),
        reached: [bool; 3],
    },
    /// Proposing itself.
    Proposing(Epoch, u64),
    Home(Epoch),
}

/// A write or a read under way.
#[derive(Debug)]
enum Work {
    Write {
        cells: Vec<Cell>,
        sent: [Vec<bool>; 3],
        done: Event,
    },
    /// The first replica was sampled.
    Read {
        what: Question,
        sample: Option<(usize, Box<Sample>)>,
    },
}

#[derive(Debug, Clone)]
enum Question {
    Heads,
    Room,
    Events(Seq, Seq),
    Members(Vec<usize>),
    Rows(Seq),
    Cids(Seq, Seq),
    Validate,
    Look(Vec<(u8, Option<Seq>)>, Seq),
    /// The validation of a mend: what was asked and what it found.
    Confirm(Seq, Seq),
}

/// What a replica showed when it was read.
#[derive(Debug)]
struct Sample {
    copy: Replica,
    fenced: bool,
}

pub(super) struct Home {
    name: usize,
    incarnation: u64,
    pub(super) phase: Phase,
    role: Option<(Epoch, Role<Asker>)>,
    work: Vec<Work>,
    /// Rows as they were read before the fence, for the mutant that may.
    early_rows: Option<Vec<Placed>>,
    /// What the incarnation showed at some earlier time, for the mutant that may use it.
    seen_alive: bool,
    /// The `w` and `pw` of rows whose chain a mutant forged.
    forged: Vec<Placed>,
    /// The last write was an adoption.
    adopting: bool,
    /// Something was written since the last validation.
    wrote: bool,
    /// What is applied next was found by a recovery.
    catching_up: bool,
}

/// Message 4 is none: something that happened, which is not counted.
pub(super) fn kind(cid: u8) -> Kind {
    match cid {
        cid if reacts(cid).is_some() => Kind::Reaction,
        4 => Kind::Event,
        cid if change(cid).is_some() => Kind::Event,
        _ => Kind::Message,
    }
}

/// Who writes a message.
pub(super) fn sender(cid: u8) -> usize {
    usize::from(cid % 2)
}

pub(super) fn conv(rooms: bool) -> ConvId {
    if rooms { ConvId::room(&room_id()) } else { ConvId::direct(&user(0), &user(1)) }
}

pub(super) fn user(number: usize) -> UserId {
    UserId::new(["alice", "bob"][number]).unwrap()
}

fn cid(number: u8) -> Cid {
    Cid::new(&number.to_string()).unwrap()
}

fn number(cid: &Cid) -> u8 {
    cid.as_str().parse().unwrap()
}

fn body(number: u8) -> Body {
    let reacting = reacts(number).map(|reacting| reacting.to_body());
    reacting.or_else(|| change(number).map(|change| change.to_body())).unwrap_or_else(|| Body::text("x"))
}

fn row(seq: Seq, stored: Stored) -> Placed {
    let Stored { w, pw, counts, service, cid: number, event, made, .. } = stored;
    let (sender, cid, body) = (user(sender(number)), cid(number), body(number));
    Placed {
        row: Row { seq, kind: kind(number), sender, service, cid, ts: 1, body, counts, refs: folds::refs(number) },
        w,
        pw,
        event,
        made,
        told: Told::default(),
    }
}

impl Home {
    pub(super) fn new(name: usize, incarnation: u64) -> Self {
        Self {
            name,
            incarnation,
            phase: Phase::Idle,
            role: None,
            work: Vec::new(),
            early_rows: None,
            seen_alive: false,
            forged: Vec::new(),
            adopting: false,
            wrote: false,
            catching_up: false,
        }
    }

    pub(super) fn step(&mut self, shared: &mut Shared) -> Result<(), String> {
        if shared.random.one_in(150) {
            self.crash(shared);
            return Ok(());
        }
        match self.phase {
            Phase::Idle if shared.random.one_in(24) => self.try_to_take(shared),
            Phase::Fencing { term, reached } => self.fence(term, reached, shared),
            Phase::Proposing(..) => self.propose(shared),
            Phase::Home(epoch) => return self.serve(epoch, shared),
            // A home that lost its place in a mutant's world goes on with what is under way.
            Phase::Idle => {}
        }
        if self.role.is_some() { self.do_some_work(shared) } else { Ok(()) }
    }

    /// Forgets everything; what was sent may still arrive.
    fn crash(&mut self, shared: &mut Shared) {
        let name = self.name;
        shared.note(|| format!("{name} crashes"));
        self.abandon(shared);
        let incarnation = if shared.is(Mutant::SameIncarnation) { self.incarnation } else { shared.new_incarnation() };
        *self = Self::new(self.name, incarnation);
        if shared.is(Mutant::SameIncarnation) && shared.slot.1 == incarnation {
            self.phase = Phase::Home(shared.slot.0);
        }
    }

    fn abandon(&mut self, shared: &mut Shared) {
        for work in self.work.drain(..) {
            let Work::Write { cells, sent, .. } = work else { continue };
            for (replica, sent) in sent.iter().enumerate() {
                let missing = cells.iter().zip(sent).filter(|(_, sent)| !**sent);
                missing.for_each(|(cell, _)| shared.later(replica, cell.clone()));
            }
        }
        self.role = None;
        self.forged.clear();
    }

    fn try_to_take(&mut self, shared: &mut Shared) {
        let term = shared.slot;
        let name = self.name;
        if shared.is(Mutant::RowsBeforeFence) && self.early_rows.is_none() {
            let merged = merge(&shared.replicas[0], &shared.replicas[1]);
            let head = merged.head().seq;
            self.early_rows = Some(dense(&merged, head.max(1), usize::MAX));
        }
        if term.1 == self.incarnation || shared.is(Mutant::NoFence) {
            self.phase = Phase::Proposing(term.0, term.1);
        } else {
            shared.note(|| format!("{name} fences {}", term.1));
            self.phase = Phase::Fencing { term, reached: [false; 3] };
        }
    }

    fn fence(&mut self, term: (Epoch, u64), mut reached: [bool; 3], shared: &mut Shared) {
        let replica = shared.random.below(3);
        if !reached[replica] {
            reached[replica] = true;
            shared.replicas[replica].take(Cell::Fence(term.1));
        }
        let quorum = reached.iter().filter(|reached| **reached).count() >= 2;
        if quorum || shared.is(Mutant::FenceNotCommitted) {
            for replica in (0..3).filter(|replica| !reached[*replica]) {
                shared.later(replica, Cell::Fence(term.1));
            }
            self.phase = Phase::Proposing(term.0, term.1);
        } else {
            self.phase = Phase::Fencing { term, reached };
        }
    }

    /// Repeats the proposal until the record shows what became of it.
    fn propose(&mut self, shared: &mut Shared) {
        let Phase::Proposing(epoch, old) = self.phase else { return };
        let name = self.name;
        if shared.slot == (epoch + 1, self.incarnation) {
            shared.note(|| format!("{name} is home in epoch {}", epoch + 1));
            self.become_home(epoch + 1, shared);
        } else if shared.slot != (epoch, old) {
            self.phase = Phase::Idle;
        } else {
            shared.proposals.push(Proposal { from: (epoch, old), to: self.incarnation });
        }
    }

    fn become_home(&mut self, epoch: Epoch, shared: &mut Shared) {
        self.phase = Phase::Home(epoch);
        if !shared.is(Mutant::KeepState) {
            self.abandon(shared);
        }
    }

    fn serve(&mut self, epoch: Epoch, shared: &mut Shared) -> Result<(), String> {
        match shared.random.below(14) {
            0..=2 => {
                let message = shared.some_message();
                let name = self.name;
                shared.note(|| format!("{name} gets message {message}"));
                let new = NewMessage {
                    kind: kind(message),
                    service: shared.is_of_service(message),
                    refs: folds::refs(message),
                    ..NewMessage::of_user(user(sender(message)), cid(message), 1, body(message))
                };
                let role = self.role.get_or_insert_with(|| (epoch, Role::new(conv(shared.rooms), epoch, LIMITS)));
                role.1.submit(Asker::Send(message, shared.promises.last()), new);
            }
            5 if shared.mends => {
                let role = self.role.get_or_insert_with(|| (epoch, Role::new(conv(shared.rooms), epoch, LIMITS)));
                role.1.mend(Asker::Mend(shared.promises.last()));
            }
            3 if shared.random.one_in(8) => self.hand_over(epoch, shared),
            4 if shared.random.one_in(4) => self.forget(shared),
            _ => {}
        }
        // Most of the time a store is quick.
        for _ in 0..shared.random.below(5) {
            self.do_some_work(shared)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, epoch: Epoch, shared: &mut Shared) {
        let name = self.name;
        // To anybody, or back to itself later.
        let to = shared.random.below(shared.incarnations as usize) as u64 + 1;
        shared.note(|| format!("{name} gives epoch {epoch} to {to}"));
        if !shared.is(Mutant::HandOverInFlight) && !shared.is(Mutant::KeepState) {
            self.abandon(shared);
        }
        shared.proposals.push(Proposal { from: (epoch, self.incarnation), to });
        if !shared.is(Mutant::HandOverInFlight) {
            self.phase = if to == self.incarnation { Phase::Proposing(epoch, self.incarnation) } else { Phase::Idle };
        }
    }

    fn forget(&mut self, shared: &mut Shared) {
        let quiet = self.role.as_ref().is_some_and(|(_, role)| role.is_quiet());
        if quiet || shared.is(Mutant::ForgetUnacked) {
            self.abandon(shared);
        }
    }

    fn do_some_work(&mut self, shared: &mut Shared) -> Result<(), String> {
        self.carry_out(shared)?;
        if self.work.is_empty() {
            return Ok(());
        }
        let at = shared.random.below(self.work.len());
        let done = match &mut self.work[at] {
            Work::Write { cells, sent, done } => write(cells, sent, done, shared),
            Work::Read { what, sample } => read(what, sample, self.incarnation, shared),
        };
        let Some(done) = done else { return Ok(()) };
        if let Work::Write { cells, sent, .. } = self.work.swap_remove(at) {
            leave_the_rest(&cells, &sent, shared);
        }
        self.on_done(done, shared)?;
        self.carry_out(shared)
    }

    /// What the store answered goes to the role, after a mutant had its hands on it.
    fn on_done(&mut self, done: Done, shared: &mut Shared) -> Result<(), String> {
        let name = self.name;
        shared.note(|| format!("{name}: {done:?}"));
        let event = match done {
            Done::Fenced => {
                self.abandon(shared);
                self.phase = Phase::Idle;
                self.incarnation = shared.new_incarnation();
                return Ok(());
            }
            Done::Confirmed(asked, seq) => {
                shared.mended += 1;
                return shared.promises.on_mended(asked, seq);
            }
            Done::Event(Event::Rows { rows, more }) => self.tamper_rows(rows, more, shared),
            Done::Event(Event::Members(mut members)) => {
                if shared.is(Mutant::AnybodyIsMember) {
                    members.iter_mut().for_each(|member| member.standing = Standing::Member(room::Role::Member));
                }
                Event::Members(members)
            }
            Done::Event(Event::Events(mut rows)) => {
                self.catching_up = true;
                if shared.is(Mutant::LastEventOnly) {
                    rows.drain(..rows.len().saturating_sub(1));
                }
                Event::Events(rows)
            }
            Done::Event(event) => event,
        };
        if matches!(event, Event::Validated) {
            self.seen_alive = true;
        }
        self.feed(event);
        Ok(())
    }

    fn tamper_rows(&mut self, mut rows: Vec<Placed>, mut more: bool, shared: &Shared) -> Event {
        if shared.is(Mutant::RowsBeforeFence)
            && let (Some(early), Some(first)) = (self.early_rows.take(), rows.first())
            && early.first().is_some_and(|row| row.row.seq == first.row.seq)
        {
            (rows, more) = (early, false);
        }
        let any = shared.is(Mutant::AnyRowFollows);
        if any || shared.is(Mutant::GrowingEpochsFollow) {
            for n in 1..rows.len() {
                let w = rows[n - 1].w;
                if rows[n].pw != w && (any || rows[n].w >= w) {
                    self.forged.push(rows[n].clone());
                    rows[n].pw = w;
                }
            }
        }
        if shared.is(Mutant::CountsOfHead) {
            for n in 1..rows.len() {
                self.forged.push(rows[n].clone());
                rows[n].row.counts = rows[0].row.counts;
            }
        }
        Event::Rows { rows, more }
    }

    fn carry_out(&mut self, shared: &mut Shared) -> Result<(), String> {
        while let Some((epoch, role)) = &mut self.role {
            let epoch = *epoch;
            let effects = role.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.start(effect, epoch, shared)?;
            }
        }
        Ok(())
    }

    fn start(&mut self, effect: Effect<Asker>, epoch: Epoch, shared: &mut Shared) -> Result<(), String> {
        let what = match effect {
            Effect::ReadHeads => Question::Heads,
            Effect::ReadRoom => Question::Room,
            Effect::ReadEvents { last, above } => Question::Events(last, above),
            Effect::ReadMembers(users) => {
                Question::Members(users.iter().map(|asked| usize::from(*asked == user(1))).collect())
            }
            Effect::Apply(applied) => {
                self.start_apply(&applied, epoch, shared);
                return Ok(());
            }
            Effect::ReadRows { from } => Question::Rows(from),
            Effect::ReadCids { upto, down_to } => Question::Cids(upto, down_to),
            Effect::Validate if self.skips_validation(shared) => {
                self.feed(Event::Validated);
                return Ok(());
            }
            Effect::Validate if shared.is(Mutant::RefusalNotValidated) && !self.wrote => {
                self.feed(Event::Validated);
                return Ok(());
            }
            Effect::Validate => {
                self.wrote = false;
                Question::Validate
            }
            Effect::Look { asked, top } => {
                Question::Look(asked.iter().map(|look| (number(&look.cid), look.at)).collect(), top)
            }
            Effect::Write(rows) => {
                self.start_write(&rows, epoch, shared);
                return Ok(());
            }
            Effect::Raise(raise) => {
                self.start_raise(&raise, shared);
                return Ok(());
            }
            Effect::Answer(Asker::Send(message, asked), result) => {
                let name = self.name;
                shared.note(|| format!("{name} answers {message}: {result:?}"));
                return match result {
                    Ok(appended) => shared.promises.on_sent(message, appended.seq),
                    Err(StoreError::Denied(denied)) => {
                        shared.promises.folded.on_denied(message, asked, denied);
                        Ok(())
                    }
                    Err(_) => Ok(()),
                };
            }
            Effect::Mended(Asker::Mend(asked), seq) if shared.is(Mutant::MendNotValidated) => {
                return shared.promises.on_mended(asked, seq);
            }
            Effect::Mended(Asker::Mend(asked), seq) => Question::Confirm(asked, seq),
            other => return Err(format!("an answer to somebody else: {other:?}")),
        };
        self.work.push(Work::Read { what, sample: None });
        Ok(())
    }

    fn skips_validation(&self, shared: &Shared) -> bool {
        shared.is(Mutant::NoValidation)
            || (self.seen_alive && shared.is(Mutant::EarlyValidation))
            || (self.adopting && shared.is(Mutant::AdoptionNotValidated))
    }

    fn feed(&mut self, event: Event) {
        if let Some((_, role)) = &mut self.role {
            role.on(event);
        }
    }

    fn start_write(&mut self, rows: &[Placed], epoch: Epoch, shared: &mut Shared) {
        let adoption = rows.iter().any(|placed| placed.w != epoch);
        shared.adopted += usize::from(adoption);
        self.adopting = adoption;
        self.wrote = true;
        self.catching_up = false;
        if shared.is(Mutant::ApplyUnvalidated) {
            for (user, member) in rows.iter().filter_map(|placed| placed.made.as_deref()?.member.clone()) {
                (0..3).for_each(|replica| shared.later(replica, member_cell(&user, &member)));
            }
        }
        if shared.is(Mutant::FoldUnvalidated) {
            rows.iter().filter_map(fold_cell).for_each(|cell| {
                (0..3).for_each(|replica| shared.later(replica, cell.clone()));
            });
        }
        if adoption && shared.is(Mutant::NoAdoption) {
            return self.feed(Event::Written);
        }
        let cells = rows.iter().flat_map(|placed| {
            let Placed { mut row, mut w, mut pw, event, made, .. } = placed.clone();
            let same = |real: &&Placed| (real.row.seq, &real.row.cid, real.w) == (row.seq, &row.cid, w);
            if let Some(real) = self.forged.iter().find(same) {
                (pw, row.counts) = (real.pw, real.row.counts);
            }
            if shared.is(Mutant::AdoptAsOwn) {
                w = epoch;
            }
            let cid = number(&row.cid);
            let Row { seq, counts, service, .. } = row;
            let stored = Stored { timestamp: epoch, cid, w, pw, counts, service, event, made };
            [Cell::Row(seq, stored), Cell::Cid(cid, epoch, seq)]
        });
        let cells: Vec<Cell> = cells.collect();
        let name = self.name;
        shared.note(|| format!("{name} writes {cells:?}"));
        self.push_write(cells, Event::Written);
    }

    fn start_raise(&mut self, raise: &Raise, shared: &mut Shared) {
        let spared = match &raise.last {
            Some(row) if row.service && shared.is(Mutant::SpareService) => Some(row.sender.clone()),
            _ => raise.spared.clone(),
        };
        let head = Head { seq: raise.upto, counts: raise.counts };
        let users = (0..2).filter(|number| spared != Some(user(*number)));
        let mut cells: Vec<Cell> = users.map(|user| Cell::Head(user, head)).collect();
        if shared.rooms {
            let mut at = RoomAt { head, event: raise.event, room: raise.room.as_deref().cloned() };
            if shared.is(Mutant::HeadWithoutRoom) {
                let room = RoomAt { room: at.room.take(), ..RoomAt::default() };
                (0..3).for_each(|replica| shared.later(replica, Cell::Room(room.clone())));
            }
            cells = vec![Cell::Room(at)];
        }
        if shared.is(Mutant::AnswerBeforeHeads) {
            self.feed(Event::Raised);
            for replica in 0..3 {
                cells.iter().for_each(|cell| shared.later(replica, cell.clone()));
            }
            return;
        }
        let needed = if shared.is(Mutant::OneHead) { 1 } else { cells.len() };
        for cell in &cells[needed..] {
            (0..3).for_each(|replica| shared.later(replica, cell.clone()));
        }
        self.push_write(cells[..needed].to_vec(), Event::Raised);
    }

    fn start_apply(&mut self, applied: &Applied, epoch: Epoch, shared: &mut Shared) {
        let Applied { members, rows } = applied;
        let mut cells: Vec<Cell> = members.iter().map(|(user, member)| member_cell(user, member)).collect();
        cells.extend(rows.iter().filter_map(fold_cell));
        let adopted = rows.iter().any(|placed| placed.w != epoch);
        if adopted && shared.is(Mutant::AdoptedNotFolded) {
            return self.feed(Event::Applied);
        }
        let skips = self.catching_up && shared.is(Mutant::CatchUpNotWritten);
        if skips || shared.is(Mutant::ApplyNotAwaited) {
            self.feed(Event::Applied);
            cells.iter().for_each(|cell| (0..3).for_each(|replica| shared.later(replica, cell.clone())));
            return;
        }
        self.push_write(cells, Event::Applied);
    }

    fn push_write(&mut self, cells: Vec<Cell>, done: Event) {
        let sent = std::array::from_fn(|_| vec![false; cells.len()]);
        self.work.push(Work::Write { cells, sent, done });
    }
}

fn member_cell(of: &UserId, member: &Member) -> Cell {
    Cell::Member(usize::from(*of == user(1)), member.clone())
}

fn fold_cell(placed: &Placed) -> Option<Cell> {
    let cid = number(&placed.row.cid);
    placed.row.refs.as_ref().map(|_| Cell::Fold(sender(cid), placed.row.seq, cid))
}

/// What became of a piece of work.
#[derive(Debug)]
enum Done {
    Event(Event),
    Fenced,
    /// A mend is answered.
    Confirmed(Seq, Seq),
}

/// Brings some cells to some replica; done when a quorum has everything.
fn write(cells: &[Cell], sent: &mut [Vec<bool>; 3], done: &Event, shared: &mut Shared) -> Option<Done> {
    let replica = shared.random.below(3);
    let torn = shared.random.one_in(3);
    for (cell, sent) in cells.iter().zip(&mut sent[replica]) {
        if !torn || shared.random.one_in(2) {
            shared.replicas[replica].take(cell.clone());
            *sent = true;
        }
    }
    let reached = sent.iter().filter(|sent| sent.iter().all(|sent| *sent)).count();
    let needed = if shared.is(Mutant::OneReplica) { 1 } else { 2 };
    (reached >= needed).then(|| Done::Event(done.clone()))
}

fn leave_the_rest(cells: &[Cell], sent: &[Vec<bool>; 3], shared: &mut Shared) {
    for (replica, sent) in sent.iter().enumerate() {
        let missing = cells.iter().zip(sent).filter(|(_, sent)| !**sent);
        missing.for_each(|(cell, _)| shared.later(replica, cell.clone()));
    }
}

/// Samples one replica, then another one; the newer of each cell is the answer.
fn read(
    what: &Question,
    sample: &mut Option<(usize, Box<Sample>)>,
    incarnation: u64,
    shared: &mut Shared,
) -> Option<Done> {
    let replica = shared.random.below(3);
    let now = Sample { copy: copy(&shared.replicas[replica]), fenced: shared.shows_fenced(replica, incarnation) };
    let Some((first, before)) = sample.take() else {
        *sample = Some((replica, Box::new(now)));
        return None;
    };
    if first == replica {
        *sample = Some((first, before));
        return None;
    }
    let merged = merge(&before.copy, &now.copy);
    Some(match what {
        Question::Validate | Question::Confirm(..) if before.fenced || now.fenced => Done::Fenced,
        Question::Confirm(asked, seq) => Done::Confirmed(*asked, *seq),
        Question::Validate => Done::Event(Event::Validated),
        Question::Heads => Done::Event(Event::Heads(merged.head())),
        Question::Room => Done::Event(Event::Room(merged.room)),
        Question::Members(users) => {
            let member = |user: &usize| merged.members[*user].clone().unwrap_or(Member::STRANGER);
            Done::Event(Event::Members(users.iter().map(member).collect()))
        }
        Question::Events(last, above) => {
            let mut found = Vec::new();
            let mut at = *last;
            while at > *above
                && let Some(stored) = merged.rows.get(&at)
                && let Some(made) = &stored.made
            {
                found.push((at, (**made).clone()));
                at = stored.event;
            }
            found.reverse();
            found.truncate(LIMITS.events);
            Done::Event(Event::Events(found))
        }
        Question::Rows(from) => {
            let rows = dense(&merged, *from, LIMITS.page);
            let more = rows.len() == LIMITS.page;
            Done::Event(Event::Rows { rows, more })
        }
        Question::Cids(upto, down_to) => {
            let all: Vec<_> = (*down_to..=*upto).rev().take(LIMITS.cids).collect();
            let from = if all.len() < LIMITS.cids { *down_to } else { *all.last().unwrap_or(upto) };
            let found =
                all.iter().filter_map(|seq| merged.rows.get(seq).map(|stored| (*seq, row(*seq, stored.clone()))));
            let found = found.map(|(seq, placed)| (seq, placed.row.sender, placed.row.cid)).collect();
            let nothing = Event::Cids { found: Vec::new(), from: 0 };
            Done::Event(if shared.is(Mutant::NoDedupe) { nothing } else { Event::Cids { found, from } })
        }
        Question::Look(asked, top) => {
            Done::Event(Event::Looked(asked.iter().map(|(cid, at)| look(*cid, *at, *top, &merged, shared)).collect()))
        }
    })
}

fn look(cid: u8, at: Option<Seq>, top: Seq, merged: &Replica, shared: &Shared) -> Option<Row> {
    if shared.is(Mutant::NoDedupe) {
        return None;
    }
    let at = at.or_else(|| merged.cids.get(&cid).map(|(_, seq)| *seq))?;
    if shared.is(Mutant::CidRowAlone) {
        let (counts, service) = Default::default();
        let stored = Stored { timestamp: 0, cid, w: 0, pw: 0, counts, service, event: 0, made: None };
        return Some(row(at, stored).row);
    }
    let stored = merged.rows.get(&at).filter(|stored| at <= top && stored.cid == cid)?;
    Some(row(at, stored.clone()).row)
}

fn copy(replica: &Replica) -> Replica {
    replica.clone()
}

fn merge(a: &Replica, b: &Replica) -> Replica {
    let mut merged = copy(a);
    for seq in b.rows.keys() {
        if let Some(row) = newest(a, b, *seq) {
            merged.rows.insert(*seq, row);
        }
    }
    for (cid, place) in &b.cids {
        let at = merged.cids.entry(*cid).or_insert(*place);
        *at = (*at).max(*place);
    }
    merged.room.take(b.room.clone());
    for (at, member) in merged.members.iter_mut().zip(b.members.clone()) {
        member.into_iter().for_each(|member| take_member(at, member));
    }
    for (at, fold) in merged.folds.iter_mut().zip(b.folds) {
        take_fold(at, fold);
    }
    merged.heads = [further(a.heads[0], b.heads[0]), further(a.heads[1], b.heads[1])];
    merged
}

/// The rows from `from` on, as far as none is missing.
fn dense(replica: &Replica, from: Seq, most: usize) -> Vec<Placed> {
    (from..).map_while(|seq| replica.rows.get(&seq).map(|stored| row(seq, stored.clone()))).take(most).collect()
}
