//! One conversation of a session: position, acknowledged, wanted. Used only by [`super::Delivery`].

use crate::{model::Seq, session::Tick};

/// One conversation that this session has something to do with.
#[derive(Debug, Default)]
pub(super) struct Conv {
    /// Last seq handed out. `None`: not known yet, a fill reads the cursor.
    pub(super) position: Option<Seq>,
    /// Acknowledged by the client, at or below the position.
    pub(super) acked: Seq,
    /// The cursor as the store confirmed it.
    pub(super) stored: Seq,
    /// Highest seq heard of, from the bus or from a head (R5).
    pub(super) want: Seq,
    /// A page is being read.
    pub(super) filling: bool,
    /// Waits in the queue of those to fill.
    pub(super) queued: bool,
    /// Not to be filled before.
    pub(super) not_before: Tick,
    /// Fills in a row that brought nothing.
    pub(super) misses: u32,
    /// A cursor write is under way.
    pub(super) writing: bool,
    /// When the last cursor write began; the next one waits for the coalescing time.
    pub(super) wrote_at: Option<Tick>,
    /// When the oldest unacknowledged message was handed out, until it was told of.
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
        self.position.map_or(0, |position| position - self.acked)
    }

    /// R8: nothing is lost by reading the position from the store again.
    pub(super) fn may_be_forgotten(&self) -> bool {
        let idle = !self.queued && !self.filling && !self.writing;
        idle && !self.is_behind() && self.unacked() == 0 && self.acked <= self.stored
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.acked > self.stored
    }
}
