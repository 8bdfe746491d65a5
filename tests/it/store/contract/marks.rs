//! Rules of cursors, read marks and devices, and of a store that is closed.

use natter::store::StoreError;

use super::*;

pub async fn cursors_never_go_back(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let (bob, phone) = (user("bob"), device("phone"));
    store.register_device(&bob, &phone).await.unwrap();
    fill(&*store, &conv, "alice", "m", 50).await;
    assert_eq!(store.cursor(&bob, &phone, &conv).await, Ok(0));
    for (raised, expected) in [(5, 5), (3, 5), (5, 5), (0, 5), (7, 7), (6, 7)] {
        store.raise_cursor(&bob, &phone, &conv, raised).await.unwrap();
        assert_eq!(store.cursor(&bob, &phone, &conv).await, Ok(expected), "after {raised}");
    }
    let tries = (8..=50).rev().map(|seq| {
        let (store, bob, phone, conv) = (&store, &bob, &phone, &conv);
        async move { store.raise_cursor(bob, phone, conv, seq).await }
    });
    assert!(futures_util::future::join_all(tries).await.iter().all(Result::is_ok));
    assert_eq!(store.cursor(&bob, &phone, &conv).await, Ok(50), "raised by many at once");
}

pub async fn read_marks_never_go_back(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let (alice, bob) = (user("alice"), user("bob"));
    fill(&*store, &conv, "alice", "m", 9).await;
    for (raised, expected) in [(5, 5), (3, 5), (0, 5), (7, 7), (6, 7)] {
        store.raise_read_mark(&bob, &conv, raised).await.unwrap();
        assert_eq!(store.read_mark(&bob, &conv).await, Ok(expected), "after {raised}");
    }
    store.raise_read_mark(&alice, &conv, 2).await.unwrap();
    assert_eq!(store.read_mark(&alice, &conv).await, Ok(9), "sending had moved it further");
    append(&*store, &conv, message("bob", "b")).await.unwrap();
    assert_eq!(store.read_mark(&bob, &conv).await, Ok(10));
    store.raise_read_mark(&bob, &conv, 9).await.unwrap();
    assert_eq!(store.read_mark(&bob, &conv).await, Ok(10));
    // A mark in a log without messages is kept, and makes no conversation.
    let (early, erin) = (dm("erin", "frank"), user("erin"));
    store.raise_read_mark(&erin, &early, 3).await.unwrap();
    assert_eq!(store.read_mark(&erin, &early).await, Ok(3));
    assert_eq!(inbox(&*store, &erin, 10).await, []);
    assert_eq!(append(&*store, &early, message("erin", "first")).await.unwrap().seq, 1);
    assert_eq!(store.read_mark(&erin, &early).await, Ok(3), "one's own first message moves nothing back");
    assert_eq!(head(&*store, &erin, &early).await, 1);
}

pub async fn delivered_is_the_furthest_device(bed: &mut impl Bed) {
    let (store, conv, bob) = (bed.store(), dm("alice", "bob"), user("bob"));
    for name in ["phone", "laptop", "tablet"] {
        store.register_device(&bob, &device(name)).await.unwrap();
    }
    fill(&*store, &conv, "alice", "m", 9).await;
    assert_eq!(store.delivered(&bob, &conv).await, Ok(0));
    for (name, seq, expected) in [("phone", 3, 3), ("laptop", 5, 5), ("phone", 4, 5), ("tablet", 1, 5), ("phone", 6, 6)]
    {
        store.raise_cursor(&bob, &device(name), &conv, seq).await.unwrap();
        assert_eq!(store.delivered(&bob, &conv).await, Ok(expected), "after {name} acknowledged {seq}");
    }
    assert_eq!(store.delivered(&user("alice"), &conv).await, Ok(0), "the sender's devices acknowledged nothing");
    assert_eq!(store.delivered(&bob, &dm("bob", "carol")).await, Ok(0), "nor anybody anything elsewhere");
    store.raise_read_mark(&bob, &conv, 8).await.unwrap();
    assert_eq!(store.delivered(&bob, &conv).await, Ok(6), "a read mark is no acknowledgement");
    store.register_device(&bob, &device("watch")).await.unwrap();
    assert_eq!(store.delivered(&bob, &conv).await, Ok(8), "but a new device's cursor starts there");
}

pub async fn a_device_is_new_once(bed: &mut impl Bed) {
    let (store, bob, phone) = (bed.store(), user("bob"), device("phone"));
    let tries = (0..4).map(|_| store.register_device(&bob, &phone));
    let answers = futures_util::future::join_all(tries).await;
    let new = answers.iter().filter(|answer| **answer == Ok(true)).count();
    assert!(answers.iter().all(Result::is_ok) && new == 1, "exactly one may see it as new: {answers:?}");
    assert_eq!(store.register_device(&bob, &phone).await, Ok(false));
    assert_eq!(store.register_device(&bob, &device("phone2")).await, Ok(true));
    assert_eq!(store.register_device(&user("bo"), &device("bphone")).await, Ok(true));
    assert_eq!(store.register_device(&user("alice"), &phone).await, Ok(true), "devices belong to their user");
    bed.reopen().await;
    assert_eq!(bed.store().register_device(&bob, &phone).await, Ok(false), "known after a restart too");
}

pub async fn a_new_device_starts_at_the_read_marks(bed: &mut impl Bed) {
    let (store, bob, phone) = (bed.store(), user("bob"), device("phone"));
    let [read, sent, unread] = ["alice", "carol", "dave"].map(|peer| dm(peer, "bob"));
    for (conv, peer) in [(&read, "alice"), (&sent, "carol"), (&unread, "dave")] {
        fill(&*store, conv, peer, "m", 6).await;
    }
    store.raise_read_mark(&bob, &read, 4).await.unwrap();
    append(&*store, &sent, message("bob", "answer")).await.unwrap();
    assert_eq!(store.register_device(&bob, &phone).await, Ok(true));
    for (conv, cursor) in [(&read, 4), (&sent, 7), (&unread, 0)] {
        assert_eq!(store.cursor(&bob, &phone, conv).await, Ok(cursor), "{conv}");
    }
    let expected =
        [(&read, 6, 4), (&unread, 6, 0)].map(|(conv, head, cursor)| Gap { conv: conv.clone(), head, cursor });
    assert_eq!(gaps(&*store, &bob, &phone, 10).await, expected);
    store.raise_read_mark(&bob, &unread, 6).await.unwrap();
    assert_eq!(store.cursor(&bob, &phone, &unread).await, Ok(0), "from now on only acks move it");
}

pub async fn a_known_device_keeps_its_cursors(bed: &mut impl Bed) {
    let (store, conv, bob) = (bed.store(), dm("alice", "bob"), user("bob"));
    let (phone, laptop) = (device("phone"), device("laptop"));
    store.register_device(&bob, &phone).await.unwrap();
    fill(&*store, &conv, "alice", "m", 9).await;
    store.raise_cursor(&bob, &phone, &conv, 2).await.unwrap();
    store.raise_read_mark(&bob, &conv, 8).await.unwrap();
    assert_eq!(store.register_device(&bob, &phone).await, Ok(false));
    assert_eq!(store.cursor(&bob, &phone, &conv).await, Ok(2), "registering again must not skip what it never got");
    assert_eq!(store.register_device(&bob, &laptop).await, Ok(true));
    assert_eq!(store.cursor(&bob, &phone, &conv).await, Ok(2));
    assert_eq!(store.cursor(&bob, &laptop, &conv).await, Ok(8));
}

pub async fn marks_survive_a_restart(bed: &mut impl Bed) {
    let (conv, bob, phone) = (dm("alice", "bob"), user("bob"), device("phone"));
    bed.store().register_device(&bob, &phone).await.unwrap();
    fill(&*bed.store(), &conv, "alice", "m", 9).await;
    bed.store().raise_cursor(&bob, &phone, &conv, 5).await.unwrap();
    bed.store().raise_read_mark(&bob, &conv, 4).await.unwrap();
    bed.reopen().await;
    let store = bed.store();
    assert_eq!(store.cursor(&bob, &phone, &conv).await, Ok(5));
    assert_eq!(store.delivered(&bob, &conv).await, Ok(5));
    assert_eq!(store.read_mark(&bob, &conv).await, Ok(4));
    assert_eq!(store.read_mark(&user("alice"), &conv).await, Ok(9));
    assert_eq!(gaps(&*store, &bob, &phone, 5).await, [Gap { conv: conv.clone(), head: 9, cursor: 5 }]);
    store.raise_cursor(&bob, &phone, &conv, 3).await.unwrap();
    store.raise_read_mark(&bob, &conv, 3).await.unwrap();
    assert_eq!(store.cursor(&bob, &phone, &conv).await, Ok(5), "not back after a restart either");
    assert_eq!(store.read_mark(&bob, &conv).await, Ok(4));
}

pub async fn a_closed_store_says_so(bed: &mut impl Bed) {
    let (store, conv, alice) = (bed.store(), dm("alice", "bob"), user("alice"));
    store.health().await.unwrap();
    append(&*store, &conv, message("alice", "m")).await.unwrap();
    store.close().await.unwrap();
    let refused = |error: StoreError| assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    refused(append(&*store, &conv, message("alice", "n")).await.unwrap_err());
    refused(store.read_after(&conv, 0, WHOLE).await.unwrap_err());
    refused(store.inbox(&alice, None, 10).await.unwrap_err());
    refused(store.raise_cursor(&alice, &device("phone"), &conv, 1).await.unwrap_err());
    refused(store.raise_read_mark(&alice, &conv, 1).await.unwrap_err());
    refused(store.register_device(&alice, &device("phone")).await.unwrap_err());
    refused(store.health().await.unwrap_err());
}
