//! Waiting between tries. Used by the append; everything else leaves trying again to the driver and the caller.

use std::time::Duration;

use tokio::time::sleep;

/// The first wait is at most this: whoever lost a seq to another node may well win the next while the other is
/// still raising heads.
const FIRST: Duration = Duration::from_millis(1);
/// No wait for another node is longer: it holds nothing, it was only first.
pub(super) const CONFLICT: Duration = Duration::from_millis(32);
/// No wait after an error is longer.
pub(super) const TROUBLE: Duration = Duration::from_millis(250);

/// Growing waits with full jitter: nodes that met once on a row must not meet again in step.
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
