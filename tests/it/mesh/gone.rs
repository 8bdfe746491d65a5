//! What a client asked for and does not wait for any more.

use natter::{protocol::client::Outgoing, store::Store};

use super::{TestMesh, held::HeldLogs};
use crate::harness::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_client_that_is_gone_are_dropped() {
    let mut mesh = TestMesh::bare(|_| ()).await;
    let logs = HeldLogs::before(mesh.store.clone());
    let store = logs.of(Store::of(mesh.store.clone()));
    let nats = mesh.nats.client_url();
    mesh.add_node_on(nats, store).await;
    let alice = mesh.json(0, "alice", "d").await;
    alice.send("@bob", "m1", "x").await;
    alice.message("dm:alice:bob", 1).await; // the page that the session itself reads is behind it
    logs.hold();
    // Fewer than fill the session: it still reads, and so sees the end.
    for reference in 100..103 {
        let (conv, after) = ("dm:alice:bob", Some(0));
        alice.say(&Outgoing::History {
            reference: Some(reference),
            conv,
            before: None,
            after,
            around: None,
            limit: 10,
            raw: true,
        });
    }
    until("the pages are being read", async || logs.waiting() == 3).await;
    alice.cut();
    until("nobody reads them any more", async || logs.waiting() == 0).await;
}
