//! What the rows of a room's log make of it, read from the first one on: what the tables of rooms must hold. Called by
//! [`super::verify`], which compares the two, and by [`super::rescue`], which makes the tables again.

use std::collections::BTreeMap;

use crate::model::{
    Kind, Row, UserId, may_refer,
    room::{Change, Member, Room, RoomLimits, View, decide, may_send},
};

/// How large a room may become is for those who join it; what stands in a log was within the limit of its time.
const ANY: RoomLimits = RoomLimits { members: u32::MAX };

/// A room and its members, as of the last row that was taken.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// `None`: the log does not say that it was created.
    pub(super) room: Option<Room>,
    /// Whom the room has heard of.
    pub(super) members: BTreeMap<UserId, Member>,
}

impl Fold {
    /// The next row.
    ///
    /// # Errors
    /// It could not have been written by its sender with what stands before it. A change is not made then.
    pub(super) fn take(&mut self, row: &Row) -> Result<(), String> {
        match row.kind {
            Kind::Event => self.change(row),
            _ => {
                let sender = self.member(&row.sender);
                may_send(self.room.as_ref(), &sender)
                    .and_then(|()| {
                        may_refer((row.kind, row.refs.as_deref()), (&row.sender, row.service), sender.role())
                    })
                    .map_err(|denied| denied.to_string())?;
                self.lasts(row)
            }
        }
    }

    /// A message lasts no longer than the room lets it.
    fn lasts(&self, row: &Row) -> Result<(), String> {
        let lifetime = self.room.as_ref().and_then(|room| room.lifetime).filter(|_| row.kind == Kind::Message);
        let Some(end) = lifetime.map(|lifetime| lifetime.end(row.ts)) else { return Ok(()) };
        let is_within = row.expires().is_some_and(|expires| expires <= end);
        if is_within { Ok(()) } else { Err("it lasts longer than the room lets it".to_owned()) }
    }

    fn change(&mut self, row: &Row) -> Result<(), String> {
        let change = Change::from_body(&row.body)?;
        let about = change.concerns(&row.sender);
        let sender = self.member(&row.sender);
        let target = about.map_or_else(|| sender.clone(), |user| self.member(user));
        let view = View { room: self.room.as_ref(), sender: &sender, target: &target };
        let changed = decide(view, &change, row.seq, row.ts, ANY).map_err(|denied| denied.to_string())?;
        if let (Some(user), Some(member)) = (about, changed.target) {
            self.members.insert(user.clone(), member);
        }
        self.room = Some(changed.room);
        Ok(())
    }

    /// Whether somebody is in the room now.
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.members.get(user).is_some_and(|member| member.role().is_some())
    }

    fn member(&self, user: &UserId) -> Member {
        self.members.get(user).cloned().unwrap_or(Member::STRANGER)
    }
}
