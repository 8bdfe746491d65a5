//! Every error code of the protocol in one table.

use serde::{Deserialize, Serialize};

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])* $name:ident, $word:literal, $retry:literal;)*) => {
        /// What went wrong, as a word that programs can compare.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $doc])* #[serde(rename = $word)] $name,)*
            /// One of a later version: whether to ask again, the frame says.
            #[serde(other)]
            Unknown,
        }

        impl ErrorCode {
            /// All codes, for tests and documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word on the wire, which is also the metric's label.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* Self::Unknown => "unknown" }
            }

            /// What it means, in a sentence.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),*).trim_ascii_start(),)*
                    Self::Unknown => "One of a later version.",
                }
            }

            /// Whether the same request may succeed later without any change.
            pub fn retry(self) -> bool {
                match self { $(Self::$name => $retry,)* Self::Unknown => false }
            }
        }
    };
}

/// For the description of the HTTP API. Not derived: the derive does not see words that come out of a macro.
#[cfg(feature = "server")]
impl utoipa::PartialSchema for ErrorCode {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let words = utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(Self::ALL.iter().map(|code| code.word())));
        words.description(Some("What went wrong, as a word that programs can compare.")).into()
    }
}

#[cfg(feature = "server")]
impl utoipa::ToSchema for ErrorCode {
    fn name() -> std::borrow::Cow<'static, str> {
        "ErrorCode".into()
    }
}

error_codes! {
    /// The frame is not a map, lacks a field, has one twice, or a field has the wrong type or value. From a service also a field
    /// that does not exist.
    BadFrame, "bad_frame", false;
    /// No such `op`.
    UnknownOp, "unknown_op", false;
    /// A name, recipient, cid or conversation that is not in its alphabet or form.
    BadName, "bad_name", false;
    /// A body that JSON cannot carry, or nested too deep.
    BadBody, "bad_body", false;
    /// The body is over the limit.
    TooLarge, "too_large", false;
    /// Too many requests, or a send behind a refused one; wait, and send again with the same cid.
    RateLimited, "rate_limited", true;
    /// The conversation is not the user's, or the user is not in the room.
    NotMember, "not_member", false;
    /// The user has no such session or device, or the room no such member.
    NotFound, "not_found", false;
    /// There is no such room, or none that the user may know of.
    NoSuchRoom, "no_such_room", false;
    /// There is a room of that name.
    RoomExists, "room_exists", false;
    /// The room has as many members as a room may have, or the user is in as many rooms as a user may be.
    RoomFull, "room_full", false;
    /// The user's role in the room is too small for that, somebody else wrote the message, or it is one more than the limit of
    /// watches or blocks.
    NotAllowed, "not_allowed", false;
    /// The only owner of a room with other members may not leave, nor become less: make somebody else an owner first.
    LastOwner, "last_owner", false;
    /// The recipient takes no messages from this user; nothing was stored.
    Blocked, "blocked", false;
    /// The service that checks messages before they are sent refused this one, and `message` has its words; nothing was stored.
    Rejected, "rejected", false;
    /// The cid stands for another body in this conversation: the client has mixed up two messages.
    CidReused, "cid_reused", false;
    /// An acknowledgement or read mark above the top of the conversation; nothing was changed.
    BadAck, "bad_ack", false;
    /// `re`, `reply_to` or `seq` names no message that the user may see, or one that was deleted or has expired.
    BadRef, "bad_ref", false;
    /// The store did not answer, or too much waits for it: whether it was done is unknown. Send it again with the same cid.
    Unavailable, "unavailable", true;
    /// The token was refused or is of another user, or a service may not do that in this name.
    Unauthorized, "unauthorized", false;
    /// The op exists in the protocol but not yet in this version.
    Unsupported, "unsupported", false;
}
