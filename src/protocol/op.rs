//! Every op, in one table: its word on the wire, whether the rate limit counts it, how much of a session's room for requests
//! it takes while it is under way, and, for those that any door may ask, what it asks and what it is answered (or, where
//! only services ask it, what they are told).
//!
//! Used by the frame reader, by sessions for their limits, by `ops`, and by the metrics as a label.

use serde::Serialize;

use super::{
    Refused, ServerFrame, ask,
    fields::{Fields, FromFields},
};

/// Room that a small request takes; see [`Op::weight`].
const SMALL: usize = 1;
/// A page of rows is as heavy as this many small requests.
const PAGE: usize = 16;

macro_rules! ops {
    ($(
        $(#[doc = $doc:literal])* $name:ident, $word:literal, limited: $limited:literal, weight: $weight:expr
        $(, asks: $ask:ty $(, answered: $answer:ident($frame:ty))? $(, tells: $told:ident($reply:ty))?)?;
    )*) => {
        /// What a client's frame asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Op {
            $($(#[doc = $doc])* $name,)*
        }

        impl Op {
            /// All ops, for metrics, tests and documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word on the wire, which is also the metric's label.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it does, in a sentence.
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii_start(),)* }
            }

            /// The op with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }

            /// Whether the limit of requests per second counts it.
            pub fn is_limited(self) -> bool {
                match self { $(Self::$name => $limited,)* }
            }

            /// How much of the session's room for requests under way it takes until it is answered.
            pub fn weight(self) -> usize {
                match self { $(Self::$name => $weight,)* }
            }
        }

        /// A request, whatever door it came through.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Ask {
            $($(#[doc = concat!("`", $word, "`")] $name($ask),)?)*
            /// An op of the protocol that this version does not serve.
            Unserved(Op),
        }

        impl Ask {
            /// Which op it is.
            pub fn op(&self) -> Op {
                match self {
                    $($(Self::$name(ask) => {
                        let _: &$ask = ask;
                        Op::$name
                    })?)*
                    Self::Unserved(op) => *op,
                }
            }

            /// What `op` makes of the fields of its frame.
            pub(super) fn from_fields(op: Op, fields: Fields<'_>) -> Result<Self, Refused> {
                match op {
                    $($(Op::$name => <$ask>::from_fields(fields).map(Self::$name),)?)*
                    unserved => Ok(Self::Unserved(unserved)),
                }
            }
        }

        /// What came of an [`Ask`] that was taken. Services get it as it is; for clients [`Answer::into_frame`] makes it a
        /// frame.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Answer {
            /// Done, and there is nothing to say.
            Done,
            $($(
                $(#[doc = concat!("To `", $word, "`")] $answer($frame),)?
                $(#[doc = concat!("To `", $word, "`, which no client asks")] $told($reply),)?
            )?)*
        }

        impl Answer {
            /// The frame that carries it to a client; `None` where nothing is said.
            pub fn into_frame(self, reference: Option<u64>) -> Option<ServerFrame> {
                match self {
                    Self::Done => None,
                    $($(
                        $(Self::$answer(mut answer) => {
                            answer.reference = reference;
                            Some(ServerFrame::$answer(answer))
                        })?
                        $(Self::$told(_) => None,)?
                    )?)*
                }
            }
        }
    };
}

ops! {
    /// Opens the session.
    Hello, "hello", limited: false, weight: SMALL;
    /// Sends a message.
    Send, "send", limited: true, weight: SMALL, asks: ask::Send, answered: Sent(ask::Sent);
    /// Sends a message to each of many users. No client asks this.
    SendMany, "send_many", limited: true, weight: PAGE, asks: ask::SendMany, tells: SentMany(ask::SentMany);
    /// Makes a token for a user. No client asks this.
    Mint, "mint", limited: true, weight: SMALL, asks: ask::Mint, tells: Minted(ask::Minted);
    /// Makes unreadable what a user has said. No client asks this.
    Erase, "erase", limited: true, weight: PAGE, asks: ask::Erase, tells: Erased(ask::Erased);
    /// Gives a message of one's own another text.
    Edit, "edit", limited: true, weight: SMALL, asks: ask::About;
    /// Deletes a message.
    Delete, "delete", limited: true, weight: SMALL, asks: ask::About;
    /// Reacts to a message.
    React, "react", limited: true, weight: SMALL, asks: ask::About;
    /// Takes a reaction back.
    Unreact, "unreact", limited: true, weight: SMALL, asks: ask::About;
    /// Everything up to a seq has arrived.
    Ack, "ack", limited: false, weight: SMALL;
    /// Everything up to a seq was read by the person.
    Read, "read", limited: true, weight: SMALL, asks: ask::Read;
    /// A page of a log.
    History, "history", limited: true, weight: PAGE, asks: ask::History, answered: History(ask::HistoryPage);
    /// A page of the list of conversations.
    Conversations, "conversations", limited: true, weight: PAGE, asks: ask::Conversations, answered: Conversations(ask::ConversationsPage);
    /// One's devices and live sessions.
    Sessions, "sessions", limited: true, weight: PAGE, asks: ask::Sessions, answered: Sessions(ask::SessionsPage);
    /// Ends sessions of one's own.
    EndSession, "end_session", limited: true, weight: PAGE, asks: ask::EndSession, answered: Ended(ask::Ended);
    /// A live signal, never stored.
    Signal, "signal", limited: true, weight: SMALL, asks: ask::Signal;
    /// A fresh token.
    Token, "token", limited: true, weight: SMALL;
    /// A sign of life.
    Ping, "ping", limited: true, weight: SMALL;
    /// Who is online.
    Presence, "presence", limited: true, weight: PAGE, asks: ask::Presence, answered: Presences(ask::Presences);
    // This and the seven below are answered alike.
    /// Makes a room.
    Create, "create", limited: true, weight: SMALL, asks: ask::ChangeRoom, answered: Changed(ask::RoomChanged);
    /// Enters a room.
    Join, "join", limited: true, weight: SMALL, asks: ask::ChangeRoom;
    /// Leaves a room, or declines an invitation.
    Leave, "leave", limited: true, weight: SMALL, asks: ask::ChangeRoom;
    /// Lets a user join a room.
    Invite, "invite", limited: true, weight: SMALL, asks: ask::ChangeRoom;
    /// Puts a user out of a room.
    Kick, "kick", limited: true, weight: SMALL, asks: ask::ChangeRoom;
    /// Gives a member another role.
    Role, "role", limited: true, weight: SMALL, asks: ask::ChangeRoom;
    /// Gives a room another topic.
    Topic, "topic", limited: true, weight: SMALL, asks: ask::ChangeRoom;
    /// Says how long a room's messages last.
    Lifetime, "lifetime", limited: true, weight: SMALL, asks: ask::ChangeRoom;
    /// One room.
    Room, "room", limited: true, weight: SMALL, asks: ask::OneRoom, answered: Room(ask::RoomShown);
    /// A page of one's rooms.
    Rooms, "rooms", limited: true, weight: PAGE, asks: ask::Rooms, answered: Rooms(ask::RoomsPage);
    /// A page of a room's members.
    Members, "members", limited: true, weight: PAGE, asks: ask::Members, answered: Members(ask::MembersPage);
    // This and the next are answered alike.
    /// Takes nothing more from a user.
    Block, "block", limited: true, weight: SMALL, asks: ask::Block, answered: Blocking(ask::Blocking);
    /// Takes it again.
    Unblock, "unblock", limited: true, weight: SMALL, asks: ask::Block;
    /// A page of those whom one has blocked.
    Blocks, "blocks", limited: true, weight: PAGE, asks: ask::Blocks, answered: Blocks(ask::BlocksPage);
    /// Who has read a room up to a seq.
    Readers, "readers", limited: true, weight: PAGE, asks: ask::Readers, answered: Readers(ask::ReadersPage);
}

impl Op {
    /// Whether a client may name it; the others are for services.
    pub fn is_for_clients(self) -> bool {
        !matches!(self, Self::SendMany | Self::Mint | Self::Erase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_one_op() {
        for op in Op::ALL {
            assert_eq!(Op::from_word(op.word()), Some(*op));
        }
        assert_eq!(Op::from_word("no_such"), None);
    }
}
