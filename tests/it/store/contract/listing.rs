//! Rules of the two listings: a user's inbox and a device's gaps.

use std::time::Duration;

use super::*;
use crate::harness::wait::until_ok;

pub async fn the_inbox_is_paged_in_order(bed: &mut impl Bed) {
    let (store, me) = (bed.store(), user("m"));
    // Peers before and after "m" in the alphabet, with similar beginnings, and oneself.
    let peers = ["a", "a-b", "aa", "b", "m", "n", "n-", "n-n", "nn", "z"];
    for (peer, count) in peers.iter().zip(1..) {
        fill(&*store.logs, &dm("m", peer), "m", &format!("{peer}-"), count).await;
    }
    fill(&*store.logs, &dm("a", "z"), "a", "not-mine", 1).await;
    let mut expected: Vec<_> = peers.iter().map(|peer| dm("m", peer)).zip(1..).collect();
    expected.sort();
    for limit in [1, 3, 9, 10, 11, 100] {
        let heads = inbox(&*store.inbox, &me, limit).await;
        let heads: Vec<_> = heads.into_iter().map(|head| (head.conv, head.head)).collect();
        assert_eq!(heads, expected, "in pages of {limit}");
    }
    let page = store.inbox.conversations(&me, None, 3).await.unwrap();
    assert_eq!(page.next.as_ref(), Some(&expected[2].0), "a page of 3 of 10");
    assert_eq!(store.inbox.conversations(&user("stranger"), None, 10).await.unwrap().items, []);
}

pub async fn the_inbox_knows_the_time_of_the_head(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let at = |cid: &str, ts| NewMessage { ts, ..message("alice", cid) };
    store.logs.append(&conv, vec![at("one", 10), at("two", 30), at("three", 20)]).await;
    // A retry, and a clock that goes back: the head's time is that of the message at that seq (I5).
    append(&*store.logs, &conv, at("one", 99)).await.unwrap();
    for reader in ["alice", "bob"] {
        let heads = inbox(&*store.inbox, &user(reader), 10).await;
        assert_eq!(heads, [InboxRow { conv: conv.clone(), head: 3, ts: 20 }], "{reader}");
    }
    append(&*store.logs, &conv, at("four", 5)).await.unwrap();
    assert_eq!(inbox(&*store.inbox, &user("bob"), 10).await, [InboxRow { conv: conv.clone(), head: 4, ts: 5 }]);
}

pub async fn gaps_are_what_a_device_has_not_acknowledged(bed: &mut impl Bed) {
    let store = bed.store();
    let (mut phone, mut laptop) = (device("bob", "phone"), device("bob", "laptop"));
    for device in [&mut phone, &mut laptop] {
        assert_eq!(register(&*store.marks, device).await, Ok(true));
    }
    let convs = ["alice", "bob", "carol", "dave"].map(|peer| dm(peer, "bob"));
    for conv in &convs {
        fill(&*store.logs, conv, "bob", "m", 4).await;
    }
    let gap = |conv: &ConvId, cursor| Gap { conv: conv.clone(), head: 4, cursor };
    let all: Vec<_> = [&convs[0], &convs[1], &convs[2], &convs[3]].map(|conv| gap(conv, 0)).into();
    let mut sorted = all.clone();
    sorted.sort_by(|a, b| a.conv.cmp(&b.conv));
    assert_eq!(gaps(&*store.inbox, &phone, 10).await, sorted, "one's own messages are part of it");
    store.marks.raise_cursor(&phone, &convs[0], 4).await.unwrap();
    store.marks.raise_cursor(&phone, &convs[2], 3).await.unwrap();
    let mut left: Vec<_> = [gap(&convs[1], 0), gap(&convs[2], 3), gap(&convs[3], 0)].into();
    left.sort_by(|a, b| a.conv.cmp(&b.conv));
    assert_eq!(gaps(&*store.inbox, &phone, 10).await, left);
    assert_eq!(gaps(&*store.inbox, &laptop, 10).await, sorted, "each device has its own place");
    assert_eq!(gaps(&*store.inbox, &device("bob", "unknown"), 10).await, sorted);
    append(&*store.logs, &convs[0], message("alice", "new")).await.unwrap();
    let first = gaps(&*store.inbox, &phone, 10).await.remove(0);
    assert_eq!(first, Gap { conv: convs[0].clone(), head: 5, cursor: 4 });
}

pub async fn gaps_are_paged_over_what_is_not_behind(bed: &mut impl Bed) {
    let store = bed.store();
    let phone = entered(&*store.marks, "me", "phone").await;
    let convs: Vec<_> = (0..30).map(|n| dm("me", &format!("peer{n:02}"))).collect();
    for (n, conv) in convs.iter().enumerate() {
        append(&*store.logs, conv, message("me", &format!("m{n}"))).await.unwrap();
        if n % 7 != 3 {
            store.marks.raise_cursor(&phone, conv, 1).await.unwrap();
        }
    }
    let behind: Vec<_> = convs.iter().skip(3).step_by(7).cloned().collect();
    for limit in [1, 2, 5, 29, 30, 31, 100] {
        let found: Vec<_> = gaps(&*store.inbox, &phone, limit).await.into_iter().map(|gap| gap.conv).collect();
        assert_eq!(found, behind, "in pages of {limit}");
        for scan in [1, 7, 100] {
            let found = gaps_within(&*store.inbox, &phone, limit, scan).await;
            let found: Vec<_> = found.into_iter().map(|gap| gap.conv).collect();
            assert_eq!(found, behind, "in pages of {limit} that look at {scan}");
        }
    }
    let page = store.inbox.gaps(&phone, None, 2, 2).await.unwrap();
    assert!(page.scanned < 30, "a small page must not cost a whole scan: {page:?}");
}

pub async fn names_that_start_alike_keep_apart(bed: &mut impl Bed) {
    let store = bed.store();
    let names = ["p", "p-", "p-1", "p1", "P"];
    for name in ["a", "a-", "a-b", "ab"] {
        let conv = dm(name, "zoe");
        fill(&*store.logs, &conv, name, "m", 5).await;
        for (device_name, seq) in names.into_iter().zip(1..) {
            let device = entered(&*store.marks, name, device_name).await;
            store.marks.raise_cursor(&device, &conv, seq).await.unwrap();
        }
    }
    for name in ["a", "a-", "a-b", "ab"] {
        let (me, conv) = (user(name), dm(name, "zoe"));
        assert_eq!(inbox(&*store.inbox, &me, 2).await.len(), 1, "{name}");
        for device_name in names {
            let device = &entered(&*store.marks, name, device_name).await;
            // The device was registered after the sends, at the read mark 5.
            assert_eq!(store.marks.cursor(device, &conv).await, Ok(5), "{device}");
            assert_eq!(gaps(&*store.inbox, device, 2).await, [], "{device}");
        }
    }
    assert_eq!(inbox(&*store.inbox, &user("zoe"), 3).await.len(), 4);
    // Cursors of one device say nothing about a device, or a user, whose name starts the same way.
    let conv = dm("a", "q");
    let mut devices = Vec::new();
    for name in names {
        devices.push(entered(&*store.marks, "a", name).await);
    }
    fill(&*store.logs, &conv, "q", "m", 9).await;
    for (device, seq) in devices.iter().zip(1..) {
        store.marks.raise_cursor(device, &conv, seq).await.unwrap();
    }
    for (device, seq) in devices.iter().zip(1..) {
        assert_eq!(gaps(&*store.inbox, device, 9).await, [Gap { conv: conv.clone(), head: 9, cursor: seq }]);
    }
}

/// Only clean stamps say anything: those are equal exactly as long as nothing is answered.
pub async fn stamps_change_with_every_message_of_the_user(bed: &mut impl Bed) {
    let store = bed.store();
    let clean = async |name: &str| {
        until_ok(Duration::from_secs(20), "the stamps are clean", async || {
            let stamps = store.inbox.stamps(&device(name, "phone")).await.unwrap();
            if stamps.clean { Ok(stamps.value) } else { Err(format!("{stamps:?}")) }
        })
        .await
    };
    let mut seen = vec![clean("bob").await];
    for n in 0..3 {
        append(&*store.logs, &dm("alice", "bob"), message("alice", &n.to_string())).await.unwrap();
        append(&*store.logs, &dm("bob", "carol"), message("bob", &n.to_string())).await.unwrap();
        let at_once = store.inbox.stamps(&device("bob", "phone")).await.unwrap();
        assert!(!at_once.clean || !seen.contains(&at_once.value), "what was answered shows: {at_once:?}, {seen:?}");
        let stamps = clean("bob").await;
        assert!(!seen.contains(&stamps), "{stamps} again: {seen:?}");
        assert_eq!(clean("bob").await, stamps, "nothing has changed");
        seen.push(stamps);
    }
}
