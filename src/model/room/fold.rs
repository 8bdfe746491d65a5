//! What a change makes of a room, and whether it may be made: asked at the place of an append, with the room as of the
//! seq before.

use serde::{Deserialize, Serialize};

use super::{Change, Member, Role, Room, RoomLimits, Spans, Standing};
use crate::model::{Gone, Millis, Seq};

/// Why a change or a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Denied {
    /// There is none, or none that the sender may know of.
    #[error("no such room")]
    NoSuchRoom,
    /// The sender is not in the room.
    #[error("not a member of the room")]
    NotMember,
    /// The sender's role is too small.
    #[error("only {} may do that", match .0 { Role::Owner => "an owner", _ => "an owner or a moderator" })]
    Role(Role),
    /// There is a room of that name.
    #[error("there is a room of that name")]
    Exists,
    /// The room has as many members as a room may have.
    #[error("the room is full")]
    Full,
    /// The only owner may not leave others behind, nor become less.
    #[error("make somebody else an owner first")]
    LastOwner,
    /// Whom the change is about is not in the room.
    #[error("that user is not a member of the room")]
    NoSuchMember,
    /// It is so already: nothing to store, and nothing wrong.
    #[error("it is so already")]
    Already,
    /// An edit, a deletion or a reaction that is about no message.
    #[error("re: there is no message at that place")]
    NoTarget,
    /// A reply to what is no message that its sender can see.
    #[error("reply_to: there is no message at that place that you can see")]
    NoReply,
    /// Somebody else wrote it.
    #[error("re: somebody else wrote that message")]
    NotAuthor,
    /// There is nothing left of it.
    #[error("re: that message {}", match .0 { Gone::Deleted => "was deleted", Gone::Expired => "has expired" })]
    Gone(Gone),
}

/// A room as it is looked at for one change or message.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The room, if there is one.
    pub room: Option<&'a Room>,
    /// The sender's membership.
    pub sender: &'a Member,
    /// The membership of whom the change is about: the sender's where it is about the sender, or about nobody.
    pub target: &'a Member,
}

/// What an accepted change makes of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The room.
    pub room: Room,
    /// Whom the change is about ([`Change::concerns`]).
    pub target: Option<Member>,
}

/// Whether the sender may write a message.
///
/// # Errors
/// Why not.
pub fn may_send(room: Option<&Room>, sender: &Member) -> Result<(), Denied> {
    let room = room.ok_or(Denied::NoSuchRoom)?;
    match sender.standing {
        Standing::Member(_) => Ok(()),
        _ => Err(unknown_to(room, sender)),
    }
}

/// What `change` at `seq` makes of the room, if the sender may make it.
///
/// # Errors
/// Why not. [`Denied::Already`] where there is nothing to change.
pub fn decide(view: View<'_>, change: &Change, seq: Seq, ts: Millis, limits: RoomLimits) -> Result<Changed, Denied> {
    if let Change::Created { topic, public, history, lifetime } = change {
        if view.room.is_some() {
            return Err(Denied::Exists);
        }
        let room = Room {
            topic: topic.clone(),
            public: *public,
            reach: *history,
            created: ts,
            members: 1,
            owners: 1,
            applied: seq,
            lifetime: *lifetime,
        };
        return Ok(Changed { room, target: Some(entered(view.target, Role::Owner, seq)) });
    }
    let room = view.room.ok_or(Denied::NoSuchRoom)?;
    let mut next = Room { applied: seq, ..room.clone() };
    let target = match change {
        Change::Created { .. } | Change::Joined => Some(join(view, room, &mut next, seq, limits)?),
        Change::Left => Some(leave(view, room, &mut next, seq)?),
        Change::Invited { .. } => Some(invite(view, room, seq)?),
        Change::Kicked { .. } => Some(kick(view, room, &mut next, seq)?),
        Change::Role { role, .. } => Some(give(view, room, &mut next, *role, seq)?),
        Change::Topic { topic } => {
            at_least(Role::Moderator, view, room)?;
            if next.topic == *topic {
                return Err(Denied::Already);
            }
            next.topic.clone_from(topic);
            None
        }
        Change::Lifetime { lifetime } => {
            at_least(Role::Moderator, view, room)?;
            if next.lifetime == *lifetime {
                return Err(Denied::Already);
            }
            next.lifetime = *lifetime;
            None
        }
    };
    Ok(Changed { room: next, target })
}

fn join(view: View<'_>, room: &Room, next: &mut Room, seq: Seq, limits: RoomLimits) -> Result<Member, Denied> {
    match view.sender.standing {
        Standing::Member(_) => return Err(Denied::Already),
        Standing::Out if !room.public => return Err(unknown_to(room, view.sender)),
        Standing::Out | Standing::Invited => {}
    }
    if room.members >= limits.members {
        return Err(Denied::Full);
    }
    // A room that everybody has left would otherwise have nobody who may do anything in it.
    let role = if room.members == 0 { Role::Owner } else { Role::Member };
    next.members += 1;
    next.owners += u32::from(role == Role::Owner);
    Ok(entered(view.target, role, seq))
}

fn leave(view: View<'_>, room: &Room, next: &mut Room, seq: Seq) -> Result<Member, Denied> {
    match view.sender.standing {
        Standing::Out => return Err(unknown_to(room, view.sender)),
        Standing::Invited => {}
        Standing::Member(role) => {
            if is_last_owner(room, role) && room.members > 1 {
                return Err(Denied::LastOwner);
            }
            without(next, role);
        }
    }
    Ok(gone(view.target, seq))
}

fn invite(view: View<'_>, room: &Room, seq: Seq) -> Result<Member, Denied> {
    at_least(if room.public { Role::Member } else { Role::Moderator }, view, room)?;
    match view.target.standing {
        Standing::Out => Ok(Member { standing: Standing::Invited, changed: seq, ..view.target.clone() }),
        Standing::Invited | Standing::Member(_) => Err(Denied::Already),
    }
}

fn kick(view: View<'_>, room: &Room, next: &mut Room, seq: Seq) -> Result<Member, Denied> {
    let sender = at_least(Role::Moderator, view, room)?;
    match view.target.standing {
        Standing::Out => return Err(Denied::NoSuchMember),
        Standing::Invited => {}
        Standing::Member(role) => {
            if role >= Role::Moderator && sender < Role::Owner {
                return Err(Denied::Role(Role::Owner));
            }
            if is_last_owner(room, role) {
                return Err(Denied::LastOwner);
            }
            without(next, role);
        }
    }
    Ok(gone(view.target, seq))
}

fn give(view: View<'_>, room: &Room, next: &mut Room, role: Role, seq: Seq) -> Result<Member, Denied> {
    at_least(Role::Owner, view, room)?;
    let had = view.target.role().ok_or(Denied::NoSuchMember)?;
    if had == role {
        return Err(Denied::Already);
    }
    if is_last_owner(room, had) {
        return Err(Denied::LastOwner);
    }
    next.owners = next.owners - u32::from(had == Role::Owner) + u32::from(role == Role::Owner);
    Ok(Member { standing: Standing::Member(role), changed: seq, ..view.target.clone() })
}

/// The sender's role, if it is large enough.
fn at_least(least: Role, view: View<'_>, room: &Room) -> Result<Role, Denied> {
    match view.sender.role() {
        None => Err(unknown_to(room, view.sender)),
        Some(role) if role < least => Err(Denied::Role(least)),
        Some(role) => Ok(role),
    }
}

/// A room that is not public does not exist for those who never heard of it.
fn unknown_to(room: &Room, sender: &Member) -> Denied {
    if room.public || sender.changed > 0 { Denied::NotMember } else { Denied::NoSuchRoom }
}

fn is_last_owner(room: &Room, role: Role) -> bool {
    role == Role::Owner && room.owners == 1
}

fn without(room: &mut Room, role: Role) {
    room.members -= 1;
    room.owners -= u32::from(role == Role::Owner);
}

fn entered(member: &Member, role: Role, seq: Seq) -> Member {
    let mut spans: Spans = member.spans.clone();
    spans.enter(seq);
    Member { standing: Standing::Member(role), spans, changed: seq }
}

fn gone(member: &Member, seq: Seq) -> Member {
    let mut spans = member.spans.clone();
    spans.exit(seq);
    Member { standing: Standing::Out, spans, changed: seq }
}
