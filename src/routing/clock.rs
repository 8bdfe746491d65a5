//! A node's monotonic clock, from which its sessions' ticks are read.

use std::time::{Duration, Instant};

use crate::session::Tick;

/// Milliseconds since the node was built.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts at 0 now.
    #[expect(clippy::new_without_default, reason = "a second clock in a node would be a mistake, not a default")]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// The sessions' time.
    pub fn now(&self) -> Tick {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A moment of the sessions' time, for tokio's timers.
    pub fn instant(&self, tick: Tick) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + Duration::from_millis(tick))
    }
}
