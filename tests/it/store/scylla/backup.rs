//! The drill of docs/operations.md for a CQL server: files saved, lost, put back; and what goes wrong when only the
//! messages are put back.

use scylla::client::session_builder::SessionBuilder;

use super::*;
use crate::harness::cassandra::Cassandra;

/// Where bob's phone is behind: cursor and head.
async fn gap(store: &Taking, phone: &Device) -> Option<(Seq, Seq)> {
    let page = store.gaps(phone, None, 10, 10).await.unwrap();
    page.items.iter().find(|gap| gap.conv == conv()).map(|gap| (gap.cursor, gap.head))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_restored_with_everything_of_one_moment() {
    let mut server = Cassandra::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let options = server.migrated().await;
    let store = connect(&options).await;
    let mut phone = phone();
    register(&***store, &mut phone).await.unwrap();
    fill(&store, 30).await;
    store.raise_cursor(&phone, &conv(), 20).await.unwrap();
    drop(store);
    server.kill9(0);
    server.save(0, &folder.path().join("copy"));
    server.restart(0).await;
    let store = connect(&options).await;
    fill(&store, 50).await;
    store.raise_cursor(&phone, &conv(), 50).await.unwrap();
    assert_eq!(gap(&store, &phone).await, None);
    drop(store);
    server.kill9(0);
    server.put_back(0, &folder.path().join("copy"));
    server.restart(0).await;
    // A node that ran meanwhile would remember the end of the log: nodes are stopped for a restore.
    let store = connect(&options).await;
    assert_eq!(whole_log(&store).await.len(), 30);
    assert_eq!((heads(&store).await, gap(&store, &phone).await), ([30, 30], Some((20, 30))), "all of one moment");
    assert!(!register(&***store, &mut phone).await.unwrap(), "the device is known");
    let again = append(&store, message("bob", "f30")).await.unwrap();
    assert_eq!((again.seq, again.fresh), (30, false));
    let lost = append(&store, message("bob", "f50")).await.unwrap();
    assert_eq!((lost.seq, lost.fresh), (31, true), "what was lost is stored when it is sent again");
    assert_eq!(gap(&store, &phone).await, Some((20, 31)), "and the device gets it");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_newer_cursors_messages_are_hidden_until_those_are_truncated() {
    let options = Cassandra::shared().await.migrated().await;
    let store = connect(&options).await;
    let mut phone = phone();
    register(&***store, &mut phone).await.unwrap();
    fill(&store, 30).await;
    // As after a restore of the messages alone: the cursor is of a log that went on to 50.
    store.raise_cursor(&phone, &conv(), 50).await.unwrap();
    fill(&store, 31).await;
    assert_eq!(gap(&store, &phone).await, None, "this is why messages are never restored under newer cursors");
    store.raise_cursor(&phone, &conv(), 30).await.unwrap();
    assert_eq!(gap(&store, &phone).await, None, "and no write lowers a cursor");
    drop(store);
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    session.query_unpaged(format!("TRUNCATE {}.cursors", options.keyspace), &[]).await.unwrap();
    let store = connect(&options).await;
    assert_eq!(gap(&store, &phone).await, Some((0, 31)), "everything comes again, and nothing is missed");
    store.raise_cursor(&phone, &conv(), 31).await.unwrap();
    assert_eq!(gap(&store, &phone).await, None);
}
