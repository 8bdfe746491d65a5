//! One piece of work per key at a time, shared by everybody who wants its outcome. It goes on when those who wait give
//! up, so that a change of home is not left half done. Called by the other files of this folder.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;

type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

/// What is under way, by key.
pub(super) struct Flights<K, V: Clone>(Arc<Mutex<HashMap<K, Flight<V>>>>);

/// Takes the key out when the work ends, also by a panic.
struct Landing<K: Eq + Hash, V: Clone>(Arc<Mutex<HashMap<K, Flight<V>>>>, K);

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// The outcome of the work under this key: of what is under way, or of `start`. `None` when it panicked.
    pub(super) async fn join(&self, key: K, start: impl FnOnce() -> BoxFuture<'static, V>) -> Option<V> {
        let flight = {
            let mut flights = self.0.lock();
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let (work, landing) = (start(), Landing(Arc::clone(&self.0), key.clone()));
                    let task = tokio::spawn(async move {
                        let _landing = landing;
                        work.await
                    });
                    let flight = task.map(Result::ok).boxed().shared();
                    flights.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_comes_meanwhile_shares_the_outcome_and_who_leaves_ends_nothing() {
        let flights = Flights::<u8, usize>::new();
        let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let start = || {
            let (count, gate) = (count.clone(), gate.clone());
            async move {
                gate.notified().await;
                count.fetch_add(1, Ordering::AcqRel) + 1
            }
            .boxed()
        };
        let mut gone = Box::pin(flights.join(1, start));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        let (one, two, other, ()) = tokio::join!(
            flights.join(1, start),
            flights.join(1, start),
            flights.join(2, || async { 7 }.boxed()),
            async {
                gate.notify_one();
            }
        );
        assert_eq!((one, two, other), (Some(1), Some(1), Some(7)));
        gate.notify_one();
        assert_eq!(flights.join(1, start).await, Some(2), "the next one begins anew");
    }

    #[tokio::test]
    async fn a_panic_leaves_nothing_behind() {
        let flights = Flights::<u8, usize>::new();
        assert_eq!(flights.join(1, || async { panic!("on purpose") }.boxed()).await, None);
        assert_eq!(flights.join(1, || async { 3 }.boxed()).await, Some(3));
    }
}
