//! The value of a message row and of the small tables. Called by the writer and the readers of this engine.
//!
//! A message: ts (8 bytes), kind (1), flags (1: whether the sender is a service, whether it refers to something), counts of
//! the first and the second side (8 each), length of the sender (1), length of the cid (2), sender, cid, then what it refers
//! to in MessagePack with its length (2) before it where the flag says so, body. An inbox row: head (7), its counts (7 each), read mark
//! (7), its counts (7 each), ts (6); what a list shows of the message at the head is read from its row, in the same snapshot.
//! Everything else: seq (8). Numbers are big-endian. [`super::folder::FORMAT`] counts the versions.

use std::io::Read;

use bytes::Bytes;
use fjall::Slice;

use super::keys;
use crate::{
    model::{Body, Cid, ConvId, Counts, Kind, MAX_SEQ, Millis, NewMessage, ReadMark, Refs, Row, Seq, UserId},
    store::{StoreError, StoreResult},
};

const HEADER: usize = 8 + 1 + 1 + 16 + 1 + 2;
/// Flags of a message.
const SERVICE: u8 = 1;
const REFERS: u8 = 2;
/// Six numbers of 53 bits and a time.
const INBOX_VALUE: usize = 6 * 7 + 6;
/// The last time that fits in six bytes, in the year 10889.
const MAX_MILLIS: Millis = (1 << 48) - 1;

/// The stored form of a message, with what was counted up to it. This is the only copy of the body on its way into the log.
pub(super) fn encode(message: &NewMessage, counts: Counts) -> StoreResult<Slice> {
    let (sender, cid) = (message.sender.as_str().as_bytes(), message.cid.as_str().as_bytes());
    let sender_len = u8::try_from(sender.len()).map_err(StoreError::unavailable)?;
    let cid_len = u16::try_from(cid.len()).map_err(StoreError::unavailable)?;
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&message.ts.to_be_bytes());
    let refs = message.refs.as_deref().map_or_else(|| Ok(Vec::new()), encode_refs)?;
    let flags = if message.service { SERVICE } else { 0 } | if refs.is_empty() { 0 } else { REFERS };
    (header[8], header[9]) = (message.kind.byte(), flags);
    header[10..18].copy_from_slice(&counts.first.to_be_bytes());
    header[18..26].copy_from_slice(&counts.second.to_be_bytes());
    header[26] = sender_len;
    header[27..].copy_from_slice(&cid_len.to_be_bytes());
    let len = HEADER + sender.len() + cid.len() + refs.len() + message.body.size();
    let head = header.as_slice().chain(sender).chain(cid).chain(refs.as_slice());
    Slice::from_reader(&mut head.chain(message.body.as_msgpack().as_ref()), len).map_err(StoreError::unavailable)
}

/// With their length before them.
fn encode_refs(refs: &Refs) -> StoreResult<Vec<u8>> {
    let mut encoded = vec![0, 0];
    rmp_serde::encode::write(&mut encoded, refs).map_err(StoreError::unavailable)?;
    let len = u16::try_from(encoded.len() - 2).map_err(StoreError::unavailable)?;
    encoded[..2].copy_from_slice(&len.to_be_bytes());
    Ok(encoded)
}

/// The parts of a stored message, not copied.
pub(super) struct StoredMessage<'a> {
    /// When a node took it.
    pub(super) ts: Millis,
    /// What it is.
    pub(super) kind: Kind,
    /// The sender is a service.
    pub(super) service: bool,
    /// How many messages the log has up to it.
    pub(super) counts: Counts,
    sender: &'a [u8],
    cid: &'a [u8],
    refs: &'a [u8],
    /// The body.
    pub(super) body: &'a [u8],
}

impl<'a> StoredMessage<'a> {
    /// Splits a value into its parts.
    pub(super) fn split(value: &'a [u8]) -> StoreResult<Self> {
        Self::parts(value).ok_or_else(unreadable)
    }

    fn parts(value: &'a [u8]) -> Option<Self> {
        let (ts, rest) = value.split_first_chunk()?;
        let ([kind, flags], rest) = rest.split_first_chunk()?;
        let (first, rest) = rest.split_first_chunk()?;
        let (second, rest) = rest.split_first_chunk()?;
        let counts = Counts { first: u64::from_be_bytes(*first), second: u64::from_be_bytes(*second) };
        let ([sender_len], rest) = rest.split_first_chunk()?;
        let (cid_len, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_at_checked(usize::from(*sender_len))?;
        let (cid, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*cid_len)))?;
        let (refs, body) = match flags & REFERS {
            0 => (&[][..], rest),
            _ => {
                let (len, rest) = rest.split_first_chunk()?;
                rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?
            }
        };
        let (ts, kind, service) = (Millis::from_be_bytes(*ts), Kind::of(*kind)?, flags & SERVICE != 0);
        Some(Self { ts, kind, service, counts, sender, cid, refs, body })
    }

    /// Whether a service of this name wrote it.
    pub(super) fn is_of_service(&self, name: &UserId) -> bool {
        self.service && self.sender == name.as_str().as_bytes()
    }

    /// Whether it refers to something.
    pub(super) fn refers(&self) -> bool {
        !self.refs.is_empty()
    }

    /// What it refers to.
    pub(super) fn refs(&self) -> StoreResult<Option<Box<Refs>>> {
        if self.refs.is_empty() {
            return Ok(None);
        }
        rmp_serde::from_slice(self.refs).map(|refs| Some(Box::new(refs))).map_err(|_| unreadable())
    }

    /// Where its cid's seq is found.
    pub(super) fn cid_key(&self, conv: &ConvId) -> Option<Slice> {
        let (sender, cid) = (std::str::from_utf8(self.sender).ok()?, std::str::from_utf8(self.cid).ok()?);
        Some(keys::cid(conv, &UserId::new(sender).ok()?, &Cid::new(cid).ok()?))
    }

    /// The row that the store hands out. The body is copied: a slice of the engine's own memory would keep a
    /// whole block alive for as long as one message is waiting.
    pub(super) fn to_row(&self, seq: Seq) -> StoreResult<Row> {
        let sender = std::str::from_utf8(self.sender).ok().and_then(|text| UserId::new(text).ok());
        let cid = std::str::from_utf8(self.cid).ok().and_then(|text| Cid::new(text).ok());
        let (Some(sender), Some(cid)) = (sender, cid) else { return Err(unreadable()) };
        let Self { ts, kind, service, counts, body, .. } = *self;
        let body = Body::from_stored(Bytes::copy_from_slice(body));
        Ok(Row { seq, kind, sender, service, cid, ts, body, counts, refs: self.refs()? })
    }
}

/// The value of an inbox row: what a user knows of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct InboxValue {
    /// The top of the log; 0 where only a read mark was set.
    pub(super) head: Seq,
    /// The time of the message at the head.
    pub(super) ts: Millis,
    /// How many messages the log has up to there.
    pub(super) counts: Counts,
    /// The user's read mark.
    pub(super) read: ReadMark,
}

impl InboxValue {
    /// The stored form. A number that does not fit is stored as the largest that does.
    pub(super) fn encode(&self) -> Slice {
        let Self { head, ts, counts, read } = self;
        let seqs = [*head, counts.first, counts.second, read.seq, read.counts.first, read.counts.second];
        let mut value = [0; INBOX_VALUE];
        for (place, seq) in value.chunks_exact_mut(7).zip(seqs) {
            place.copy_from_slice(&seq.min(MAX_SEQ).to_be_bytes()[1..]);
        }
        value[INBOX_VALUE - 6..].copy_from_slice(&ts.min(&MAX_MILLIS).to_be_bytes()[2..]);
        Slice::from(value)
    }

    /// A stored row.
    pub(super) fn decode(value: &[u8]) -> StoreResult<Self> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        if value.len() != INBOX_VALUE {
            return Err(unreadable());
        }
        let seq = |place: usize| number(&value[place * 7..][..7]);
        let counts = |place| Counts { first: seq(place), second: seq(place + 1) };
        let (read, ts) = (ReadMark { seq: seq(3), counts: counts(4) }, number(&value[INBOX_VALUE - 6..]));
        Ok(Self { head: seq(0), ts, counts: counts(1), read })
    }
}

/// The stored form of a seq.
pub(super) fn encode_seq(seq: Seq) -> Slice {
    Slice::from(seq.to_be_bytes())
}

/// A stored seq.
pub(super) fn decode_seq(value: &[u8]) -> StoreResult<Seq> {
    let bytes = value.try_into().map_err(|_| unreadable())?;
    Ok(Seq::from_be_bytes(bytes))
}

/// What is known of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceRow {
    /// The number of its last login: that of the commit.
    pub(super) number: u64,
    /// Its life.
    pub(super) life: u64,
    /// When it logged in last.
    pub(super) seen: Millis,
}

impl DeviceRow {
    /// The stored form.
    pub(super) fn encode(&self) -> Slice {
        let mut value = [0; 24];
        for (place, field) in [self.number, self.life, self.seen].into_iter().enumerate() {
            value[place * 8..][..8].copy_from_slice(&field.to_be_bytes());
        }
        Slice::from(value)
    }

    /// A stored row.
    pub(super) fn decode(value: &[u8]) -> StoreResult<Self> {
        let fields: &[u8; 24] = value.try_into().map_err(|_| unreadable())?;
        let field = |at: usize| fields[at * 8..][..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(Self { number: field(0), life: field(1), seen: field(2) })
    }
}

/// What a commit says about itself, in a row that it writes along with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitRow {
    /// The store's own secret, which nobody can put into a message.
    pub(super) store: u64,
    /// Its number: each commit has the next one.
    pub(super) number: u64,
    /// The last commit that was on the disk when this one was made: so this one shows that those before are missing.
    pub(super) durable: u64,
}

impl CommitRow {
    /// The stored form.
    pub(super) fn encode(&self) -> Slice {
        let mut value = [0; 24];
        for (place, field) in [self.store, self.number, self.durable].into_iter().enumerate() {
            value[place * 8..][..8].copy_from_slice(&field.to_be_bytes());
        }
        Slice::from(value)
    }

    /// A stored row; `None` for anything else.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (store, rest) = value.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let durable = rest.try_into().ok()?;
        let [store, number, durable] = [*store, *number, durable].map(u64::from_be_bytes);
        Some(Self { store, number, durable })
    }
}

/// The error for a row that this version did not write, or that the disk has changed.
pub(super) fn unreadable() -> StoreError {
    StoreError::Damaged("a stored row cannot be read".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let (sender, cid) = (UserId::new(&"s".repeat(64)).unwrap(), Cid::new(&"\u{1F600}".repeat(64)).unwrap());
        let message = NewMessage::of_user(sender, cid, 1_700_000_000_123, Body::text(&"x".repeat(65_536)));
        let mentions = (0..50).map(|n| UserId::new(&format!("{n:064}")).unwrap()).collect();
        let refs = Refs { reply_to: Some(MAX_SEQ), mentions, expires: Some(7), ..Refs::default() }.boxed();
        let message = NewMessage { kind: Kind::Delete, service: true, refs, ..message };
        let counts = Counts { first: 7, second: 1 << 40 };
        let value = encode(&message, counts).unwrap();
        let stored = StoredMessage::split(&value).unwrap();
        assert!(stored.is_of_service(&message.sender) && !stored.is_of_service(&UserId::new("s").unwrap()));
        let NewMessage { kind, sender, service, cid, ts, body, refs, .. } = message;
        let row = Row { seq: 9, kind, sender, service, cid, ts, body, counts, refs };
        assert_eq!(stored.to_row(9).unwrap(), row);
    }

    #[test]
    fn a_cut_row_is_an_error_and_no_panic() {
        let (sender, cid) = (UserId::new("alice").unwrap(), Cid::new("c1").unwrap());
        let refs = Refs { reply_to: Some(1), ..Refs::default() }.boxed();
        let message = NewMessage { refs, ..NewMessage::of_user(sender, cid, 1, Body::text("")) };
        let value = encode(&message, Counts::default()).unwrap();
        // Only to the body: that may have any length.
        for cut in 0..value.len() - message.body.size() {
            assert!(StoredMessage::split(&value[..cut]).is_err(), "cut at {cut}");
        }
        assert!(InboxValue::decode(&[0; INBOX_VALUE - 1]).is_err());
        assert!(decode_seq(&[0; 9]).is_err());
    }

    #[test]
    fn an_inbox_row_keeps_its_numbers_apart() {
        let (counts, of_mark) = (Counts { first: 3, second: 1 << 50 }, Counts { first: MAX_SEQ, second: 2 });
        let read = ReadMark { seq: 0x0102_0304_0506, counts: of_mark };
        let row = InboxValue { head: MAX_SEQ, ts: 1_700_000_000_123, counts, read };
        assert_eq!(InboxValue::decode(&row.encode()), Ok(row));
        let mark = |seq| ReadMark { seq, counts };
        let beyond = InboxValue { head: 1, ts: u64::MAX, counts, read: mark(u64::MAX) };
        let largest = InboxValue { head: 1, ts: MAX_MILLIS, counts, read: mark(MAX_SEQ) };
        assert_eq!(InboxValue::decode(&beyond.encode()), Ok(largest));
    }
}
