//! The WebSocket protocol v1: every frame, error code and close code, and the two encodings.
//!
//! Called by the session (frames in, frames out), the gateway (encodings, close codes), the service API and the
//! Rust client. A change here is a change of the contract that others build against: the golden files under
//! `tests/golden/` hold each frame in both encodings.

pub mod ask;
pub mod client;
pub mod close;
pub mod error;
pub mod event;
mod fields;
pub mod hook;
pub mod op;
pub mod people;
pub mod server;
mod server_read;
pub mod shared;
mod strict;
pub mod takes;
pub mod unwritable;

pub use crate::model::Body;
pub use ask::{HistoryFrom, Outcome, Refused};
pub use client::{ClientFrame, Request};
pub use close::CloseReason;
pub use error::ErrorCode;
pub use fields::SHORT_TEXT;
pub use op::{Answer, Ask, Op};
pub use server::{Message, ServerFrame};
pub use shared::{LiveMessage, SharedFrame};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{wide_integer, write_json};

/// Subprotocol of the JSON encoding (text frames), the default.
pub const SUBPROTOCOL_JSON: &str = "natter.json.v1";
/// Subprotocol of the MessagePack encoding (binary frames).
pub const SUBPROTOCOL_MSGPACK: &str = "natter.msgpack.v1";

/// How frames are written on a connection: the same fields in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Text frames.
    #[default]
    Json,
    /// Binary frames: maps with field names.
    MsgPack,
}

impl Encoding {
    /// The subprotocol's name.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => SUBPROTOCOL_JSON,
            Self::MsgPack => SUBPROTOCOL_MSGPACK,
        }
    }

    /// Picks the first subprotocol of a client's list that natter speaks; JSON when the client names none.
    /// `None` when it names some and natter speaks none of them.
    pub fn negotiate(offered: Option<&str>) -> Option<Self> {
        let Some(offered) = offered else { return Some(Self::Json) };
        offered.split(',').map(str::trim).find_map(|name| match name {
            SUBPROTOCOL_JSON => Some(Self::Json),
            SUBPROTOCOL_MSGPACK => Some(Self::MsgPack),
            _ => None,
        })
    }

    /// Tells the encoding of a payload on the bus by its first byte: a MessagePack map, or else JSON.
    pub fn sniff(payload: &[u8]) -> Self {
        match payload.first() {
            Some(0x80..=0x8f | 0xde | 0xdf) => Self::MsgPack,
            _ => Self::Json,
        }
    }

    /// Encodes a frame without a body that was stored: those can always be written.
    pub fn encode<T: Serialize>(self, value: &T) -> Bytes {
        self.try_encode(value).unwrap_or_else(|error| {
            tracing::error!(error, "a frame could not be encoded");
            Bytes::new()
        })
    }

    /// Encodes a frame.
    ///
    /// # Errors
    /// For a body that never passed the checks of [`Body`]: R14 keeps such out of the store, and whoever writes what was
    /// stored has something else to say in its place.
    pub fn try_encode<T: Serialize>(self, value: &T) -> Result<Bytes, String> {
        let mut out = Vec::with_capacity(256);
        let done = match self {
            Self::Json => serde_json::to_writer(&mut out, value).map_err(|e| e.to_string()),
            Self::MsgPack => {
                let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
                value.serialize(&mut serializer).map_err(|e| e.to_string())
            }
        };
        done.map(|()| Bytes::from(out))
    }

    /// Decodes one value that must fill `payload` to its end. Integers that 64 bits cannot hold are refused.
    ///
    /// # Errors
    /// The decoder's own words.
    pub fn decode<'de, T: Deserialize<'de>>(self, payload: &'de [u8]) -> Result<T, String> {
        let value = self.decode_lenient(payload)?;
        match self {
            Self::Json => match wide_integer(payload) {
                Some(integer) => Err(format!("an integer beyond 64 bits ({:.40}): send it as a string", integer)),
                None => Ok(value),
            },
            Self::MsgPack => Ok(value),
        }
    }

    /// [`Encoding::decode`] with wide integers as floats: to look at what was refused.
    ///
    /// # Errors
    /// The decoder's own words.
    pub(crate) fn decode_lenient<'de, T: Deserialize<'de>>(self, payload: &'de [u8]) -> Result<T, String> {
        match self {
            Self::Json => serde_json::from_slice(payload).map_err(|e| e.to_string()),
            Self::MsgPack => {
                let mut reader = rmp_serde::Deserializer::from_read_ref(payload);
                let value = T::deserialize(&mut reader).map_err(|e| e.to_string())?;
                // The reader does not tell how far it got; at the end there is not even a marker to read.
                match <()>::deserialize(&mut reader) {
                    Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
                    _ => Err("bytes after the end of the frame".into()),
                }
            }
        }
    }
}

/// Turns a MessagePack frame into the JSON of the same fields.
///
/// # Errors
/// When the payload is not one MessagePack value that JSON can carry.
pub fn json_of(msgpack: &[u8]) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(msgpack.len() * 5 / 4);
    write_json(msgpack, &mut out)?;
    Ok(Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_holds_one_value() {
        assert!(Encoding::MsgPack.decode::<Body>(b"\x01").is_ok());
        assert!(Encoding::MsgPack.decode::<Body>(b"\x01\x02").is_err());
        assert!(Encoding::Json.decode::<Body>(b"1 2").is_err());
    }

    /// Nothing that was stored may fail to become a JSON frame.
    #[test]
    fn the_deepest_body_fits_into_a_frame() {
        let depth = crate::model::MAX_DEPTH;
        let body: Body = Encoding::Json.decode(("[".repeat(depth) + "1" + &"]".repeat(depth)).as_bytes()).unwrap();
        let frame = Encoding::MsgPack.encode(&std::collections::BTreeMap::from([("body", body)]));
        assert!(json_of(&frame).is_ok());
    }
}
