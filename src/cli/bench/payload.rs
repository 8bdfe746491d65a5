//! The body of a bench message, and a quick parser for frames from a node. Called by the lanes.

use serde::Deserialize;

use crate::protocol::Encoding;

/// The number and the time, 16 hex digits each.
pub(super) const SMALLEST_BODY: usize = 32;

/// Which message it is and when it was due, in nanoseconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) number: u64,
    pub(super) due: u64,
}

impl Payload {
    /// The text of a body of `size` bytes.
    pub(super) fn text(self, size: usize) -> String {
        let mut text = format!("{:016x}{:016x}", self.number, self.due);
        text.extend(std::iter::repeat_n('x', size.saturating_sub(SMALLEST_BODY)));
        text
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = u64::from_str_radix(text.get(..16)?, 16).ok()?;
        let due = u64::from_str_radix(text.get(16..32)?, 16).ok()?;
        Some(Self { number, due })
    }
}

/// The fields of a frame that the bench needs, borrowed. All of them are plain ASCII, so nothing is escaped.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Peek<'a> {
    pub(super) op: &'a str,
    #[serde(rename = "ref")]
    pub(super) reference: Option<u64>,
    pub(super) seq: Option<u64>,
    #[serde(default, borrow)]
    pub(super) body: Option<&'a str>,
    #[serde(default, borrow)]
    pub(super) code: Option<&'a str>,
    #[serde(default)]
    pub(super) retry: bool,
}

/// Parses a frame; `None` when the bench is not interested in it.
pub(super) fn peek(encoding: Encoding, payload: &[u8]) -> Option<Peek<'_>> {
    encoding.decode(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ConvId, UserId},
        protocol::{Body, Message, ServerFrame},
    };

    #[test]
    fn a_payload_survives_the_way() {
        let payload = Payload { number: 77, due: u64::MAX };
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
            assert_eq!((peek.op, peek.seq, peek.body), ("message", Some(5), Some(text.as_str())));
        }
    }
}
