//! What was read of the store not long ago, by key. Whoever asks for what is being read waits for it, in the order in which
//! it was asked for: the sends of one user keep their order. Used by [`super::Blocks`].

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::store::StoreResult;

type Then<V> = Box<dyn FnOnce(StoreResult<Arc<V>>) + Send>;

enum Entry<V> {
    Known {
        value: Arc<V>,
        read_at: Instant,
    },
    Reading {
        waiting: Vec<Then<V>>,
        /// It changed since the read began.
        again: bool,
    },
}

pub(super) struct Remembered<K: Hash + Eq, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
    fresh: Duration,
    most: usize,
}

impl<K: Hash + Eq + Clone + Send + 'static, V: Send + Sync + 'static> Remembered<K, V> {
    /// Nothing is known. What was read is believed for `fresh`; about `most` values are kept.
    pub(super) fn new(fresh: Duration, most: usize) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), fresh, most })
    }

    /// Calls `then` with the value: at once where it is known, after a read by `load` otherwise.
    pub(super) fn get<F>(
        self: &Arc<Self>,
        key: &K,
        tasks: &TaskTracker,
        load: impl Fn() -> F + Send + 'static,
        then: impl FnOnce(StoreResult<Arc<V>>) + Send + 'static,
    ) where
        F: Future<Output = StoreResult<V>> + Send + 'static,
    {
        let mut entries = self.entries.lock();
        match entries.get_mut(key) {
            Some(Entry::Known { value, read_at }) if read_at.elapsed() < self.fresh => {
                let value = value.clone();
                drop(entries);
                return then(Ok(value));
            }
            Some(Entry::Reading { waiting, .. }) => return waiting.push(Box::new(then)),
            _ => {}
        }
        self.make_room(&mut entries);
        entries.insert(key.clone(), Entry::Reading { waiting: vec![Box::new(then)], again: false });
        drop(entries);
        let reading = Reading { of: self.clone(), key: key.clone(), is_done: false };
        tasks.spawn(Box::pin(reading.run(load)));
    }

    /// What is known of this is not so any more.
    pub(super) fn forget(&self, key: &K) {
        let mut entries = self.entries.lock();
        match entries.get_mut(key) {
            Some(Entry::Reading { again, .. }) => *again = true,
            Some(Entry::Known { .. }) => drop(entries.remove(key)),
            None => {}
        }
    }

    /// Reads that are under way stay: their number is bounded by the requests that wait for them.
    fn make_room(&self, entries: &mut HashMap<K, Entry<V>>) {
        if entries.len() < self.most {
            return;
        }
        entries.retain(|_, entry| !matches!(entry, Entry::Known { read_at, .. } if read_at.elapsed() >= self.fresh));
        if entries.len() >= self.most {
            entries.retain(|_, entry| matches!(entry, Entry::Reading { .. }));
        }
    }
}

/// One read, with all who wait for it.
struct Reading<K: Hash + Eq, V> {
    of: Arc<Remembered<K, V>>,
    key: K,
    is_done: bool,
}

impl<K: Hash + Eq + Clone, V> Reading<K, V> {
    async fn run<F: Future<Output = StoreResult<V>>>(mut self, load: impl Fn() -> F) {
        loop {
            let read_at = Instant::now();
            if let Entry::Reading { again, .. } = &mut *self.entry() {
                *again = false;
            }
            let read = load().await.map(Arc::new);
            // Those who come while others are told wait as well, or they would overtake them.
            while let Some(waiting) = self.next(&read, read_at) {
                waiting.into_iter().for_each(|then| then(read.clone()));
            }
            if self.is_done {
                return;
            }
        }
    }

    /// Who is to be told; none where all were, or where it is to be read again.
    fn next(&mut self, read: &StoreResult<Arc<V>>, read_at: Instant) -> Option<Vec<Then<V>>> {
        let mut entries = self.of.entries.lock();
        match entries.get_mut(&self.key) {
            Some(Entry::Reading { again: true, .. }) => None,
            Some(Entry::Reading { waiting, .. }) if !waiting.is_empty() => Some(std::mem::take(waiting)),
            _ => {
                self.is_done = true;
                match read {
                    Ok(value) => {
                        entries.insert(self.key.clone(), Entry::Known { value: value.clone(), read_at });
                    }
                    Err(_) => drop(entries.remove(&self.key)),
                }
                None
            }
        }
    }

    fn entry(&self) -> parking_lot::MappedMutexGuard<'_, Entry<V>> {
        parking_lot::MutexGuard::map(self.of.entries.lock(), |entries| {
            entries.entry(self.key.clone()).or_insert_with(|| Entry::Reading { waiting: Vec::new(), again: false })
        })
    }
}

impl<K: Hash + Eq, V> Drop for Reading<K, V> {
    /// A panic, or the end of the process: nobody would ever be told.
    fn drop(&mut self) {
        if !self.is_done {
            let gone = self.of.entries.lock().remove(&self.key);
            drop(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::{Semaphore, mpsc};

    use super::*;
    use crate::store::StoreError;

    const FRESH: Duration = Duration::from_secs(60);

    /// A store of one number, whose reads wait until they are let go.
    #[derive(Clone)]
    struct Numbers {
        now: Arc<AtomicU64>,
        reads: Arc<AtomicU64>,
        gate: Arc<Semaphore>,
    }

    impl Numbers {
        fn new(let_go: usize) -> Self {
            Self { now: Arc::default(), reads: Arc::default(), gate: Arc::new(Semaphore::new(let_go)) }
        }

        async fn read(self) -> StoreResult<u64> {
            self.reads.fetch_add(1, Ordering::AcqRel);
            let found = self.now.load(Ordering::Acquire);
            self.gate.acquire().await.map_err(StoreError::unavailable)?.forget();
            if found == 13 { Err(StoreError::unavailable("unlucky")) } else { Ok(found) }
        }
    }

    struct Bench {
        known: Arc<Remembered<u8, u64>>,
        numbers: Numbers,
        tasks: TaskTracker,
        told: mpsc::UnboundedSender<(u8, StoreResult<u64>)>,
    }

    impl Bench {
        fn get(&self, who: u8) {
            let (numbers, told) = (self.numbers.clone(), self.told.clone());
            let then = move |found: StoreResult<Arc<u64>>| drop(told.send((who, found.map(|value| *value))));
            self.known.get(&1, &self.tasks, move || numbers.clone().read(), then);
        }
    }

    fn bench(let_go: usize) -> (Bench, mpsc::UnboundedReceiver<(u8, StoreResult<u64>)>) {
        let (told, heard) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        (Bench { known: Remembered::new(FRESH, 4), numbers: Numbers::new(let_go), tasks, told }, heard)
    }

    #[tokio::test]
    async fn all_who_wait_are_told_in_their_order_by_one_read() {
        let (bench, mut heard) = bench(0);
        (1..=5).for_each(|who| bench.get(who));
        bench.numbers.gate.add_permits(1);
        for who in 1..=5 {
            assert_eq!(heard.recv().await, Some((who, Ok(0))));
        }
        bench.get(6);
        assert_eq!(heard.try_recv(), Ok((6, Ok(0))), "known: at once");
        assert_eq!(bench.numbers.reads.load(Ordering::Acquire), 1);
    }

    #[tokio::test]
    async fn it_is_believed_no_longer_than_that() {
        let (mut bench, mut heard) = bench(2);
        bench.known = Remembered::new(Duration::ZERO, 4);
        bench.get(1);
        assert_eq!(heard.recv().await, Some((1, Ok(0))));
        bench.tasks.close();
        bench.tasks.wait().await;
        bench.numbers.now.store(7, Ordering::Release);
        bench.get(2);
        assert_eq!(heard.recv().await, Some((2, Ok(7))));
    }

    #[tokio::test]
    async fn what_changes_while_it_is_read_is_read_again() {
        let (bench, mut heard) = bench(0);
        bench.get(1);
        tokio::task::yield_now().await;
        assert_eq!(bench.numbers.reads.load(Ordering::Acquire), 1);
        bench.numbers.now.store(9, Ordering::Release);
        bench.known.forget(&1);
        bench.numbers.gate.add_permits(2);
        assert_eq!(heard.recv().await, Some((1, Ok(9))), "the first read was of before the change");
        bench.numbers.now.store(10, Ordering::Release);
        bench.known.forget(&1);
        bench.numbers.gate.add_permits(1);
        bench.get(2);
        assert_eq!(heard.recv().await, Some((2, Ok(10))));
    }

    #[tokio::test]
    async fn a_failure_is_told_and_not_remembered_and_memory_is_bounded() {
        let (bench, mut heard) = bench(1_000);
        bench.numbers.now.store(13, Ordering::Release);
        bench.get(1);
        assert!(matches!(heard.recv().await, Some((1, Err(_)))));
        bench.numbers.now.store(1, Ordering::Release);
        bench.get(2);
        assert_eq!(heard.recv().await, Some((2, Ok(1))));
        for key in 0..100 {
            let numbers = bench.numbers.clone();
            bench.known.get(&key, &bench.tasks, move || numbers.clone().read(), |_| ());
            tokio::task::yield_now().await;
        }
        assert!(bench.known.entries.lock().len() <= 8);
    }
}
