//! A full disk: the store refuses every further write, says so, and can still be read.

use natter::{
    model::{Body, NewMessage},
    store::{
        Engine as _, Store, StoreError,
        embedded::{EmbeddedOptions, EmbeddedStore},
    },
};
use rand::{RngExt, SeedableRng, distr::Alphanumeric, rngs::StdRng};

use super::{child, open};
use crate::store::contract::{MOST, WHOLE, append, device, dm, log, mark_at, message, user};

/// Where the disk "ends", in bytes of any one file. The engine's journal reaches it with the 16th large body.
const DISK: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_nothing_more_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child::start("faults::writes_until_the_disk_is_full", dir.path());
    let answered: u64 = child.line_after("answered").await.parse().unwrap();
    assert!(child.ended().await.success(), "the child failed, see its log");
    // The disk has room again and natter is restarted: everything that was answered is there, and writes are accepted.
    let (store, conv) = (open(dir.path()), dm("alice", "bob"));
    store.health().await.unwrap();
    let rows = log(&*store, &conv).await;
    assert!(rows.len() as u64 >= answered, "{} of {answered}", rows.len());
    let again = append(&*store, &conv, large(answered - 1)).await.unwrap();
    assert_eq!((again.seq, again.fresh), (answered, false));
    let next = append(&*store, &conv, message("bob", "next")).await.unwrap();
    assert_eq!((next.seq, next.fresh), (rows.len() as u64 + 1, true));
}

#[tokio::test]
async fn a_store_on_a_full_disk_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    append(&*open(dir.path()), &dm("alice", "bob"), message("alice", "m")).await.unwrap();
    let mut child = child::start("faults::opens_on_a_full_disk", dir.path());
    let refusal = child.line_after("refused").await;
    assert!(refusal.contains("cannot write to the disk"), "{refusal}");
    assert!(child.ended().await.success(), "the child failed, see its log");
    assert_eq!(log(&*open(dir.path()), &dm("alice", "bob")).await.len(), 1, "there is room again");
}

#[test]
#[ignore = "a child process of a_store_on_a_full_disk_does_not_open"]
fn opens_on_a_full_disk() {
    let Some(dir) = child::dir() else { return };
    limit_file_size();
    let refusal = EmbeddedStore::open(&dir, EmbeddedOptions::default()).expect_err("there is no room");
    println!("\nrefused {refusal}");
}

/// A body that the engine cannot compress (it only looks for repetitions), the same for the same `n`.
fn large(n: u64) -> NewMessage {
    let mut noise = StdRng::seed_from_u64(n);
    let text: String = (0..65_533).map(|_| char::from(noise.sample(Alphanumeric))).collect();
    NewMessage { body: Body::text(&text), ..message("alice", &format!("m{n}")) }
}

#[test]
#[ignore = "a child process of after_a_failed_write_nothing_more_is_taken"]
fn writes_until_the_disk_is_full() {
    let Some(dir) = child::dir() else { return };
    let store = Store::of(open(&dir));
    limit_file_size();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answered = runtime.block_on(async {
        let answered = write_until_refused(&store).await;
        expect_refusals(&store, answered).await;
        answered
    });
    println!("\nanswered {answered}");
}

/// Makes writes beyond the first MiB of a file fail with an error, as a full disk does.
fn limit_file_size() {
    let limit = libc::rlimit { rlim_cur: DISK, rlim_max: DISK };
    // SAFETY: both calls take plain values; this process runs nothing else.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

async fn write_until_refused(store: &Store) -> u64 {
    let conv = dm("alice", "bob");
    for n in 0..100 {
        match append(&*store.logs, &conv, large(n)).await {
            Ok(answer) => assert_eq!(answer.seq, n + 1),
            Err(StoreError::Unavailable(_)) if n > 0 => return n,
            Err(error) => panic!("{error:?} for message {n}"),
        }
    }
    panic!("the disk never ended");
}

async fn expect_refusals(store: &Store, answered: u64) {
    let (conv, bob, phone) = (dm("alice", "bob"), user("bob"), device("bob", "phone"));
    let refused = |what: &str, error: StoreError| {
        let StoreError::Unavailable(cause) = error else { panic!("{what}: {error:?}") };
        assert!(cause.contains("a write failed"), "{what} must say why: {cause}");
    };
    // Small ones too, which the disk might still have accepted: nobody knows what is in the file by now.
    refused("append", append(&*store.logs, &conv, message("alice", "small")).await.unwrap_err());
    refused("append elsewhere", append(&*store.logs, &dm("bob", "carol"), message("bob", "small")).await.unwrap_err());
    refused("cursor", store.marks.raise_cursor(&phone, &conv, 1).await.unwrap_err());
    refused("read mark", store.marks.raise_read_mark(&bob, &conv, mark_at(1)).await.unwrap_err());
    refused("device", store.marks.enter(&phone, MOST).await.unwrap_err());
    refused("health", store.engine.health().await.unwrap_err());
    let rows = store.logs.read_after(&conv, 0, WHOLE).await.unwrap();
    assert_eq!(rows.len() as u64, answered, "what was answered can be read, what was refused cannot");
    assert_eq!(store.logs.top(&conv).await, Ok(answered));
    assert_eq!(store.marks.read_mark(&user("alice"), &conv).await, Ok(answered));
}
