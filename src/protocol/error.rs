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
    /// The frame is not a map, lacks a field, or a field has the wrong type or value.
    BadFrame, "bad_frame", false;
    /// No such `op`.
    UnknownOp, "unknown_op", false;
    /// A name, cid or conversation id that is not in its alphabet or form.
    BadName, "bad_name", false;
    /// A body that JSON cannot carry, or nested too deep.
    BadBody, "bad_body", false;
    /// The body is over the limit.
    TooLarge, "too_large", false;
    /// Too many sends; wait and send again with the same cid.
    RateLimited, "rate_limited", true;
    /// The user does not belong to the conversation.
    NotMember, "not_member", false;
    /// No such session, device or member.
    NotFound, "not_found", false;
    /// No such room.
    NoSuchRoom, "no_such_room", false;
    /// There is a room of that name.
    RoomExists, "room_exists", false;
    /// The room has as many members as a room may have, or the user is in as many rooms as a user may be.
    RoomFull, "room_full", false;
    /// The user's role in the room is too small for that.
    NotAllowed, "not_allowed", false;
    /// The only owner of a room with other members may not leave, nor become less.
    LastOwner, "last_owner", false;
    /// The recipient does not take messages from this user.
    Blocked, "blocked", false;
    /// The service that checks messages before they are sent refused this one.
    Rejected, "rejected", false;
    /// The cid was used for another body in this conversation.
    CidReused, "cid_reused", false;
    /// An acknowledgement or read mark above the top of the conversation.
    BadAck, "bad_ack", false;
    /// `re` or `reply_to` names no message that the user may see, or one of which nothing is left.
    BadRef, "bad_ref", false;
    /// The store did not answer: the outcome is unknown, try again with the same cid.
    Unavailable, "unavailable", true;
    /// The token was refused or is of another user, or a service may not do that in this name.
    Unauthorized, "unauthorized", false;
    /// The op exists in the protocol but not yet in this version.
    Unsupported, "unsupported", false;
}
