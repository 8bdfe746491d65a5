//! Appends to rooms within a commit: who may, with the room and its members as of the seq before, and what a change makes of
//! them. Called by the writer thread, the only place that gives out seqs: so nothing can come between the decision and the
//! row (R22).

use super::{
    commit::{Commit, QueuedMessage, answer_retry, beside_of},
    room_end::{RoomEnd, Seen},
    rows,
};
use crate::{
    model::{
        ConvId, Kind, NewMessage, ReadMark, RoomId, Seq, UserId, may_refer, moves_mark,
        room::{Change, Changed, Member, Reach, View, decide, may_send},
    },
    store::{Appended, StoreError, StoreResult},
};

/// What stores a message: its sender's mark, and what it changes.
struct Accepted {
    /// Where the sender's mark is.
    mark: ReadMark,
    /// Of an event.
    change: Option<(Changed, Option<UserId>)>,
}

impl Commit<'_> {
    /// Gives each message that its sender may write its seq, in order, or finds the one it already has.
    pub(super) fn append_to_room(&mut self, room: &RoomId, messages: Vec<QueuedMessage>) -> Vec<StoreResult<Appended>> {
        let mut end = match self.rooms().end(room) {
            Ok(end) => end,
            Err(error) => return vec![Err(error); messages.len()],
        };
        let conv = ConvId::room(room);
        let answers = messages.into_iter().map(|message| self.append_one_to_room(&conv, room, &mut end, message));
        let answers = answers.collect();
        self.draft.put_end(room, end);
        answers
    }

    fn append_one_to_room(
        &mut self,
        conv: &ConvId,
        room: &RoomId,
        end: &mut RoomEnd,
        QueuedMessage { cid, message }: QueuedMessage,
    ) -> StoreResult<Appended> {
        // First: what is stored is answered whatever its sender may do by now.
        if let Some((seq, stored)) = self.stored(conv, &cid)? {
            return answer_retry(seq, &stored, &message);
        }
        let (seq, counts) = (end.head.max(self.tables.floor) + 1, end.counts.with(message.kind, conv, &message.sender));
        let accepted = self.judge(room, end, seq, &message)?;
        let message = message.within(end.room.as_ref());
        let row = rows::encode(&message, counts)?;
        let beside = beside_of(conv, seq, &message, |user| Ok(self.rooms().member(room, user)?.role().is_some()))?;
        // Nothing fails from here on: all of it is in the commit, or nothing.
        self.place(conv, seq, cid, row, beside);
        (end.head, end.counts) = (seq, counts);
        if let Some((Changed { room: changed, target }, about)) = accepted.change {
            (end.room, end.is_changed) = (Some(changed), true);
            if let (Some(user), Some(member)) = (about, target) {
                self.draft.put_member(room, &user, member);
            }
        }
        if !message.service && moves_mark(seq, message.read_upto, accepted.mark.seq) {
            self.draft.put_mark(room, &message.sender, ReadMark { seq, counts });
        }
        Ok(Appended { seq, ts: message.ts, fresh: true, expires: message.expires() })
    }

    /// Whether the sender may write it.
    fn judge(&mut self, room: &RoomId, end: &RoomEnd, seq: Seq, message: &NewMessage) -> StoreResult<Accepted> {
        let sender = self.rooms().member(room, &message.sender)?;
        let change = match message.kind {
            Kind::Event => Some(self.decide(room, end, seq, message, &sender)?),
            Kind::Message | Kind::Edit | Kind::Delete | Kind::Reaction => {
                let refs = message.refs.as_deref();
                may_send(end.room.as_ref(), &sender)
                    .and_then(|()| may_refer((message.kind, refs), (&message.sender, message.service), sender.role()))
                    .map_err(StoreError::Denied)?;
                let reach = end.room.as_ref().map_or(Reach::Join, |room| room.reach);
                self.check_reply(&ConvId::room(room), message, |at| {
                    sender.readable_after(at.saturating_sub(1), reach) == Some(at)
                })?;
                None
            }
        };
        Ok(Accepted { mark: self.rooms().mark(room, &message.sender)?, change })
    }

    fn decide(
        &mut self,
        room: &RoomId,
        end: &RoomEnd,
        seq: Seq,
        message: &NewMessage,
        sender: &Member,
    ) -> StoreResult<(Changed, Option<UserId>)> {
        let change = Change::from_body(&message.body);
        let change = change.map_err(|_| StoreError::Unsupported("events that are no change of a room"))?;
        let about = change.concerns(&message.sender).cloned();
        let target = match &about {
            Some(user) if *user != message.sender => self.rooms().member(room, user)?,
            _ => sender.clone(),
        };
        let view = View { room: end.room.as_ref(), sender, target: &target };
        let changed = decide(view, &change, seq, message.ts, self.tables.room_limits).map_err(StoreError::Denied)?;
        Ok((changed, about))
    }

    /// Raises a read mark in a room; a smaller seq changes nothing.
    pub(super) fn raise_room_mark(&mut self, room: &RoomId, user: &UserId, mark: ReadMark) -> StoreResult<()> {
        if mark.seq > self.rooms().mark(room, user)?.seq {
            self.draft.put_mark(room, user, mark);
        }
        Ok(())
    }
}

/// Rooms and members as they are in this commit so far.
impl Commit<'_> {
    fn rooms(&mut self) -> Seen<'_> {
        let memory = &mut *self.memory;
        Seen { draft: &self.draft, memory: &mut memory.rooms, tables: self.tables, lookups: &mut memory.lookups }
    }
}
