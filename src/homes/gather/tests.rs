use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::Semaphore;

use super::*;
use crate::{
    model::{Body, Cid, Row, Seq, UserId},
    store::{Span, StoreFuture},
};

/// An engine that appends when it is let, and panics at a cid that says so.
struct Scripted {
    passes: Semaphore,
    batches: Mutex<Vec<Vec<String>>>,
}

impl Logs for Scripted {
    fn append<'a>(&'a self, _: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        async move {
            self.passes.acquire().await.unwrap().forget();
            let cids: Vec<_> = batch.iter().map(|message| message.cid.to_string()).collect();
            assert!(!cids.contains(&"panic".to_owned()), "on purpose");
            let mut batches = self.batches.lock();
            let before: usize = batches.iter().map(Vec::len).sum();
            batches.push(cids);
            let seqs = before as Seq + 1..;
            seqs.take(batch.len()).map(|seq| Ok(Appended { seq, ts: 1, fresh: true, expires: None })).collect()
        }
        .boxed()
    }

    fn read_after<'a>(&'a self, _: &'a ConvId, _: Seq, _: Span) -> StoreFuture<'a, Vec<Row>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn read_before<'a>(&'a self, _: &'a ConvId, _: Seq, _: Span) -> StoreFuture<'a, Vec<Row>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn top<'a>(&'a self, _: &'a ConvId) -> StoreFuture<'a, Seq> {
        async { Ok(0) }.boxed()
    }
}

fn message(cid: &str) -> NewMessage {
    let (sender, cid) = (UserId::new("alice").unwrap(), Cid::new(cid).unwrap());
    NewMessage::of_user(sender, cid, 1, Body::text("hi"))
}

fn bed() -> (Arc<Gather>, Arc<Scripted>, ConvId) {
    let engine = Arc::new(Scripted { passes: Semaphore::new(0), batches: Mutex::default() });
    (Gather::new(engine.clone()), engine, ConvId::new("dm:alice:bob").unwrap())
}

fn seqs(results: Results) -> Vec<Seq> {
    results.into_iter().map(|result| result.unwrap().seq).collect()
}

#[tokio::test]
async fn what_comes_during_an_append_is_the_next_batch_and_each_gets_its_own() {
    let (gather, engine, conv) = bed();
    let first = gather.append(&conv, vec![message("a")]);
    let second = gather.append(&conv, vec![message("b"), message("c")]);
    let third = gather.append(&conv, vec![message("d")]);
    let ((first, second, third), ()) = tokio::join!(async { tokio::join!(first, second, third) }, async {
        // The first is under way before the others may be a batch.
        tokio::task::yield_now().await;
        engine.passes.add_permits(2);
    });
    assert_eq!((seqs(first), seqs(second), seqs(third)), (vec![1], vec![2, 3], vec![4]));
    assert!(engine.batches.lock().len() <= 2, "{:?}", engine.batches.lock());
    assert!(gather.queues.lock().is_empty());
}

#[tokio::test]
async fn who_gave_up_is_not_waited_for() {
    let (gather, engine, conv) = bed();
    let mut first = Box::pin(gather.append(&conv, vec![message("a")]));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::task::yield_now().await;
    let mut gone = Box::pin(gather.append(&conv, vec![message("gone")]));
    assert!(gone.as_mut().now_or_never().is_none());
    drop(gone);
    engine.passes.add_permits(2);
    assert_eq!(seqs(first.await), [1]);
    assert_eq!(seqs(gather.append(&conv, vec![message("b")]).await), [2]);
}

#[tokio::test]
async fn a_panic_of_the_engine_leaves_no_dead_conversation() {
    let (gather, engine, conv) = bed();
    engine.passes.add_permits(2);
    assert!(matches!(gather.append(&conv, vec![message("panic")]).await[..], [Err(StoreError::Unavailable(_))]));
    assert_eq!(seqs(gather.append(&conv, vec![message("a")]).await), [1]);
}

#[tokio::test]
async fn more_than_may_wait_is_refused() {
    let (gather, _engine, conv) = bed();
    let mut waiting = Vec::new();
    for _ in 0..=WAITING / BATCH_ROWS {
        let batch = vec![message("a"); BATCH_ROWS];
        let mut append = Box::pin(gather.append(&conv, batch));
        let answer = append.as_mut().now_or_never();
        tokio::task::yield_now().await;
        assert!(answer.is_none());
        waiting.push(append);
    }
    assert!(matches!(gather.append(&conv, vec![message("b")]).await[..], [Err(StoreError::Unavailable(_))]));
}

/// The race of an append that comes after the last task of its conversation took it out and before that task is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_leaves_the_next_one_alone() {
    const APPENDS: usize = 20_000;
    let (gather, engine, conv) = bed();
    engine.passes.add_permits(APPENDS);
    let here = tokio::runtime::Handle::current();
    // Not a task: it must not wait for a turn on the threads of those that end.
    let appending = tokio::task::spawn_blocking(move || {
        for n in 0..APPENDS {
            assert!(here.block_on(gather.append(&conv, vec![message(&n.to_string())]))[0].is_ok(), "append {n}");
            for _ in 0..n % 400 {
                std::hint::spin_loop();
            }
        }
    });
    appending.await.unwrap();
}
