//! Scenario 2: a node dies between the steps of an append, and others clean up after it.

use natter::store::scylla::Step;

use super::*;
use crate::harness::cassandra::Cassandra;

pub(super) const INSERTED: Step = Step::Written;

/// What a node that dies after `step` of alice's message x to bob leaves behind.
pub(super) async fn left_behind(step: Step) -> ScyllaOptions {
    let options = Cassandra::shared().await.lent().await;
    let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
    append(&dying, message("alice", "x")).await.unwrap_err();
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_raises_all_heads() {
    for (step, before) in [(Step::Written, [0, 0]), (Step::Validated, [0, 0]), (Step::FirstHead, [1, 0])] {
        let store = connect(&left_behind(step).await).await;
        assert_eq!(heads(&store).await, before, "after {step:?}");
        let again = append(&store, message("alice", "x")).await.unwrap();
        assert_eq!((again.seq, again.fresh), (1, false));
        assert_eq!(heads(&store).await, [1, 1]);
        assert_eq!(store.read_mark(&user("alice"), &conv()).await.unwrap(), 1);
        assert_eq!(store.read_mark(&user("bob"), &conv()).await.unwrap(), 0);
    }
}

/// F9: a row that no head shows may never become part of the log, so nobody sees it; one that any head shows is.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_above_the_heads() {
    for (step, seen) in [(Step::Written, 0), (Step::Validated, 0), (Step::FirstHead, 1)] {
        let store = connect(&left_behind(step).await).await;
        assert_eq!(store.read_after(&conv(), 0, ALL).await.unwrap().len(), seen, "forwards after {step:?}");
        assert_eq!(store.read_before(&conv(), Seq::MAX, ALL).await.unwrap().len(), seen, "backwards after {step:?}");
        assert_eq!(store.top(&conv()).await.unwrap(), seen as Seq, "the top after {step:?}");
        let placed = store.placed(&conv(), &user("alice"), &Cid::new("x").unwrap()).await.unwrap();
        assert_eq!(placed.map(|row| row.seq), (seen == 1).then_some(1), "by its cid after {step:?}");
    }
}

/// F3: what the dead home wrote is adopted by the next one, and both heads are raised to it before anything is answered.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_home_adopts_what_the_dead_one_left() {
    for step in [Step::Written, Step::Validated, Step::FirstHead] {
        let store = connect(&left_behind(step).await).await;
        assert_eq!(append(&store, message("bob", "y")).await.unwrap().seq, 2);
        assert_eq!(heads(&store).await, [2, 2]);
        let rows = whole_log(&store).await;
        assert_eq!(place_of(&rows, "x"), Some(1));
        let counts: Vec<_> = rows.iter().map(|row| (row.counts.first, row.counts.second)).collect();
        assert_eq!(counts, [(1, 0), (1, 1)], "after {step:?}");
    }
}

/// F3: a home that dies while it adopts leaves the next one the same to do, however often.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_adopted_half_is_adopted_again() {
    let options = left_behind(Step::Written).await;
    for step in [Step::Adopted, Step::Adopted, Step::Validated, Step::Adopted] {
        let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
        append(&dying, message("bob", "y")).await.unwrap_err();
        assert_eq!(heads(&dying).await, [0, 0], "after {step:?}");
    }
    let store = connect(&options).await;
    assert_eq!(append(&store, message("bob", "y")).await.unwrap().seq, 2);
    assert_eq!(append(&store, message("alice", "x")).await.unwrap().seq, 1);
    assert_eq!(heads(&store).await, [2, 2]);
    assert_eq!(whole_log(&store).await.len(), 2);
}

/// Homes that die one after the other, each with a message of its own.
#[tokio::test(flavor = "multi_thread")]
async fn homes_that_die_in_a_row_lose_nothing() {
    let options = left_behind(Step::Written).await;
    let steps = [Step::FirstHead, Step::Written, Step::Adopted, Step::Written, Step::Validated, Step::FirstHead];
    for (n, step) in steps.into_iter().enumerate() {
        let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
        append(&dying, message("bob", &format!("y{n}"))).await.unwrap_err();
    }
    let store = connect(&options).await;
    let mut seqs = Vec::new();
    for n in 0..steps.len() {
        seqs.push(append(&store, message("bob", &format!("y{n}"))).await.unwrap().seq);
    }
    let rows = whole_log(&store).await;
    assert_eq!(place_of(&rows, "x"), Some(1));
    assert_eq!(heads(&store).await, [rows.len() as Seq; 2]);
    assert_eq!((0..steps.len()).map(|n| place_of(&rows, &format!("y{n}")).unwrap()).collect::<Vec<_>>(), seqs);
}

/// The future is dropped in the middle, as when a node shuts down: the retry finds whatever was stored.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_dropped_anywhere_is_mended_by_its_retry() {
    let options = Cassandra::shared().await.lent().await;
    let (store, other) = (connect(&options).await, connect(&options).await);
    for n in 0..40_u64 {
        let cid = format!("x{n}");
        let some = Duration::from_micros(n * 300);
        let _ = tokio::time::timeout(some, append(&store, message("alice", &cid))).await;
        // The slot goes from one to the other each time: on a busy machine that may take longer than an answer may.
        let again = append_until_stored(&other, message("alice", &cid)).await;
        assert_eq!(append_until_stored(&store, message("alice", &cid)).await.seq, again.seq);
        assert_eq!(heads(&store).await, [again.seq; 2]);
    }
    assert_eq!(whole_log(&store).await.len(), 40);
}
