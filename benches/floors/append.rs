//! Appends to the embedded store, durable. Their floor is to write the same bytes to a file and to wait for the disk.

use std::{
    fs::File,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use divan::{Bencher, counter::ItemsCount};
use futures_util::future::join_all;
use natter::{
    model::{Body, Cid, ConvId, NewMessage, UserId, now_millis},
    store::{
        Logs as _,
        embedded::{EmbeddedOptions, EmbeddedStore},
    },
};
use tokio::runtime::Runtime;

/// Conversations that append at the same moment.
const AT_ONCE: [usize; 3] = [1, 16, 256];
/// About what a message with a body of 200 bytes is on the disk.
const ROW: usize = 300;

fn message() -> NewMessage {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let cid = Cid::new(&format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed))).expect("a cid");
    let sender = UserId::new("alice").expect("a user's name");
    NewMessage::of_user(sender, cid, now_millis(), Body::text(&"x".repeat(200)))
}

#[divan::bench(args = AT_ONCE)]
fn append(bencher: Bencher<'_, '_>, at_once: usize) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let store = runtime.block_on(async { EmbeddedStore::open(folder.path(), EmbeddedOptions::default()) });
    let store: Arc<EmbeddedStore> = store.expect("a store");
    let convs: Vec<_> = (0..at_once).map(|n| ConvId::new(&format!("dm:alice:bob{n}")).expect("its name")).collect();
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        runtime.block_on(async {
            let appends = convs.iter().map(|conv| store.append(conv, vec![message()]));
            assert!(join_all(appends).await.iter().flatten().all(Result::is_ok), "an append failed");
        });
    });
}

#[divan::bench(args = AT_ONCE)]
fn floor_of_append_a_write_and_fdatasync(bencher: Bencher<'_, '_>, at_once: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mut file = File::create(folder.path().join("log")).expect("a file");
    let bytes = vec![7; ROW * at_once];
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        file.write_all(&bytes).expect("a write");
        file.sync_data().expect("a sync");
    });
}
