//! The embedded store under seals: the contract of all stores holds as it does without them, second tries are known again
//! whatever key they are sealed with, and the raw files tell nobody anything.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use natter::{
    model::{Body, Cid, ConvId, Millis, NewMessage, UserId},
    sealing::{Masters, Sealing, Settings},
    store::{
        Engine as _, Keys, Span, Store, StoreError, StoreFuture,
        embedded::{EmbeddedOptions, EmbeddedStore, backup::restore},
        keys::Month,
    },
};

use super::{Embedded, fresh};
use crate::store::contract::{Bed, WHOLE, user};

store_contract!(contract, crate::store::embedded::sealed::fresh_sealed);
room_contract!(room_contract, crate::store::embedded::sealed::fresh_sealed);
kind_contract!(kind_contract, crate::store::embedded::sealed::fresh_sealed);

/// Words that stand nowhere else.
const WORDS: &str = "the-quick-brown-secret-fox";
const MONTH: Millis = 30 * 24 * 3_600 * 1_000;

pub struct Sealed(Embedded);

pub async fn fresh_sealed() -> Sealed {
    Sealed(fresh().await)
}

impl Bed for Sealed {
    /// Three bytes that MessagePack puts before it, what says how it is sealed, and the tag.
    const BESIDE_BODY: usize = 3 + 3 + 16;

    fn store(&self) -> Store {
        over(self.0.store(), true, &[7])
    }

    async fn reopen(&mut self) {
        self.0.reopen().await;
    }
}

/// The store under seals; `masters` by their bytes.
fn over(store: Store, on: bool, masters: &[u8]) -> Store {
    sealing(store, on, masters).0
}

fn sealing(store: Store, on: bool, masters: &[u8]) -> (Store, Sealing) {
    let masters: Vec<_> = masters.iter().map(|byte| [*byte; 32]).collect();
    Sealing::over(store, Settings { on, masters: Masters::new(&masters), known_for: Duration::from_secs(30) })
}

fn message(cid: &str, ts: Millis, text: &str) -> NewMessage {
    NewMessage::of_user(user("alice"), Cid::new(cid).unwrap(), ts, Body::text(text))
}

fn conv() -> ConvId {
    ConvId::direct(&user("alice"), &user("bob"))
}

async fn append(store: &Store, message: NewMessage) -> Result<(u64, bool), StoreError> {
    let appended = store.logs.append(&conv(), vec![message]).await.pop().unwrap()?;
    Ok((appended.seq, appended.fresh))
}

async fn bodies(store: &Store) -> Vec<Body> {
    store.logs.read_after(&conv(), 0, WHOLE).await.unwrap().into_iter().map(|row| row.body).collect()
}

/// Whether any file below a folder has these bytes in it.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(Result::unwrap).any(|entry| {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => holds(&path, bytes),
            kind if kind.is_file() => std::fs::read(&path).unwrap().windows(bytes.len()).any(|part| part == bytes),
            _ => false,
        }
    })
}

#[tokio::test]
async fn a_second_try_is_known_whatever_it_is_sealed_with() {
    let bed = fresh().await;
    let (plain, sealed) = (over(bed.store(), false, &[]), over(bed.store(), true, &[]));
    // The month ends between the two; or sealing was turned on.
    assert_eq!(append(&sealed, message("c1", MONTH - 1, "one")).await, Ok((1, true)));
    assert_eq!(append(&plain, message("c2", MONTH, "two")).await, Ok((2, true)));
    for (cid, text, seq) in [("c1", "one", 1), ("c2", "two", 2)] {
        assert_eq!(append(&sealed, message(cid, MONTH, text)).await, Ok((seq, false)));
        let other = append(&sealed, message(cid, MONTH, "something else")).await;
        assert!(matches!(other, Err(StoreError::CidReused { seq: at }) if at == seq), "{other:?}");
    }
    // In one batch, each is answered in its place.
    let batch = [("c3", "three"), ("c1", "one"), ("c2", "wrong"), ("c3", "three")];
    let batch = batch.map(|(cid, text)| message(cid, 2 * MONTH, text)).to_vec();
    let answers = sealed.logs.append(&conv(), batch).await;
    let seqs: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|appended| appended.seq)).collect();
    assert!(matches!(seqs[..], [Ok(3), Ok(1), Err(StoreError::CidReused { seq: 2 }), Ok(3)]), "{seqs:?}");
    assert_eq!(bodies(&sealed).await, ["one", "two", "three"].map(Body::text));
    // Without seals, what is sealed is opened all the same.
    assert_eq!(bodies(&plain).await, ["one", "two", "three"].map(Body::text));
}

#[tokio::test]
async fn an_erasure_leaves_nothing_in_the_files_with_which_a_body_opens() {
    let bed = fresh().await;
    let (store, sealing) = sealing(bed.store(), true, &[]);
    for (n, text) in [WORDS, "and more"].iter().enumerate() {
        append(&store, message(&format!("c{n}"), n as u64 * MONTH, text)).await.unwrap();
    }
    let months = [0, 1].map(natter::store::keys::Month);
    let mut kept = Vec::new();
    for month in months {
        kept.push(bed.store().keys.key(&user("alice"), month).await.unwrap().unwrap());
    }
    assert!(kept.iter().all(|key| holds(bed.dir.path(), &key[1..])), "the keys are in some file");
    assert!(!holds(bed.dir.path(), WORDS.as_bytes()), "the words are in no file");
    assert_eq!(sealing.erase(&user("alice")).await, Ok(2));
    assert!(kept.iter().all(|key| !holds(bed.dir.path(), &key[1..])), "they are gone while the store is open");
    assert!(bodies(&store).await.iter().all(Body::is_sealed));
    // What is said afterwards is said under another key.
    append(&store, message("c9", MONTH, "again")).await.unwrap();
    let after = bodies(&store).await;
    assert!(after[..2].iter().all(Body::is_sealed) && after[2] == Body::text("again"));
}

/// Several nodes make the first key of a user at the same moment: each seals with the one that stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_make_a_key_at_once_all_seal_with_the_same() {
    let bed = fresh().await;
    for month in 0..10 {
        let nodes: Vec<_> = (0..4).map(|_| over(bed.store(), true, &[])).collect();
        let tries = nodes
            .iter()
            .enumerate()
            .map(|(n, node)| append(node, message(&format!("c{month}-{n}"), month * MONTH, "readable")));
        for appended in futures_util::future::join_all(tries).await {
            appended.unwrap();
        }
    }
    assert!(bodies(&over(bed.store(), true, &[])).await.iter().all(|body| *body == Body::text("readable")));
}

/// A store that gives no keys, and how often it was asked.
struct NoKeys(AtomicUsize);

impl Keys for NoKeys {
    fn key<'a>(&'a self, _: &'a UserId, _: Month) -> StoreFuture<'a, Option<Vec<u8>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err(StoreError::Unavailable("the test gives no keys".into())) })
    }

    fn keep_key<'a>(&'a self, _: &'a UserId, _: Month, _: Vec<u8>) -> StoreFuture<'a, Vec<u8>> {
        Box::pin(async { Err(StoreError::Unavailable("the test keeps no keys".into())) })
    }

    fn destroy_keys<'a>(&'a self, _: &'a UserId) -> StoreFuture<'a, u64> {
        Box::pin(async { Err(StoreError::Unavailable("the test destroys no keys".into())) })
    }
}

#[tokio::test]
async fn a_batch_whose_key_cannot_be_read_waits_for_it_once() {
    let (bed, keys) = (fresh().await, Arc::new(NoKeys(AtomicUsize::new(0))));
    let store = over(Store { keys: keys.clone(), ..bed.store() }, true, &[]);
    let batch = (0..10).map(|n| message(&format!("c{n}"), 1, "no")).collect();
    let answers = store.logs.append(&conv(), batch).await;
    assert!(
        answers.len() == 10 && answers.iter().all(|one| matches!(one, Err(StoreError::Unavailable(_)))),
        "{answers:?}"
    );
    assert_eq!((keys.0.load(Ordering::Relaxed), bed.store().logs.top(&conv()).await), (1, Ok(0)));
}

/// Two nodes on one store. The second one has read that there is no key, and goes by what it read.
#[tokio::test]
async fn what_is_said_after_an_erasure_is_not_taken_for_erased() {
    let bed = fresh().await;
    let (first, second) = (sealing(bed.store(), true, &[]), over(bed.store(), true, &[]));
    append(&first.0, message("c1", 1, "before")).await.unwrap();
    assert_eq!(bodies(&second).await, [Body::text("before")]);
    first.1.erase(&user("alice")).await.unwrap();
    append(&first.0, message("c2", 1, "after")).await.unwrap();
    // It still knows the key that was destroyed; the other one it has to read.
    assert_eq!(bodies(&second).await, ["before", "after"].map(Body::text));
    first.1.erase(&user("alice")).await.unwrap();
    assert!(bodies(&over(bed.store(), true, &[])).await.iter().all(Body::is_sealed));
    let third = over(bed.store(), true, &[]);
    assert!(bodies(&third).await.iter().all(Body::is_sealed), "it knows now that there is none");
    append(&first.0, message("c3", 1, "once more")).await.unwrap();
    assert_eq!(bodies(&third).await.pop(), Some(Body::text("once more")));
}

#[tokio::test]
async fn without_the_master_key_nothing_is_read_and_nothing_taken_for_erased() {
    let mut bed = fresh().await;
    let store = over(bed.store(), true, &[1]);
    append(&store, message("c1", 1, WORDS)).await.unwrap();
    let kept = bed.store().keys.key(&user("alice"), natter::store::keys::Month(0)).await.unwrap().unwrap();
    bed.reopen().await;
    for wrong in [&[2][..], &[]] {
        let store = over(bed.store(), true, wrong);
        let read = store.logs.read_after(&conv(), 0, WHOLE).await;
        assert!(matches!(&read, Err(StoreError::Unavailable(_))), "{read:?}");
        assert!(
            append(&store, message("c2", 1, "no")).await.is_err(),
            "nor is anything written that nobody could read"
        );
    }
    // A new one before the old one.
    let store = over(bed.store(), true, &[2, 1]);
    assert_eq!(bodies(&store).await, [Body::text(WORDS)]);
    append(&store, message("c3", MONTH, "under the new one")).await.unwrap();
    assert_eq!(bodies(&over(bed.store(), true, &[2, 1])).await.len(), 2);
    assert_ne!(bed.store().keys.key(&user("alice"), natter::store::keys::Month(1)).await.unwrap(), Some(kept));
}

#[tokio::test]
async fn a_store_whose_keys_are_missing_does_not_open_as_if_all_were_erased() {
    let mut bed = fresh().await;
    append(&over(bed.store(), true, &[]), message("c1", 1, WORDS)).await.unwrap();
    bed.store.take().unwrap().close().await.unwrap();
    let (file, aside) = (bed.dir.path().join("KEYS"), bed.dir.path().with_extension("aside"));
    std::fs::rename(&file, &aside).unwrap();
    let refused = EmbeddedStore::open(bed.dir.path(), EmbeddedOptions::default()).expect_err("it must be refused");
    assert!(refused.to_string().contains("KEYS is missing"), "{refused}");
    std::fs::rename(&aside, &file).unwrap();
    bed.store = Some(super::open(bed.dir.path()));
    assert_eq!(bodies(&over(bed.store(), true, &[])).await, [Body::text(WORDS)]);
}

#[tokio::test]
async fn a_backup_opens_what_it_holds() {
    let bed = fresh().await;
    append(&over(bed.store(), true, &[]), message("c1", 1, WORDS)).await.unwrap();
    // An erased user's keys are in no backup that is made afterwards.
    let carol = NewMessage { sender: user("carol"), ..message("c1", 1, "carol's words") };
    let theirs = ConvId::direct(&user("carol"), &user("bob"));
    let (store, sealing) = sealing(bed.store(), true, &[]);
    store.logs.append(&theirs, vec![carol]).await.pop().unwrap().unwrap();
    sealing.erase(&user("carol")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, dir) = (folder.path().join("backup"), folder.path().join("store"));
    bed.store.as_ref().unwrap().back_up(std::fs::File::create(&file).unwrap()).unwrap();
    assert!(!std::fs::read(&file).unwrap().windows(WORDS.len()).any(|part| part == WORDS.as_bytes()));
    restore(&file, &dir, EmbeddedOptions::default()).unwrap();
    let restored = over(Store::of(EmbeddedStore::open(&dir, EmbeddedOptions::default()).unwrap()), true, &[]);
    assert_eq!(bodies(&restored).await, [Body::text(WORDS)]);
    let gone = restored.logs.read_after(&theirs, 0, Span { rows: 1, bytes: 1 }).await.unwrap();
    assert!(gone[0].body.is_sealed());
}
