//! The design that natter replaces, as a server to be measured with the same load: a registry says which node a user is on, and
//! the sender's node forwards the message there over HTTP. Two nodes, a registry that speaks the protocol of Redis, and natter's
//! own embedded store, so that `sent` means the same; of the rest as little as the load needs, all in its favour: tokens are not
//! checked, nothing is caught up, acknowledgements are thrown away, and messages that wait for one recipient are forwarded together.
//!
//! ```sh
//! cargo bench --bench registry                              # prints where it listens, and the command that measures it
//! cargo bench --bench registry -- --redis 127.0.0.1:6379    # with a Redis, or whatever speaks its protocol
//! ```
//!
//! It ends by itself after ten minutes.

mod node;
mod resp;

use std::{sync::Arc, time::Duration};

use natter::store::embedded::{EmbeddedOptions, EmbeddedStore};
use tokio::net::TcpListener;

/// As in the `natter` program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Nobody forgets it for longer.
const LIFE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--redis");
    let redis = match args.nth(1) {
        Some(address) => address,
        None => resp::serve().await,
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let store = EmbeddedStore::open(folder.path(), EmbeddedOptions::default()).expect("a store");
    let mut urls = Vec::new();
    for _ in 0..2 {
        let (sockets, forwards) = (listen().await, listen().await);
        urls.push(format!("--url ws://{}", sockets.local_addr().expect("an address")));
        let registry = resp::Client::connect(&redis).await;
        tokio::spawn(Arc::new(node::Node::new(store.clone(), registry, &forwards)).run(sockets, forwards));
    }
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "any-secret-will-do-because-nobody-checks").expect("a file");
    println!("registry and forward, process {}: measure it with", std::process::id());
    println!("natter bench dm {} --secret-file {} --pid {}", urls.join(" "), secret.display(), std::process::id());
    tokio::time::sleep(LIFE).await;
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}
