//! One query for all callers that ask the same at the same time. Used for pages and heads.
//!
//! A call never takes the answer of a query that started before the call did: that answer may be older than
//! what the caller already heard of, and a session would believe itself up to date. So callers that come while a
//! query runs share the *next* one.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

type Waiting<V> = Vec<oneshot::Sender<V>>;

/// Queries that run by what they ask; the value is who waits for the next run.
pub(super) struct SharedQuery<K, V>(Arc<Mutex<HashMap<K, Waiting<V>>>>);

impl<K, V> Default for SharedQuery<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> SharedQuery<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    /// The answer of a query that starts after this call. `None` only when the runtime shuts down.
    pub(super) async fn share(&self, key: K, query: impl Fn() -> BoxFuture<'static, V> + Send + 'static) -> Option<V> {
        let (sender, answer) = oneshot::channel();
        let leads = {
            let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match running.get_mut(&key) {
                Some(waiting) => {
                    waiting.push(sender);
                    None
                }
                None => {
                    running.insert(key.clone(), Vec::new());
                    Some(sender)
                }
            }
        };
        if let Some(sender) = leads {
            // A task of its own: the others must get their answer although this caller may be dropped.
            tokio::spawn(run(self.0.clone(), key, query, vec![sender]));
        }
        answer.await.ok()
    }
}

async fn run<K: Eq + Hash, V: Clone>(
    running: Arc<Mutex<HashMap<K, Waiting<V>>>>,
    key: K,
    query: impl Fn() -> BoxFuture<'static, V>,
    mut waiting: Waiting<V>,
) {
    let guard = FreeOnPanic { running: &running, key: &key };
    while !waiting.is_empty() {
        let value = query().await;
        for sender in waiting {
            let _ = sender.send(value.clone());
        }
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        waiting = running.get_mut(&key).map(std::mem::take).unwrap_or_default();
        if waiting.is_empty() {
            // Under the same lock: nobody may join a query that is over.
            running.remove(&key);
        }
    }
    std::mem::forget(guard);
}

/// Removes the key when a query panics, so that later callers start a new one and those that wait get `None`.
struct FreeOnPanic<'a, K: Eq + Hash, V> {
    running: &'a Mutex<HashMap<K, Waiting<V>>>,
    key: &'a K,
}

impl<K: Eq + Hash, V> Drop for FreeOnPanic<'_, K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn callers_share_the_next_run_never_a_running_one() {
        let shared = Arc::new(SharedQuery::<u8, u32>::default());
        let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (shared, runs, gate) = (shared.clone(), runs.clone(), gate.clone());
            tokio::spawn(async move {
                let query = move || -> BoxFuture<'static, u32> {
                    let (runs, gate) = (runs.clone(), gate.clone());
                    Box::pin(async move {
                        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                        gate.acquire().await.unwrap().forget();
                        run
                    })
                };
                shared.share(1, query).await.unwrap()
            })
        };
        let first = ask();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..10).map(|_| ask()).collect();
        while shared.0.lock().unwrap().get(&1).is_some_and(|waiting| waiting.len() < 10) {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        assert_eq!(first.await.unwrap(), 1);
        gate.add_permits(1);
        for caller in later {
            assert_eq!(caller.await.unwrap(), 2);
        }
        assert!(shared.0.lock().unwrap().is_empty());
    }
}
