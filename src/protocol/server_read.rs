//! Reading frames from a node. Called by the Rust client and the tests.
//!
//! serde's reader of tagged enums first keeps every field in a tree of its own. The two frames of the hot path,
//! `message` and `sent`, are read into one flat struct instead; all others take the slow way. In MessagePack that
//! takes little more than half the time (267 instead of 492 ns for a message of 200 bytes); in JSON, where the text
//! itself costs most, about the same.

use serde::Deserialize;

use super::{
    Body, Encoding, Message, ServerFrame,
    ask::Sent,
    server::present,
    strict::{Strict, Text},
};
use crate::model::{Cid, ConvId, Kind, Millis, Reacted, Seq, UserId};

/// The fields of `message` and `sent`. Those of other frames are passed over, or do not fit and fail.
#[derive(Deserialize)]
struct Hot<'a> {
    #[serde(borrow)]
    op: Option<Text<'a>>,
    #[serde(rename = "ref")]
    reference: Option<u64>,
    conv: Option<ConvId>,
    seq: Option<Seq>,
    from: Option<UserId>,
    ts: Option<Millis>,
    cid: Option<Cid>,
    #[serde(default, deserialize_with = "present")]
    body: Option<Body>,
    #[serde(default)]
    kind: Kind,
    re: Option<Seq>,
    reply_to: Option<Seq>,
    #[serde(default)]
    mentions: Vec<UserId>,
    expires: Option<Millis>,
    #[serde(default)]
    expired: bool,
    edited: Option<Millis>,
    deleted: Option<UserId>,
    #[serde(default)]
    reactions: Vec<Reacted>,
}

impl Hot<'_> {
    fn into_frame(self) -> Option<ServerFrame> {
        let op = self.op?;
        let (conv, seq, ts) = (self.conv?, self.seq?, self.ts?);
        match op.as_str() {
            "message" => {
                let Self { kind, cid, body, re, reply_to, mentions, expires, expired, .. } = self;
                let (from, edited, deleted, reactions) = (self.from?, self.edited, self.deleted, self.reactions);
                let message = Message {
                    conv,
                    seq,
                    kind,
                    from,
                    ts,
                    cid,
                    body,
                    re,
                    reply_to,
                    mentions,
                    expires,
                    expired,
                    edited,
                    deleted,
                    reactions,
                };
                Some(ServerFrame::Message(message))
            }
            "sent" => Some(ServerFrame::Sent(Sent { reference: self.reference, conv, seq, ts })),
            _ => None,
        }
    }
}

impl ServerFrame {
    /// Reads a node's frame. The same as [`Encoding::decode`], but faster for `message` and `sent`.
    ///
    /// # Errors
    /// The decoder's own words.
    pub fn decode(encoding: Encoding, payload: &[u8]) -> Result<Self, String> {
        // A frame that does not fit (in `truncated`, `from` is a number) is left to the slow reader.
        let hot = encoding.decode::<Strict<Hot<'_>>>(payload).ok();
        hot.and_then(|Strict(hot)| hot.into_frame()).map_or_else(|| encoding.decode(payload), Ok)
    }
}
