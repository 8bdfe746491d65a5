//! The value of a message row and of the small tables. Called by the writer and the readers of this engine.
//!
//! A message: ts (8 bytes), length of the sender (1), length of the cid (2), sender, cid, body; a head: seq, ts
//! (8 each); everything else: seq (8). Numbers are big-endian. [`super::folder::FORMAT`] counts the versions.

use std::io::Read;

use bytes::Bytes;
use fjall::Slice;

use crate::{
    model::{Cid, Millis, Seq, UserId},
    store::{NewMessage, Row, StoreError, StoreResult},
};

const HEADER: usize = 8 + 1 + 2;

/// The stored form of a message. The body is copied here, and never again on its way into the log.
pub(super) fn encode(message: &NewMessage) -> StoreResult<Slice> {
    let (sender, cid) = (message.sender.as_str().as_bytes(), message.cid.as_str().as_bytes());
    let sender_len = u8::try_from(sender.len()).map_err(StoreError::unavailable)?;
    let cid_len = u16::try_from(cid.len()).map_err(StoreError::unavailable)?;
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&message.ts.to_be_bytes());
    header[8] = sender_len;
    header[9..].copy_from_slice(&cid_len.to_be_bytes());
    let len = HEADER + sender.len() + cid.len() + message.body.len();
    let mut parts = header.as_slice().chain(sender).chain(cid).chain(message.body.as_ref());
    Slice::from_reader(&mut parts, len).map_err(StoreError::unavailable)
}

/// A message row as it was stored, looked into without copying.
pub(super) struct Stored<'a> {
    /// When a node took it.
    pub(super) ts: Millis,
    sender: &'a [u8],
    cid: &'a [u8],
    /// The body.
    pub(super) body: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Splits a value into its parts.
    pub(super) fn read(value: &'a [u8]) -> StoreResult<Self> {
        Self::split(value).ok_or_else(unreadable)
    }

    fn split(value: &'a [u8]) -> Option<Self> {
        let (ts, rest) = value.split_first_chunk()?;
        let ([sender_len], rest) = rest.split_first_chunk()?;
        let (cid_len, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_at_checked(usize::from(*sender_len))?;
        let (cid, body) = rest.split_at_checked(usize::from(u16::from_be_bytes(*cid_len)))?;
        Some(Self { ts: Millis::from_be_bytes(*ts), sender, cid, body })
    }

    /// The row as the trait knows it. The body is copied out: a slice of the store's own memory would keep a
    /// whole block alive for as long as one message is waiting.
    pub(super) fn to_row(&self, seq: Seq) -> StoreResult<Row> {
        let sender = std::str::from_utf8(self.sender).ok().and_then(|text| UserId::new(text).ok());
        let cid = std::str::from_utf8(self.cid).ok().and_then(|text| Cid::new(text).ok());
        let (Some(sender), Some(cid)) = (sender, cid) else { return Err(unreadable()) };
        Ok(Row { seq, sender, cid, ts: self.ts, body: Bytes::copy_from_slice(self.body) })
    }
}

/// The stored form of a head.
pub(super) fn encode_head(seq: Seq, ts: Millis) -> Slice {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&seq.to_be_bytes());
    value[8..].copy_from_slice(&ts.to_be_bytes());
    Slice::from(value)
}

/// A head's seq and ts.
pub(super) fn decode_head(value: &[u8]) -> StoreResult<(Seq, Millis)> {
    let (seq, rest) = value.split_first_chunk().ok_or_else(unreadable)?;
    Ok((Seq::from_be_bytes(*seq), decode_seq(rest)?))
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

/// A row that this version did not write, or that the disk has changed.
pub(super) fn unreadable() -> StoreError {
    StoreError::unavailable("a stored row cannot be read; check the disk and restore the data folder from a copy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let message = NewMessage {
            sender: UserId::new(&"s".repeat(64)).unwrap(),
            cid: Cid::new(&"\u{1F600}".repeat(64)).unwrap(),
            ts: 1_700_000_000_123,
            body: Bytes::from(vec![0xc0; 65_536]),
        };
        let value = encode(&message).unwrap();
        let row = Stored::read(&value).unwrap().to_row(9).unwrap();
        assert_eq!((row.seq, row.ts, &row.sender, &row.cid), (9, message.ts, &message.sender, &message.cid));
        assert_eq!(row.body, message.body);
    }

    #[test]
    fn a_cut_row_is_an_error_and_no_panic() {
        let message = NewMessage {
            sender: UserId::new("alice").unwrap(),
            cid: Cid::new("c1").unwrap(),
            ts: 1,
            body: Bytes::new(),
        };
        let value = encode(&message).unwrap();
        for cut in 0..value.len() {
            assert!(Stored::read(&value[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decode_head(&[0; 15]).is_err());
        assert!(decode_seq(&[0; 9]).is_err());
        assert_eq!(decode_head(&encode_head(3, 4)), Ok((3, 4)));
    }
}
