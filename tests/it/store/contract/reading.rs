//! Rules of reading a log: order, density, pages, edges.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn seqs(rows: &[Row]) -> Vec<Seq> {
    rows.iter().map(|row| row.seq).collect()
}

fn rows_of(rows: usize) -> Span {
    Span { rows, ..WHOLE }
}

pub async fn rows_come_back_as_they_were(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let mut sent = vec![message("alice", "a/1"), message("bob", "b:\u{1F600}"), message("alice", "a 2")];
    sent[1].body = serde_json::from_str(r#"{"a": [0, -1, 2.5, true, null], "ä\u0000": {"": "\n\u0001"}}"#).unwrap();
    sent[2].body = serde_json::from_str("null").unwrap();
    sent[2].ts = 0;
    (sent[1].service, sent[2].kind) = (true, Kind::Event);
    store.logs.append(&conv, sent.clone()).await;
    let counts = [(1, 0), (1, 1), (1, 1)].map(|(first, second)| Counts { first, second });
    let whole = |((m, counts), seq): ((NewMessage, Counts), Seq)| {
        let NewMessage { kind, sender, service, cid, ts, body, refs, .. } = m;
        Row { seq, kind, sender, service, cid, ts, body, counts, refs }
    };
    let expected: Vec<_> = sent.into_iter().zip(counts).zip(1..).map(whole).collect();
    assert_eq!(log(&*store.logs, &conv).await, expected);
}

pub async fn pages_forward_follow_each_other(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    fill(&*store.logs, &conv, "alice", "m", 25).await;
    let (mut after, mut pages) = (0, Vec::new());
    loop {
        let page = store.logs.read_after(&conv, after, rows_of(10)).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        pages.push(seqs(&page));
    }
    assert_eq!(pages, [(1..=10).collect::<Vec<_>>(), (11..=20).collect(), (21..=25).collect()]);
}

pub async fn a_page_is_cut_by_bytes<B: Bed>(bed: &mut B) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    // 100 bytes as they are stored.
    let text = "x".repeat(98 - B::BESIDE_BODY);
    let hundred = |n: usize| NewMessage { body: Body::text(&text), ..message("alice", &format!("m{n}")) };
    assert_eq!(hundred(0).body.size() + B::BESIDE_BODY, 100);
    store.logs.append(&conv, (0..6).map(hundred).collect()).await;
    for (bytes, count) in [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3), (300, 3), (301, 4), (600, 6), (9_999, 6)] {
        let span = Span { rows: 100, bytes };
        let forward = store.logs.read_after(&conv, 0, span).await.unwrap();
        assert_eq!(seqs(&forward), (1..=count).collect::<Vec<_>>(), "{bytes} bytes forward");
        let backward = store.logs.read_before(&conv, Seq::MAX, span).await.unwrap();
        assert_eq!(seqs(&backward), (7 - count..=6).collect::<Vec<_>>(), "{bytes} bytes backward");
    }
    let both = Span { rows: 2, bytes: 300 };
    assert_eq!(seqs(&store.logs.read_after(&conv, 1, both).await.unwrap()), [2, 3], "the rows end it first");
}

pub async fn pages_backward_follow_each_other(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    fill(&*store.logs, &conv, "alice", "m", 25).await;
    let (mut before, mut pages) = (Seq::MAX, Vec::new());
    loop {
        let page = store.logs.read_before(&conv, before, rows_of(10)).await.unwrap();
        let Some(first) = page.first() else { break };
        before = first.seq;
        pages.push(seqs(&page));
    }
    assert_eq!(pages, [(16..=25).collect::<Vec<_>>(), (6..=15).collect(), (1..=5).collect()]);
}

pub async fn reading_at_the_edges(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    for place in [0, 1, Seq::MAX] {
        assert_eq!(store.logs.read_after(&conv, place, WHOLE).await, Ok(vec![]), "an empty log after {place}");
        assert_eq!(store.logs.read_before(&conv, place, WHOLE).await, Ok(vec![]), "an empty log before {place}");
    }
    assert_eq!(store.logs.top(&conv).await, Ok(0));
    fill(&*store.logs, &conv, "alice", "m", 5).await;
    for (after, expected) in [(0, 1..6), (1, 2..6), (4, 5..6), (5, 0..0), (6, 0..0), (Seq::MAX - 1, 0..0)] {
        let rows = store.logs.read_after(&conv, after, WHOLE).await.unwrap();
        assert_eq!(seqs(&rows), expected.collect::<Vec<_>>(), "after {after}");
    }
    assert_eq!(store.logs.read_after(&conv, Seq::MAX, WHOLE).await, Ok(vec![]));
    for (before, expected) in [(0, 0..0), (1, 0..0), (2, 1..2), (5, 1..5), (6, 1..6), (7, 1..6), (5_000, 1..6)] {
        let rows = store.logs.read_before(&conv, before, WHOLE).await.unwrap();
        assert_eq!(seqs(&rows), expected.collect::<Vec<_>>(), "before {before}");
    }
    assert_eq!(seqs(&store.logs.read_before(&conv, 4, rows_of(1)).await.unwrap()), [3]);
}

pub async fn the_longest_names_work(bed: &mut impl Bed) {
    let store = bed.store();
    let (one, other) = ("x".repeat(64), "x".repeat(63) + "y");
    let (conv, mut phone) = (dm(&one, &other), device(&other, &"d".repeat(64)));
    fill(&*store.logs, &conv, &one, &"c".repeat(60), 3).await;
    assert_eq!(log(&*store.logs, &conv).await.len(), 3);
    assert_eq!(register(&*store.marks, &mut phone).await, Ok(true));
    let gap = Gap { conv: conv.clone(), head: 3, cursor: 0 };
    assert_eq!(gaps(&*store.inbox, &phone, 10).await, [gap]);
    store.marks.raise_cursor(&phone, &conv, 3).await.unwrap();
    assert!(gaps(&*store.inbox, &phone, 10).await.is_empty());
}

pub async fn readers_beside_writers_see_no_gap_and_no_row_above_a_head(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for backward in [false, true] {
        let (store, conv, done) = (store.clone(), conv.clone(), done.clone());
        readers.spawn(async move {
            let mut highest = 0;
            while !done.load(Ordering::Relaxed) {
                let rows = if backward {
                    store.logs.read_before(&conv, Seq::MAX, rows_of(50)).await.unwrap()
                } else {
                    store.logs.read_after(&conv, highest, WHOLE).await.unwrap()
                };
                assert!(rows.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "{:?}", seqs(&rows));
                let Some(last) = rows.last().map(|row| row.seq) else { continue };
                assert!(last >= highest, "a log must not get shorter");
                assert!(backward || rows[0].seq == highest + 1, "a page starts where the last one ended");
                highest = last;
                let mut heads = [0; 2];
                for (head_of, reader) in heads.iter_mut().zip(["alice", "bob"]) {
                    *head_of = head(&*store.inbox, &user(reader), &conv).await;
                }
                assert!(heads.iter().max() >= Some(&last), "row {last} was handed out above the heads {heads:?}");
            }
            highest
        });
    }
    for round in 0..40 {
        store.logs.append(&conv, messages("alice", &format!("r{round}n"), 1 + round % 7)).await;
        let seen = store.logs.top(&conv).await.unwrap();
        let rows = store.logs.read_after(&conv, seen - 1, WHOLE).await.unwrap();
        assert_eq!(seqs(&rows), [seen], "a read sees all that was answered");
    }
    done.store(true, Ordering::Relaxed);
    assert!(readers.join_all().await.iter().all(|highest| *highest > 0), "the readers must have read something");
}
