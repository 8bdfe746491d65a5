//! The keys of all tables. Called by the writer and the readers of this engine.
//!
//! | table | key | value |
//! |---|---|---|
//! | messages | #conv conv 00 seq (8 bytes, big-endian, so that they sort) | see [`super::rows`] |
//! | cids | #conv conv 00 sender 00 cid | seq |
//! | inbox | #user user 00 conv | head, its ts, read mark, counts at both; of a room the read mark alone |
//! | cursors | #user user 00 device 00 life (16 hex digits) 00 conv | seq |
//! | devices | #user user 00 device | see [`super::rows::DeviceRow`] |
//! | rooms | #room room 00 | see [`super::room_rows`]: the room |
//! | members | #room room 00 user | the same: the member |
//! | rooms_of | #user user 00 room | the same member once more, to be found by the user |
//! | last_seen | #user user 00 | when the user was last seen, in milliseconds |
//! | blocks | #user user 00 other | one byte: 1 the user blocks the other, 2 is blocked by them, 3 both |
//! | keys | #user user 00 month (2 bytes) | the slot of [`super::secrets`] where the key is |
//! | folds, mentions, expiring | see [`super::beside`] | |
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

use crate::{
    model::{Cid, ConvId, Device, DeviceId, Kind, Reaction, RoomId, Seq, UserId},
    store::keys::Month,
};

/// The longest key is a cid's, with a conversation of two 64-byte names and 64 characters of four bytes.
const MAX_KEY: usize = 512;

const SEPARATOR: &[u8] = &[0];
/// One above the separator: the end of a range of everything below a prefix.
const END: &[u8] = &[1];
/// What the ids of rooms' conversations begin with: above those of all direct ones.
const ROOMS: &[u8] = b"room:";

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

/// What was made of a message by rows of a kind: of reactions by those of one user with one of them.
pub(super) fn fold(conv: &ConvId, re: Seq, kind: Kind, reaction: Option<(&Reaction, &UserId)>) -> Slice {
    let name = conv.as_str();
    let (hash, re, kind) = (hash(name), re.to_be_bytes(), [kind.byte()]);
    let head: [&[u8]; 5] = [&hash, name.as_bytes(), SEPARATOR, &re, &kind];
    match reaction {
        None => join(&head),
        Some((reaction, user)) => {
            let tail = [reaction.as_str().as_bytes(), SEPARATOR, user.as_str().as_bytes()];
            join(&[&head[..], &tail[..]].concat())
        }
    }
}

/// Which message a fold is about; `None` when the key was not written by this module.
pub(super) fn fold_of(key: &[u8]) -> Option<(ConvId, Seq)> {
    let rest = key.get(4..)?;
    let (conv, rest) = rest.split_at_checked(rest.iter().position(|byte| *byte == 0)?)?;
    let re = rest.get(1..)?.first_chunk()?;
    Some((ConvId::new(std::str::from_utf8(conv).ok()?).ok()?, Seq::from_be_bytes(*re)))
}

/// Who is mentioned where; `None` when the key was not written by this module.
pub(super) fn mention_of(key: &[u8]) -> Option<(UserId, ConvId, Seq)> {
    let (rest, seq) = key.get(4..)?.split_last_chunk()?;
    let (user, conv) = std::str::from_utf8(rest).ok()?.strip_suffix('\0')?.split_once('\0')?;
    Some((UserId::new(user).ok()?, ConvId::new(conv).ok()?, Seq::from_be_bytes(*seq)))
}

/// A user is mentioned by a message.
pub(super) fn mention(user: &UserId, conv: &ConvId, seq: Seq) -> Slice {
    below(user, &[conv.as_str().as_bytes(), SEPARATOR, &seq.to_be_bytes()])
}

/// The mentions of a user in a conversation after a seq.
pub(super) fn mentions(user: &UserId, conv: &ConvId, after: Seq) -> Range<Slice> {
    mention(user, conv, after.saturating_add(1))..mention(user, conv, Seq::MAX)
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

/// A user's inbox rows of direct conversations after one of them, or all. Empty after a room's conversation.
pub(super) fn directs(user: &UserId, after: Option<&ConvId>) -> Range<Slice> {
    let end = below(user, &[ROOMS]);
    match after {
        // A 0 byte behind the last conversation: the first key that is above it.
        Some(conv) => below(user, &[conv.as_str().as_bytes(), SEPARATOR]).min(end.clone())..end,
        None => below(user, &[])..end,
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

/// A device's cursors in rooms after one, or all of them.
pub(super) fn room_cursors(device: &Device, after: Option<&RoomId>) -> Range<Slice> {
    let (life, user, name) = (life(device), &device.user, device.device.as_str().as_bytes());
    let start = match after {
        Some(room) => cursors(device, Some(&ConvId::room(room))).start,
        None => below(user, &[name, SEPARATOR, &life, SEPARATOR, ROOMS]),
    };
    start..below(user, &[name, SEPARATOR, &life, END])
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
    below(user, &[])..end_of(user.as_str())
}

/// The name in a device's key.
pub(super) fn device_of(key: &[u8]) -> Option<DeviceId> {
    let start = key.iter().rposition(|byte| *byte == 0)? + 1;
    DeviceId::new(std::str::from_utf8(&key[start..]).ok()?).ok()
}

/// A room. With a separator at its end: no key but that of the commits is without one.
pub(super) fn room(room: &RoomId) -> Slice {
    below_name(room.as_str(), &[])
}

/// The room in its key.
pub(super) fn room_of_key(key: &[u8]) -> Option<RoomId> {
    let (name, "") = names_of(key)? else { return None };
    RoomId::new(name).ok()
}

/// A room's member.
pub(super) fn member(room: &RoomId, user: &UserId) -> Slice {
    below_name(room.as_str(), &[user.as_str().as_bytes()])
}

/// A room's members after a user, or all of them.
pub(super) fn members(room: &RoomId, after: Option<&UserId>) -> Range<Slice> {
    below_after(room.as_str(), after.map(UserId::as_str))
}

/// The same member among the rooms of the user.
pub(super) fn room_of(user: &UserId, room: &RoomId) -> Slice {
    below(user, &[room.as_str().as_bytes()])
}

/// A user's rooms after one, or all of them.
pub(super) fn rooms_of(user: &UserId, after: Option<&RoomId>) -> Range<Slice> {
    below_after(user.as_str(), after.map(RoomId::as_str))
}

/// The two names of a member's key, in their order; `None` when the key was not written by this module.
fn names_of(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key.get(4..)?).ok()?.split_once('\0')
}

/// Whose membership stands under a key of the members.
pub(super) fn member_of(key: &[u8]) -> Option<(RoomId, UserId)> {
    let (room, user) = names_of(key)?;
    Some((RoomId::new(room).ok()?, UserId::new(user).ok()?))
}

/// The same under a key of a user's rooms.
pub(super) fn member_by_user(key: &[u8]) -> Option<(RoomId, UserId)> {
    let (user, room) = names_of(key)?;
    Some((RoomId::new(room).ok()?, UserId::new(user).ok()?))
}

/// What is known of a user alone.
pub(super) fn person(user: &UserId) -> Slice {
    below(user, &[])
}

/// Where a user's key of a month is named.
pub(super) fn secret(user: &UserId, month: Month) -> Slice {
    below(user, &[&month.0.to_be_bytes()])
}

/// All of a user.
pub(super) fn secrets(user: &UserId) -> Range<Slice> {
    devices(user)
}

/// How a user stands to another one.
pub(super) fn tie(user: &UserId, other: &UserId) -> Slice {
    below(user, &[other.as_str().as_bytes()])
}

/// The same to all others after one of them, or to all.
pub(super) fn ties(user: &UserId, after: Option<&UserId>) -> Range<Slice> {
    below_after(user.as_str(), after.map(UserId::as_str))
}

/// The other one in the key of a tie.
pub(super) fn tie_of(key: &[u8]) -> Option<UserId> {
    tie_pair(key).map(|(_, other)| other)
}

/// Both.
pub(super) fn tie_pair(key: &[u8]) -> Option<(UserId, UserId)> {
    let (user, other) = names_of(key)?;
    Some((UserId::new(user).ok()?, UserId::new(other).ok()?))
}

/// What is written to see whether the disk takes it: the key of a user without a name, which nobody has.
pub(super) fn check() -> Slice {
    join(&[&[0; 4], SEPARATOR, b"check"])
}

/// A key among those of a user.
fn below(user: &UserId, rest: &[&[u8]]) -> Slice {
    below_name(user.as_str(), rest)
}

/// Keys of two names: those below the first one, after one of them or all.
fn below_after(name: &str, after: Option<&str>) -> Range<Slice> {
    let start = match after {
        Some(after) => below_name(name, &[after.as_bytes(), SEPARATOR]),
        None => below_name(name, &[]),
    };
    start..end_of(name)
}

/// A key among those of a user or of a room.
fn below_name(name: &str, rest: &[&[u8]]) -> Slice {
    let mut parts: [&[u8]; 9] = [&[]; 9];
    let hash = hash(name);
    parts[..3].copy_from_slice(&[&hash, name.as_bytes(), SEPARATOR]);
    parts[3..3 + rest.len()].copy_from_slice(rest);
    join(&parts)
}

/// The first key above all those of a user or of a room.
fn end_of(name: &str) -> Slice {
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
        let of_a = directs(&a, None);
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
        let rest = directs(&a, Some(&ConvId::direct(&a, &b)));
        assert!(!rest.contains(&inbox(&a, &ConvId::direct(&a, &b))));
        assert!(rest.contains(&inbox(&a, &ConvId::direct(&a, &bb))));
    }

    #[test]
    fn rooms_stand_apart_from_direct_conversations_and_from_each_other() {
        let (a, z) = (user("a"), user("z"));
        let [r, rr] = ["r", "r-r"].map(|name| RoomId::new(name).unwrap());
        let conv = ConvId::room(&r);
        assert!(!directs(&a, None).contains(&inbox(&a, &conv)));
        assert!(directs(&a, Some(&conv)).is_empty());
        let phone = Device { life: 9, ..Device::new(a.clone(), DeviceId::new("phone").unwrap()) };
        let in_rooms = room_cursors(&phone, None);
        assert!(in_rooms.contains(&cursor(&phone, &conv)));
        assert!(!in_rooms.contains(&cursor(&phone, &ConvId::direct(&a, &z))));
        assert!(!in_rooms.contains(&cursor(&Device { life: 10, ..phone.clone() }, &conv)));
        let rest = room_cursors(&phone, Some(&r));
        assert!(!rest.contains(&cursor(&phone, &conv)) && rest.contains(&cursor(&phone, &ConvId::room(&rr))));
        assert!(members(&r, None).contains(&member(&r, &a)) && !members(&r, None).contains(&member(&rr, &a)));
        assert!(!members(&r, Some(&a)).contains(&member(&r, &a)) && members(&r, Some(&a)).contains(&member(&r, &z)));
        assert!(rooms_of(&a, None).contains(&room_of(&a, &rr)) && !rooms_of(&a, None).contains(&room_of(&z, &rr)));
        assert_eq!(member_of(&member(&r, &z)), Some((r.clone(), z.clone())));
        assert_eq!(member_by_user(&room_of(&z, &r)), Some((r.clone(), z.clone())));
        assert_eq!(room_of_key(&room(&r)), Some(r.clone()));
        assert_eq!(tie_of(&tie(&a, &z)), Some(z.clone()));
        assert!(ties(&a, None).contains(&tie(&a, &z)) && !ties(&a, Some(&z)).contains(&tie(&a, &z)));
        // Whatever its hash is.
        assert!(room(&r).ends_with(SEPARATOR));
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
