//! Who may write to a room, with the membership as of the seq before.

use futures_util::future::join_all;
use natter::model::{Refs, Target};

use super::{rooms::*, *};
use crate::harness::until;

pub async fn only_members_write(bed: &mut impl Bed) {
    use Denied::{NoSuchRoom, NotMember};
    let (store, private) = (bed.store(), room("private"));
    assert_eq!(say(&store, &private, "alice", "early").await, denied(NoSuchRoom));
    assert_eq!(change(&store, &private, "alice", &Change::Joined).await, denied(NoSuchRoom));
    assert_eq!(row(&store, &private).await, None);
    assert_eq!(change(&store, &private, "alice", &created(false)).await, Ok(1));
    assert_eq!(say(&store, &private, "alice", "a").await, Ok(2));
    assert_eq!(say(&store, &private, "bob", "b").await, denied(NoSuchRoom), "whom nobody told of it");
    assert_eq!(change(&store, &private, "bob", &Change::Joined).await, denied(NoSuchRoom));
    assert_eq!(change(&store, &private, "alice", &invited("bob")).await, Ok(3));
    assert_eq!(say(&store, &private, "bob", "b").await, denied(NotMember), "invited is not in");
    assert_eq!(change(&store, &private, "bob", &Change::Joined).await, Ok(4));
    assert_eq!(say(&store, &private, "bob", "b").await, Ok(5), "what was refused was not stored");
    assert_eq!(change(&store, &private, "bob", &invited("carol")).await, denied(Denied::Role(Role::Moderator)));
    assert_eq!(change(&store, &private, "alice", &Change::Left).await, denied(Denied::LastOwner));
    assert_eq!(change(&store, &private, "bob", &Change::Left).await, Ok(6));
    assert_eq!(say(&store, &private, "bob", "b2").await, denied(NotMember));
    let lobby = lobby(&store, &[]).await;
    assert_eq!(say(&store, &lobby, "bob", "b").await, denied(NotMember));
    checked(&store, &lobby).await;
    assert_eq!(checked(&store, &private).await.len(), 6);
}

pub async fn a_service_writes_as_a_member_only(bed: &mut impl Bed) {
    let store = bed.store();
    let lobby = lobby(&store, &[]).await;
    let conv = ConvId::room(&lobby);
    let of_service = |cid| NewMessage { service: true, ..message("billing", cid) };
    assert_eq!(append(&*store.logs, &conv, of_service("m")).await, denied(Denied::NotMember));
    assert_eq!(change(&store, &lobby, "billing", &Change::Joined).await, Ok(2));
    assert_eq!(append(&*store.logs, &conv, of_service("m")).await.unwrap().seq, 3);
    assert!(checked(&store, &lobby).await[2].service);
}

pub async fn nothing_but_messages_and_changes_yet(bed: &mut impl Bed) {
    let store = bed.store();
    let lobby = lobby(&store, &[]).await;
    let conv = ConvId::room(&lobby);
    for kind in [Kind::Edit, Kind::Delete, Kind::Reaction] {
        let answer = append(&*store.logs, &conv, NewMessage { kind, ..message("alice", "m") }).await;
        let refused = matches!(answer, Err(StoreError::Unsupported(_) | StoreError::Denied(Denied::NoTarget)));
        assert!(refused, "about nothing: {answer:?}");
    }
    let answer = append(&*store.logs, &conv, NewMessage { kind: Kind::Event, ..message("alice", "m") }).await;
    assert!(matches!(answer, Err(StoreError::Unsupported(_))), "{answer:?}");
    assert_eq!(checked(&store, &lobby).await.len(), 1);
}

pub async fn a_room_is_created_once(bed: &mut impl Bed) {
    let (store, lobby) = (bed.store(), room("lobby"));
    let conv = ConvId::room(&lobby);
    let names = ["alice", "bob", "carol", "dave"];
    let tries = names.map(|name| {
        let (store, lobby) = (&store, &lobby);
        async move { change(store, lobby, name, &created(true)).await }
    });
    let answers = join_all(tries).await;
    let first = answers.iter().position(|answer| *answer == Ok(1)).unwrap();
    let others = answers.iter().filter(|answer| **answer == denied(Denied::Exists)).count();
    assert_eq!(others, names.len() - 1, "{answers:?}");
    let rows = checked(&store, &lobby).await;
    assert_eq!((rows.len(), rows[0].sender.as_str()), (1, names[first]));
    // The one who made it asks again, as after a broken connection.
    let again = event(names[first], rows[0].cid.as_str(), &created(true));
    let again = append(&*store.logs, &conv, again).await.unwrap();
    assert_eq!((again.seq, again.fresh), (1, false));
    assert_eq!(change(&store, &lobby, names[first], &created(true)).await, denied(Denied::Exists));
}

pub async fn a_batch_is_judged_row_by_row(bed: &mut impl Bed) {
    let (store, lobby) = (bed.store(), room("lobby"));
    let batch = vec![
        message("bob", "b0"),
        event("alice", "create", &created(true)),
        message("bob", "b1"),
        event("bob", "join", &Change::Joined),
        message("bob", "b2"),
        event("carol", "carol", &Change::Joined),
        message("carol", "c0"),
        event("alice", "kick", &kicked("bob")),
        message("bob", "b3"),
        message("bob", "b2"),
        event("bob", "kick2", &kicked("carol")),
        event("alice", "topic", &Change::Topic { topic: "tea".parse().ok() }),
        message("alice", "a0"),
        event("bob", "join2", &Change::Joined),
        message("bob", "b3"),
    ];
    let count = batch.len();
    let answers = store.logs.append(&ConvId::room(&lobby), batch).await;
    let seqs: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|stored| stored.seq)).collect();
    let not_member = StoreError::Denied(Denied::NotMember);
    let expected = [
        Err(&StoreError::Denied(Denied::NoSuchRoom)),
        Ok(1),
        Err(&not_member),
        Ok(2),
        Ok(3),
        Ok(4),
        Ok(5),
        Ok(6),
        Err(&not_member),
        Ok(3),
        Err(&not_member),
        Ok(7),
        Ok(8),
        Ok(9),
        Ok(10),
    ];
    assert_eq!((seqs.len(), seqs.as_slice()), (count, expected.as_slice()));
    assert!(!answers[9].as_ref().unwrap().fresh, "a retry behind the kick");
    checked(&store, &lobby).await;
}

/// The rows of a batch are judged in their order by what the room says as of each.
pub async fn a_room_says_how_long_its_messages_last(bed: &mut impl Bed) {
    let (store, lobby) = (bed.store(), lobby(&bed.store(), &[]).await);
    let lifetime = |secs: &str| Change::Lifetime { lifetime: secs.parse().ok() };
    let own = NewMessage { refs: Refs { expires: Some(5), ..Refs::default() }.boxed(), ..message("alice", "own") };
    let edited = |row: &Row| Target::of(row, None, 1).map(Refs::about);
    let batch = vec![
        message("alice", "before"),
        event("alice", "minute", &lifetime("60")),
        message("alice", "minute's"),
        own,
        event("alice", "none", &lifetime("")),
        message("alice", "after"),
        message("alice", "minute's"),
    ];
    let answers = store.logs.append(&ConvId::room(&lobby), batch.clone()).await;
    let answered: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).map(|at| (at.seq, at.expires)).collect();
    let end = Some(batch[2].ts + 60_000);
    assert_eq!(answered, [(2, None), (3, None), (4, end), (5, Some(5)), (6, None), (7, None), (4, end)]);
    let rows = checked(&store, &lobby).await;
    let stored: Vec<_> = rows[1..].iter().map(Row::expires).collect();
    assert_eq!(stored, [None, None, end, Some(5), None, None]);
    // Later retries and an edit, also after a restart.
    bed.reopen().await;
    let store = bed.store();
    let again = store.logs.append(&ConvId::room(&lobby), vec![batch[2].clone()]).await.remove(0).unwrap();
    assert_eq!((again.seq, again.fresh, again.expires), (4, false, end));
    let edit = NewMessage { kind: Kind::Edit, refs: edited(&rows[3]), ..message("alice", "edit") };
    let edit = store.logs.append(&ConvId::room(&lobby), vec![edit]).await.remove(0).unwrap();
    assert_eq!(edit.expires, end);
}

pub async fn what_is_so_already_is_not_stored(bed: &mut impl Bed) {
    let store = bed.store();
    let lobby = lobby(&store, &["bob"]).await;
    let topic = Change::Topic { topic: None };
    for (sender, again) in [("bob", Change::Joined), ("alice", invited("bob")), ("alice", topic)] {
        assert_eq!(change(&store, &lobby, sender, &again).await, denied(Denied::Already));
    }
    assert_eq!(change(&store, &lobby, "alice", &made("bob", Role::Member)).await, denied(Denied::Already));
    assert_eq!(checked(&store, &lobby).await.len(), 2);
}

pub async fn no_row_of_the_kicked_stands_above_the_kick(bed: &mut impl Bed) {
    let store = bed.store();
    for round in 0..4 {
        let hall = room(&format!("hall{round}"));
        change(&store, &hall, "alice", &created(true)).await.unwrap();
        change(&store, &hall, "bob", &Change::Joined).await.unwrap();
        let writers = (0..4).map(|writer| {
            let (store, hall) = (store.clone(), hall.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for n in 0..400 {
                    let answer = say(&store, &hall, "bob", &format!("w{writer}n{n}")).await;
                    let is_out = answer.is_err();
                    answers.push(answer);
                    if is_out {
                        break;
                    }
                }
                answers
            })
        });
        let writers: Vec<_> = writers.collect();
        let conv = ConvId::room(&hall);
        // In the middle of it: when some are stored, however fast the engine is.
        until("some are stored", async || store.logs.top(&conv).await.unwrap() >= 10).await;
        let kick = change(&store, &hall, "alice", &kicked("bob")).await.unwrap();
        for answers in join_all(writers).await {
            for answer in answers.unwrap() {
                match answer {
                    Ok(seq) => assert!(seq < kick, "{seq} was stored above the kick at {kick}"),
                    refused => assert_eq!(refused, denied(Denied::NotMember)),
                }
            }
        }
        let rows = checked(&store, &hall).await;
        assert!(rows.iter().all(|row| row.sender.as_str() != "bob" || row.seq < kick));
        assert_eq!(store.rooms.member(&hall, &user("bob")).await.unwrap().spans.until(), Some(kick));
    }
}

pub async fn what_is_stored_is_answered_whoever_asks(bed: &mut impl Bed) {
    let mut store = bed.store();
    let lobby = lobby(&store, &[]).await;
    let conv = ConvId::room(&lobby);
    let join = event("bob", "join", &Change::Joined);
    append(&*store.logs, &conv, join.clone()).await.unwrap();
    append(&*store.logs, &conv, message("bob", "b")).await.unwrap();
    let kick = event("alice", "kick", &kicked("bob"));
    append(&*store.logs, &conv, kick.clone()).await.unwrap();
    for round in 0..2 {
        for (message, seq) in [(&join, 2), (&message("bob", "b"), 3), (&kick, 4)] {
            let again = append(&*store.logs, &conv, message.clone()).await.unwrap();
            assert_eq!((again.seq, again.fresh), (seq, false), "round {round}");
        }
        assert_eq!(say(&store, &lobby, "bob", "another").await, denied(Denied::NotMember));
        assert_eq!(store.rooms.member(&lobby, &user("bob")).await.unwrap().standing, Standing::Out);
        let other = NewMessage { body: Body::text("other"), ..message("bob", "b") };
        assert_eq!(append(&*store.logs, &conv, other).await, Err(StoreError::CidReused { seq: 3 }));
        assert_eq!(checked(&store, &lobby).await.len(), 4);
        bed.reopen().await;
        store = bed.store();
    }
}

pub async fn who_comes_and_goes_has_the_spans(bed: &mut impl Bed) {
    let store = bed.store();
    let lobby = lobby(&store, &["bob"]).await;
    say(&store, &lobby, "alice", "one").await.unwrap();
    assert_eq!(change(&store, &lobby, "bob", &Change::Left).await, Ok(4));
    say(&store, &lobby, "alice", "unseen").await.unwrap();
    assert_eq!(change(&store, &lobby, "bob", &Change::Joined).await, Ok(6));
    say(&store, &lobby, "alice", "two").await.unwrap();
    assert_eq!(change(&store, &lobby, "alice", &kicked("bob")).await, Ok(8));
    let bob = store.rooms.member(&lobby, &user("bob")).await.unwrap();
    let held: Vec<Seq> = (0..12).filter(|seq| bob.spans.hold(*seq)).collect();
    assert_eq!((held.as_slice(), bob.standing, bob.changed), ([3, 4, 7, 8].as_slice(), Standing::Out, 8));
    checked(&store, &lobby).await;
}
