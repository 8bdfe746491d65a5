//! Waiting between tries. Used by the append and by the first read of a node's start; everything else leaves
//! trying again to the driver and the caller.

use std::time::Duration;

use tokio::time::sleep;

/// The first wait is at most this: a node that lost a seq to another one may well win the next seq while the other is
/// still raising heads.
const FIRST: Duration = Duration::from_millis(1);
/// The longest wait after a seq was lost to another node: that node holds no lock, it was only first.
pub(super) const AFTER_CONFLICT: Duration = Duration::from_millis(32);
/// The longest wait after an error.
pub(super) const AFTER_ERROR: Duration = Duration::from_millis(250);

/// Growing waits with full jitter: nodes that collided on a row must not collide again at the next try.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// Forgets earlier waits: something succeeded.
    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }

    pub(super) async fn wait(&mut self, longest: Duration) {
        sleep(self.0.min(longest).mul_f64(rand::random())).await;
        self.0 = (self.0 * 2).min(longest);
    }
}
