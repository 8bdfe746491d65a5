//! The keys of all tables. Called by the writer and the readers of this engine.
//!
//! Parts are joined by a 0 byte, which no name, conversation id or cid can hold (`model` checks them). So no key's
//! first part can run into another's second, `a` sorts before `a-b` with everything below it, and "all of a
//! user" is the range from `user 00` up to `user 01`.
//!
//! | table | key | value |
//! |---|---|---|
//! | messages | conv 00 seq (8 bytes, big-endian, so that they sort) | see [`super::rows`] |
//! | cids | conv 00 sender 00 cid | seq |
//! | inbox | user 00 conv | head, ts |
//! | cursors | user 00 device 00 conv | seq |
//! | marks | user 00 conv | seq |
//! | devices | user 00 device | nothing |
//!
//! A device's name is never empty, so `user 00 00 conv` in the cursors is free for the largest cursor of all the
//! user's devices: what receipts call `delivered` is one row to read, whatever the number of devices.

use std::ops::Range;

use fjall::Slice;

use crate::model::{Cid, ConvId, DeviceId, Seq, UserId};

/// The longest key: a cid's, with a conversation of two 64-byte names and 64 characters of four bytes.
const MAX_KEY: usize = 512;

const SEPARATOR: &[u8] = &[0];
/// One above the separator: the end of a range of everything below a prefix.
const END: &[u8] = &[1];

/// Joins on the stack: one allocation per key, none for keys of up to 20 bytes.
fn join(parts: &[&[u8]]) -> Slice {
    let mut buffer = [0; MAX_KEY];
    let mut len = 0;
    for part in parts {
        buffer[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    Slice::from(&buffer[..len])
}

/// A message's place.
pub(super) fn message(conv: &ConvId, seq: Seq) -> Slice {
    join(&[conv.as_str().as_bytes(), SEPARATOR, &seq.to_be_bytes()])
}

/// The messages `from..below` of a conversation.
pub(super) fn messages(conv: &ConvId, from: Seq, below: Seq) -> Range<Slice> {
    message(conv, from)..message(conv, below)
}

/// The seq in a message's key.
pub(super) fn seq_of(key: &[u8]) -> Option<Seq> {
    key.last_chunk().map(|bytes| Seq::from_be_bytes(*bytes))
}

/// Where a cid's seq is found.
pub(super) fn cid(conv: &ConvId, sender: &UserId, cid: &Cid) -> Slice {
    let (conv, sender, cid) = (conv.as_str(), sender.as_str(), cid.as_str());
    join(&[conv.as_bytes(), SEPARATOR, sender.as_bytes(), SEPARATOR, cid.as_bytes()])
}

/// A user's row for a conversation, in the inbox and in the read marks alike.
pub(super) fn user_conv(user: &UserId, conv: &ConvId) -> Slice {
    join(&[user.as_str().as_bytes(), SEPARATOR, conv.as_str().as_bytes()])
}

/// A user's rows after a conversation, or all of them.
pub(super) fn user_convs(user: &UserId, after: Option<&ConvId>) -> Range<Slice> {
    convs_below(&[user.as_str().as_bytes()], after)
}

/// A device's cursor.
pub(super) fn cursor(user: &UserId, device: &DeviceId, conv: &ConvId) -> Slice {
    let (user, device) = (user.as_str().as_bytes(), device.as_str().as_bytes());
    join(&[user, SEPARATOR, device, SEPARATOR, conv.as_str().as_bytes()])
}

/// A device's cursors after a conversation, or all of them.
pub(super) fn cursors(user: &UserId, device: &DeviceId, after: Option<&ConvId>) -> Range<Slice> {
    convs_below(&[user.as_str().as_bytes(), SEPARATOR, device.as_str().as_bytes()], after)
}

/// The largest of the cursors of all of a user's devices.
pub(super) fn delivered(user: &UserId, conv: &ConvId) -> Slice {
    join(&[user.as_str().as_bytes(), SEPARATOR, SEPARATOR, conv.as_str().as_bytes()])
}

/// A device that is known.
pub(super) fn device(user: &UserId, device: &DeviceId) -> Slice {
    join(&[user.as_str().as_bytes(), SEPARATOR, device.as_str().as_bytes()])
}

/// The conversation at the end of a key; `None` when the key was not written by this module.
pub(super) fn conv_of(key: &[u8]) -> Option<ConvId> {
    let start = key.iter().rposition(|byte| *byte == 0)? + 1;
    ConvId::new(std::str::from_utf8(&key[start..]).ok()?).ok()
}

fn convs_below(prefix: &[&[u8]], after: Option<&ConvId>) -> Range<Slice> {
    let prefix = prefix.concat();
    let start = match after {
        // A 0 byte behind the last conversation: the first key that is above it.
        Some(conv) => join(&[&prefix, SEPARATOR, conv.as_str().as_bytes(), SEPARATOR]),
        None => join(&[&prefix, SEPARATOR]),
    };
    start..join(&[&prefix, END])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn one_users_rows_hold_no_other_users() {
        let (a, ab, z) = (user("a"), user("a-b"), user("z"));
        let of_a = user_convs(&a, None);
        assert!(of_a.contains(&user_conv(&a, &ConvId::direct(&a, &z))));
        assert!(!of_a.contains(&user_conv(&ab, &ConvId::direct(&ab, &z))));
        let device = DeviceId::new("phone").unwrap();
        let other = DeviceId::new("phone-2").unwrap();
        let of_phone = cursors(&a, &device, None);
        assert!(of_phone.contains(&cursor(&a, &device, &ConvId::direct(&a, &z))));
        assert!(!of_phone.contains(&cursor(&a, &other, &ConvId::direct(&a, &z))));
        assert!(!of_phone.contains(&delivered(&a, &ConvId::direct(&a, &z))));
    }

    #[test]
    fn after_a_conversation_comes_the_next_one_even_if_it_starts_alike() {
        let (a, b, bb) = (user("a"), user("b"), user("b-b"));
        let rest = user_convs(&a, Some(&ConvId::direct(&a, &b)));
        assert!(!rest.contains(&user_conv(&a, &ConvId::direct(&a, &b))));
        assert!(rest.contains(&user_conv(&a, &ConvId::direct(&a, &bb))));
    }

    #[test]
    fn the_longest_key_fits() {
        let (long, longer) = (user(&"a".repeat(64)), user(&"b".repeat(64)));
        let conv = ConvId::direct(&long, &longer);
        let cid_text = "\u{1F600}".repeat(64);
        assert!(cid(&conv, &long, &Cid::new(&cid_text).unwrap()).len() < MAX_KEY);
        assert_eq!(conv_of(&user_conv(&long, &conv)), Some(conv.clone()));
        assert_eq!(seq_of(&message(&conv, 0x0102)), Some(0x0102));
    }
}
