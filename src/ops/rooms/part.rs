//! Which parts of a log the caller of `history` may read.

use super::{
    super::{Caller, Ops, fault},
    look,
};
use crate::{
    model::{
        RoomId, Seq,
        room::{Denied, Member, Reach},
    },
    protocol::Refused,
    store::StoreError,
};

/// What a caller may read of a log.
pub(in crate::ops) enum Part {
    /// All of it: a direct conversation of the caller's.
    Whole,
    /// What the room shows this member, or former one.
    Room(Reach, Member),
}

/// Finds out which part that is.
///
/// # Errors
/// `no_such_room`; `not_member` for those who never were one.
pub(in crate::ops) async fn part(ops: &Ops, caller: &Caller, room: &RoomId) -> Result<Part, Refused> {
    let seen = caller.while_there(look(ops, room, caller.name())).await??;
    let part = Part::Room(seen.row.room.reach, seen.member);
    if part.after(0).is_none() {
        return Err(fault::refused(&StoreError::Denied(Denied::NotMember)));
    }
    Ok(part)
}

impl Part {
    /// The first seq after `after` that may be read, if the log goes so far.
    pub(in crate::ops) fn after(&self, after: Seq) -> Option<Seq> {
        match self {
            Self::Whole => Some(after + 1),
            Self::Room(reach, member) => member.readable_after(after, *reach),
        }
    }

    /// The last one before `before`.
    pub(in crate::ops) fn before(&self, before: Seq) -> Option<Seq> {
        match self {
            Self::Whole => before.checked_sub(1).filter(|seq| *seq > 0),
            Self::Room(reach, member) => member.readable_before(before, *reach),
        }
    }

    /// The first seq of the part that `seq` lies in; none where all of the log is one.
    pub(in crate::ops) fn start(&self, seq: Seq) -> Option<Seq> {
        match self {
            Self::Whole => None,
            Self::Room(Reach::All, member) if member.role().is_some() => None,
            Self::Room(_, member) => member.spans.start_of(seq),
        }
    }

    pub(in crate::ops) fn holds(&self, seq: Seq) -> bool {
        self.after(seq.saturating_sub(1)) == Some(seq)
    }
}
