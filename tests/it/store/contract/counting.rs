//! Rules of what rows and inboxes count, and of senders that have no inbox.

use natter::{
    model::Side,
    store::{CountsAt, InboxDetail, Preview},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// A whole inbox row.
async fn detail(store: &Store, name: &str, conv: &ConvId) -> Option<InboxDetail> {
    store.inbox.details(&user(name), std::slice::from_ref(conv)).await.unwrap().pop()
}

fn of_service(sender: &str, cid: &str) -> NewMessage {
    NewMessage { service: true, ..message(sender, cid) }
}

/// The mark at `seq` as a node makes it.
async fn mark(store: &Store, conv: &ConvId, seq: Seq) -> ReadMark {
    match store.logs.counts_at(conv, seq, 0).await.unwrap() {
        CountsAt::Known(counts) => ReadMark { seq, counts },
        CountsAt::AboveTop(top) => panic!("{seq} is above {top}"),
    }
}

/// Rows of all kinds, in batches, over restarts: each row counts exactly the messages up to it, and what is unread for each
/// user follows from the head and the mark.
pub async fn rows_count_the_messages_up_to_them(bed: &mut impl Bed) {
    let (conv, mut random) = (dm("alice", "bob"), StdRng::seed_from_u64(7));
    let kinds = [Kind::Message, Kind::Message, Kind::Event];
    let mut expected = vec![Counts::default()];
    for round in 0..12 {
        let batch: Vec<_> = (0..random.random_range(1..9))
            .map(|n| {
                let sender = if random.random_bool(0.4) { "bob" } else { "alice" };
                let kind = kinds[random.random_range(0..kinds.len())];
                NewMessage { kind, read_upto: 0, ..message(sender, &format!("{round}-{n}")) }
            })
            .collect();
        for new in &batch {
            let last = *expected.last().unwrap();
            let one = u64::from(new.kind == Kind::Message);
            let alice = new.sender == user("alice");
            let (first, second) = if alice { (one, 0) } else { (0, one) };
            expected.push(Counts { first: last.first + first, second: last.second + second });
        }
        // A retry counts nothing.
        let again = batch[0].clone();
        assert!(bed.store().logs.append(&conv, batch).await.iter().all(Result::is_ok));
        assert!(!append(&*bed.store().logs, &conv, again).await.unwrap().fresh);
        if round % 4 == 3 {
            bed.reopen().await;
        }
    }
    let (store, top) = (bed.store(), expected.len() as Seq - 1);
    for row in log(&*store.logs, &conv).await {
        assert_eq!(row.counts, expected[row.seq as usize], "at {}", row.seq);
    }
    for (name, side) in [("alice", Side::Second), ("bob", Side::First)] {
        let own = detail(&store, name, &conv).await.unwrap().read.seq;
        for seq in (own..=top).step_by(5) {
            store.marks.raise_read_mark(&user(name), &conv, mark(&store, &conv, seq).await).await.unwrap();
            let InboxDetail { head, counts, read, .. } = detail(&store, name, &conv).await.unwrap();
            assert_eq!((head, counts, read.seq), (top, expected[top as usize], seq));
            assert_eq!(read.counts, expected[seq as usize], "the mark of {name} at {seq}");
            let unread = expected[top as usize].of(side) - expected[seq as usize].of(side);
            assert_eq!(counts.unread(read.counts, &conv, &user(name)), unread, "{name} has read {seq}");
        }
    }
    for known in [0, top] {
        assert_eq!(store.logs.counts_at(&conv, top + 1, known).await, Ok(CountsAt::AboveTop(top)));
        assert_eq!(store.logs.counts_at(&conv, 3, known).await, Ok(CountsAt::Known(expected[3])));
        assert_eq!(store.logs.counts_at(&conv, 0, known).await, Ok(CountsAt::Known(Counts::default())));
    }
    assert_eq!(store.logs.counts_at(&dm("no", "body"), 1, 0).await, Ok(CountsAt::AboveTop(0)));
    assert_eq!(store.logs.reaches(&conv, 2).await.map(|reached| (2..=top).contains(&reached)), Ok(true));
    assert_eq!(store.logs.reaches(&conv, top + 5).await, Ok(top));
}

/// What a list shows of the last message stands in the inbox, or is read where it is large.
pub async fn inbox_rows_show_the_last_message(bed: &mut impl Bed) {
    let store = bed.store();
    let convs = ["bob", "carol", "dave"].map(|peer| dm("alice", peer));
    // In MessagePack: as large as an inbox row takes, and one byte more.
    let bodies = [Body::text("hi"), Body::text(&"x".repeat(1024 - 3 - 6)), Body::text(&"x".repeat(1024 - 3 - 5))];
    for ((conv, body), n) in convs.iter().zip(&bodies).zip(1..) {
        append(&*store.logs, conv, message("alice", "below")).await.unwrap();
        let last = NewMessage { kind: Kind::Event, ts: n, body: body.clone(), ..message("alice", "last") };
        append(&*store.logs, conv, last).await.unwrap();
    }
    let asked = [convs[2].clone(), dm("alice", "erin"), convs[0].clone(), convs[1].clone()];
    let found = store.inbox.details(&user("alice"), &asked).await.unwrap();
    assert_eq!(found.iter().map(|detail| &detail.conv).collect::<Vec<_>>(), [&convs[2], &convs[0], &convs[1]]);
    for (conv, (body, ts)) in convs.iter().zip(bodies.iter().zip(1..)) {
        let last = Preview {
            seq: 2,
            ts,
            kind: Kind::Event,
            sender: user("alice"),
            cid: Cid::new("last").unwrap(),
            body: body.clone(),
            refs: None,
            folded: Default::default(),
        };
        let counts = Counts { first: 1, second: 0 };
        let read = ReadMark { seq: 2, counts };
        let found = found.iter().find(|detail| detail.conv == *conv).unwrap();
        // Nothing is noted there, which an engine may know.
        let noted = found.noted.min(2);
        let expected = InboxDetail { conv: conv.clone(), head: 2, ts, last: Some(last), counts, read, noted };
        assert_eq!(*found, expected);
        let peer = conv.peer_of(&user("alice")).unwrap();
        let of_peer = store.inbox.details(&peer, std::slice::from_ref(conv)).await.unwrap();
        assert_eq!(of_peer, [InboxDetail { read: ReadMark::default(), ..expected }]);
    }
    let phone = entered(&*store.marks, "bob", "phone").await;
    store.marks.raise_cursor(&phone, &convs[0], 2).await.unwrap();
    store.marks.raise_read_mark(&user("bob"), &convs[0], mark(&store, &convs[0], 1).await).await.unwrap();
    let marks = store.marks.of_user(&user("bob"), &convs[0]).await.unwrap();
    assert_eq!((marks.delivered, marks.read), (2, 1));
    let marks = store.marks.of_user(&user("bob"), &convs[1]).await.unwrap();
    assert_eq!((marks.delivered, marks.read), (0, 0));
}

/// Nobody reads the inbox of a service: what it writes leaves no head there and no mark, and the log goes on all the
/// same, also for whoever finds it anew. What others write to its name does.
pub async fn a_service_has_no_inbox_of_what_it_writes(bed: &mut impl Bed) {
    let conv = dm("billing", "bob");
    for n in 1..=4 {
        let store = bed.store();
        assert_eq!(append(&*store.logs, &conv, of_service("billing", &n.to_string())).await.unwrap().seq, n);
        assert_eq!(inbox(&*store.inbox, &user("billing"), 9).await, []);
        assert_eq!(head(&*store.inbox, &user("bob"), &conv).await, n, "the recipient has one");
        assert_eq!(store.marks.read_mark(&user("billing"), &conv).await, Ok(0));
        if n == 2 {
            bed.reopen().await;
            let again = append(&*bed.store().logs, &conv, of_service("billing", "1")).await.unwrap();
            assert_eq!((again.seq, again.fresh), (1, false));
            assert_eq!(inbox(&*bed.store().inbox, &user("billing"), 9).await, [], "nor does a retry leave any");
        }
    }
    let store = bed.store();
    assert_eq!(append(&*store.logs, &conv, message("bob", "why?")).await.unwrap().seq, 5);
    assert_eq!(head(&*store.inbox, &user("billing"), &conv).await, 5, "here it is a recipient");
    // One batch of both: bob's message is below the service's.
    let both = vec![of_service("billing", "5"), message("bob", "oh"), of_service("billing", "6")];
    assert!(store.logs.append(&conv, both).await.iter().all(Result::is_ok));
    assert!(head(&*store.inbox, &user("billing"), &conv).await >= 7);
    append(&*store.logs, &conv, of_service("billing", "7")).await.unwrap();
    assert!(head(&*store.inbox, &user("billing"), &conv).await < 9, "not of its own again");
    assert_eq!(head(&*store.inbox, &user("bob"), &conv).await, 9);
    bed.reopen().await;
    let store = bed.store();
    assert_eq!(append(&*store.logs, &conv, message("bob", "end")).await.unwrap().seq, 10);
    let counts = detail(&store, "bob", &conv).await.unwrap().counts;
    assert_eq!(counts, Counts { first: 7, second: 3 });
    // To itself: somebody must have a head, or the log is not found again.
    let alone = dm("billing", "billing");
    append(&*store.logs, &alone, of_service("billing", "note")).await.unwrap();
    bed.reopen().await;
    assert_eq!(append(&*bed.store().logs, &alone, of_service("billing", "more")).await.unwrap().seq, 2);
}
