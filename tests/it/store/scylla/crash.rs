//! Scenario 2: a node dies between the steps of an append, and others clean up after it.

use natter::store::scylla::Step;

use super::*;
use crate::harness::cassandra::Cassandra;

pub(super) const INSERTED: Step = Step::Inserted;

/// What a node that dies after `step` of alice's message x to bob leaves behind.
async fn left_behind(step: Step) -> ScyllaOptions {
    let options = Cassandra::shared().await.migrated().await;
    let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
    append(&dying, message("alice", "x")).await.unwrap_err();
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_raises_all_heads() {
    for (step, before) in [(Step::Inserted, [0, 0]), (Step::FirstHead, [0, 1])] {
        let store = connect(&left_behind(step).await).await;
        assert_eq!(heads(&store).await, before, "after {step:?}: the recipient's head is never behind the sender's");
        let again = append(&store, message("alice", "x")).await.unwrap();
        assert_eq!((again.seq, again.fresh), (1, false));
        assert_eq!(heads(&store).await, [1, 1]);
        assert_eq!(store.read_mark(&user("alice"), &conv()).await.unwrap(), 1);
        assert_eq!(store.read_mark(&user("bob"), &conv()).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_row_raises_the_heads_first() {
    for step in [Step::Inserted, Step::FirstHead] {
        let options = left_behind(step).await;
        let store = connect(&options).await;
        assert_eq!(store.read_after(&conv(), 0, ALL).await.unwrap().len(), 1);
        assert_eq!(heads(&store).await, [1, 1], "a forward read after {step:?}");

        let options = left_behind(step).await;
        let store = connect(&options).await;
        assert_eq!(store.read_before(&conv(), Seq::MAX, ALL).await.unwrap().len(), 1);
        assert_eq!(heads(&store).await, [1, 1], "a backward read after {step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_message_raises_what_the_dead_node_left() {
    let store = connect(&left_behind(Step::Inserted).await).await;
    assert_eq!(append(&store, message("bob", "y")).await.unwrap().seq, 2);
    assert_eq!(heads(&store).await, [2, 2]);
}

/// The other way round: bob answers at once, and the node dies after the first head of his answer. x has not been shown
/// to anyone yet, and must not be shown to alice, who wrote it, before bob.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_both_are_announced_in_order() {
    let options = left_behind(Step::Inserted).await;
    let dying = connect(&ScyllaOptions { stop_after: Some(Step::FirstHead), ..options.clone() }).await;
    append(&dying, message("bob", "y")).await.unwrap_err();
    let store = connect(&options).await;
    assert_eq!(heads(&store).await, [0, 1]);
    append(&store, message("bob", "y")).await.unwrap();
    assert_eq!(heads(&store).await, [2, 2]);
}

/// The future is dropped in the middle, as when a node shuts down: the retry finds whatever was stored.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_dropped_anywhere_is_mended_by_its_retry() {
    let options = Cassandra::shared().await.migrated().await;
    let (store, other) = (connect(&options).await, connect(&options).await);
    for n in 0..40_u64 {
        let cid = format!("x{n}");
        let some = Duration::from_micros(n * 300);
        let _ = tokio::time::timeout(some, append(&store, message("alice", &cid))).await;
        let again = append(&other, message("alice", &cid)).await.unwrap();
        assert_eq!(append(&store, message("alice", &cid)).await.unwrap().seq, again.seq);
        assert_eq!(heads(&store).await, [again.seq; 2]);
    }
    assert_eq!(whole_log(&store).await.len(), 40);
}
