//! What a login costs the CQL server: pages of two partitions, however many conversations there are.

use natter::{
    model::{Body, Cid, NewMessage, UserId},
    protocol::Encoding,
    store::Logs as _,
};

use super::{fleet::Fleet, people::direct};
use crate::{
    harness::{cassandra::Cassandra, until},
    mesh::Peer,
};

const CONVS: usize = 100;
const LOGINS: usize = 10;

/// The connection's number, read and written, the device's row, a page of heads and a page of cursors; the second look may fall into the count as well.
const REQUESTS: f64 = 10.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_reads_pages_and_not_conversations() {
    let options = Cassandra::shared().await.migrated().await;
    let (fleet, _nats, _folder) = Fleet::simple(1, &options).await;
    for i in 0..CONVS {
        let peer = format!("peer{i}");
        let message = NewMessage {
            sender: UserId::new(&peer).unwrap(),
            cid: Cid::new("c").unwrap(),
            ts: 1,
            body: Body::text("hi"),
            read_upto: 0,
        };
        let appended = fleet.store.append(&direct(&peer, "reader"), vec![message]).await;
        assert_eq!(appended[0].as_ref().unwrap().seq, 1);
    }
    let url = fleet.nodes[0].url();
    let first = Peer::join(&url, "reader", "d", Encoding::Json).await;
    first.caught_up().await;
    assert_eq!(first.messages().len(), CONVS);
    // The cursors are written when the session ends, at the latest.
    drop(first);
    let login = async || {
        let peer = Peer::join(&url, "reader", "d", Encoding::Json).await;
        peer.caught_up().await;
        let again = peer.messages().len();
        drop(peer);
        again
    };
    until("all cursors are stored", async || login().await == 0).await;
    let before = fleet.metric(0, "natter_store_requests_total").await;
    for _ in 0..LOGINS {
        assert_eq!(login().await, 0);
    }
    let each = (fleet.metric(0, "natter_store_requests_total").await - before) / LOGINS as f64;
    println!("{each} requests per login of a device with {CONVS} conversations and nothing missed");
    assert!(each > 0.0 && each <= REQUESTS, "{each} requests per login");
}
