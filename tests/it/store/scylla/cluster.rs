//! Registers and listings on the server, beyond what the contract suite checks for every engine.

use super::*;
use crate::harness::cassandra::Cassandra;

#[tokio::test(flavor = "multi_thread")]
async fn registers_never_go_back_whoever_writes() {
    let options = Cassandra::shared().await.lent().await;
    let (a, b) = (connect(&options).await, connect(&options).await);
    let (bob, phone) = (user("bob"), phone());
    fill(&a, 9).await;
    a.raise_cursor(&phone, &conv(), 7).await.unwrap();
    b.raise_cursor(&phone, &conv(), 5).await.unwrap();
    assert_eq!(b.cursor(&phone, &conv()).await.unwrap(), 7);
    assert_eq!(b.delivered(&bob, &conv()).await.unwrap(), 7);
    b.raise_read_mark(&user("alice"), &conv(), mark_at(6)).await.unwrap();
    a.raise_read_mark(&user("alice"), &conv(), mark_at(3)).await.unwrap();
    assert_eq!(b.read_mark(&user("alice"), &conv()).await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_many_conversations_is_listed_in_pages() {
    let store = Cassandra::shared().await.store().await;
    let (bob, mut phone) = (user("bob"), phone());
    let convs: Vec<ConvId> = (0..150).map(|n| ConvId::direct(&user(&format!("u{n}")), &bob)).collect();
    for conv in &convs {
        let sent = NewMessage { sender: bob.clone(), ..message("bob", "x") };
        store.append(conv, vec![sent]).await.remove(0).unwrap();
    }
    // More marks than one batch of cursors holds: bob, who wrote all the messages, has read them.
    assert!(register(&***store, &mut phone).await.unwrap());
    assert!(!register(&***store, &mut phone).await.unwrap());
    assert_eq!(store.gaps(&phone, None, 1_000, 1_000).await.unwrap().items, []);
    for conv in convs.iter().step_by(3) {
        let NewMessage { ts, body, cid, .. } = message("x", "y");
        let sender = conv.peer_of(&bob).unwrap();
        store.append(conv, vec![NewMessage::of_user(sender, cid, ts, body)]).await.remove(0).unwrap();
    }
    let (mut behind, mut after) = (Vec::new(), None);
    loop {
        let page = store.gaps(&phone, after.as_ref(), 40, 40).await.unwrap();
        behind.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = convs.iter().step_by(3).cloned().collect();
    expected.sort();
    assert_eq!(behind.iter().map(|gap| gap.conv.clone()).collect::<Vec<_>>(), expected);
    assert!(behind.iter().all(|gap| (gap.cursor, gap.head) == (1, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_answers_nothing() {
    let store = Cassandra::shared().await.store().await;
    store.close().await.unwrap();
    assert!(matches!(append(&store, message("alice", "x")).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.top(&conv()).await, Err(StoreError::Unavailable(_))));
}
