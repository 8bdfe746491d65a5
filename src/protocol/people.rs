//! What nodes tell each other of people, besides messages: who is there, who blocks whom, and signals to rooms. Written and
//! read by `routing` and `presence`; no client ever sees these payloads.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Encoding,
    server::{OnBus, Signal},
};
use crate::model::UserId;

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Out<'a> {
    Probe,
    Came,
    Gone,
    Watched { all: bool, groups: &'a [u16] },
    Blocked { user: &'a UserId, other: &'a UserId },
    RoomSignal { except: &'a [UserId], signal: &'a Signal },
}

/// The payload that asks whether any node has a session of a user; whoever has one answers, with anything.
pub fn encode_probe() -> Bytes {
    Encoding::MsgPack.encode(&Out::Probe)
}

/// The payload that tells those who watch a user of the first session on a node, or of the end of the last.
pub fn encode_coming(is_here: bool) -> Bytes {
    Encoding::MsgPack.encode(if is_here { &Out::Came } else { &Out::Gone })
}

/// The payload that tells the nodes of two users that one blocks the other, or no more.
pub fn encode_blocked(user: &UserId, other: &UserId) -> Bytes {
    Encoding::MsgPack.encode(&Out::Blocked { user, other })
}

/// The payload that carries a signal to a room's nodes, for all members there but some.
pub fn encode_room_signal(except: &[UserId], signal: &Signal) -> Bytes {
    Encoding::MsgPack.encode(&Out::RoomSignal { except, signal })
}

/// The payload that tells the other nodes of groups of users that are watched here; `all`: and of no others.
pub fn encode_watched(all: bool, groups: &[u16]) -> Bytes {
    Encoding::MsgPack.encode(&Out::Watched { all, groups })
}

/// Whether those are all, and the groups.
///
/// # Errors
/// What is wrong with the payload.
pub fn decode_watched(payload: &[u8]) -> Result<(bool, Vec<u16>), String> {
    #[derive(Deserialize)]
    struct Watched {
        all: bool,
        groups: Vec<u16>,
    }
    let Watched { all, groups } = Encoding::sniff(payload).decode(payload)?;
    Ok((all, groups))
}

/// What a payload on a user's presence subject says: whether a first session began; else a last one ended.
///
/// # Errors
/// What is wrong with it.
pub fn decode_coming(payload: &[u8]) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Peek<'a> {
        op: &'a str,
    }
    match Encoding::sniff(payload).decode::<Peek<'_>>(payload)?.op {
        "came" => Ok(true),
        "gone" => Ok(false),
        op => Err(format!("unexpected op {op:?} on a user's presence")),
    }
}

/// Reads one of them that came on a user's or a room's subject.
pub(super) fn read(op: &str, encoding: Encoding, payload: &[u8]) -> Result<OnBus, String> {
    #[derive(Deserialize)]
    struct Blocked {
        user: UserId,
        other: UserId,
    }
    #[derive(Deserialize)]
    struct RoomSignal {
        except: Vec<UserId>,
        signal: Signal,
    }
    match op {
        "blocked" => {
            let Blocked { user, other } = encoding.decode(payload)?;
            Ok(OnBus::Blocked { user, other })
        }
        "room_signal" => {
            let RoomSignal { except, signal } = encoding.decode(payload)?;
            Ok(OnBus::RoomSignal { except, signal })
        }
        _ => Ok(OnBus::Probe),
    }
}
