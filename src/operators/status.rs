//! How a node is.

use super::{
    Operators,
    wire::{State, Status},
};

impl Operators {
    /// Asks the store whether it takes writes, which may take a second.
    pub(super) async fn status(&self) -> Status {
        let parts = &self.parts;
        let store = match parts.store.engine.health().await {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let has_slots = parts.store.slots.is_some();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: self.state(),
            uptime_secs: self.started.elapsed().as_secs(),
            sessions: parts.gateway.sessions(),
            users: parts.metrics.users.get(),
            behind: parts.metrics.behind_conversations.get(),
            recent: self.windows.recent(&parts.metrics),
            nats: parts.cells.all().map(|cell| parts.cells.at(cell).connected().is_some()).collect(),
            store,
            slots: has_slots.then(|| parts.metrics.slots_held.get()),
            peers: self.peers(),
        }
    }

    /// The other nodes that are known.
    pub(super) fn peers(&self) -> Vec<String> {
        self.peers.get().map(|peers| peers()).unwrap_or_default()
    }

    pub(super) fn state(&self) -> State {
        let gateway = &self.parts.gateway;
        match (gateway.is_draining(), gateway.is_leaving()) {
            (true, _) => State::Draining,
            (false, true) => State::Leaving,
            (false, false) => State::Serving,
        }
    }
}
