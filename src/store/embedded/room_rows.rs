//! The values of the tables of rooms: a version (1 byte), then the room or the member in MessagePack. Called by the writer
//! and the readers of this engine.
//!
//! A room's row has neither head nor counts: the last row of its log says both, in the same snapshot, so that a message to a
//! room writes nothing but itself, its cid and its sender's read mark, and there is nothing that could differ from the log.

use fjall::Slice;
use serde::{Serialize, de::DeserializeOwned};

use super::rows;
use crate::{
    model::room::{Member, Room},
    store::{StoreError, StoreResult},
};

const VERSION: u8 = 1;

/// What stands in these tables.
pub(super) trait Kept: Serialize + DeserializeOwned {}

impl Kept for Room {}
impl Kept for Member {}

/// The stored form.
pub(super) fn encode(kept: &impl Kept) -> StoreResult<Slice> {
    let mut value = vec![VERSION];
    rmp_serde::encode::write(&mut value, kept).map_err(StoreError::unavailable)?;
    Ok(Slice::from(value))
}

/// A stored row.
pub(super) fn decode<T: Kept>(value: &[u8]) -> StoreResult<T> {
    let kept = value.strip_prefix(&[VERSION]).ok_or_else(rows::unreadable)?;
    rmp_serde::from_slice(kept).map_err(|_| rows::unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::room::{Reach, Role, Spans, Standing};

    #[test]
    fn rooms_and_members_come_back_as_they_were() {
        for topic in [None, "lunch".parse().ok()] {
            let (public, reach, lifetime) = (topic.is_some(), Reach::All, topic.as_ref().and("60".parse().ok()));
            let (members, owners, applied) = (70_000, 2, 1 << 50);
            let room = Room { topic, public, reach, created: 1 << 40, members, owners, applied, lifetime };
            assert_eq!(decode::<Room>(&encode(&room).unwrap()), Ok(room));
        }
        for standing in [Standing::Out, Standing::Invited, Standing::Member(Role::Moderator)] {
            let mut spans = Spans::since(3);
            spans.exit(9);
            spans.enter(11);
            let member = Member { standing, spans, changed: 11 };
            assert_eq!(decode::<Member>(&encode(&member).unwrap()), Ok(member));
        }
    }

    /// Rooms without a lifetime are written as they were before there was one.
    #[test]
    fn a_room_that_never_had_a_lifetime_is_read() {
        let before = (None::<String>, true, Reach::All, 5, 3, 1, 7);
        let value = [&[VERSION][..], &rmp_serde::to_vec(&before).unwrap()].concat();
        let room: Room = decode(&value).unwrap();
        assert_eq!((room.applied, room.lifetime), (7, None));
        assert_eq!(encode(&room).unwrap().as_ref(), value);
    }

    #[test]
    fn a_row_of_another_version_or_a_cut_one_is_an_error() {
        let value = encode(&Member::STRANGER).unwrap();
        for cut in 0..value.len() {
            assert!(decode::<Member>(&value[..cut]).is_err(), "cut at {cut}");
        }
        let mut later = value.to_vec();
        later[0] = VERSION + 1;
        assert!(decode::<Member>(&later).is_err());
        assert!(decode::<Room>(&value).is_err());
    }
}
