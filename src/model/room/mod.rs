//! Rooms: what is known of one, who belongs to it, and what may change. Pure: the engines keep the values and ask
//! [`decide`] at the place of an append; everybody else reads them.
//!
//! Membership is a fold of the room's log: each [`Change`] is a row of kind *event*, and [`Room`] and [`Member`] are what the
//! changes up to some seq make of it. So what is kept in tables can always be made again from the log.

mod change;
mod fold;
mod spans;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::{
    change::{Change, Lifetime, Topic},
    fold::{Changed, Denied, View, decide, may_send},
    spans::Spans,
};
use super::{Millis, Seq};

/// Which part of the log members may read with `history`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// From their join on.
    #[default]
    Join,
    /// All of it.
    All,
}

/// What a member may do; a larger one may do all that a smaller one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Writes, invites into public rooms, and leaves.
    Member,
    /// Invites, kicks members, deletes messages, and sets topic and lifetime.
    Moderator,
    /// Kicks anybody and gives roles. A room with members has at least one.
    Owner,
}

/// How a user stands to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not in it: left, was kicked, or declined.
    Out,
    /// May join, though the room is not public.
    Invited,
    /// In it.
    Member(Role),
}

/// A room, without its members: what changes up to `applied` made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// What it is about.
    pub topic: Option<Topic>,
    /// Everybody may join it.
    pub public: bool,
    /// What members may read.
    pub reach: Reach,
    /// When it was created.
    pub created: Millis,
    /// How many members it has.
    pub members: u32,
    /// How many of them are owners.
    pub owners: u32,
    /// The seq of the last change that is in it.
    pub applied: Seq,
    /// How long its messages last, where their senders do not say less. Not written without one: a node of before reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
}

/// A user of a room, or a former one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// How it stands now.
    pub standing: Standing,
    /// Which part of the log was written for them.
    pub spans: Spans,
    /// The seq of the last change that is in it.
    pub changed: Seq,
}

impl Member {
    /// Whoever the room has never heard of.
    pub const STRANGER: Self = Self { standing: Standing::Out, spans: Spans::NONE, changed: 0 };

    /// What they may do, if they are in.
    pub fn role(&self) -> Option<Role> {
        match self.standing {
            Standing::Member(role) => Some(role),
            Standing::Invited | Standing::Out => None,
        }
    }

    /// Whether they are in and already were when the row at `seq` was written.
    pub fn was_in_at(&self, seq: Seq) -> bool {
        self.spans.open().is_some_and(|since| since < seq)
    }

    /// The first seq after `after` that they may read with `history`.
    pub fn readable_after(&self, after: Seq, reach: Reach) -> Option<Seq> {
        match (self.role(), reach) {
            (Some(_), Reach::All) => Some(after + 1),
            _ => self.spans.next_after(after),
        }
    }

    /// The last seq before `before` that they may read with `history`, if the log goes so far.
    pub fn readable_before(&self, before: Seq, reach: Reach) -> Option<Seq> {
        match (self.role(), reach) {
            (Some(_), Reach::All) => before.checked_sub(1).filter(|seq| *seq > 0),
            _ => self.spans.last_before(before),
        }
    }
}

/// How large rooms may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomLimits {
    /// Most members of a room.
    pub members: u32,
}
