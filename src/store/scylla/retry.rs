//! Waiting between tries. Used by whatever must go on until it is answered: the home's writes, changes of the record.

use std::time::Duration;

use tokio::time::sleep;

/// The first wait is at most this.
const FIRST: Duration = Duration::from_millis(2);
/// The longest wait after an error.
pub(super) const AFTER_ERROR: Duration = Duration::from_millis(250);

/// Growing waits with full jitter: those that collided must not collide again at the next try.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    pub(super) async fn wait(&mut self, longest: Duration) {
        sleep(self.0.min(longest).mul_f64(rand::random())).await;
        self.0 = (self.0 * 2).min(longest);
    }
}
