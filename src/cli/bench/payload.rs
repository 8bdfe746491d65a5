//! The body of a bench message, and a quick parser for frames from a node. Called by the lanes.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::protocol::Encoding;

/// The sender and the number, and the time: 16 hex digits each.
const SMALLEST_BODY: usize = 32;

/// Which message it is and when it was due, in nanoseconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    /// Who sent it; below 2^24.
    pub(super) sender: usize,
    /// Which of the sender's messages it is; below 2^40.
    pub(super) number: u64,
    pub(super) due: u64,
}

impl Payload {
    /// The text of a body of `size` bytes.
    pub(super) fn text(self, size: usize) -> String {
        let mut text = format!("{:06x}{:010x}{:016x}", self.sender, self.number, self.due);
        text.extend(std::iter::repeat_n('x', size.saturating_sub(SMALLEST_BODY)));
        text
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let sender = usize::from_str_radix(text.get(..6)?, 16).ok()?;
        let number = u64::from_str_radix(text.get(6..16)?, 16).ok()?;
        let due = u64::from_str_radix(text.get(16..32)?, 16).ok()?;
        Some(Self { sender, number, due })
    }
}

/// The fields of a frame that the bench needs, borrowed. All of them are plain ASCII, so nothing is escaped.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Peek<'a> {
    pub(super) op: &'a str,
    #[serde(rename = "ref")]
    pub(super) reference: Option<u64>,
    #[serde(default, borrow)]
    pub(super) conv: Option<&'a str>,
    pub(super) seq: Option<u64>,
    /// Of a message of the bench; what happens in a room has none.
    #[serde(default, borrow, deserialize_with = "text")]
    pub(super) body: Option<&'a str>,
    #[serde(default, borrow)]
    pub(super) code: Option<&'a str>,
    #[serde(default)]
    pub(super) retry: bool,
    /// Of a receipt: whose, and up to where that user has read.
    #[serde(default, borrow)]
    pub(super) user: Option<&'a str>,
    pub(super) read: Option<u64>,
    /// Of a goodbye.
    pub(super) reconnect_ms: Option<u64>,
}

/// A text, or nothing of anything else.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de str>, D::Error> {
    struct Text;

    impl<'de> Visitor<'de> for Text {
        type Value = Option<&'de str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a body")
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Some(text))
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }

    deserializer.deserialize_any(Text)
}

/// Parses a frame; `None` when the bench is not interested in it.
pub(super) fn peek(encoding: Encoding, payload: &[u8]) -> Option<Peek<'_>> {
    encoding.decode(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ConvId, Kind, UserId, room::Change},
        protocol::{Body, Message, ServerFrame},
    };

    #[test]
    fn a_payload_survives_the_way() {
        let payload = Payload { sender: 5, number: 77, due: u64::MAX };
        let text = payload.text(200);
        assert_eq!((text.len(), Payload::parse(&text)), (200, Some(payload)));
        assert_eq!(payload.text(10).len(), SMALLEST_BODY);
        assert_eq!(Payload::parse("short"), None);
        let frame = ServerFrame::Message(Message::new(
            ConvId::new("dm:a:b").unwrap(),
            5,
            UserId::new("a").unwrap(),
            1,
            Body::text(&text),
        ));
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            let bytes = encoding.encode(&frame);
            let peek = peek(encoding, &bytes).unwrap();
            assert_eq!((peek.op, peek.conv, peek.seq), ("message", Some("dm:a:b"), Some(5)));
            assert_eq!(peek.body, Some(text.as_str()));
        }
    }

    /// What happens in a room has a place in its log, and no payload.
    #[test]
    fn an_event_is_read_without_a_body() {
        let event = Message {
            kind: Kind::Event,
            ..Message::new(ConvId::new("room:r").unwrap(), 5, UserId::new("a").unwrap(), 1, Change::Joined.to_body())
        };
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            let bytes = encoding.encode(&ServerFrame::Message(event.clone()));
            let peek = peek(encoding, &bytes).unwrap();
            assert_eq!((peek.op, peek.seq, peek.body), ("message", Some(5), None));
        }
    }
}
