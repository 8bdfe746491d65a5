use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::*;
use crate::{
    model::{Body, Cid, UserId},
    store::embedded::{EmbeddedOptions, EmbeddedStore},
};

fn message(cid: &str, body: &str) -> NewMessage {
    NewMessage {
        sender: UserId::new("alice").unwrap(),
        cid: Cid::new(cid).unwrap(),
        ts: 1,
        body: Body::text(body),
        read_upto: 0,
    }
}

struct Bench {
    appender: Appender,
    conv: ConvId,
    published: Arc<AtomicUsize>,
    answers: (mpsc::UnboundedSender<StoreResult<Appended>>, mpsc::UnboundedReceiver<StoreResult<Appended>>),
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("store"), EmbeddedOptions::default()).unwrap();
        let published = Arc::new(AtomicUsize::new(0));
        let count = published.clone();
        let on_appended: OnAppended = Arc::new(move |_, batch| {
            count.fetch_add(batch.len(), Ordering::SeqCst);
        });
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        Self {
            appender: Appender::new(store, on_appended),
            conv: ConvId::direct(&alice, &bob),
            published,
            answers: mpsc::unbounded_channel(),
            _folder: folder,
        }
    }

    fn submit(&self, message: NewMessage) {
        let answers = self.answers.0.clone();
        let on_stored = Box::new(move |result: &StoreResult<Appended>| drop(answers.send(result.clone())));
        self.appender.submit(self.conv.clone(), message, on_stored);
    }
}

/// A try that meets its twin waiting or in flight shares its answer and is not stored or published again.
#[tokio::test]
async fn tries_of_one_message_join() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.submit(message("one", "hi"));
    }
    bench.appender.idle().await;
    for _ in 0..100 {
        assert_eq!(bench.answers.1.recv().await.unwrap().unwrap().seq, 1);
    }
    assert_eq!(bench.published.load(Ordering::SeqCst), 1, "joined, not stored again");
}

/// The same cid with another body does not join: the store says so.
#[tokio::test]
async fn another_body_is_refused() {
    let mut bench = Bench::new();
    bench.submit(message("one", "hi"));
    bench.submit(message("one", "ho"));
    bench.appender.idle().await;
    let mut answers = [bench.answers.1.recv().await.unwrap(), bench.answers.1.recv().await.unwrap()];
    answers.sort_by_key(Result::is_err);
    assert_eq!(answers[0].as_ref().unwrap().seq, 1);
    assert_eq!(answers[1], Err(StoreError::CidReused { seq: 1 }));
}

/// Order of arrival is order in the log, across batches and their limits in rows and bytes.
#[tokio::test]
async fn a_flood_keeps_its_order() {
    let mut bench = Bench::new();
    let large = "x".repeat(40 << 10);
    for n in 0..600 {
        bench.submit(message(&format!("m{n}"), if n % 10 == 0 { &large } else { "small" }));
    }
    for n in 0..600 {
        let appended = bench.answers.1.recv().await.unwrap().unwrap();
        assert_eq!(appended.seq, n + 1);
        assert!(appended.fresh);
    }
    bench.appender.idle().await;
    assert!(bench.appender.0.shards.iter().all(|shard| shard.lock().is_empty()), "no slot stays behind");
}

/// A full queue refuses at once and says that a retry helps.
#[tokio::test]
async fn a_full_queue_refuses() {
    let mut bench = Bench::new();
    // Nothing is polled before the first await, so all of these wait.
    for n in 0..=WAITING + 1 {
        bench.submit(message(&format!("m{n}"), "hi"));
    }
    let first = bench.answers.1.try_recv().unwrap();
    assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
    bench.appender.idle().await;
}
