//! The right to write, on the server: lives, fences, hand-overs, and what a home knows of a slot that comes back.

use natter::{
    model::Counts,
    store::{
        CountsAt,
        scylla::Step,
        slots::{Slot, Slots as _, Take},
    },
};

use super::*;
use crate::harness::{
    cassandra::Cassandra,
    proxy::{Direction, Fault, Proxy},
    until,
};

fn slot() -> Slot {
    Slot::of(&conv())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_life_has_a_number_of_its_own() {
    let options = Cassandra::shared().await.lent().await;
    let lives = (0..6).map(|_| Taking::connect_as("one", &options));
    let mut numbers: Vec<u64> = futures_util::future::join_all(lives).await.iter().map(|life| number(life)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "processes of one name that start at once");
    let other = Taking::connect_as("other", &options).await;
    assert_eq!(number(&other), 1);
}

fn number(store: &Taking) -> u64 {
    store.incarnation().number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_has_one_home() {
    let options = Cassandra::shared().await.lent().await;
    let stores = futures_util::future::join_all((0..4).map(|_| connect(&options))).await;
    let takes = futures_util::future::join_all(stores.iter().map(|store| (***store).take(slot()))).await;
    assert_eq!(takes.iter().filter(|take| **take == Ok(Take::Mine)).count(), 1, "{takes:?}");
    let home = stores.iter().find(|store| store.holds(slot())).unwrap();
    let held = Ok(Take::Held(home.incarnation()));
    assert_eq!(takes.iter().filter(|take| **take == held).count(), 3, "{takes:?}");
    let others = stores.iter().filter(|store| !store.holds(slot()));
    for other in others {
        let refused = (***other).append(&conv(), vec![message("alice", "x")]).await;
        assert_eq!(refused, [Err(StoreError::NotHome)]);
    }
}

/// F2, F5: the fenced home's next message is not answered as stored, whatever it believed; then it is a new incarnation
/// without slots.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_home_answers_nothing_and_begins_anew() {
    let options = Cassandra::shared().await.lent().await;
    let (a, b) = (connect(&options).await, connect(&options).await);
    append(&a, message("alice", "x")).await.unwrap();
    let before = a.incarnation();
    b.fence(&before).await.unwrap();
    assert!(a.holds(slot()), "nobody told it");
    let answers = (**a).append(&conv(), vec![message("alice", "y")]).await;
    assert_eq!(answers, [Err(StoreError::NotHome)]);
    assert!(a.held().is_empty());
    until("it is a new incarnation", async || a.incarnation() != before).await;
    assert_eq!(append(&b, message("bob", "z")).await.unwrap().seq, 3, "y was written, and is adopted");
    assert_eq!(append(&a, message("alice", "y")).await.unwrap().seq, 2);
    assert_eq!(whole_log(&b).await.len(), 3);
}

/// A node that comes back takes hundreds of slots of its former life, and so do the others of one that is gone: the fence
/// is one row, and is asked for once.
#[tokio::test(flavor = "multi_thread")]
async fn the_slots_of_one_fenced_life_cost_one_look_at_its_fence() {
    const SLOTS: u64 = 40;
    let options = Cassandra::shared().await.lent().await;
    let take_all = async |store: &Arc<Taking>| {
        let before = store.driver().counts().requests;
        for slot in Slot::all().take(SLOTS as usize) {
            assert_eq!((***store).take(slot).await, Ok(Take::Mine));
        }
        store.driver().counts().requests - before
    };
    let first = Taking::connect_as("one", &options).await;
    take_all(&first).await;
    let again = Taking::connect_as("one", &options).await;
    let requests = take_all(&again).await;
    // For each slot, the record is read and changed.
    assert!(requests <= 2 * SLOTS + 2, "{requests} requests for {SLOTS} slots of a former life");
    let other = connect(&options).await;
    other.fence(&again.incarnation()).await.unwrap();
    let requests = take_all(&other).await;
    assert!(requests <= 2 * SLOTS, "{requests} requests for {SLOTS} slots of a fenced home");
}

/// F7: the home that gets its slot back reads the log again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_comes_back_is_recovered_anew() {
    let options = Cassandra::shared().await.lent().await;
    let (a, b) = (connect(&options).await, connect(&options).await);
    for round in 0..5_u64 {
        for (n, store) in [&a, &b].into_iter().enumerate() {
            let seq = append(store, message("alice", &format!("{round}-{n}"))).await.unwrap().seq;
            assert_eq!(seq, round * 2 + n as Seq + 1);
            assert_eq!(append(store, message("alice", "0-0")).await.unwrap().seq, 1);
        }
    }
    let term = a.term(slot()).await.unwrap().unwrap();
    assert_eq!(term.epoch, 10, "each of the ten was a change of home");
    assert_eq!(heads(&a).await, [10, 10]);
}

/// F8: a home whose hand-over is not answered is home no more, whatever becomes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_without_an_answer_ends_the_role() {
    let options = Cassandra::shared().await.lent().await;
    let proxy = Proxy::to(Cassandra::shared().await.addr(0)).await;
    let a = connect(&ScyllaOptions { contact_points: vec![proxy.addr().to_string()], ..options.clone() }).await;
    let b = connect(&options).await;
    append(&a, message("alice", "x")).await.unwrap();
    proxy.apply(Fault::Hold(Direction::ToClient));
    let to = b.incarnation();
    let given = tokio::spawn({
        let (a, to) = (a.clone(), to.clone());
        async move { a.hand_over(slot(), &to).await }
    });
    until("the record names b", async || b.term(slot()).await.unwrap().is_some_and(|term| term.home == to)).await;
    assert!(!a.holds(slot()));
    let refused = (**a).append(&conv(), vec![message("alice", "y")]).await;
    assert_eq!(refused, [Err(StoreError::NotHome)]);
    assert_eq!((**b).take(slot()).await, Ok(Take::Mine));
    assert_eq!(append(&b, message("bob", "z")).await.unwrap().seq, 2);
    proxy.heal();
    given.await.unwrap().ok();
    assert_eq!(whole_log(&b).await.len(), 2);
}

/// Notes between nodes that NATS does not connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_finds_the_notes_that_are_left_for_it() {
    let options = Cassandra::shared().await.lent().await;
    let (a, b) = (connect(&options).await, connect(&options).await);
    assert_eq!(a.wanted().await.unwrap(), []);
    b.want(slot(), &a.incarnation()).await.unwrap();
    assert_eq!(a.wanted().await.unwrap(), [(slot(), b.incarnation())]);
    assert_eq!(b.wanted().await.unwrap(), []);
}

/// What a message costs at its home: the table in README.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_costs_four_requests_and_no_read_but_the_validation() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    append(&store, message("alice", "warm")).await.unwrap();
    let before = store.driver().counts().requests;
    for n in 0..50 {
        append(&store, message("alice", &format!("x{n}"))).await.unwrap();
    }
    // The write, the validation, two heads, in one request or in two; the sender's read mark goes with its head.
    let requests = store.driver().counts().requests - before;
    assert!((3 * 50..=4 * 50).contains(&requests), "{requests}");
}

/// What a read mark and a list cost: the table in README.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_read_mark_cost_what_they_show() {
    const CONVS: usize = 100;
    let options = Cassandra::shared().await.lent().await;
    let writing = connect(&options).await;
    let alice = user("alice");
    let convs: Vec<ConvId> = (0..CONVS).map(|n| ConvId::direct(&alice, &user(&format!("peer{n}")))).collect();
    for conv in &convs {
        for n in 0..3 {
            let body = Body::text(&"x".repeat(if *conv == convs[0] && n == 2 { 2_000 } else { 20 }));
            let sent = NewMessage { body, ..message(conv.peer_of(&alice).unwrap().as_str(), &n.to_string()) };
            writing.append(conv, vec![sent]).await.remove(0).unwrap();
        }
    }
    let store = connect(&options).await;
    let mut before = store.driver().counts().requests;
    let mut cost = || {
        let now = store.driver().counts().requests;
        now - std::mem::replace(&mut before, now)
    };
    assert_eq!(store.conversations(&alice, None, 1_000).await.unwrap().items.len(), CONVS);
    assert_eq!(cost(), 1, "a slice of ids and times");
    let page = &convs[1..51];
    assert_eq!(store.details(&alice, page).await.unwrap().len(), page.len());
    assert_eq!(cost(), 1, "the rows of a page of 50");
    assert_eq!(store.details(&alice, &convs).await.unwrap().len(), CONVS);
    assert_eq!(cost(), 2 + 1, "64 rows in one request, and the message that is too large for the inbox");
    store.of_user(&user("peer1"), &convs[1]).await.unwrap();
    assert_eq!(cost(), 1, "both marks of the other side");

    // Where the session knows that the log goes so far, only what was counted is read.
    let counts = |first, second| CountsAt::Known(Counts { first, second });
    assert_eq!(store.counts_at(&convs[1], 2, 2).await.unwrap(), counts(0, 2));
    assert_eq!(cost(), 1, "the row");
    assert_eq!(store.counts_at(&convs[1], 3, 0).await.unwrap(), counts(0, 3));
    assert_eq!(cost(), 2, "two heads, and what was counted there");
    assert_eq!(store.counts_at(&convs[1], 3, 0).await.unwrap(), counts(0, 3));
    assert_eq!(store.reaches(&convs[1], 3).await.unwrap(), 3);
    assert_eq!(cost(), 0, "what this node has seen");
    assert_eq!(store.counts_at(&convs[1], 1, 0).await.unwrap(), counts(0, 1));
    assert_eq!(cost(), 1, "the row");
    store.raise_read_mark(&alice, &convs[1], mark_at(3)).await.unwrap();
    assert_eq!(cost(), 1, "the mark itself");
}

/// The row at a mark may be lost: what was counted below it counts, in the bucket before as well, and nothing gets stuck.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_where_the_row_is_lost_counts_what_is_left() {
    let options = Cassandra::shared().await.lent().await;
    fill(&*connect(&options).await, BUCKET + 3).await;
    for seq in [BUCKET + 1, BUCKET + 2, BUCKET + 3] {
        super::rules_alone::hide(&options, seq).await;
        let counted = connect(&options).await.counts_at(&conv(), seq, 0).await.unwrap();
        let CountsAt::Known(Counts { first, second }) = counted else { panic!("{counted:?}") };
        // The head knows what the log has in all.
        let expected = if seq == BUCKET + 3 { seq } else { BUCKET };
        assert_eq!(first + second, expected, "at {seq}");
    }
}

/// `natter repair` asks for the lowest head: what a service wrote itself is no reason to mend anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_head_is_nothing_to_repair() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    let all = store.all_conversations().await.unwrap();
    let of_bob = |cid: &str| NewMessage { service: true, ..message("bob", cid) };
    for n in 1..=2 {
        append(&store, of_bob(&n.to_string())).await.unwrap();
        assert_eq!((heads(&store).await, all.lowest_head(&conv()).await), ([n, 0], Ok(n)));
    }
    append(&store, message("alice", "a")).await.unwrap();
    append(&store, of_bob("3")).await.unwrap();
    assert_eq!((heads(&store).await, all.lowest_head(&conv()).await), ([4, 3], Ok(4)));
    // A head is missing indeed.
    let store = connect(&super::crash::left_behind(Step::FirstHead).await).await;
    let all = store.all_conversations().await.unwrap();
    assert_eq!((heads(&store).await, all.lowest_head(&conv()).await), ([1, 0], Ok(0)));
}
