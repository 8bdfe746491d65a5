use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::{
    metrics::Metrics,
    model::{Body, Cid, Row, Seq, UserId},
    overload::{Limits, LineLimits},
    store::{
        Span, StoreFuture,
        embedded::{EmbeddedOptions, EmbeddedStore},
    },
};

/// The store behind a gate: appends wait while it is closed, and panic where the body asks for it.
struct Gated {
    store: Arc<EmbeddedStore>,
    open: watch::Sender<bool>,
}

impl Logs for Gated {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        Box::pin(async move {
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            assert!(batch.iter().all(|message| message.body != Body::text("panic")), "as the test asks");
            self.store.append(conv, batch).await
        })
    }
    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.store.read_after(conv, after, span)
    }
    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.store.read_before(conv, before, span)
    }
    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.store.top(conv)
    }
}

fn overload() -> Overload {
    let lines = [LineLimits { at_once: usize::MAX, waiting: 1_000 }; 4];
    let limits = Limits { in_flight: 8_192, lines, rows_per_sec: 50_000, recovery_per_sec: 500 };
    Overload::new(limits, Metrics::new("n1"))
}

fn message(cid: &str, body: &str) -> NewMessage {
    NewMessage::of_user(UserId::new("alice").unwrap(), Cid::new(cid).unwrap(), 1, Body::text(body))
}

struct Bench {
    appender: Appender,
    logs: Arc<Gated>,
    bytes: WaitingBytes,
    conv: ConvId,
    published: Arc<AtomicUsize>,
    answers: (mpsc::UnboundedSender<StoreResult<Appended>>, mpsc::UnboundedReceiver<StoreResult<Appended>>),
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with_bytes(usize::MAX)
    }

    fn with_bytes(most: usize) -> Self {
        let bytes = WaitingBytes::new(most);
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("store"), EmbeddedOptions::default()).unwrap();
        let published = Arc::new(AtomicUsize::new(0));
        let count = published.clone();
        let on_appended: OnAppended = Arc::new(move |_, batch| {
            count.fetch_add(batch.len(), Ordering::SeqCst);
        });
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let logs = Arc::new(Gated { store, open: watch::Sender::new(true) });
        Self {
            appender: Appender::new(logs.clone(), on_appended, overload(), bytes.clone()),
            logs,
            bytes,
            conv: ConvId::direct(&alice, &bob),
            published,
            answers: mpsc::unbounded_channel(),
            _folder: folder,
        }
    }

    async fn answer(&mut self) -> StoreResult<Appended> {
        let answer = tokio::time::timeout(std::time::Duration::from_secs(30), self.answers.1.recv()).await;
        answer.expect("nobody answers").unwrap()
    }

    fn submit(&self, message: NewMessage) {
        let answers = self.answers.0.clone();
        let on_stored = Box::new(move |result: &StoreResult<Appended>| drop(answers.send(result.clone())));
        self.appender.submit(self.conv.clone(), message, on_stored);
    }
}

/// Stores at once, and nothing.
struct Immediate(AtomicUsize);

impl Logs for Immediate {
    fn append<'a>(&'a self, _: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        let appended = |_| {
            let seq = self.0.fetch_add(1, Ordering::SeqCst) as Seq + 1;
            Ok(Appended { seq, ts: 1, fresh: true, expires: None })
        };
        Box::pin(std::future::ready(batch.into_iter().map(appended).collect()))
    }
    fn read_after<'a>(&'a self, _: &'a ConvId, _: Seq, _: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    fn read_before<'a>(&'a self, _: &'a ConvId, _: Seq, _: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    fn top<'a>(&'a self, _: &'a ConvId) -> StoreFuture<'a, Seq> {
        Box::pin(std::future::ready(Ok(0)))
    }
}

/// The race of a send that comes after the last task of its conversation has given its slot up and before that task is
/// gone: nobody may take the new slot for the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_leaves_the_next_one_alone() {
    const SENDS: usize = 30_000;
    let bench = Bench::new();
    let published = bench.published.clone();
    let count = published.clone();
    let on_appended: OnAppended = Arc::new(move |_, batch| {
        count.fetch_add(batch.len(), Ordering::SeqCst);
    });
    let logs = Arc::new(Immediate(AtomicUsize::new(0)));
    let appender = Appender::new(logs, on_appended, overload(), bench.bytes.clone());
    let refused = Arc::new(AtomicUsize::new(0));
    let conv = bench.conv.clone();
    let sending = {
        let (appender, refused) = (appender.clone(), refused.clone());
        // Not a task: it must not wait for a turn on the threads of those that end.
        tokio::task::spawn_blocking(move || {
            for n in 0..SENDS {
                let answered = Arc::new(AtomicUsize::new(0));
                let (told, refused) = (answered.clone(), refused.clone());
                let on_stored = Box::new(move |result: &StoreResult<Appended>| {
                    refused.fetch_add(usize::from(result.is_err()), Ordering::SeqCst);
                    told.store(1, Ordering::SeqCst);
                });
                appender.submit(conv.clone(), message(&n.to_string(), "hi"), on_stored);
                // Some the moment they are answered, some a little later.
                while answered.load(Ordering::SeqCst) == 0 {
                    std::hint::spin_loop();
                }
                for _ in 0..n % 400 {
                    std::hint::spin_loop();
                }
            }
        })
    };
    sending.await.unwrap();
    appender.idle().await;
    assert_eq!((refused.load(Ordering::SeqCst), published.load(Ordering::SeqCst)), (0, SENDS));
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

/// However many wait, a second try finds the first.
#[tokio::test]
async fn a_twin_is_found_wherever_it_stands() {
    let mut bench = Bench::new();
    for n in 0..WAITING {
        bench.submit(message(&format!("m{n}"), "hi"));
    }
    for n in (0..WAITING).rev() {
        bench.submit(message(&format!("m{n}"), "hi"));
    }
    bench.appender.idle().await;
    let mut seqs = vec![0; WAITING + 1];
    for _ in 0..2 * WAITING {
        seqs[bench.answer().await.unwrap().seq as usize] += 1;
    }
    assert!(seqs[0] == 0 && seqs[1..].iter().all(|times| *times == 2), "{seqs:?}");
    assert_eq!(bench.published.load(Ordering::SeqCst), WAITING);
}

/// A try that comes while its twin is in flight joins it, also when others were answered before.
#[tokio::test]
async fn a_twin_in_flight_is_joined() {
    let mut bench = Bench::new();
    for round in 0..3 {
        bench.logs.open.send_replace(false);
        let message = message(&format!("m{round}"), "hi");
        bench.submit(message.clone());
        tokio::task::yield_now().await;
        bench.submit(message);
        bench.logs.open.send_replace(true);
        let answers = [bench.answer().await.unwrap(), bench.answer().await.unwrap()];
        assert!(answers.iter().all(|appended| appended.seq == round + 1 && appended.fresh), "{answers:?}");
    }
}

/// What waits for a store that stalls is bounded in bytes, over all conversations; the rest is refused at once.
#[tokio::test]
async fn a_store_that_stalls_fills_no_memory() {
    const BUDGET: usize = 1 << 20;
    let mut bench = Bench::with_bytes(BUDGET);
    bench.logs.open.send_replace(false);
    let body = "x".repeat(10 << 10);
    let mut refused = 0;
    for n in 0..1_000 {
        bench.conv = ConvId::direct(&UserId::new("alice").unwrap(), &UserId::new(&format!("bob{n}")).unwrap());
        bench.submit(message(&format!("m{n}"), &body));
        // A repetition holds no second body.
        bench.submit(message(&format!("m{n}"), &body));
        assert!(bench.bytes.held() <= BUDGET, "{} bytes wait", bench.bytes.held());
        tokio::task::yield_now().await;
    }
    while let Ok(answer) = bench.answers.1.try_recv() {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        refused += 1;
    }
    let taken = 2_000 - refused;
    assert!((160..=210).contains(&taken), "{taken} were taken");
    bench.logs.open.send_replace(true);
    bench.appender.idle().await;
    for _ in 0..taken {
        bench.answer().await.unwrap();
    }
    assert_eq!(bench.bytes.held(), 0);
    bench.submit(message("again", &body));
    bench.answer().await.unwrap();
}

/// A panic in the store costs the sends of its conversation, which are told to try again, and nothing stays behind.
#[tokio::test]
async fn a_panic_leaves_no_dead_conversation() {
    let mut bench = Bench::new();
    bench.logs.open.send_replace(false);
    bench.submit(message("one", "panic"));
    tokio::task::yield_now().await;
    bench.submit(message("two", "waits for the next batch"));
    bench.logs.open.send_replace(true);
    for _ in 0..2 {
        let answer = bench.answer().await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    bench.submit(message("two", "waits for the next batch"));
    assert_eq!(bench.answer().await.unwrap().seq, 1);
    bench.appender.idle().await;
    assert_eq!(bench.bytes.held(), 0);
}

/// Whose callback panics gets no answer; everybody else does.
#[tokio::test]
async fn a_callback_that_panics_costs_its_own_send_only() {
    let mut bench = Bench::new();
    let panics: OnStored = Box::new(|_| panic!("as the test asks"));
    bench.appender.submit(bench.conv.clone(), message("one", "hi"), panics);
    bench.submit(message("two", "hi"));
    bench.submit(message("three", "hi"));
    assert_eq!((bench.answer().await.unwrap().seq, bench.answer().await.unwrap().seq), (2, 3));
    bench.appender.idle().await;
    assert_eq!((bench.bytes.held(), bench.published.load(Ordering::SeqCst)), (0, 3));
}
