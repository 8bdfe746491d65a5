//! Scenario 3: a node's write reaches the server late, or the answer reaches the node late.

use super::*;
use crate::harness::{
    cassandra::Cassandra,
    proxy::{Direction, Fault, Proxy},
};

/// A store that reaches the server through a proxy.
async fn behind_a_proxy(options: &ScyllaOptions) -> (Proxy, Arc<Taking>) {
    let proxy = Proxy::to(Cassandra::shared().await.addr(0)).await;
    let options = ScyllaOptions { contact_points: vec![proxy.addr().to_string()], ..options.clone() };
    (proxy, connect(&options).await)
}

/// Warm, so that what waits in the proxy is the inserts and not the reads before them.
async fn warmed(store: &Taking) {
    append(store, message("bob", "warm")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_released_late_change_nothing() {
    let options = Cassandra::shared().await.migrated().await;
    let direct = connect(&options).await;
    fill(&direct, BUCKET - 3).await;
    let (slow_a, a) = behind_a_proxy(&options).await;
    let (slow_b, b) = behind_a_proxy(&options).await;
    warmed(&a).await;
    warmed(&b).await;
    slow_a.apply(Fault::Hold(Direction::ToServer));
    slow_b.apply(Fault::Hold(Direction::ToServer));
    // Two nodes try x at the same seq, in batches that go over the edge in different ways.
    let (conv_a, conv_b) = (conv(), conv());
    let (from_a, from_b) = tokio::join!(
        a.append(&conv_a, vec![message("alice", "x"), message("alice", "z")]),
        b.append(&conv_b, vec![message("alice", "x"), message("alice", "y"), message("bob", "w")]),
    );
    for answer in from_a.into_iter().chain(from_b) {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    // Their clients go elsewhere.
    let x = append(&direct, message("alice", "x")).await.unwrap().seq;
    assert_eq!(x, BUCKET - 1);
    fill(&direct, BUCKET + 2).await;
    slow_a.heal();
    slow_b.heal();
    // What a proxy held reaches the server before this.
    let y = append_until_stored(&b, message("alice", "y")).await.seq;
    let z = append_until_stored(&a, message("alice", "z")).await.seq;
    assert_eq!(append_until_stored(&a, message("alice", "x")).await.seq, x);
    let rows = whole_log(&direct).await;
    assert_eq!(["x", "y", "z"].map(|cid| place_of(&rows, cid)), [Some(x), Some(y), Some(z)]);
    assert_eq!(heads(&direct).await, [rows.len() as Seq; 2]);
}

/// Nobody else wrote in the meantime: the late write lands, and the retry finds it although its own read did not.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_and_its_retry_are_one_message() {
    let options = Cassandra::shared().await.migrated().await;
    let (slow, a) = behind_a_proxy(&options).await;
    let b = connect(&options).await;
    warmed(&a).await;
    slow.apply(Fault::Hold(Direction::ToServer));
    let held = tokio::spawn({
        let a = a.clone();
        async move { append(&a, message("alice", "x")).await }
    });
    assert_eq!(b.top(&conv()).await.unwrap(), 1);
    held.await.unwrap().unwrap_err();
    let (again, ()) = tokio::join!(append_until_stored(&b, message("alice", "x")), async { slow.heal() });
    assert_eq!(append_until_stored(&a, message("alice", "x")).await.seq, again.seq);
    assert_eq!(whole_log(&b).await.len(), 2);
    assert_eq!(heads(&b).await, [2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_is_held_is_found_by_the_retry() {
    let options = Cassandra::shared().await.migrated().await;
    let (slow, a) = behind_a_proxy(&options).await;
    let b = connect(&options).await;
    warmed(&a).await;
    slow.apply(Fault::Hold(Direction::ToClient));
    append(&a, message("alice", "x")).await.unwrap_err();
    assert_eq!(
        append(&b, message("alice", "x")).await.unwrap(),
        Appended { seq: 2, ts: 1_000, fresh: false, expires: None }
    );
    assert_eq!(heads(&b).await, [2, 2]);
    slow.heal();
    assert_eq!(append_until_stored(&a, message("alice", "x")).await.seq, 2);
    assert_eq!(append_until_stored(&a, message("alice", "y")).await.seq, 3);
    assert_eq!(whole_log(&b).await.len(), 3);
}

/// A short hold within the deadline: the node tries again at the same seq and answers once.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_stall_costs_latency_only() {
    let options = Cassandra::shared().await.migrated().await;
    let (slow, a) = behind_a_proxy(&options).await;
    warmed(&a).await;
    slow.apply(Fault::Hold(Direction::ToClient));
    let heal = async {
        // The length of the stall: less than an append may take.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        slow.heal();
    };
    let (answer, ()) = tokio::join!(append(&a, message("alice", "x")), heal);
    assert_eq!(answer.unwrap().seq, 2);
    slow.apply(Fault::Cut);
    let (cut, broken) = (Instant::now(), a.read_mark(&user("bob"), &conv()).await);
    assert!(matches!(broken, Err(StoreError::Unavailable(_))) && cut.elapsed() < Duration::from_secs(6), "{broken:?}");
    slow.heal();
    assert_eq!(append_until_stored(&a, message("alice", "y")).await.seq, 3);
    assert_eq!(whole_log(&a).await.len(), 3);
}
