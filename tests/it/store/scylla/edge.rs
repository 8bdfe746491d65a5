//! Where one bucket ends and the next begins, and the pages across it.

use super::*;
use crate::harness::cassandra::Cassandra;

/// Scenario 1: the node that stored x died before it answered, the log went on over the edge, x is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_recognised_4096_messages_later() {
    let options = Cassandra::shared().await.lent().await;
    let dying = connect(&ScyllaOptions { stop_after: Some(crash::INSERTED), ..options.clone() }).await;
    append(&dying, message("alice", "x")).await.unwrap_err();
    drop(dying);
    let other = connect(&options).await;
    // Nobody sees x before a home has adopted it.
    assert_eq!(append(&other, message("bob", "first")).await.unwrap().seq, 2);
    fill(&other, 1 + BUCKET).await;
    let again = append(&*connect(&options).await, message("alice", "x")).await.unwrap();
    assert_eq!(again, Appended { seq: 1, ts: 1_000, fresh: false, expires: None });
    let reused = NewMessage { body: Body::text("other"), ..message("alice", "x") };
    assert_eq!(append(&other, reused).await, Err(StoreError::CidReused { seq: 1 }));
    assert_eq!(whole_log(&other).await.len() as Seq, 1 + BUCKET);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_row_of_a_bucket_is_not_doubled_in_the_next() {
    let options = Cassandra::shared().await.lent().await;
    let (one, other) = (connect(&options).await, connect(&options).await);
    fill(&one, BUCKET - 1).await;
    let (x, y) = (message("alice", "x"), message("alice", "y"));
    assert_eq!(append(&one, x.clone()).await.unwrap().seq, BUCKET);
    assert_eq!(append(&other, x.clone()).await.unwrap().seq, BUCKET);
    // A batch that would cross the edge is cut there, and the retry in it finds its old place.
    let answers = one.append(&conv(), vec![x, y.clone(), message("bob", "z")]).await;
    let seqs: Vec<Seq> = answers.into_iter().map(|answer| answer.unwrap().seq).collect();
    assert_eq!(seqs, [BUCKET, BUCKET + 1, BUCKET + 2]);
    assert_eq!(append(&other, y).await.unwrap().seq, BUCKET + 1);
    assert_eq!(heads(&other).await, [BUCKET + 2; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_over_the_edge_in_both_directions() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    fill(&store, 2 * BUCKET + 10).await;
    let cold = connect(&options).await;
    let seqs = |rows: Vec<Row>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    let few = Span { rows: 6, bytes: usize::MAX };
    for edge in [BUCKET, 2 * BUCKET] {
        for (after, before) in [(edge - 3, edge + 4), (edge - 6, edge + 1), (edge, edge + 7)] {
            let expected: Vec<Seq> = (after + 1..before).collect();
            assert_eq!(seqs(cold.read_after(&conv(), after, few).await.unwrap()), expected);
            assert_eq!(seqs(cold.read_before(&conv(), before, few).await.unwrap()), expected);
        }
    }
    let end = cold.read_before(&conv(), Seq::MAX, few).await.unwrap();
    assert_eq!(seqs(end), (2 * BUCKET + 5..=2 * BUCKET + 10).collect::<Vec<_>>());
    assert!(cold.read_after(&conv(), 2 * BUCKET + 10, few).await.unwrap().is_empty());
    // Bodies bound a page too, and one of our pages takes more than one page of the wire protocol.
    let bytes = Span { rows: 1000, bytes: 1 };
    assert_eq!(seqs(cold.read_after(&conv(), BUCKET - 1, bytes).await.unwrap()), [BUCKET]);
    assert_eq!(cold.read_after(&conv(), 0, Span { rows: 5000, bytes: usize::MAX }).await.unwrap().len(), 5000);
}

/// Scenario 4: batches that overlap around the edge, from three nodes at once, while readers follow the log.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_batches_around_the_edge() {
    let options = Cassandra::shared().await.lent().await;
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(connect(&options).await);
    }
    fill(&stores[0], BUCKET - 3).await;
    let readers: Vec<_> = stores.iter().map(|store| tokio::spawn(follow(store.clone(), BUCKET + 8))).collect();
    let batches = [["x", "z"], ["x", "y"], ["z", "y"], ["w", "x"], ["y", "v"], ["u", "w"]];
    let mut writers = Vec::new();
    for (number, cids) in batches.into_iter().enumerate() {
        let store = stores[number % 3].clone();
        writers.push(tokio::spawn(async move {
            let mut places = Vec::new();
            for round in ["1", "2"] {
                let batch = cids.map(|cid| message("alice", &format!("{cid}{round}"))).to_vec();
                for (message, answer) in batch.clone().into_iter().zip(store.append(&conv(), batch).await) {
                    places.push((message.cid.to_string(), answer.unwrap().seq));
                }
            }
            places
        }));
    }
    let mut places = HashMap::new();
    for writer in writers {
        for (cid, seq) in writer.await.unwrap() {
            assert_eq!(*places.entry(cid.clone()).or_insert(seq), seq, "{cid} was given two places");
        }
    }
    append(&stores[0], message("bob", "end")).await.unwrap();
    let rows = whole_log(&stores[1]).await;
    assert_eq!(rows.len() as Seq, BUCKET - 3 + 12 + 1, "six cids twice, and the end");
    for (cid, seq) in places {
        assert_eq!(place_of(&rows, &cid), Some(seq));
    }
    for reader in readers {
        let seen = reader.await.unwrap();
        assert_eq!(seen, rows[..seen.len()], "a reader saw something else");
    }
}

/// Reads from its own position until it has `until`, as sessions do.
async fn follow(store: Arc<Taking>, until: Seq) -> Vec<Row> {
    let mut seen: Vec<Row> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while (seen.len() as Seq) < until && Instant::now() < deadline {
        let after = seen.len() as Seq;
        for row in store.read_after(&conv(), after, Span { rows: 64, bytes: usize::MAX }).await.unwrap() {
            assert_eq!(row.seq, seen.len() as Seq + 1);
            seen.push(row);
        }
    }
    assert!(seen.len() as Seq >= until, "the reader must get to {until}, is at {}", seen.len());
    seen
}
