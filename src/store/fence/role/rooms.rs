//! What may be placed, and what is applied before a head shows it: folds and mentions of any conversation, members of rooms. The
//! recovery of a room applies what no table has yet, and a batch learns who its senders are before it is placed.

use std::{mem, sync::Arc};

use super::{Batch, Role, Stage, Waiting, Writer};
use crate::{
    model::{Audience, NewMessage, Seq, may_refer, room::Member},
    store::{
        Appended, StoreError, StoreResult,
        fence::{
            Applied, Effect, Placed, RoomAt, Ticket, Told,
            recovery::Recovery,
            rooms::{Draft, Made, members_of},
            stands_beside,
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
        let rows = Arc::from(Vec::new());
        self.effects.push(Effect::Apply(Applied { members: members_of(by_seq(&events)), rows }));
        self.stage = Stage::Recovering(Recovery::Applying(end, events));
    }

    /// What rows made is in the tables.
    pub(super) fn on_applied(&mut self) {
        match &mut self.stage {
            Stage::Recovering(Recovery::Applying(end, events)) => {
                let (end, events) = (end.clone(), mem::take(events));
                if let Some(room) = &mut self.room {
                    room.apply(by_seq(&events));
                }
                self.stage = Stage::Recovering(Recovery::Announcing(end));
            }
            Stage::Recovering(Recovery::Beside(end, more)) => {
                let recovery = end.clone().go_on(*more, &mut self.effects);
                self.stage = Stage::Recovering(recovery);
            }
            Stage::Open(_, writer @ Writer::Applying(_)) => {
                if let Writer::Applying(batch) = mem::replace(writer, Writer::Idle) {
                    self.settle(batch);
                }
            }
            _ => {}
        }
    }

    /// A validated batch: what it makes besides the log is written before anybody may see its rows.
    pub(super) fn apply(&mut self, batch: Batch<T>) {
        let members = members_of(batch.rows.iter().filter_map(Placed::made));
        if members.is_empty() && !stands_beside(&batch.rows) {
            self.settle(batch);
        } else {
            self.effects.push(Effect::Apply(Applied { members, rows: batch.rows.clone() }));
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

    /// Whether a message may be placed at `seq`, what it makes of its room, and whom it tells of a mention. Who may write to
    /// a direct conversation was asked before.
    pub(super) fn admit(
        &self,
        draft: &mut Draft,
        message: &NewMessage,
        seq: Seq,
    ) -> StoreResult<(Option<Box<Made>>, Told)> {
        if let Some(room) = &self.room {
            let made = draft.admit(room, message, seq, self.limits.room)?;
            return Ok((made, Told::of(message, |user| draft.member(room, user).role().is_some())));
        }
        may_refer((message.kind, message.refs.as_deref()), (&message.sender, message.service), None)
            .map_err(StoreError::Denied)?;
        let audience = message.refs.as_ref().and_then(|_| Audience::of(&self.conv));
        Ok((None, Told::of(message, |user| audience.as_ref().is_some_and(|audience| audience.contains(user)))))
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
