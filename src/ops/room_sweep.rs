//! Looks at the heads of the rooms whose members are here: once for all of them together, slowly all the time, soon after the
//! first of them came, and after a reconnect (R12). Where a head is above what was heard, the sessions are told.
//!
//! Started by the node; runs as long as it does.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{Ops, counted, fault::is_served, room_places::ROOMS};
use crate::{
    metrics::StoreOp,
    model::RoomId,
    overload::{Class, cost},
    routing::Clock,
    session::{Cause, Tick},
};

/// How often is looked for rooms that are due.
const LOOK: Duration = Duration::from_millis(500);
/// Heads that could not be read are looked at again within this long, in milliseconds.
const AGAIN: Tick = 10_000;

/// How often heads are looked at, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After the first session of a room came.
    pub first: Tick,
    /// Between two looks; 0: only after a reconnect.
    pub interval: Tick,
}

impl Pace {
    /// The first look is not later than the next one would be.
    pub fn new(first: Tick, interval: Tick) -> Self {
        Self { first: if interval == 0 { first } else { first.min(interval) }, interval }
    }
}

impl Ops {
    /// Runs until it is dropped.
    pub async fn sweep_rooms(self: Arc<Self>, clock: Clock, pace: Pace) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            loop {
                let due = self.router.rooms().take_due(clock.now(), pace.first, pace.interval, ROOMS);
                if due.is_empty() {
                    break;
                }
                if self.look_at(&due).await.is_err() {
                    self.router.rooms().due_again(&due, clock.now(), AGAIN);
                }
            }
        }
    }

    async fn look_at(&self, rooms: &[RoomId]) -> Result<(), ()> {
        let turn = self.overload.turn(Class::Listing, cost(rooms.len(), 0)).await.map_err(drop)?;
        let read = self.room_rows.read(rooms).await;
        turn.end(cost(rooms.len(), 0), is_served(&read));
        let rows = counted(&self.metrics, StoreOp::Rooms, read).map_err(drop)?;
        self.metrics.reconcile_rows.inc_by(rooms.len() as u64);
        for row in rows {
            if self.router.rooms().on_head(&row.id, row.head) {
                self.metrics.gaps_found.of(Cause::Sweep).inc();
            }
        }
        Ok(())
    }
}
