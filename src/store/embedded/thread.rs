//! A thread whose end can be waited for: by a task, and by the drop of its owner. Called by
//! [`super::EmbeddedStore`].

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use crate::store::STORE_DEADLINE;

/// Set when the thread is over, however it ended.
#[derive(Debug, Default)]
struct Ended {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    /// Waits, but not forever: a thread that hangs in a broken engine must not hang its owner too.
    fn wait(&self) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(over, STORE_DEADLINE, |over| !*over);
        let (over, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *over
    }
}

struct NotifyOnDrop(Arc<Ended>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        *self.0.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

/// A running thread. Dropping it waits for its end, so whatever makes it end must be dropped before.
#[derive(Debug)]
pub(super) struct Thread {
    ended: Arc<Ended>,
}

impl Thread {
    /// Starts `work`. Everything that it owns is dropped before the thread counts as ended.
    pub(super) fn start(work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let ended = Arc::new(Ended::default());
        let notify = NotifyOnDrop(ended.clone());
        std::thread::Builder::new().name("natter-store".into()).spawn(move || {
            let _notify = notify;
            work();
        })?;
        Ok(Self { ended })
    }

    /// Waits for the end without blocking the task's thread.
    pub(super) async fn ended(&self) {
        let ended = self.ended.clone();
        let _ = tokio::task::spawn_blocking(move || ended.wait()).await;
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if !self.ended.wait() {
            tracing::warn!("the store's writer thread does not end; it is left running");
        }
    }
}
