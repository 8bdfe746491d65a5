//! Rules of cursors, read marks and devices, and of a store that is closed.

use std::time::Duration;

use natter::store::{Entered, StoreError};

use super::*;

pub async fn cursors_never_go_back(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let phone = entered(&*store.marks, "bob", "phone").await;
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
    fill(&*store.logs, &conv, "alice", "m", 9).await;
    assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(0));
    for (name, seq, expected) in [("phone", 3, 3), ("laptop", 5, 5), ("phone", 4, 5), ("tablet", 1, 5), ("phone", 6, 6)]
    {
        let device = entered(&*store.marks, "bob", name).await;
        store.marks.raise_cursor(&device, &conv, seq).await.unwrap();
        assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(expected), "after {name} acknowledged {seq}");
    }
    assert_eq!(store.marks.delivered(&user("alice"), &conv).await, Ok(0), "the sender's devices acknowledged nothing");
    assert_eq!(store.marks.delivered(&bob, &dm("bob", "carol")).await, Ok(0), "nor anybody anything elsewhere");
    store.marks.raise_read_mark(&bob, &conv, mark_at(8)).await.unwrap();
    assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(6), "a read mark is no acknowledgement");
    entered(&*store.marks, "bob", "watch").await;
    assert_eq!(store.marks.delivered(&bob, &conv).await, Ok(8), "but a new device's cursor starts there");
}

pub async fn a_device_is_new_once(bed: &mut impl Bed) {
    let (store, mut phone) = (bed.store(), device("bob", "phone"));
    let tries = (0..4).map(|_| store.marks.enter(&phone, MOST));
    let answers = futures_util::future::try_join_all(tries).await.unwrap();
    let known = entered(&*store.marks, "bob", "phone").await;
    let stayed = answers.iter().filter(|answer| answer.life == known.life);
    assert!(stayed.clone().any(|answer| answer.is_new), "one life of several at once stays: {answers:?}");
    let most = answers.iter().map(|answer| answer.number).max().unwrap();
    let largest = |answer: &&Entered| answer.number == most;
    assert!(stayed.clone().any(|answer| largest(&answer)), "that of the largest connection: {answers:?}");
    assert_eq!(register(&*store.marks, &mut phone).await, Ok(false));
    assert_eq!(phone.life, known.life);
    for mut other in [device("bob", "phone2"), device("bo", "bphone"), device("alice", "phone")] {
        assert_eq!(register(&*store.marks, &mut other).await, Ok(true), "devices belong to their user");
    }
    bed.reopen().await;
    let again = bed.store().marks.enter(&phone, MOST).await.unwrap();
    assert_eq!((again.is_new, again.life), (false, known.life), "known after a restart too");
}

pub async fn a_later_connection_has_the_larger_number(bed: &mut impl Bed) {
    let (store, phone) = (bed.store(), device("bob", "phone"));
    let mut last = 0;
    for _ in 0..5 {
        let at_once = (0..4).map(|_| store.marks.enter(&phone, MOST));
        let given = futures_util::future::try_join_all(at_once).await.unwrap();
        assert!(given.iter().all(|entered| entered.number > last), "{given:?} after {last}");
        last = given.iter().map(|entered| entered.number).max().unwrap();
    }
    bed.reopen().await;
    let next = bed.store().marks.enter(&phone, MOST).await.unwrap().number;
    assert!(next > last, "{next} after {last}, before a restart");
}

/// At the limit the one that logged in longest ago goes, cursors included, and comes back as a new one.
pub async fn the_device_that_logged_in_longest_ago_is_retired(bed: &mut impl Bed) {
    let (store, conv, bob) = (bed.store(), dm("alice", "bob"), user("bob"));
    fill(&*store.logs, &conv, "alice", "m", 9).await;
    let enter = |name: &'static str| {
        let marks = store.marks.clone();
        async move { marks.enter(&device("bob", name), 3).await.unwrap() }
    };
    let mut old = device("bob", "a");
    for name in ["a", "b", "c"] {
        assert!(enter(name).await.is_new);
    }
    old.life = enter("a").await.life;
    store.marks.raise_cursor(&old, &conv, 7).await.unwrap();
    let lives = names_of(&*store.marks).await;
    assert_eq!(lives, ["a", "b", "c"]);
    assert!(enter("d").await.is_new);
    assert_eq!(names_of(&*store.marks).await, ["a", "c", "d"], "b logged in longest ago");
    assert!(!store.inbox.stamps(&old).await.unwrap().retired);
    for name in ["c", "d", "e"] {
        enter(name).await;
    }
    assert_eq!(names_of(&*store.marks).await, ["c", "d", "e"]);
    assert!(store.inbox.stamps(&old).await.unwrap().retired, "its session is told");
    assert_eq!(store.marks.cursor(&old, &conv).await, Ok(0), "its cursors are gone");
    // What its session still acknowledges is of a life that is over.
    store.marks.raise_cursor(&old, &conv, 8).await.unwrap();
    store.marks.raise_read_mark(&bob, &conv, mark_at(4)).await.unwrap();
    let back = enter("a").await;
    assert!(back.is_new && back.life != old.life);
    let back = Device { life: back.life, ..old.clone() };
    assert!(!store.inbox.stamps(&back).await.unwrap().retired && store.inbox.stamps(&old).await.unwrap().retired);
    assert_eq!(store.marks.cursor(&back, &conv).await, Ok(4), "it starts at the read mark");
    assert_eq!(gaps(&*store.inbox, &back, 5).await, [Gap { conv: conv.clone(), head: 9, cursor: 4 }]);
    // R19: nothing of the removal hides what is written from now on.
    store.marks.raise_cursor(&back, &conv, 5).await.unwrap();
    assert_eq!(store.marks.cursor(&back, &conv).await, Ok(5));
    let again = enter("a").await;
    assert_eq!((again.is_new, again.life), (false, back.life));
    bed.reopen().await;
    assert_eq!(names_of(&*bed.store().marks).await, ["a", "d", "e"]);
    assert_eq!(bed.store().marks.cursor(&back, &conv).await, Ok(5));
    assert_eq!(bed.store().marks.delivered(&bob, &conv).await, Ok(8), "of the user, not of a device");
}

/// One that is in use counts as one that logged in just now, where it was not seen for long.
pub async fn a_device_in_use_is_not_the_one_that_is_retired(bed: &mut impl Bed) {
    let marks = bed.store().marks;
    let enter = async |name: &str| {
        let entered = marks.enter(&device("bob", name), 3).await.unwrap();
        Device { life: entered.life, ..device("bob", name) }
    };
    let (old, _, _) = (enter("a").await, enter("b").await, enter("c").await);
    marks.refresh(&old, Duration::from_secs(3_600)).await.unwrap();
    enter("d").await;
    assert_eq!(names_of(&*marks).await, ["b", "c", "d"], "it was seen a moment ago, so that nothing was written");
    let (back, former) = (enter("a").await, old);
    assert_eq!(names_of(&*marks).await, ["a", "c", "d"]);
    enter("c").await;
    enter("d").await;
    marks.refresh(&back, Duration::ZERO).await.unwrap();
    enter("e").await;
    assert_eq!(names_of(&*marks).await, ["a", "d", "e"], "c logged in longest ago");
    // What was retired does not come back by that.
    assert!(marks.retire(&user("bob"), &back.device).await.unwrap());
    marks.refresh(&back, Duration::ZERO).await.unwrap();
    marks.refresh(&former, Duration::ZERO).await.unwrap();
    assert_eq!(names_of(&*marks).await, ["d", "e"]);
}

async fn names_of(marks: &dyn Marks) -> Vec<String> {
    let known = marks.devices(&user("bob")).await.unwrap();
    assert!(known.iter().all(|known| known.device.life > 0 && known.seen > 0), "{known:?}");
    let mut names: Vec<_> = known.iter().map(|known| known.device.device.to_string()).collect();
    names.sort();
    names
}

/// New ones at the limit, all at once, beside those that are known and log in: in the end there are as many as there may
/// be, and who was told that it is known is, or is told that it was retired.
pub async fn new_devices_at_once_keep_to_the_limit(bed: &mut impl Bed) {
    let store = bed.store();
    let enter = |name: String| {
        let marks = store.marks.clone();
        async move { (name.clone(), marks.enter(&device("bob", &name), 4).await) }
    };
    for round in 0..4 {
        let names = (0..3).map(|n| format!("new{round}-{n}")).chain((0..3).map(|n| format!("new0-{n}")));
        let answers = futures_util::future::join_all(names.map(enter)).await;
        let known = store.marks.devices(&user("bob")).await.unwrap();
        assert!(known.len() <= 4, "{known:?}");
        for (name, answer) in answers {
            let Ok(answer) = answer else { continue };
            let here = Device { life: answer.life, ..device("bob", &name) };
            let is_known = known.iter().any(|known| known.device == here);
            let retired = store.inbox.stamps(&here).await.unwrap().retired;
            assert_eq!(is_known, !retired, "{name}: {answer:?} of {known:?}");
        }
    }
}

pub async fn a_retired_device_is_not_known(bed: &mut impl Bed) {
    let (store, bob) = (bed.store(), user("bob"));
    let phone = entered(&*store.marks, "bob", "phone").await;
    entered(&*store.marks, "bob", "laptop").await;
    assert_eq!(store.marks.retire(&user("alice"), &phone.device).await, Ok(false), "of another user");
    assert_eq!(store.marks.retire(&bob, &phone.device).await, Ok(true));
    assert_eq!(store.marks.retire(&bob, &phone.device).await, Ok(false));
    assert_eq!(names_of(&*store.marks).await, ["laptop"]);
    assert!(store.inbox.stamps(&phone).await.unwrap().retired);
}

pub async fn a_new_device_starts_at_the_read_marks(bed: &mut impl Bed) {
    let (store, bob, mut phone) = (bed.store(), user("bob"), device("bob", "phone"));
    let [read, sent, unread] = ["alice", "carol", "dave"].map(|peer| dm(peer, "bob"));
    for (conv, peer) in [(&read, "alice"), (&sent, "carol"), (&unread, "dave")] {
        fill(&*store.logs, conv, peer, "m", 6).await;
    }
    store.marks.raise_read_mark(&bob, &read, mark_at(4)).await.unwrap();
    append(&*store.logs, &sent, message("bob", "answer")).await.unwrap();
    assert_eq!(register(&*store.marks, &mut phone).await, Ok(true));
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
    let (mut phone, mut laptop) = (entered(&*store.marks, "bob", "phone").await, device("bob", "laptop"));
    fill(&*store.logs, &conv, "alice", "m", 9).await;
    store.marks.raise_cursor(&phone, &conv, 2).await.unwrap();
    store.marks.raise_read_mark(&bob, &conv, mark_at(8)).await.unwrap();
    assert_eq!(register(&*store.marks, &mut phone).await, Ok(false));
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(2), "registering again must not skip what it never got");
    assert_eq!(register(&*store.marks, &mut laptop).await, Ok(true));
    assert_eq!(store.marks.cursor(&phone, &conv).await, Ok(2));
    assert_eq!(store.marks.cursor(&laptop, &conv).await, Ok(8));
}

pub async fn marks_survive_a_restart(bed: &mut impl Bed) {
    let (conv, bob) = (dm("alice", "bob"), user("bob"));
    let phone = entered(&*bed.store().marks, "bob", "phone").await;
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
    refused(store.marks.enter(&device("alice", "phone"), MOST).await.unwrap_err());
    refused(store.marks.devices(&alice).await.unwrap_err());
    refused(store.marks.retire(&alice, &device("alice", "phone").device).await.unwrap_err());
    refused(store.engine.health().await.unwrap_err());
}
