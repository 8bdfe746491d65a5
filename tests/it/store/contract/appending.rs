//! Rules of `Logs::append`: seqs, heads, read marks, sizes.

use std::collections::BTreeSet;

use natter::{
    model::{ConvId, Seq},
    store::Appended,
};

use super::*;

pub async fn each_message_gets_its_answer_in_order(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let batch = messages("alice", "m", 5);
    let expected: Vec<_> =
        batch.iter().zip(1..).map(|(m, seq)| Ok(Appended { seq, ts: m.ts, fresh: true, expires: None })).collect();
    assert_eq!(store.logs.append(&conv, batch.clone()).await, expected);
    let stored: Vec<_> = log(&*store.logs, &conv).await.into_iter().map(|row| row.cid).collect();
    assert_eq!(stored, batch.into_iter().map(|m| m.cid).collect::<Vec<_>>());
}

pub async fn seqs_are_dense_under_concurrent_appends(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..6 {
        let (store, conv) = (store.clone(), conv.clone());
        tasks.spawn(async move {
            let mut seqs = Vec::new();
            for round in 0..10 {
                let sender = if task % 2 == 0 { "alice" } else { "bob" };
                let batch = messages(sender, &format!("t{task}r{round}n"), 1 + task % 3);
                let answers = store.logs.append(&conv, batch).await;
                seqs.extend(answers.into_iter().map(|answer| answer.unwrap().seq));
            }
            assert!(seqs.is_sorted(), "one caller's messages must keep their order: {seqs:?}");
            seqs
        });
    }
    let all: Vec<_> = tasks.join_all().await.concat();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(distinct, (1..=all.len() as Seq).collect());
    assert_eq!(log(&*store.logs, &conv).await.len(), all.len());
}

pub async fn heads_stand_when_an_append_is_answered(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let mut tasks = tokio::task::JoinSet::new();
    for sender in ["alice", "bob"] {
        let (store, conv) = (store.clone(), conv.clone());
        tasks.spawn(async move {
            for round in 0..10 {
                let message = message(sender, &format!("{sender}{round}"));
                for try_no in 0..2 {
                    let answer = append(&*store.logs, &conv, message.clone()).await.unwrap();
                    for reader in ["alice", "bob"] {
                        let head = head(&*store.inbox, &user(reader), &conv).await;
                        assert!(head >= answer.seq, "try {try_no}: head {head} of {reader} below {answer:?}");
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(head(&*store.inbox, &user("alice"), &conv).await, 20);
    assert_eq!(head(&*store.inbox, &user("eve"), &conv).await, 0);
}

pub async fn sending_moves_the_senders_read_mark_only(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let (alice, bob) = (user("alice"), user("bob"));
    fill(&*store.logs, &conv, "alice", "a", 3).await;
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(3));
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(0));
    append(&*store.logs, &conv, message("bob", "b")).await.unwrap();
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(3));
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(4));
    append(&*store.logs, &conv, message("alice", "a0")).await.unwrap();
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(3), "a retry moves nothing back or forward");
}

pub async fn sending_marks_nothing_that_was_not_handed_out(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let (alice, bob) = (user("alice"), user("bob"));
    let handed = |sender: &str, cid: &str, read_upto| NewMessage { read_upto, ..message(sender, cid) };
    // The first of a log has nothing below it, and what one wrote oneself needs no handing out.
    let first = vec![handed("alice", "a1", 0), handed("alice", "a2", 0), handed("alice", "a3", 0)];
    store.logs.append(&conv, first).await;
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(3));
    // bob has been handed two of the three.
    append(&*store.logs, &conv, handed("bob", "b4", 2)).await.unwrap();
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(0));
    append(&*store.logs, &conv, handed("bob", "b5", 4)).await.unwrap();
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(5));
    // Of a batch only those that follow.
    let mixed =
        vec![handed("alice", "a6", 4), handed("bob", "b7", 5), handed("alice", "a8", 7), handed("alice", "a9", 0)];
    store.logs.append(&conv, mixed).await;
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(9));
    assert_eq!(store.marks.read_mark(&bob, &conv).await, Ok(5), "6 was not handed to bob");
    assert_eq!(head(&*store.inbox, &bob, &conv).await, 9, "heads do not wait for marks");
}

pub async fn one_may_write_to_oneself(bed: &mut impl Bed) {
    let (store, conv, alice) = (bed.store(), dm("alice", "alice"), user("alice"));
    assert_eq!(fill(&*store.logs, &conv, "alice", "note", 3).await, 3);
    assert_eq!(log(&*store.logs, &conv).await.len(), 3);
    let heads = inbox(&*store.inbox, &alice, 10).await;
    assert_eq!(heads.iter().map(|head| (&head.conv, head.head)).collect::<Vec<_>>(), [(&conv, 3)]);
    assert_eq!(store.marks.read_mark(&alice, &conv).await, Ok(3));
}

pub async fn an_empty_batch_changes_nothing(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    assert_eq!(store.logs.append(&conv, Vec::new()).await, []);
    assert_eq!(store.logs.top(&conv).await, Ok(0));
    assert!(inbox(&*store.inbox, &user("alice"), 10).await.is_empty());
}

pub async fn large_bodies_fit(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    // 64 KiB as they are stored, the longest that clients may send.
    let body = |n: u8| Body::text(&n.to_string().repeat(65_533));
    let large = |n: u8| NewMessage { body: body(n), ..message("alice", &format!("large{n}")) };
    assert_eq!(body(0).size(), 65_536);
    let batch: Vec<_> = (0..8).map(large).collect();
    for answer in store.logs.append(&conv, batch).await {
        answer.unwrap();
    }
    let rows = log(&*store.logs, &conv).await;
    assert_eq!(rows.len(), 8);
    for (row, n) in rows.iter().zip(0..) {
        assert_eq!(row.body, large(n).body, "body {n}");
    }
    let again = append(&*store.logs, &conv, large(3)).await.unwrap();
    assert_eq!((again.seq, again.fresh), (4, false));
}

/// The edge of the first bucket of 4,096 messages (an engine without buckets must not care).
const EDGE: usize = 4_096;

pub async fn batches_cross_the_bucket_edge(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    fill(&*store.logs, &conv, "alice", "a", EDGE - 3).await;
    let batch = messages("bob", "edge", 6);
    let seqs: Vec<_> =
        store.logs.append(&conv, batch.clone()).await.into_iter().map(|answer| answer.unwrap().seq).collect();
    assert_eq!(seqs, (EDGE as Seq - 2..=EDGE as Seq + 3).collect::<Vec<_>>());
    check_the_edge(&store, &conv, EDGE + 3).await;
    let again: Vec<_> = store.logs.append(&conv, batch).await.into_iter().map(|answer| answer.unwrap().seq).collect();
    assert_eq!(again, seqs, "a retry over the edge");
}

pub async fn single_messages_cross_the_bucket_edge(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    fill(&*store.logs, &conv, "alice", "a", EDGE - 3).await;
    for seq in EDGE as Seq - 2..=EDGE as Seq + 3 {
        let message = message("bob", &format!("edge{seq}"));
        assert_eq!(append(&*store.logs, &conv, message.clone()).await.map(|a| (a.seq, a.fresh)), Ok((seq, true)));
        assert_eq!(append(&*store.logs, &conv, message).await.map(|a| (a.seq, a.fresh)), Ok((seq, false)));
        assert_eq!(store.logs.top(&conv).await, Ok(seq));
    }
    check_the_edge(&store, &conv, EDGE + 3).await;
}

async fn check_the_edge(store: &Store, conv: &ConvId, len: usize) {
    assert_eq!(log(&*store.logs, conv).await.len(), len);
    let over = store.logs.read_after(conv, EDGE as Seq - 2, Span { rows: 4, bytes: 1 << 20 }).await.unwrap();
    assert_eq!(over.iter().map(|row| row.seq).collect::<Vec<_>>(), [4_095, 4_096, 4_097, 4_098]);
    for before in EDGE as Seq - 1..=EDGE as Seq + 3 {
        let rows = store.logs.read_before(conv, before, Span { rows: 3, bytes: 1 << 20 }).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [before - 3, before - 2, before - 1]);
    }
    assert_eq!(head(&*store.inbox, &user("alice"), conv).await, len as Seq);
    assert_eq!(head(&*store.inbox, &user("bob"), conv).await, len as Seq);
}

pub async fn conversations_do_not_mix(bed: &mut impl Bed) {
    let store = bed.store();
    let names = ["a", "a-b", "ab", "b", "b-", "b-c", "b_"];
    let pairs = || names.iter().flat_map(|one| names.iter().map(move |other| (*one, *other))).filter(|(a, b)| a <= b);
    for (number, (one, other)) in pairs().enumerate() {
        let conv = dm(one, other);
        assert_eq!(
            fill(&*store.logs, &conv, one, &format!("{number}-"), number % 4 + 1).await as usize,
            number % 4 + 1
        );
    }
    for (number, (one, other)) in pairs().enumerate() {
        let rows = log(&*store.logs, &dm(one, other)).await;
        assert_eq!(rows.len(), number % 4 + 1, "{one} and {other}");
        assert!(rows.iter().all(|row| row.cid.as_str().starts_with(&format!("{number}-"))), "{rows:?}");
    }
}
