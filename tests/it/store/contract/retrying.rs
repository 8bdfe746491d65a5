//! Exactly one seq per cid (I4), however a message is sent again.

use std::collections::BTreeMap;

use natter::store::{Appended, StoreError};

use super::*;

pub async fn a_retry_gets_the_first_place_and_time(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let first = message("alice", "first");
    fill(&*store.logs, &conv, "bob", "before", 2).await;
    assert_eq!(place(&*store.logs, &conv, &first).await, None);
    let fresh = append(&*store.logs, &conv, first.clone()).await.unwrap();
    assert_eq!(fresh, Appended { seq: 3, ts: first.ts, fresh: true, expires: None });
    fill(&*store.logs, &conv, "bob", "after", 2).await;
    assert_eq!(place(&*store.logs, &conv, &first).await, Some(3), "whoever only asks is told where it is");
    let later = NewMessage { ts: first.ts + 60_000, ..first.clone() };
    assert_eq!(
        append(&*store.logs, &conv, later).await,
        Ok(Appended { seq: 3, ts: first.ts, fresh: false, expires: None })
    );
    assert_eq!(log(&*store.logs, &conv).await.len(), 5);
}

/// Where a message stands, by its cid.
async fn place(logs: &dyn Logs, conv: &ConvId, message: &NewMessage) -> Option<Seq> {
    let row = logs.placed(conv, &message.sender, &message.cid).await.unwrap()?;
    assert!(message.is_stored_as(&row), "another one was found: {row:?}");
    Some(row.seq)
}

pub async fn a_cid_twice_in_a_batch_gets_one_seq(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let (x, y) = (message("alice", "x"), message("alice", "y"));
    let later = NewMessage { ts: x.ts + 5, ..x.clone() };
    let other = NewMessage { body: Body::text("another"), ..x.clone() };
    let answers = store.logs.append(&conv, vec![x.clone(), y.clone(), later, other, y.clone()]).await;
    let expected = [
        Ok(Appended { seq: 1, ts: x.ts, fresh: true, expires: None }),
        Ok(Appended { seq: 2, ts: y.ts, fresh: true, expires: None }),
        Ok(Appended { seq: 1, ts: x.ts, fresh: false, expires: None }),
        Err(StoreError::CidReused { seq: 1 }),
        Ok(Appended { seq: 2, ts: y.ts, fresh: false, expires: None }),
    ];
    assert_eq!(answers, expected);
    assert_eq!(log(&*store.logs, &conv).await.len(), 2);
}

pub async fn a_cid_sent_twice_at_once_gets_one_seq(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    for round in 0..10 {
        let tries = (0..4).map(|_| append(&*store.logs, &conv, message("alice", &format!("round{round}"))));
        let answers = futures_util::future::join_all(tries).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|answer| answer.seq == round + 1), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer.fresh).count(), 1, "{answers:?}");
    }
    assert_eq!(log(&*store.logs, &conv).await.len(), 10);
}

pub async fn another_body_is_refused(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    fill(&*store.logs, &conv, "alice", "m", 4).await;
    let mut batch = vec![message("alice", "new0"), message("alice", "m2"), message("alice", "new1")];
    batch[1].body = Body::text("another body");
    let answers = store.logs.append(&conv, batch).await;
    assert_eq!(answers[0].as_ref().map(|a| a.seq), Ok(5));
    assert_eq!(answers[1], Err(StoreError::CidReused { seq: 3 }));
    assert_eq!(answers[2].as_ref().map(|a| a.seq), Ok(6), "one refused message must not hold up the others");
    let rows = log(&*store.logs, &conv).await;
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[2].body, message("alice", "m2").body, "the first body stays");
}

pub async fn a_cid_belongs_to_its_sender_and_conversation(bed: &mut impl Bed) {
    let (store, conv, other) = (bed.store(), dm("alice", "bob"), dm("alice", "carol"));
    for (conv, sender, seq) in [(&conv, "alice", 1), (&conv, "bob", 2), (&other, "alice", 1), (&other, "carol", 2)] {
        let answer = append(&*store.logs, conv, message(sender, "same")).await;
        assert_eq!(answer.map(|a| (a.seq, a.fresh)), Ok((seq, true)), "{sender} in {conv}");
        assert_eq!(place(&*store.logs, conv, &message(sender, "same")).await, Some(seq), "{sender} in {conv}");
    }
    assert_eq!(place(&*store.logs, &conv, &message("carol", "same")).await, None, "carol wrote elsewhere");
}

pub async fn cids_may_look_alike(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("a", "a-b"));
    let longest = "\u{1F600}".repeat(64);
    let alike = ["1", "10", "1/0", "1:0", "/", ":", "//", " ", "é", "e\u{301}", "a/1", "\u{feff}", longest.as_str()];
    let senders = ["a", "a-b"];
    let pairs = || senders.iter().flat_map(|sender| alike.iter().map(move |cid| (*sender, *cid)));
    for fresh in [true, false] {
        for ((sender, cid), seq) in pairs().zip(1..) {
            let answer = append(&*store.logs, &conv, message(sender, cid)).await;
            assert_eq!(answer.map(|a| (a.seq, a.fresh)), Ok((seq, fresh)), "{sender} {cid:?}");
        }
    }
    let rows = log(&*store.logs, &conv).await;
    let stored: Vec<_> = rows.iter().map(|row| (row.sender.as_str(), row.cid.as_str())).collect();
    assert_eq!(stored, pairs().collect::<Vec<_>>());
}

pub async fn overlapping_batches_store_each_message_once(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    for round in 0..10 {
        let [x, y, z] = ["x", "y", "z"].map(|name| message("alice", &format!("{name}{round}")));
        let (one, other) = tokio::join!(
            store.logs.append(&conv, vec![x.clone(), z.clone()]),
            store.logs.append(&conv, vec![x.clone(), y.clone()])
        );
        let seq = |answer: &StoreResult<Appended>| answer.as_ref().map(|a| a.seq).unwrap();
        assert_eq!(seq(&one[0]), seq(&other[0]), "x has one seq: {one:?} {other:?}");
        assert_ne!(seq(&one[1]), seq(&other[1]), "y and z have one each: {one:?} {other:?}");
    }
    let mut times = BTreeMap::new();
    for row in log(&*store.logs, &conv).await {
        *times.entry(row.cid).or_insert(0) += 1;
    }
    assert_eq!(times.len(), 30);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

pub async fn a_retry_is_known_after_4096_other_messages(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    append(&*store.logs, &conv, message("bob", "one")).await.unwrap();
    append(&*store.logs, &conv, message("alice", "x")).await.unwrap();
    fill(&*store.logs, &conv, "bob", "other", 4_096).await;
    assert_eq!(place(&*store.logs, &conv, &message("alice", "x")).await, Some(2));
    let retried = append(&*store.logs, &conv, message("alice", "x")).await.unwrap();
    assert_eq!((retried.seq, retried.fresh), (2, false));
    assert_eq!(store.logs.top(&conv).await, Ok(4_098));
}

pub async fn a_retry_is_known_after_a_restart(bed: &mut impl Bed) {
    let conv = dm("alice", "bob");
    let sent = messages("alice", "m", 20);
    let first = bed.store().logs.append(&conv, sent.clone()).await;
    bed.reopen().await;
    let again = bed.store().logs.append(&conv, sent).await;
    let places = |answers: Vec<StoreResult<Appended>>| -> Vec<_> {
        answers.into_iter().map(|answer| answer.map(|a| (a.seq, a.ts)).unwrap()).collect()
    };
    assert!(again.iter().all(|answer| answer.as_ref().is_ok_and(|a| !a.fresh)), "{again:?}");
    assert_eq!(places(again), places(first));
    let next = append(&*bed.store().logs, &conv, message("bob", "next")).await.unwrap();
    assert_eq!((next.seq, next.fresh), (21, true));
    assert_eq!(log(&*bed.store().logs, &conv).await.len(), 21);
}
