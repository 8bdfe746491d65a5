//! The keys of all tables. Called by the writer and the readers of this engine.
//!
//! | table | key | value |
//! |---|---|---|
//! | messages | #conv conv 00 seq (8 bytes, big-endian, so that they sort) | see [`super::rows`] |
//! | cids | #conv conv 00 sender 00 cid | seq |
//! | inbox | #user user 00 conv | head, its ts, read mark, counts at both |
//! | cursors | #user user 00 device 00 life (16 hex digits) 00 conv | seq |
//! | devices | #user user 00 device | see [`super::rows::DeviceRow`] |
//! | commits | `commit` | see [`super::rows::CommitRow`]: the last commit's |
//!
//! Parts are joined by a 0 byte, which no name, conversation id or cid can hold (`model` checks them). So two
//! different lists of parts never make the same key, all keys of user `a` sort before those of `a-b`, and "all of a
//! user" is the range from `user 00` up to `user 01`.
//!
//! `#x` is a hash of x in four bytes. The engine keeps the first four bytes of a key next to the pointer to it and
//! follows the pointer only where they are equal, which with keys that all begin with `dm:` is every time. The order
//! of conversations or of users among each other does not matter to anybody.
//!
//! A device's name is never empty, so `user 00 00 conv` in the cursors is free for the largest cursor of all the
//! user's devices: what receipts call `delivered` is one row to read, whatever the number of devices.

use std::ops::Range;

use fjall::Slice;

use crate::model::{Cid, ConvId, Device, DeviceId, Seq, UserId};

/// The longest key is a cid's, with a conversation of two 64-byte names and 64 characters of four bytes.
const MAX_KEY: usize = 512;

const SEPARATOR: &[u8] = &[0];
/// One above the separator: the end of a range of everything below a prefix.
const END: &[u8] = &[1];

/// Joins the parts on the stack: one allocation per key, none for keys of up to 20 bytes.
fn join(parts: &[&[u8]]) -> Slice {
    let mut buffer = [0; MAX_KEY];
    let mut len = 0;
    for part in parts {
        buffer[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    Slice::from(&buffer[..len])
}

/// FNV-1a: short, and the same on every machine and in every version, as a stored hash must be.
fn hash(text: &str) -> [u8; 4] {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_be_bytes()
}

/// A message's place.
pub(super) fn message(conv: &ConvId, seq: Seq) -> Slice {
    let conv = conv.as_str();
    join(&[&hash(conv), conv.as_bytes(), SEPARATOR, &seq.to_be_bytes()])
}

/// The messages `from..below` of a conversation.
pub(super) fn messages(conv: &ConvId, from: Seq, below: Seq) -> Range<Slice> {
    message(conv, from)..message(conv, below)
}

/// The seq in a message's key.
pub(super) fn seq_of(key: &[u8]) -> Option<Seq> {
    key.last_chunk().map(|bytes| Seq::from_be_bytes(*bytes))
}

/// The conversation and the seq in a message's key; `None` when the key was not written by this module.
pub(super) fn message_of(key: &[u8]) -> Option<(ConvId, Seq)> {
    let (rest, seq) = key.split_last_chunk()?;
    let conv = rest.get(4..)?.strip_suffix(SEPARATOR)?;
    Some((ConvId::new(std::str::from_utf8(conv).ok()?).ok()?, Seq::from_be_bytes(*seq)))
}

/// Where a cid's seq is found.
pub(super) fn cid(conv: &ConvId, sender: &UserId, cid: &Cid) -> Slice {
    let (conv, sender, cid) = (conv.as_str(), sender.as_str(), cid.as_str());
    join(&[&hash(conv), conv.as_bytes(), SEPARATOR, sender.as_bytes(), SEPARATOR, cid.as_bytes()])
}

/// A user's inbox row for a conversation.
pub(super) fn inbox(user: &UserId, conv: &ConvId) -> Slice {
    below(user, &[conv.as_str().as_bytes()])
}

/// A user's inbox rows after a conversation, or all of them.
pub(super) fn inboxes(user: &UserId, after: Option<&ConvId>) -> Range<Slice> {
    match after {
        // A 0 byte behind the last conversation: the first key that is above it.
        Some(conv) => below(user, &[conv.as_str().as_bytes(), SEPARATOR])..end_of(user),
        None => below(user, &[])..end_of(user),
    }
}

/// A device's cursor.
pub(super) fn cursor(device: &Device, conv: &ConvId) -> Slice {
    let life = life(device);
    below(&device.user, &[device.device.as_str().as_bytes(), SEPARATOR, &life, SEPARATOR, conv.as_str().as_bytes()])
}

/// In hex: no byte of it is a separator.
fn life(device: &Device) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(device.life >> (60 - 4 * at) & 15) as usize])
}

/// A device's cursors after a conversation, or all of them.
pub(super) fn cursors(device: &Device, after: Option<&ConvId>) -> Range<Slice> {
    let (life, user, device) = (life(device), &device.user, device.device.as_str().as_bytes());
    let start = match after {
        Some(conv) => below(user, &[device, SEPARATOR, &life, SEPARATOR, conv.as_str().as_bytes(), SEPARATOR]),
        None => below(user, &[device, SEPARATOR, &life, SEPARATOR]),
    };
    start..below(user, &[device, SEPARATOR, &life, END])
}

/// The largest of the cursors of all of a user's devices.
pub(super) fn delivered(user: &UserId, conv: &ConvId) -> Slice {
    below(user, &[SEPARATOR, conv.as_str().as_bytes()])
}

/// A device that is known.
pub(super) fn device(device: &Device) -> Slice {
    below(&device.user, &[device.device.as_str().as_bytes()])
}

/// All devices of a user.
pub(super) fn devices(user: &UserId) -> Range<Slice> {
    below(user, &[])..end_of(user)
}

/// The name in a device's key.
pub(super) fn device_of(key: &[u8]) -> Option<DeviceId> {
    let start = key.iter().rposition(|byte| *byte == 0)? + 1;
    DeviceId::new(std::str::from_utf8(&key[start..]).ok()?).ok()
}

/// What is written to see whether the disk takes it: the key of a user without a name, which nobody has.
pub(super) fn check() -> Slice {
    join(&[&[0; 4], SEPARATOR, b"check"])
}

/// A key among those of a user.
fn below(user: &UserId, rest: &[&[u8]]) -> Slice {
    let name = user.as_str();
    let mut parts: [&[u8]; 9] = [&[]; 9];
    let hash = hash(name);
    parts[..3].copy_from_slice(&[&hash, name.as_bytes(), SEPARATOR]);
    parts[3..3 + rest.len()].copy_from_slice(rest);
    join(&parts)
}

/// The first key above all those of a user.
fn end_of(user: &UserId) -> Slice {
    let name = user.as_str();
    join(&[&hash(name), name.as_bytes(), END])
}

/// The conversation at the end of a key; `None` when the key was not written by this module.
pub(super) fn conv_of(key: &[u8]) -> Option<ConvId> {
    let start = key.iter().rposition(|byte| *byte == 0)? + 1;
    ConvId::new(std::str::from_utf8(&key[start..]).ok()?).ok()
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
        let of_a = inboxes(&a, None);
        assert!(of_a.contains(&inbox(&a, &ConvId::direct(&a, &z))));
        assert!(!of_a.contains(&inbox(&ab, &ConvId::direct(&ab, &z))));
        let device = |name| Device::new(a.clone(), DeviceId::new(name).unwrap());
        let of_phone = cursors(&device("phone"), None);
        assert!(of_phone.contains(&cursor(&device("phone"), &ConvId::direct(&a, &z))));
        assert!(!of_phone.contains(&cursor(&device("phone-2"), &ConvId::direct(&a, &z))));
        let another_life = Device { life: 1, ..device("phone") };
        assert!(!of_phone.contains(&cursor(&another_life, &ConvId::direct(&a, &z))));
        assert!(cursors(&another_life, None).contains(&cursor(&another_life, &ConvId::direct(&a, &z))));
        assert_eq!(device_of(&super::device(&device("phone"))), DeviceId::new("phone").ok());
        assert!(!of_phone.contains(&delivered(&a, &ConvId::direct(&a, &z))));
    }

    #[test]
    fn after_a_conversation_comes_the_next_one_even_if_it_starts_alike() {
        let (a, b, bb) = (user("a"), user("b"), user("b-b"));
        let rest = inboxes(&a, Some(&ConvId::direct(&a, &b)));
        assert!(!rest.contains(&inbox(&a, &ConvId::direct(&a, &b))));
        assert!(rest.contains(&inbox(&a, &ConvId::direct(&a, &bb))));
    }

    #[test]
    fn the_longest_key_fits() {
        let (long, longer) = (user(&"a".repeat(64)), user(&"b".repeat(64)));
        let conv = ConvId::direct(&long, &longer);
        let cid_text = "\u{1F600}".repeat(64);
        assert!(cid(&conv, &long, &Cid::new(&cid_text).unwrap()).len() < MAX_KEY);
        assert_eq!(conv_of(&inbox(&long, &conv)), Some(conv.clone()));
        assert_eq!(seq_of(&message(&conv, 0x0102)), Some(0x0102));
        assert_eq!(message_of(&message(&conv, 0x0100)), Some((conv, 0x0100)));
    }
}
