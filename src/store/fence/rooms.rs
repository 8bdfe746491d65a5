//! What a home knows of a room: who may append, with the room and its members as of the seq before (R21), and what the
//! events of its log make of them. Pure. Called by [`super::Role`]; of direct conversations there is nothing here.
//!
//! A row of an event says itself what it makes of the room and of the member it is about ([`Made`]): so whoever finds rows
//! that are in no table yet writes exactly what their home would have written, again and again if need be.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Head;
use crate::{
    model::{
        Kind, NewMessage, Seq, UserId, may_refer,
        room::{Change, Member, Room, RoomLimits, View, decide, may_send},
    },
    store::{StoreError, StoreResult},
};

/// What an event makes of its room, as it stands in the event's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The room.
    pub room: Room,
    /// Whom the event is about, and how they stand to the room from then on.
    pub member: Option<(UserId, Member)>,
}

/// A room as its row in the tables shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomAt {
    /// The head of its log.
    pub head: Head,
    /// The seq of the last event at or below the head.
    pub event: Seq,
    /// What the changes up to [`Room::applied`] made of it; `None` where no event is applied.
    pub room: Option<Room>,
}

/// A room and those of its members that were asked for, as of the end of the log.
#[derive(Debug, Default)]
pub(super) struct RoomState {
    room: Option<Room>,
    /// Every event up to here is in the members' tables.
    applied: Seq,
    members: HashMap<UserId, Member>,
}

impl RoomState {
    /// What the recovery found in the tables.
    pub(super) fn found(&mut self, room: Option<Room>) {
        self.applied = room.as_ref().map_or(0, |room| room.applied);
        self.room = room;
    }

    /// The room; `None` while there is none.
    pub(super) fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// Every event up to here is in the members' tables.
    pub(super) fn applied(&self) -> Seq {
        self.applied
    }

    /// Events up to `upto` can be found nowhere: a majority lost them.
    pub(super) fn skip(&mut self, upto: Seq) {
        tracing::error!(upto, "events of a room are lost; see `natter repair` in docs/operations.md");
        self.applied = self.applied.max(upto);
    }

    /// These events are in the log, and what they make is in the members' tables.
    pub(super) fn apply<'a>(&mut self, events: impl Iterator<Item = (Seq, &'a Made)>) {
        for (seq, made) in events {
            self.room = Some(made.room.clone());
            self.applied = seq;
            if let Some((user, member)) = &made.member {
                self.members.insert(user.clone(), member.clone());
            }
        }
    }

    /// Whom a batch needs that is not known yet, each once. Of more than `most` known ones all are forgotten first.
    pub(super) fn unknown<'a>(&mut self, batch: impl Iterator<Item = &'a NewMessage>, most: usize) -> Vec<UserId> {
        if self.members.len() > most {
            self.members = HashMap::new();
        }
        let mut unknown: Vec<UserId> = Vec::new();
        for message in batch {
            let change = Change::of_row(message.kind, &message.body);
            let target = change.as_ref().and_then(|change| change.concerns(&message.sender));
            let mentioned = message.refs.iter().flat_map(|refs| &refs.mentions);
            for user in [Some(&message.sender), target].into_iter().flatten().chain(mentioned) {
                if !self.members.contains_key(user) && !unknown.contains(user) {
                    unknown.push(user.clone());
                }
            }
        }
        unknown
    }

    /// The store said how they stand to the room.
    pub(super) fn learn(&mut self, users: Vec<UserId>, members: Vec<Member>) {
        self.members.extend(users.into_iter().zip(members));
    }

    /// How many members it holds.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

/// A batch as it is being placed: what it changed so far, which its next message must see.
#[derive(Default)]
pub(super) struct Draft {
    room: Option<Room>,
    members: Vec<(UserId, Member)>,
}

impl Draft {
    /// Whether the sender may write this at `seq`, and what it makes of the room.
    pub(super) fn admit(
        &mut self,
        state: &RoomState,
        message: &NewMessage,
        seq: Seq,
        limits: RoomLimits,
    ) -> StoreResult<Option<Box<Made>>> {
        let room = self.room(state);
        let sender = self.member(state, &message.sender);
        match message.kind {
            Kind::Message | Kind::Edit | Kind::Delete | Kind::Reaction => {
                let about = (message.kind, message.refs.as_deref());
                may_send(room, sender)
                    .and_then(|()| may_refer(about, (&message.sender, message.service), sender.role()))
                    .map(|()| None)
                    .map_err(StoreError::Denied)
            }
            Kind::Event => {
                let change = Change::from_body(&message.body);
                let change = change.map_err(|_| StoreError::Unsupported("events that are no change of a room"))?;
                let about = change.concerns(&message.sender);
                let target = about.map_or(sender, |user| self.member(state, user));
                let view = View { room, sender, target };
                let changed = decide(view, &change, seq, message.ts, limits).map_err(StoreError::Denied)?;
                let made = Made { room: changed.room, member: about.cloned().zip(changed.target) };
                self.take(&made);
                Ok(Some(Box::new(made)))
            }
        }
    }

    fn take(&mut self, made: &Made) {
        self.room = Some(made.room.clone());
        if let Some((user, member)) = &made.member {
            self.members.retain(|(known, _)| known != user);
            self.members.push((user.clone(), member.clone()));
        }
    }

    /// The room after what was placed so far.
    pub(super) fn room<'a>(&'a self, state: &'a RoomState) -> Option<&'a Room> {
        self.room.as_ref().or(state.room.as_ref())
    }

    /// How a user stands to the room after what was placed so far.
    pub(super) fn member<'a>(&'a self, state: &'a RoomState, user: &UserId) -> &'a Member {
        const STRANGER: &Member = &Member::STRANGER;
        let own = self.members.iter().find(|(known, _)| known == user).map(|(_, member)| member);
        own.or_else(|| state.members.get(user)).unwrap_or(STRANGER)
    }
}

/// Whom these events change, each once, as the last of them leaves them.
pub(super) fn members_of<'a>(events: impl Iterator<Item = (Seq, &'a Made)>) -> Vec<(UserId, Member)> {
    let mut draft = Draft::default();
    events.for_each(|(_, made)| draft.take(made));
    draft.members
}
