//! Rules of the append and of the readers that no scenario shows on their own: each test here fails when its one rule
//! is broken and all others hold.

use scylla::client::{session::Session, session_builder::SessionBuilder};

use super::*;
use crate::harness::{
    cassandra::Cassandra,
    proxy::{Direction, Fault, Proxy},
    until,
};

/// A raw session on the server, for what only a test does.
pub(super) async fn plain(options: &ScyllaOptions) -> Session {
    SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap()
}

/// Takes one message row out of the log of alice and bob, as if it had not become visible yet.
pub(super) async fn hide(options: &ScyllaOptions, seq: Seq) {
    let (ks, bucket) = (&options.keyspace, i64::try_from((seq - 1) / BUCKET).unwrap());
    let cql = format!("DELETE FROM {ks}.messages WHERE conv = ? AND bucket = ? AND kind = 0 AND seq = ?");
    let key = (conv().as_str().to_owned(), bucket, i64::try_from(seq).unwrap());
    plain(options).await.query_unpaged(cql, key).await.unwrap();
}

/// R17: an insert that got no answer may never have arrived. It goes to the same seq again, or the log has a hole there.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_insert_leaves_no_hole() {
    let options = Cassandra::shared().await.lent().await;
    let slow = Proxy::to(Cassandra::shared().await.addr(0)).await;
    let a = connect(&ScyllaOptions { contact_points: vec![slow.addr().to_string()], ..options.clone() }).await;
    append_until_stored(&a, message("bob", "warm")).await;
    for round in 0..3 {
        slow.apply(Fault::Hold(Direction::ToServer));
        let asked = a.driver().counts().requests;
        let sending = tokio::spawn({
            let a = a.clone();
            async move { append_until_stored(&a, message("alice", &format!("x{round}"))).await }
        });
        until("the insert is on its way", async || a.driver().counts().requests > asked).await;
        slow.apply(Fault::Cut);
        let broken = a.read_mark(&user("bob"), &conv()).await;
        assert!(matches!(broken, Err(StoreError::Unavailable(_))), "{broken:?}");
        slow.heal();
        assert_eq!(sending.await.unwrap().seq, round + 2, "the insert went to another seq");
    }
    assert_eq!(whole_log(&*connect(&options).await).await.len(), 4);
}

/// R15: the last message of a bucket has the shortest protection. Its retry is recognised as long as the next bucket
/// has room, and no more is promised: one message later the log has moved on by two buckets.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_of_a_bucket_is_recognised_until_the_next_bucket_is_full() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    fill(&store, BUCKET - 1).await;
    assert_eq!(append(&store, message("alice", "x")).await.unwrap().seq, BUCKET);
    fill(&store, 2 * BUCKET - 1).await;
    let again = append(&*connect(&options).await, message("alice", "x")).await.unwrap();
    assert_eq!((again.seq, again.fresh), (BUCKET, false), "after {} later messages", BUCKET - 1);
    assert_eq!(whole_log(&store).await.len() as Seq, 2 * BUCKET - 1);
}

/// R18: a page ends before the first row that is missing, in the middle of a bucket and at its edge, and goes on when
/// the row is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_before_a_missing_row() {
    let options = Cassandra::shared().await.lent().await;
    fill(&*connect(&options).await, BUCKET + 6).await;
    let seqs = |rows: Vec<Row>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    for missing in [BUCKET - 3, BUCKET, BUCKET + 3] {
        let store = connect(&options).await;
        let (from, span) = (missing - 3, Span { rows: 6, bytes: usize::MAX });
        assert_eq!(
            seqs(store.read_after(&conv(), from, span).await.unwrap()),
            (from + 1..from + 7).collect::<Vec<_>>()
        );
        hide(&options, missing).await;
        let page = store.read_after(&conv(), from, span).await.unwrap();
        assert_eq!(seqs(page), [missing - 2, missing - 1], "row {missing} is missing");
        assert_eq!(store.read_after(&conv(), missing - 1, span).await.unwrap(), []);
        let back = store.read_before(&conv(), missing + 3, span).await;
        assert!(matches!(back, Err(StoreError::Unavailable(_))), "backwards over row {missing}: {back:?}");
    }
}

/// R19: every register is written at its own value as timestamp, without an expiry: so the largest value stays,
/// whatever the order of writes and whatever the clocks say.
#[tokio::test(flavor = "multi_thread")]
async fn registers_are_written_at_their_value() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    let mut phone = phone();
    fill(&store, 9).await;
    append(&store, message("alice", "x")).await.unwrap();
    append(&store, message("alice", "x")).await.unwrap();
    register(&***store, &mut phone).await.unwrap();
    store.raise_cursor(&phone, &conv(), 10).await.unwrap();
    store.raise_read_mark(&user("bob"), &conv(), mark_at(10)).await.unwrap();
    let session = plain(&options).await;
    let of_head = ["head", "ts", "sender", "cid", "row_kind", "preview", "head_first", "head_second"]
        .map(|column| ("head", column));
    let of_marks = [("read", "read"), ("read", "read_first"), ("read", "read_second"), ("delivered", "delivered")];
    let of_inbox = of_head.iter().chain(&of_marks).map(|(value, column)| ("inbox", *value, *column));
    for (table, value, column) in of_inbox.chain([("cursors", "seq", "seq"), ("inbox", "logins", "logins")]) {
        let ks = &options.keyspace;
        let cql = format!(
            "SELECT {value}, WRITETIME({column}), TTL({column}) FROM {ks}.{table} WHERE {value} > 0 ALLOW FILTERING"
        );
        let found = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
        type Read = (Option<i64>, Option<i64>, Option<i32>);
        let rows: Vec<_> = found.rows::<Read>().unwrap().map(Result::unwrap).filter(|row| row.0.is_some()).collect();
        assert!(!rows.is_empty(), "{table} is empty");
        for (value, written_at, ttl) in rows {
            assert_eq!((written_at, ttl), (value, None), "{table}.{column}");
        }
    }
}
