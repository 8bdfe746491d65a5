//! Many nodes on one conversation at full speed.

use super::*;
use crate::harness::cassandra::Cassandra;

#[tokio::test(flavor = "multi_thread")]
async fn four_nodes_at_full_speed() {
    let options = Cassandra::shared().await.lent().await;
    let mut writers = Vec::new();
    for node in 0..4_u64 {
        let store = connect(&options).await;
        writers.push(tokio::spawn(write_much(store, node)));
    }
    let mut given: HashMap<String, Seq> = HashMap::new();
    for writer in writers {
        for (key, seq) in writer.await.unwrap() {
            assert_eq!(*given.entry(key.clone()).or_insert(seq), seq, "{key} was given two places");
        }
    }
    let store = connect(&options).await;
    let rows = whole_log(&store).await;
    for row in &rows {
        assert_eq!(given.get(&format!("{}/{}", row.sender, row.cid)), Some(&row.seq), "nobody was told of {row:?}");
    }
    assert_eq!(rows.len(), given.len());
    assert_eq!(heads(&store).await, [rows.len() as Seq; 2]);
}

/// Batches of 1 to 8; every fourth cid is one that all nodes send, at about the same time.
async fn write_much(store: Arc<Taking>, node: u64) -> Vec<(String, Seq)> {
    let mut given = Vec::new();
    for round in 0..40_u64 {
        let sender = if node.is_multiple_of(2) { "alice" } else { "bob" };
        let batch: Vec<_> = (0..=(round + node) % 8)
            .map(|n| match (round + n) % 4 {
                0 => message("alice", &format!("all-{round}-{n}")),
                _ => message(sender, &format!("{node}-{round}-{n}")),
            })
            .collect();
        for message in batch.clone() {
            given.push((format!("{}/{}", message.sender, message.cid), 0));
        }
        let first = given.len() - batch.len();
        let mut open: Vec<usize> = (0..batch.len()).collect();
        while !open.is_empty() {
            let some = open.iter().map(|n| batch[*n].clone()).collect();
            let answers = store.append(&conv(), some).await;
            let tried = std::mem::take(&mut open);
            for (n, answer) in tried.into_iter().zip(answers) {
                match answer {
                    Ok(appended) => given[first + n].1 = appended.seq,
                    Err(StoreError::Unavailable(_)) => open.push(n),
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
    given
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cid_in_flight_on_all_nodes_is_one_message() {
    let options = Cassandra::shared().await.lent().await;
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(connect(&options).await);
    }
    for round in 0..15 {
        let sends = stores.iter().map(|store| append_until_stored(store, message("alice", &format!("x{round}"))));
        let places: Vec<Seq> = futures_util::future::join_all(sends).await.iter().map(|a| a.seq).collect();
        assert_eq!(places, [round + 1; 4]);
    }
    assert_eq!(whole_log(&stores[0]).await.len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_page_share_queries() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    fill(&store, 100).await;
    let before = store.driver().counts().requests;
    let reads = (0..500).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.read_after(&conv(), 10, Span { rows: 20, bytes: usize::MAX }).await })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await.unwrap().unwrap().len(), 20);
    }
    let asked = store.driver().counts().requests - before;
    assert!((1..=50).contains(&asked), "500 readers made {asked} requests");
}
