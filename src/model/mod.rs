//! The words of the domain: users, devices, conversations, seqs, messages. Everything above imports this module and
//! it imports nothing of natter.
//!
//! Its types carry the rules: a name, a [`ConvId`] or a [`Body`] that exists has passed its check.

mod audience;
mod body;
mod conv;
mod counts;
mod folded;
mod integers;
mod message;
mod names;
mod refs;
pub mod room;
#[cfg(feature = "server")]
mod schemas;
mod session_id;
mod since;

pub use self::{
    audience::Audience,
    body::{Body, MAX_DEPTH},
    conv::{ConvId, Parties, Recipient},
    counts::{Counts, Kind, ReadMark, Side},
    folded::{Edited, Folded, FoldedPart, Reacted, Reacting, Reaction},
    message::{Gap, NewMessage, Row, moves_mark},
    names::{Cid, Device, DeviceId, MAX_NAME, NameError, RoomId, UserId},
    refs::{Gone, Refs, Target, may_refer},
    session_id::{SessionId, SessionRank},
    since::Since,
};

pub(crate) use self::{body::write_json, integers::wide_integer};

/// A place in a conversation's log: 1, 2, 3 … dense, never reused. 0 means "before the first".
pub type Seq = u64;

/// Milliseconds since 1970 UTC; for people only, nothing is ordered by it (I5).
pub type Millis = u64;

/// The largest seq that natter accepts or hands out: JSON readers hold integers up to 2^53 exactly.
pub const MAX_SEQ: Seq = (1 << 53) - 1;

/// The time of this machine's clock, for people.
pub fn now_millis() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
