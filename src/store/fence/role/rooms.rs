//! The steps that only a room takes: its recovery applies what no table has yet, and a batch learns who its senders are
//! before it is placed, and is applied before its heads are raised.

use std::{mem, sync::Arc};

use super::{Batch, Role, Stage, Waiting, Writer};
use crate::{
    model::{NewMessage, Seq, room::Member},
    store::{
        Appended, StoreError, StoreResult,
        fence::{
            Effect, Placed, RoomAt, Ticket,
            recovery::Recovery,
            rooms::{Draft, Made, members_of},
        },
    },
};

impl<T: Ticket> Role<T> {
    pub(super) fn on_room(&mut self, at: RoomAt) {
        if !matches!(self.stage, Stage::Recovering(Recovery::Heads)) {
            return;
        }
        if let Some(room) = &mut self.room {
            room.found(at.room);
        }
        self.on_heads(at.head, at.event);
    }

    /// Before the end of a room's log is announced, every event up to it must be applied. False: there is more to do first.
    pub(super) fn is_caught_up(&mut self) -> bool {
        let Some(room) = &self.room else { return true };
        let Stage::Recovering(Recovery::Announcing(end)) = &self.stage else { return true };
        if room.applied() >= end.event {
            return true;
        }
        self.effects.push(Effect::ReadEvents { last: end.event, above: room.applied() });
        self.stage = Stage::Recovering(Recovery::CatchingUp(end.clone()));
        false
    }

    /// The events that no table has.
    pub(super) fn on_events(&mut self, events: Vec<(Seq, Made)>) {
        let Stage::Recovering(Recovery::CatchingUp(end)) = &self.stage else { return };
        let end = end.clone();
        if events.is_empty() {
            if let Some(room) = &mut self.room {
                room.skip(end.event);
            }
            self.stage = Stage::Recovering(Recovery::Announcing(end));
            return;
        }
        self.effects.push(Effect::Apply(members_of(by_seq(&events))));
        self.stage = Stage::Recovering(Recovery::Applying(end, events));
    }

    /// What events made is in the members' tables.
    pub(super) fn on_applied(&mut self) {
        match &mut self.stage {
            Stage::Recovering(Recovery::Applying(end, events)) => {
                let (end, events) = (end.clone(), mem::take(events));
                if let Some(room) = &mut self.room {
                    room.apply(by_seq(&events));
                }
                self.stage = Stage::Recovering(Recovery::Announcing(end));
            }
            Stage::Open(_, writer @ Writer::Applying(_)) => {
                if let Writer::Applying(batch) = mem::replace(writer, Writer::Idle) {
                    self.settle(batch);
                }
            }
            _ => {}
        }
    }

    /// A validated batch: what it makes of members is written before anybody may see its rows.
    pub(super) fn apply(&mut self, batch: Batch<T>) {
        let members = members_of(batch.rows.iter().filter_map(Placed::made));
        if members.is_empty() {
            self.settle(batch);
        } else {
            self.effects.push(Effect::Apply(members));
            self.set_writer(Writer::Applying(batch));
        }
    }

    /// Places what is not stored, when the room knows everybody that it is about.
    pub(super) fn learn_then_write(&mut self, fresh: Vec<Waiting<T>>) {
        let most = self.limits.members;
        let unknown = self.room.as_mut().map(|room| room.unknown(fresh.iter().map(|waiting| &waiting.message), most));
        match unknown {
            Some(users) if !users.is_empty() => {
                self.effects.push(Effect::ReadMembers(users.clone()));
                self.set_writer(Writer::Learning(fresh, users));
            }
            _ => self.write(fresh),
        }
    }

    pub(super) fn on_members(&mut self, members: Vec<Member>) {
        let Stage::Open(open, writer @ Writer::Learning(..)) = &mut self.stage else { return };
        let Writer::Learning(fresh, users) = mem::replace(writer, Writer::Idle) else { return };
        if members.iter().any(|member| member.changed > open.top) {
            // Another home has gone on, and the validation ends this one; or the log has lost what the tables have.
            let why = "the room's members are ahead of its log";
            let answers = fresh.into_iter().map(|waiting| (waiting.ticket, Err(StoreError::unavailable(why))));
            return self.prove_refusals(answers.collect());
        }
        if let Some(room) = &mut self.room {
            room.learn(users, members);
        }
        self.write(fresh);
    }

    /// Whether a message may be placed at `seq`, and what it makes of the room: direct conversations were asked before.
    pub(super) fn admit(&self, draft: &mut Draft, message: &NewMessage, seq: Seq) -> StoreResult<Option<Box<Made>>> {
        let Some(room) = &self.room else { return Ok(None) };
        draft.admit(room, message, seq, self.limits.room)
    }

    /// A batch of which nothing is written. A refusal is answered only when the incarnation was alive after it was decided:
    /// a home that was fenced does not know who has joined since.
    pub(super) fn prove_refusals(&mut self, answers: Vec<(T, StoreResult<Appended>)>) {
        if answers.is_empty() {
            self.set_writer(Writer::Idle);
            return;
        }
        self.effects.push(Effect::Validate);
        let rows = Arc::from(Vec::new());
        self.set_writer(Writer::Proving(Batch { rows, read_upto: Vec::new(), answers }));
    }
}

fn by_seq(events: &[(Seq, Made)]) -> impl Iterator<Item = (Seq, &Made)> {
    events.iter().map(|(seq, made)| (*seq, made))
}
