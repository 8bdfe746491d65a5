//! Rules of cursors, read marks and devices, and of a store that is closed.

use natter::store::StoreError;

use super::*;

pub async fn cursors_never_go_back(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let phone = device("bob", "phone");
    store.marks.register_device(&phone).await.unwrap();
    fill(&*store.logs, &conv, "alice", "m", 50).await;
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(0));
    for (raised, expected) in [(5, 5), (3, 5), (5, 5), (0, 5), (7, 7), (6, 7)] {
        store.marks.raise_cursor(&phone, &conv, raised).await.unwrap();
        assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(expected), "after {raised}");
    }
    let tries = (8..=50).rev().map(|seq| {
        let (store, phone, conv) = (&store, &phone, &conv);
        async move { store.marks.raise_cursor(phone, conv, seq).await }
    });
    assert!(futures_util::future::join_all(tries).await.iter().all(Result::is_ok));
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(50), "raised by many at once");
}

pub async fn read_marks_never_go_back(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let (alice, bob) = (user("alice"), user("bob"));
    fill(&*store.logs, &conv, "alice", "m", 9).await;
    for (raised, expected) in [(5, 5), (3, 5), (0, 5), (7, 7), (6, 7)] {
        store.marks.raise_read_mark(&bob, &conv, mark_at(raised)).await.unwrap();
        assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(expected), "after {raised}");
    }
    store.marks.raise_read_mark(&alice, &conv, mark_at(2)).await.unwrap();
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(9), "sending had moved it further");
    append(&*store.logs, &conv, message("bob", "b")).await.unwrap();
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(10));
    store.marks.raise_read_mark(&bob, &conv, mark_at(9)).await.unwrap();
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(10));
    // A mark in a log without messages is kept, and makes no conversation.
    let (early, erin) = (dm("erin", "frank"), user("erin"));
    store.marks.raise_read_mark(&erin, &early, mark_at(3)).await.unwrap();
    assert_eq!(store.marks.read_mark(&erin, &early).await, Ok(3));
    assert_eq!(inbox(&*store.inbox, &erin, 10).await, []);
    assert_eq!(append(&*store.logs, &early, message("erin", "first")).await.unwrap().seq, 1);
    assert_eq!(store.marks.read_mark(&erin, &early).await, Ok(3), "one's own first message moves nothing back");
    assert_eq!(head(&*store.inbox, &erin, &early).await, 1);
}

pub async fn delivered_is_the_furthest_device(bed: &mut impl Bed) {
    let (store, conv, bob) = (bed.store(), dm("alice", "bob"), user("bob"));
    for name in ["phone", "laptop", "tablet"] {
        store.marks.register_device(&device("bob", name)).await.unwrap();
    }
    fill(&*store.logs, &conv, "alice", "m", 9).await;
    assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(0));
    for (name, seq, expected) in [("phone", 3, 3), ("laptop", 5, 5), ("phone", 4, 5), ("tablet", 1, 5), ("phone", 6, 6)]
    {
        store.marks.raise_cursor(&device("bob", name), &conv, seq).await.unwrap();
        assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(expected), "after {name} acknowledged {seq}");
    }
    assert_eq!(store.marks.delivered(&user("alice"), &conv).await, Ok(0), "the sender's devices acknowledged nothing");
    assert_eq!(store.marks.delivered(&bob, &dm("bob", "carol")).await, Ok(0), "nor anybody anything elsewhere");
    store.marks.raise_read_mark(&bob, &conv, mark_at(8)).await.unwrap();
    assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(6), "a read mark is no acknowledgement");
    store.marks.register_device(&device("bob", "watch")).await.unwrap();
    assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(8), "but a new device's cursor starts there");
}

pub async fn a_device_is_new_once(bed: &mut impl Bed) {
    let (store, phone) = (bed.store(), device("bob", "phone"));
    let tries = (0..4).map(|_| store.marks.register_device(&phone));
    let answers = futures_util::future::join_all(tries).await;
    let new = answers.iter().filter(|answer| **answer == Ok(true)).count();
    assert!(answers.iter().all(Result::is_ok) && new == 1, "exactly one may see it as new: {answers:?}");
    assert_eq!(store.marks.register_device(&phone).await, Ok(false));
    assert_eq!(store.marks.register_device(&device("bob", "phone2")).await, Ok(true));
    assert_eq!(store.marks.register_device(&device("bo", "bphone")).await, Ok(true));
    assert_eq!(store.marks.register_device(&device("alice", "phone")).await, Ok(true), "devices belong to their user");
    bed.reopen().await;
    assert_eq!(bed.store().marks.register_device(&phone).await, Ok(false), "known after a restart too");
}

pub async fn a_later_connection_has_the_larger_number(bed: &mut impl Bed) {
    let (store, phone) = (bed.store(), device("bob", "phone"));
    let mut last = 0;
    for _ in 0..5 {
        let at_once = (0..4).map(|_| store.marks.next_connection(&phone));
        let given = futures_util::future::try_join_all(at_once).await.unwrap();
        assert!(given.iter().all(|number| *number > last), "{given:?} after {last}");
        last = *given.iter().max().unwrap();
    }
    assert!(store.marks.next_connection(&device("bob", "laptop")).await.unwrap() > 0);
}

pub async fn a_new_device_starts_at_the_read_marks(bed: &mut impl Bed) {
    let (store, bob, phone) = (bed.store(), user("bob"), device("bob", "phone"));
    let [read, sent, unread] = ["alice", "carol", "dave"].map(|peer| dm(peer, "bob"));
    for (conv, peer) in [(&read, "alice"), (&sent, "carol"), (&unread, "dave")] {
        fill(&*store.logs, conv, peer, "m", 6).await;
    }
    store.marks.raise_read_mark(&bob, &read, mark_at(4)).await.unwrap();
    append(&*store.logs, &sent, message("bob", "answer")).await.unwrap();
    assert_eq!(store.marks.register_device(&phone).await, Ok(true));
    for (conv, cursor) in [(&read, 4), (&sent, 7), (&unread, 0)] {
        assert_eq!(store.marks.cursor(&phone, conv).await, Ok(cursor), "{conv}");
    }
    let expected =
        [(&read, 6, 4), (&unread, 6, 0)].map(|(conv, head, cursor)| Gap { conv: conv.clone(), head, cursor });
    assert_eq!(gaps(&*store.inbox, &phone, 10).await, expected);
    store.marks.raise_read_mark(&bob, &unread, mark_at(6)).await.unwrap();
    assert_eq!(store.marks.cursor(&phone, &unread).await, Ok(0), "from now on only acks move it");
}

pub async fn a_known_device_keeps_its_cursors(bed: &mut impl Bed) {
    let (store, conv, bob) = (bed.store(), dm("alice", "bob"), user("bob"));
    let (phone, laptop) = (device("bob", "phone"), device("bob", "laptop"));
    store.marks.register_device(&phone).await.unwrap();
    fill(&*store.logs, &conv, "alice", "m", 9).await;
    store.marks.raise_cursor(&phone, &conv, 2).await.unwrap();
    store.marks.raise_read_mark(&bob, &conv, mark_at(8)).await.unwrap();
    assert_eq!(store.marks.register_device(&phone).await, Ok(false));
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(2), "registering again must not skip what it never got");
    assert_eq!(store.marks.register_device(&laptop).await, Ok(true));
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(2));
    assert_eq!(store.marks.cursor(&laptop, &conv).await, Ok(8));
}

pub async fn marks_survive_a_restart(bed: &mut impl Bed) {
    let (conv, bob, phone) = (dm("alice", "bob"), user("bob"), device("bob", "phone"));
    bed.store().marks.register_device(&phone).await.unwrap();
    fill(&*bed.store().logs, &conv, "alice", "m", 9).await;
    bed.store().marks.raise_cursor(&phone, &conv, 5).await.unwrap();
    bed.store().marks.raise_read_mark(&bob, &conv, mark_at(4)).await.unwrap();
    bed.reopen().await;
    let store = bed.store();
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(5));
    assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(5));
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(4));
    assert_eq!(store.marks.read_mark(&user("alice"), &conv).await, Ok(9));
    assert_eq!(gaps(&*store.inbox, &phone, 5).await, [Gap { conv: conv.clone(), head: 9, cursor: 5 }]);
    store.marks.raise_cursor(&phone, &conv, 3).await.unwrap();
    store.marks.raise_read_mark(&bob, &conv, mark_at(3)).await.unwrap();
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(5), "not back after a restart either");
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(4));
}

pub async fn a_closed_store_says_so(bed: &mut impl Bed) {
    let (store, conv, alice) = (bed.store(), dm("alice", "bob"), user("alice"));
    store.engine.health().await.unwrap();
    append(&*store.logs, &conv, message("alice", "m")).await.unwrap();
    store.engine.close().await.unwrap();
    let refused = |error: StoreError| assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    refused(append(&*store.logs, &conv, message("alice", "n")).await.unwrap_err());
    refused(store.logs.read_after(&conv, 0, WHOLE).await.unwrap_err());
    refused(store.inbox.conversations(&alice, None, 10).await.unwrap_err());
    refused(store.marks.raise_cursor(&device("alice", "phone"), &conv, 1).await.unwrap_err());
    refused(store.marks.raise_read_mark(&alice, &conv, mark_at(1)).await.unwrap_err());
    refused(store.marks.register_device(&device("alice", "phone")).await.unwrap_err());
    refused(store.engine.health().await.unwrap_err());
}
