//! A session's place in the registry while it is greeted, given back whatever becomes of the greeting: refused, dropped,
//! or ended by a panic. Used by [`super::greet`]; from the `welcome` on the pump holds the place.

use std::sync::Arc;

use super::Gateway;
use crate::routing::SessionHandle;

/// A session that is in the registry.
pub(super) struct Joined {
    gateway: Arc<Gateway>,
    handle: Option<Arc<SessionHandle>>,
}

impl Joined {
    /// Of a session that has joined.
    pub(super) fn of(gateway: &Arc<Gateway>, handle: Arc<SessionHandle>) -> Self {
        Self { gateway: gateway.clone(), handle: Some(handle) }
    }

    /// Hands the place on.
    pub(super) fn take(mut self) -> Option<Arc<SessionHandle>> {
        self.handle.take()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            self.gateway.registry.leave(handle);
        }
    }
}
