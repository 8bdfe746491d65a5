//! Reactions in the simulation: rows about a message, whose last word of each user stands beside it.

use super::home::user;
use crate::model::{Body, Cid, Counts, Kind, Reacting, Refs, Row, Target};

/// What clients send; even ones are alice's. The first two are messages. So few that each cid counts as long as any other (R15).
pub(super) const FOLD_CIDS: [u8; 6] = [20, 21, 22, 23, 24, 25];

/// The reaction that a message is.
pub(super) fn reacts(cid: u8) -> Option<Reacting> {
    let reaction = "+1".parse().ok()?;
    FOLD_CIDS[2..].contains(&cid).then_some(Reacting { reaction, set: cid % 4 < 2 })
}

/// All are about one message.
pub(super) fn refs(cid: u8) -> Option<Box<Refs>> {
    reacts(cid)?;
    let (sender, cid, body) = (user(0), Cid::new("1").ok()?, Body::text("x"));
    let (kind, counts) = (Kind::Message, Counts::default());
    let row = Row { seq: 1, kind, sender, service: false, cid, ts: 1, body, counts, refs: None };
    Target::of(&row, None, 1).map(Refs::about)
}
