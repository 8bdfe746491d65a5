//! The lane that receives, and so can tell what was lost. Called by `lane`.

use std::{rc::Rc, task::Context};

use super::{
    lane::Side,
    payload::{Payload, Peek},
    run_state::RunState,
    stats::record,
    track::Order,
};
use crate::client::{ConnectError, Connection};

/// The receiving side of a pair.
pub(super) struct Receiver {
    pub(super) shared: Rc<RunState>,
    pub(super) pair: usize,
}

impl Side for Receiver {
    fn on_message(&mut self, frame: &Peek<'_>, order: Order, now: u64) {
        let mut stats = self.shared.stats.borrow_mut();
        let Some(payload) = frame.body.and_then(Payload::parse) else {
            return stats.error("foreign_message");
        };
        let new = self.shared.pairs[self.pair].borrow_mut().received.insert(payload.number);
        if !new {
            // At another place in the log: one cid has two seqs.
            stats.integrity.duplicated += u64::from(order == Order::New);
            return;
        }
        if self.shared.measured(payload.due) {
            record(&mut stats.received, now.saturating_sub(payload.due));
        }
        stats.delivered += u64::from(self.shared.measured(now));
    }

    fn on_frame(&mut self, _frame: &Peek<'_>, _now: u64) {}

    fn on_connected(&mut self) {}

    fn queue(&mut self, _connection: &mut Connection, _cx: &mut Context<'_>) -> Result<(), ConnectError> {
        Ok(())
    }
}
