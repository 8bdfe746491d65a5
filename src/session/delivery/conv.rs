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
    /// Nothing is handed out: how the user stands to the room is to be read first, or the user is not in it.
    pub(super) closed: bool,
    /// How the user stands to the room is to be read.
    pub(super) must_read: bool,
    /// Highest seq heard of that no state of the room which was read has in it.
    pub(super) unseen: Seq,
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

    /// The position is where something may have put the user out: how the user stands to the room is read before anything
    /// above it is handed out.
    pub(super) fn close(&mut self) {
        let position = self.position.unwrap_or(0);
        self.unseen = self.unseen.max(self.want).max(position);
        (self.want, self.heard) = (self.want.min(position), self.heard.min(position));
        (self.closed, self.must_read) = (true, true);
    }

    pub(super) fn is_behind(&self) -> bool {
        !self.closed && self.position.is_none_or(|position| position < self.want)
    }

    pub(super) fn unacked(&self) -> u64 {
        self.position.map_or(0, |position| position - self.acked - self.cuts.above(self.acked))
    }

    /// R8: nothing is lost by reading the position from the store again.
    pub(super) fn may_be_forgotten(&self) -> bool {
        let idle = !self.queued && self.filling.is_none() && !self.writing;
        idle && !self.must_read && !self.is_behind() && self.unacked() == 0 && self.acked <= self.stored
    }

    /// Whether something is to be read for it.
    pub(super) fn has_work(&self) -> bool {
        self.must_read || self.is_behind()
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
