//! The lane that receives, and so can tell what was lost. Called by `lane`.

use std::{rc::Rc, task::Context};

use super::{lane::Side, payload::Peek, run_state::RunState, track::Order};
use crate::client::{ConnectError, Connection};

/// Who receives what was sent to one user.
pub(super) struct Receiver {
    pub(super) shared: Rc<RunState>,
}

impl Side for Receiver {
    fn on_message(&mut self, frame: &Peek<'_>, order: Order, now: u64) {
        let Some(payload) = self.shared.payload_of(frame) else { return };
        let new = self.shared.senders[payload.sender].borrow_mut().received.insert(payload.number);
        if !new {
            // At another place in the log: one cid has two seqs.
            self.shared.stats.borrow_mut().integrity.duplicated += u64::from(order == Order::New);
            return;
        }
        self.shared.on_delivered(&payload, now);
    }

    fn on_frame(&mut self, _frame: &Peek<'_>, _now: u64) {}

    fn on_connected(&mut self) {}

    fn queue(&mut self, _connection: &mut Connection, _cx: &mut Context<'_>) -> Result<(), ConnectError> {
        Ok(())
    }
}
