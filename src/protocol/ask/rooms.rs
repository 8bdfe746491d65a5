//! What concerns rooms as such: `create`, `join`, `leave`, `invite`, `kick`, `role`, `topic` and `lifetime` change one; `room`,
//! `rooms` and `members` read.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Cid, ConvId, Millis, RoomId, Seq, UserId,
        room::{Change, Lifetime, Reach, Role, Topic},
    },
    protocol::{
        Message, Op, Refused,
        fields::{After, Fields, FromFields, bad_frame, limit, name, need},
        strict::Text,
    },
};

/// Most rooms, or members, of a page.
pub const ROOMS_LIMIT: usize = 100;

/// Asks for a change of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRoom {
    /// Which; none where a room is created that may have any name.
    pub room: Option<RoomId>,
    /// The client's id for the change: asked for again with it, it is made once.
    pub cid: Option<Cid>,
    /// What is to change.
    pub change: Change,
}

impl FromFields for ChangeRoom {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let op = need("op", fields.op.as_ref().map(Text::as_str).and_then(Op::from_word))?;
        let user = |user: Option<String>| name::<UserId>("user", user);
        let change = match op {
            Op::Create => Change::Created {
                topic: topic(fields.topic)?,
                public: fields.public.unwrap_or(false),
                history: word("history", fields.history, &[("join", Reach::Join), ("all", Reach::All)])?
                    .unwrap_or_default(),
                lifetime: lifetime(fields.lifetime)?,
            },
            Op::Leave => Change::Left,
            Op::Invite => Change::Invited { user: user(fields.user)? },
            Op::Kick => Change::Kicked { user: user(fields.user)? },
            Op::Role => {
                let roles = [("member", Role::Member), ("moderator", Role::Moderator), ("owner", Role::Owner)];
                Change::Role { user: user(fields.user)?, role: need("role", word("role", fields.role, &roles)?)? }
            }
            Op::Topic => Change::Topic { topic: topic(fields.topic)? },
            Op::Lifetime => Change::Lifetime { lifetime: lifetime(fields.lifetime)? },
            _ => Change::Joined,
        };
        let room = match (op, fields.room) {
            (Op::Create, None) => None,
            (_, room) => Some(name("room", room)?),
        };
        let cid = fields.cid.map(|cid| name("cid", Some(cid.as_str()))).transpose()?;
        Ok(Self { room, cid, change })
    }
}

fn topic(text: Option<String>) -> Result<Option<Topic>, Refused> {
    text.map(|text| Topic::from_str(&text).map_err(|wrong| bad_frame(format!("topic: {wrong}")))).transpose()
}

fn lifetime(secs: Option<u64>) -> Result<Option<Lifetime>, Refused> {
    secs.map(Lifetime::try_from).transpose().map_err(|wrong| bad_frame(format!("lifetime: {wrong}")))
}

/// One of a few words.
fn word<T: Copy>(field: &str, text: Option<String>, words: &[(&str, T)]) -> Result<Option<T>, Refused> {
    let Some(text) = text else { return Ok(None) };
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.map(Some).ok_or_else(|| {
        let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        bad_frame(format!("{field}: must be one of {}", all.join(", ")))
    })
}

/// A change was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RoomChanged {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Which room.
    pub room: RoomId,
    /// Its conversation.
    pub conv: ConvId,
    /// Where the change stands in its log; absent where it was so already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
}

/// Asks for one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneRoom {
    /// Which.
    pub room: RoomId,
}

impl FromFields for OneRoom {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self { room: name("room", fields.room)? })
    }
}

/// Asks for a page of one's rooms, those included that one is invited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rooms {
    /// The last room of the page before.
    pub after: Option<RoomId>,
    /// Most rooms.
    pub limit: usize,
}

impl FromFields for Rooms {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self { after: after(fields.after)?, limit: limit(fields.limit, ROOMS_LIMIT)? })
    }
}

/// Asks for a page of a room's members, those included that are invited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Of which room.
    pub room: RoomId,
    /// The last user of the page before.
    pub after: Option<UserId>,
    /// Most members.
    pub limit: usize,
}

impl FromFields for Members {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let room = name("room", fields.room)?;
        Ok(Self { room, after: after(fields.after)?, limit: limit(fields.limit, ROOMS_LIMIT)? })
    }
}

pub(super) fn after<T: FromStr<Err = crate::model::NameError>>(after: Option<After>) -> Result<Option<T>, Refused> {
    match after {
        None => Ok(None),
        Some(After::Text(text)) => name("after", Some(text)).map(Some),
        Some(After::Seq(_)) => Err(bad_frame("after: must be the `next` of an answer")),
    }
}

/// A room as its members, and those who may join it, see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RoomView {
    /// Which.
    pub room: RoomId,
    /// Its conversation.
    pub conv: ConvId,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Topic>,
    /// Everybody may join it.
    pub public: bool,
    /// Which part of its log members may read.
    pub history: Reach,
    /// How long its messages last, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// When it was created.
    pub created: Millis,
    /// How many members it has.
    pub members: u32,
    /// One's role; absent for those who are no members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// One is invited.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invited: bool,
    /// What only members see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<RoomLog>,
}

/// How far a room's log is, and a member in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RoomLog {
    /// Its top.
    pub head: Seq,
    /// The time of its last row.
    pub ts: Millis,
    /// The user's read mark.
    pub read: Seq,
    /// Messages after the read mark.
    pub unread: u64,
    /// How many of those mention the user.
    #[serde(default)]
    pub mentions: u64,
    /// The last row; absent when it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<Message>>,
}

/// One room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RoomShown {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// What it is.
    #[serde(flatten)]
    pub view: RoomView,
}

/// A page of one's rooms, in the order of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RoomsPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// The rooms.
    pub items: Vec<RoomView>,
    /// Give it as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RoomId>,
}

/// A member of a room, or somebody who is invited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RoomMember {
    /// Who.
    pub user: UserId,
    /// What they may do; absent for those who are only invited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The seq of their join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Seq>,
}

/// A page of a room's members, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct MembersPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Which room.
    pub room: RoomId,
    /// The members.
    pub items: Vec<RoomMember>,
    /// Give it as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UserId>,
}
