//! Tasks that tell of something in rounds, with a pause after each, until nothing more comes. The pauses of a node that wants to
//! end are over at once. Used by [`super::pushes`] for rooms and by [`super::offline`] for users.

use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// The tasks of one kind.
#[derive(Default)]
pub(super) struct Rounds {
    tasks: TaskTracker,
    /// The node wants to end: nothing is gathered any more.
    ends: Notify,
}

impl Rounds {
    /// Begins another one.
    pub(super) fn spawn(&self, rounds: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(rounds);
    }

    /// Between two rounds.
    pub(super) async fn pause(&self, pause: Duration) {
        let mut ends = std::pin::pin!(self.ends.notified());
        ends.as_mut().enable();
        if !self.tasks.is_closed() {
            let _ = tokio::time::timeout(pause, ends).await;
        }
    }

    /// Waits until everything is told. What comes meanwhile prolongs it.
    pub(super) async fn idle(&self) {
        self.tasks.close();
        self.ends.notify_waiters();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}
