//! Waiting between tries. Used by the append; everything else leaves trying again to the driver and the caller.

use std::time::Duration;

use tokio::time::sleep;

/// The first wait is at most this.
const FIRST: Duration = Duration::from_millis(4);
/// No wait is longer.
const LONGEST: Duration = Duration::from_millis(250);

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

    pub(super) async fn wait(&mut self) {
        sleep(self.0.mul_f64(rand::random())).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}
