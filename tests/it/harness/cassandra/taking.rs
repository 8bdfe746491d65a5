//! A store that becomes home of whatever it is asked to append to: for tests of the engine, where nobody routes appends
//! to their homes. Several of them on one conversation take the slot from each other with every append.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use natter::{
    model::{Cid, ConvId, NewMessage, Row, Seq, UserId},
    store::{
        Appended, CountsAt, Logs, STORE_DEADLINE, Span, Store, StoreError, StoreFuture, StoreResult,
        scylla::{ScyllaOptions, ScyllaStore},
        slots::{Incarnation, Slot, Slots, Take},
    },
};
use tokio::time::{Instant, timeout};

/// All of this process, so that they can ask each other for a slot.
static ALL: Mutex<Vec<Weak<Taking>>> = Mutex::new(Vec::new());

/// How long a home may take to give a slot away before it is fenced.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// See the module.
pub struct Taking {
    store: Arc<ScyllaStore>,
    /// It ends at some step, and is as good as dead then.
    dying: bool,
}

impl Deref for Taking {
    type Target = Arc<ScyllaStore>;

    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

impl Taking {
    /// Connects as a node with a name of its own.
    pub async fn connect(options: &ScyllaOptions) -> Arc<Self> {
        static NODES: AtomicU32 = AtomicU32::new(1);
        let node = format!("t{}", NODES.fetch_add(1, Ordering::Relaxed));
        Self::connect_as(&node, options).await
    }

    /// Connects as the node of a name: another life of it, if there was one.
    pub async fn connect_as(node: &str, options: &ScyllaOptions) -> Arc<Self> {
        let options = ScyllaOptions { node: node.to_owned(), ..options.clone() };
        let dying = options.stop_after.is_some();
        let store = ScyllaStore::connect(options).await.expect("the store must connect");
        let taking = Arc::new(Self { store, dying });
        ALL.lock().unwrap().push(Arc::downgrade(&taking));
        taking
    }

    /// As the node's parts see it.
    pub fn parts(self: &Arc<Self>) -> Store {
        Store { logs: self.clone(), ..Store::shared(self.store.clone()) }
    }

    /// Becomes home, whoever is.
    pub async fn take(&self, slot: Slot) -> StoreResult<()> {
        match self.store.take(slot).await? {
            Take::Mine => Ok(()),
            Take::Held(by) => {
                let given = match self.find(&by) {
                    Some(other) => self.ask(&other, slot).await,
                    None => false,
                };
                if given { Ok(()) } else { self.store.fence(&by).await }
            }
        }
    }

    /// Ends as a writer: what it was home of is free for whoever comes next. For tests that fill a store before nodes run.
    pub async fn retire(&self) {
        self.store.fence(&self.store.incarnation()).await.unwrap();
    }

    async fn ask(&self, other: &Taking, slot: Slot) -> bool {
        let me = self.store.incarnation();
        timeout(PATIENCE, other.store.hand_over(slot, &me)).await.is_ok_and(|given| given.is_ok())
    }

    fn find(&self, who: &Incarnation) -> Option<Arc<Taking>> {
        let all: Vec<_> = ALL.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        all.into_iter().find(|other| !other.dying && other.store.incarnation() == *who)
    }

    async fn append_at_home(&self, conv: &ConvId, batch: Vec<NewMessage>) -> Vec<StoreResult<Appended>> {
        let deadline = Instant::now() + STORE_DEADLINE;
        let mut results: Vec<StoreResult<Appended>> = vec![Err(StoreError::NotHome); batch.len()];
        let mut last = StoreError::unavailable("no home was found in time");
        for round in 0.. {
            let open: Vec<usize> = (0..batch.len()).filter(|n| results[*n] == Err(StoreError::NotHome)).collect();
            let late = Instant::now() >= deadline || (self.dying && round == 2);
            if open.is_empty() || late {
                break;
            }
            if !open.is_empty()
                && round > 0
                && let Err(error) = self.take(Slot::of(conv)).await
            {
                last = error;
            }
            let some = open.iter().map(|n| batch[*n].clone()).collect();
            for (n, result) in open.into_iter().zip(self.store.append(conv, some).await) {
                results[n] = result;
            }
        }
        results.into_iter().map(|r| if r == Err(StoreError::NotHome) { Err(last.clone()) } else { r }).collect()
    }
}

impl Logs for Taking {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        Box::pin(self.append_at_home(conv, batch))
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.store.read_after(conv, after, span)
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.store.read_before(conv, before, span)
    }

    fn placed<'a>(&'a self, conv: &'a ConvId, sender: &'a UserId, cid: &'a Cid) -> StoreFuture<'a, Option<Row>> {
        self.store.placed(conv, sender, cid)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.store.top(conv)
    }

    fn reaches<'a>(&'a self, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, Seq> {
        self.store.reaches(conv, seq)
    }

    fn counts_at<'a>(&'a self, conv: &'a ConvId, seq: Seq, known: Seq) -> StoreFuture<'a, CountsAt> {
        self.store.counts_at(conv, seq, known)
    }

    fn mend<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        Box::pin(async move {
            while !self.store.holds(Slot::of(conv)) {
                self.take(Slot::of(conv)).await?;
            }
            self.store.mend(conv).await
        })
    }
}
