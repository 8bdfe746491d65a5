//! A home of a room dies between the steps of a change, or another one takes its place: what members may and see afterwards.

use natter::store::{Store, scylla::Step};
use rand::RngExt as _;

use super::*;
use crate::{
    harness::cassandra::Cassandra,
    store::contract::{append as append_to, rooms::*, rooms_random},
};

/// The steps of a change of two members, and how many of them the tables show after each.
const STEPS: [(Step, usize); 4] =
    [(Step::Written, 0), (Step::Validated, 0), (Step::FirstMember, 1), (Step::Applied, 2)];

/// Bob is kicked and carol joins, in one write.
fn two_changes() -> Vec<NewMessage> {
    vec![event("alice", "kick", &kicked("bob")), event("carol", "join", &Change::Joined)]
}

/// A room whose home died at `step` of the two changes, and where it stands. Nobody was answered.
async fn left_at(step: Step) -> (ScyllaOptions, RoomId) {
    let options = Cassandra::shared().await.lent().await;
    let first = connect(&options).await;
    let lobby = lobby(&first.parts(), &["bob"]).await;
    first.retire().await;
    let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
    let answers = dying.parts().logs.append(&ConvId::room(&lobby), two_changes()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))), "{step:?}: {answers:?}");
    (options, lobby)
}

/// How many of the two changes the tables show.
async fn changed(store: &Store, lobby: &RoomId) -> usize {
    let (bob, carol) = (user("bob"), user("carol"));
    let is_out = store.rooms.member(lobby, &bob).await.unwrap().role().is_none();
    let is_in = store.rooms.member(lobby, &carol).await.unwrap().role().is_some();
    usize::from(is_out) + usize::from(is_in)
}

/// No head shows what is not applied, the next home applies all of it before it answers anybody, and the retry of what
/// had no answer is answered with the seq that it has.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_home_did_not_apply_the_next_one_does() {
    for (step, members) in STEPS {
        let (options, lobby) = left_at(step).await;
        let conv = ConvId::room(&lobby);
        let store = connect(&options).await;
        let parts = store.parts();
        let shown = row(&parts, &lobby).await.unwrap();
        assert_eq!((shown.head, shown.event), (2, 2), "no head shows it after {step:?}");
        assert!(shown.is_settled());
        assert_eq!(changed(&parts, &lobby).await, members, "{step:?}");
        let denied_to_bob = append_to(&*parts.logs, &conv, message("bob", "m")).await;
        assert_eq!(denied_to_bob, denied(Denied::NotMember), "after {step:?}");
        assert_eq!(changed(&parts, &lobby).await, 2);
        let again = parts.logs.append(&conv, two_changes()).await;
        let places: Vec<_> = again.into_iter().map(|answer| answer.map(|stored| (stored.seq, stored.fresh))).collect();
        assert_eq!(places, [Ok((3, false)), Ok((4, false))], "after {step:?}");
        assert_eq!(append_to(&*parts.logs, &conv, message("carol", "m")).await.unwrap().seq, 5);
        checked(&parts, &lobby).await;
    }
}

/// As `natter repair heads` does it after a restore: nobody writes, and the room comes to the end of its log all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_mend_brings_a_room_and_its_members_to_the_end_of_the_log() {
    for (step, members) in STEPS {
        let (options, lobby) = left_at(step).await;
        let conv = ConvId::room(&lobby);
        let store = connect(&options).await;
        assert_eq!(changed(&store.parts(), &lobby).await, members, "{step:?}");
        assert_eq!(store.parts().logs.mend(&conv).await, Ok(4), "{step:?}");
        assert_eq!(changed(&store.parts(), &lobby).await, 2);
        checked(&store.parts(), &lobby).await;
    }
}

/// Homes that die one after the other at any step, each with changes of its own.
#[tokio::test(flavor = "multi_thread")]
async fn homes_that_die_in_a_row_leave_the_room_that_its_log_makes() {
    let options = Cassandra::shared().await.lent().await;
    let store = connect(&options).await;
    let hall = room("hall");
    let conv = ConvId::room(&hall);
    change(&store.parts(), &hall, "alice", &created(true)).await.unwrap();
    let mut dice = rooms_random::dice();
    let steps = [Step::Adopted, Step::Written, Step::Validated, Step::FirstMember, Step::Applied];
    let mut answered = Vec::new();
    for round in 0..20 {
        let step = steps[dice.random_range(0..steps.len())];
        let dying = connect(&ScyllaOptions { stop_after: Some(step), ..options.clone() }).await;
        let batch: Vec<_> = (0..8).map(|_| rooms_random::asked(&mut dice, u32::MAX)).collect();
        let answers = dying.parts().logs.append(&conv, batch.clone()).await;
        answered.extend(batch.into_iter().zip(answers).filter_map(|(asked, answer)| Some((asked, answer.ok()?.seq))));
        if round % 4 == 3 {
            let batch: Vec<_> = (0..4).map(|_| rooms_random::asked(&mut dice, u32::MAX)).collect();
            let answers = store.parts().logs.append(&conv, batch.clone()).await;
            answered
                .extend(batch.into_iter().zip(answers).filter_map(|(asked, answer)| Some((asked, answer.ok()?.seq))));
            checked(&store.parts(), &hall).await;
        }
    }
    assert!(!answered.is_empty());
    let rows = checked(&store.parts(), &hall).await;
    for (asked, seq) in answered {
        let row = &rows[seq as usize - 1];
        assert_eq!((&row.sender, &row.cid, &row.body), (&asked.sender, &asked.cid, &asked.body));
    }
}

/// Two nodes take the room from each other all the time.
#[tokio::test(flavor = "multi_thread")]
async fn two_homes_by_turns_keep_one_order() {
    let options = Cassandra::shared().await.lent().await;
    let (a, b) = (connect(&options).await, connect(&options).await);
    rooms_random::many_at_once(&[a.parts(), b.parts()]).await;
}
