//! One conversation of a session: position, acknowledged, wanted. Used only by [`super::Delivery`].

use std::sync::Arc;

use super::{At, cuts::Cuts, fills::Room};
use crate::{model::Seq, protocol::LiveMessage, session::Tick};

/// One conversation that this session has something to do with.
#[derive(Debug, Default)]
pub(super) struct Conv {
    /// Last seq handed out. `None`: not known yet, the cursor is read.
    pub(super) position: Option<Seq>,
    /// Acknowledged by the client, at or below the position.
    pub(super) acked: Seq,
    /// The cursor as the store confirmed it.
    pub(super) stored: Seq,
    /// Highest seq heard of, from the bus or from a head (R5).
    pub(super) want: Seq,
    /// A page is being read, and what is kept free for it.
    pub(super) filling: Option<Room>,
    /// The live message that waits for the cursor, where that is all that is being read.
    pub(super) held: Option<Arc<LiveMessage>>,
    /// Waits in the queue of those to fill.
    pub(super) queued: bool,
    /// Not to be filled before.
    pub(super) not_before: Tick,
    /// Fills in a row that brought nothing.
    pub(super) misses: u32,
    /// Since when the store answers that the next row is not there.
    pub(super) missing_since: Option<Tick>,
    /// What was left out above the acknowledged messages.
    pub(super) cuts: Cuts,
    /// A cursor write is under way.
    pub(super) writing: bool,
    /// Cursor writes in a row that failed.
    pub(super) failed_writes: u32,
    /// When the last cursor write began; the next one waits for the coalescing time.
    pub(super) wrote_at: Option<Tick>,
    /// Highest seq heard of live.
    pub(super) heard: Seq,
    /// Push services were told of everything up to here.
    pub(super) told: Seq,
    /// Since when something waits to be acknowledged that push services were not told of.
    pub(super) waiting_since: Option<Tick>,
    /// Must be reached before the first `caught_up`.
    pub(super) login_head: Option<Seq>,
}

impl Conv {
    pub(super) fn at(position: Seq) -> Self {
        Self { position: Some(position), acked: position, stored: position, ..Self::default() }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.position.is_none_or(|position| position < self.want)
    }

    pub(super) fn unacked(&self) -> u64 {
        self.position.map_or(0, |position| position - self.acked - self.cuts.above(self.acked))
    }

    /// R8: nothing is lost by reading the position from the store again.
    pub(super) fn may_be_forgotten(&self) -> bool {
        let idle = !self.queued && self.filling.is_none() && !self.writing;
        idle && !self.is_behind() && self.unacked() == 0 && self.acked <= self.stored
    }

    /// The last message that this session knows of.
    pub(super) fn newest(&self) -> Seq {
        self.want.max(self.position.unwrap_or(0))
    }

    /// Whether there is something that nobody acknowledged and that push services were not told of.
    pub(super) fn is_owed(&self) -> bool {
        self.newest() > self.acked.max(self.told)
    }

    /// Whether the next row is missing for so long that it is not merely late (R18).
    pub(super) fn has_hole(&self, at: At<'_>) -> bool {
        self.missing_since.is_some_and(|since| since + at.rules.hole_after <= at.now)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.acked > self.stored
    }
}
