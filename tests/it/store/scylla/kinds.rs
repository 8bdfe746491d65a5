//! What stands beside the logs of the CQL store when homes die between the steps of an append, and what a list asks for.

use natter::{
    model::{Kind, Refs, Target, room::Denied},
    store::{Behind, InboxDetail, Preview, Store, scylla::Step},
};
use rand::RngExt as _;

use super::*;
use crate::{
    harness::cassandra::Cassandra,
    store::contract::{
        kinds::{NOW, about, by_hand, folds, put, reaction, target},
        log, rooms, rooms_random,
    },
};

/// An append of rows that refer to something, which a home does not survive, and how much stands beside the log then.
const STEPS: [(Step, bool); 4] =
    [(Step::Written, false), (Step::Validated, false), (Step::FirstBeside, true), (Step::Applied, true)];

fn mentioning(cid: &str, expires: u64) -> NewMessage {
    let refs = Refs { mentions: vec![user("bob")], expires: Some(expires), ..Refs::default() };
    NewMessage { refs: refs.boxed(), read_upto: 0, ..message("alice", cid) }
}

async fn behind(store: &Store, name: &str) -> Behind {
    store.folds.behind(&user(name), &conv(), 0, NOW).await.unwrap()
}

/// Nobody was answered, and no head shows the rows. The next home writes what is missing before it answers anybody, and the
/// retry of what had no answer is answered with the seq that it has.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_home_did_not_put_beside_the_log_the_next_one_does() {
    for (step, begun) in STEPS {
        let options = Cassandra::shared().await.lent().await;
        let first = connect(&options).await;
        append(&first, message("alice", "m")).await.unwrap();
        let re = target(&first.parts(), &conv(), 1).await;
        first.retire().await;
        let batch = || {
            let edit = about(Kind::Edit, "alice", "e", &re);
            vec![edit, reaction("bob", "r", &re, "+1", true), mentioning("old", 1), mentioning("new", NOW + 1)]
        };
        let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
        let answers = dying.parts().logs.append(&conv(), batch()).await;
        assert!(
            answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))),
            "{step:?}: {answers:?}"
        );
        let store = connect(&options).await.parts();
        assert_eq!(log(&*store.logs, &conv()).await.len(), 1, "no head shows it after {step:?}");
        assert_eq!(!folds(&store, &conv()).await.is_empty(), begun, "after {step:?}");
        assert_eq!(store.logs.append(&conv(), vec![message("bob", "m")]).await[0].as_ref().unwrap().seq, 6);
        let rows = log(&*store.logs, &conv()).await;
        assert_eq!(folds(&store, &conv()).await, by_hand(&rows), "after {step:?}");
        assert_eq!(behind(&store, "bob").await, Behind { mentions: 1, expired: 1 }, "after {step:?}");
        let again = store.logs.append(&conv(), batch()).await;
        let places: Vec<_> = again.into_iter().map(|answer| answer.map(|stored| (stored.seq, stored.fresh))).collect();
        assert_eq!(places, (2..=5).map(|seq| Ok((seq, false))).collect::<Vec<_>>(), "after {step:?}");
    }
}

/// Homes that die one after the other at any step, in a room, each with rows of its own about some messages.
#[tokio::test(flavor = "multi_thread")]
async fn homes_that_die_in_a_row_leave_the_folds_that_the_log_makes() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    let lobby = rooms::lobby(&store.parts(), &["bob", "carol"]).await;
    let conv = ConvId::room(&lobby);
    for n in 0..3 {
        rooms::say(&store.parts(), &lobby, "alice", &format!("m{n}")).await.unwrap();
    }
    let mut dice = rooms_random::dice();
    let steps = [Step::Adopted, Step::Written, Step::Validated, Step::FirstBeside, Step::Applied];
    for round in 0..20 {
        let rows = log(&*store.parts().logs, &conv).await;
        let targets: Vec<Target> = rows.iter().filter_map(|row| Target::of(row, None, 0)).collect();
        let mut batch = || -> Vec<NewMessage> {
            let row = |_| {
                let (re, cid) = (&targets[dice.random_range(0..targets.len())], format!("c{:x}", dice.random::<u64>()));
                let who = ["alice", "bob", "carol"][dice.random_range(0..3)];
                match dice.random_range(0..8) {
                    0 => about(Kind::Edit, "alice", &cid, re),
                    1 => about(Kind::Delete, "alice", &cid, re),
                    2 => NewMessage { sender: user(who), ..mentioning(&cid, dice.random_range(1..2 * NOW)) },
                    _ => reaction(who, &cid, re, ["+1", "-1"][dice.random_range(0..2)], dice.random_bool(0.7)),
                }
            };
            (0..6).map(row).collect()
        };
        let (lost, kept) = (batch(), batch());
        let step = steps[dice.random_range(0..steps.len())];
        let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
        dying.parts().logs.append(&conv, lost).await;
        if round % 4 == 3 {
            let store = store.parts();
            for answer in store.logs.append(&conv, kept).await {
                // Alice edits what others wrote, too.
                assert!(matches!(answer, Ok(_) | Err(StoreError::Denied(Denied::NotAuthor))), "{answer:?}");
            }
            let rows = rooms::checked(&store, &lobby).await;
            assert_eq!(folds(&store, &conv).await, by_hand(&rows));
            let expires = |row: &&Row| row.refs.as_ref().is_some_and(|refs| refs.re.is_none());
            let theirs = |row: &&Row| expires(row) && row.sender != user("bob");
            let expected = Behind {
                mentions: rows.iter().filter(theirs).filter(|row| !row.is_expired(NOW)).count() as u64,
                expired: rows.iter().filter(expires).filter(|row| row.is_expired(NOW)).count() as u64,
            };
            assert_eq!(store.folds.behind(&user("bob"), &conv, 0, NOW).await, Ok(expected));
        }
    }
}

/// A list asks for no more than it shows: what is behind a mark only where something is noted above it, and the log only where
/// the row at the head is not what is shown.
#[tokio::test(flavor = "multi_thread")]
async fn inbox_rows_say_what_a_list_need_not_ask_for() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await.parts();
    let detail =
        async |name: &str| -> InboxDetail { store.inbox.details(&user(name), &[conv()]).await.unwrap().remove(0) };
    let last = async |name: &str| -> Option<Preview> { detail(name).await.last };
    put(&store, &conv(), message("alice", "m")).await.unwrap();
    assert_eq!((detail("bob").await.noted, detail("alice").await.noted), (0, 0));
    put(&store, &conv(), mentioning("at", NOW + 1)).await.unwrap();
    assert_eq!((detail("bob").await.noted, detail("alice").await.noted), (2, 0), "alice knows what she wrote");
    assert_eq!(
        last("bob").await.unwrap().refs.unwrap().expires,
        Some(NOW + 1),
        "whoever shows it must know that it expires"
    );
    let re = target(&store, &conv(), 1).await;
    for n in 0..40 {
        put(&store, &conv(), reaction("bob", &format!("r{n}"), &re, "+1", n % 2 == 0)).await.unwrap();
    }
    assert_eq!(last("alice").await.unwrap().seq, 2, "behind more reactions than are read at once");
    assert_eq!(detail("bob").await.noted, 2);
    let second = target(&store, &conv(), 2).await;
    put(&store, &conv(), about(Kind::Edit, "alice", "e", &second)).await.unwrap();
    assert_eq!(last("bob").await.unwrap().folded.edited.unwrap().seq, 43);

    let lobby = rooms::lobby(&store, &["bob"]).await;
    let room = ConvId::room(&lobby);
    let noted = async || {
        let row = store.rooms.rooms(std::slice::from_ref(&lobby)).await.unwrap().remove(0).unwrap();
        let of = async |name: &str| store.marks.of_user(&user(name), &room).await.unwrap().noted;
        (row.noted, of("bob").await, of("alice").await, row.last.unwrap().seq)
    };
    assert_eq!(noted().await, (0, 0, 0, 2));
    let at = put(&store, &room, mentioning("at", NOW + 1)).await.unwrap();
    assert_eq!(noted().await, (at, at, 0, at));
    let re = target(&store, &room, at).await;
    put(&store, &room, reaction("bob", "r", &re, "+1", true)).await.unwrap();
    assert_eq!(noted().await, (at, at, 0, at));
}
