//! What every engine that keeps kinds of messages promises: who may write about a message, and what is made of it.

use std::collections::BTreeSet;

use natter::model::{Edited, Folded, FoldedPart, Gone, Reacted, Reacting, Refs, Target};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{rooms::*, *};

/// A moment at which nothing has expired.
pub const NOW: u64 = 1_000_000;

/// What was made of the whole log.
pub async fn folds(store: &Store, conv: &ConvId) -> BTreeMap<Seq, natter::model::Folded> {
    let FoldedPart { of, scanned } = store.folds.folded(conv, 0, Seq::MAX - 1).await.unwrap();
    assert!(scanned >= of.len());
    of
}

/// The message at a place as an executor finds it.
pub async fn target(store: &Store, conv: &ConvId, re: Seq) -> Target {
    let row = store.logs.read_after(conv, re - 1, Span { rows: 1, bytes: 0 }).await.unwrap().remove(0);
    let made = store.folds.folded(conv, re, re).await.unwrap();
    Target::of(&row, made.of.get(&re), NOW).unwrap()
}

/// A row about a message.
pub fn about(kind: Kind, sender: &str, cid: &str, target: &Target) -> NewMessage {
    NewMessage { kind, refs: Some(Refs::about(target.clone())), ..message(sender, cid) }
}

pub fn reaction(sender: &str, cid: &str, target: &Target, text: &str, set: bool) -> NewMessage {
    let body = Reacting { reaction: text.parse().unwrap(), set }.to_body();
    NewMessage { body, ..about(Kind::Reaction, sender, cid, target) }
}

pub async fn put(store: &Store, conv: &ConvId, message: NewMessage) -> StoreResult<Seq> {
    append(&*store.logs, conv, message).await.map(|appended| appended.seq)
}

/// What the rows of a log make of its messages, by hand.
pub fn by_hand(rows: &[Row]) -> BTreeMap<Seq, natter::model::Folded> {
    let mut made: BTreeMap<Seq, (Folded, BTreeMap<String, BTreeSet<UserId>>)> = BTreeMap::new();
    for row in rows {
        let Some(target) = row.refs.as_ref().and_then(|refs| refs.re.as_ref()) else { continue };
        let (folded, reactions) = made.entry(target.seq()).or_default();
        match row.kind {
            Kind::Edit => {
                let Row { seq, sender, cid, ts, body, .. } = row.clone();
                folded.edited = Some(Edited { seq, sender, cid, ts, body });
            }
            Kind::Delete => folded.deleted = Some(row.sender.clone()),
            Kind::Reaction => {
                let Reacting { reaction, set } = row.body.parse().unwrap();
                let who = reactions.entry(reaction.to_string()).or_default();
                if set {
                    who.insert(row.sender.clone())
                } else {
                    who.remove(&row.sender)
                };
            }
            Kind::Message | Kind::Event => unreachable!(),
        }
    }
    let folded = |(seq, (mut folded, reactions)): (Seq, (Folded, BTreeMap<String, BTreeSet<UserId>>))| {
        for (text, who) in reactions.into_iter().filter(|(_, who)| !who.is_empty()) {
            let (count, who) = (who.len() as u64, who.into_iter().take(Reacted::WHO).collect());
            folded.reactions.push(Reacted { reaction: text.parse().unwrap(), count, who });
        }
        (seq, folded)
    };
    made.into_iter().map(folded).filter(|(_, folded)| *folded != Folded::default()).collect()
}

pub async fn rows_about_a_message_stand_in_the_log_and_beside_it(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    for n in 1..=3 {
        assert_eq!(put(&store, &conv, message("alice", &format!("m{n}"))).await, Ok(n));
    }
    let (second, third) = (target(&store, &conv, 2).await, target(&store, &conv, 3).await);
    let head = head(&*store.inbox, &user("bob"), &conv).await;
    assert_eq!(put(&store, &conv, about(Kind::Edit, "alice", "e", &second)).await, Ok(head + 1));
    assert_eq!(put(&store, &conv, reaction("bob", "r1", &second, "+1", true)).await, Ok(5));
    assert_eq!(put(&store, &conv, reaction("alice", "r2", &second, "+1", true)).await, Ok(6));
    assert_eq!(put(&store, &conv, reaction("bob", "r3", &second, "👍", true)).await, Ok(7));
    assert_eq!(put(&store, &conv, reaction("bob", "r4", &second, "👍", false)).await, Ok(8));
    assert_eq!(put(&store, &conv, about(Kind::Delete, "alice", "d", &third)).await, Ok(9));
    for _ in 0..2 {
        let store = bed.store();
        let rows = log(&*store.logs, &conv).await;
        assert_eq!(rows.len(), 9, "everything is in the log");
        assert_eq!(rows[8].counts, Counts { first: 3, second: 0 }, "messages only are counted");
        let made = folds(&store, &conv).await;
        assert_eq!(made, by_hand(&rows));
        let of_second = &made[&2];
        assert_eq!(of_second.edited.as_ref().map(|edit| (edit.seq, &edit.body)), Some((4, &rows[3].body)));
        assert_eq!(of_second.reactions.len(), 1, "one was taken back");
        assert_eq!(
            (of_second.reactions[0].count, &of_second.reactions[0].who[..]),
            (2, &[user("alice"), user("bob")][..])
        );
        assert_eq!(made[&3].deleted, Some(user("alice")));
        assert_eq!(store.folds.folded(&conv, 3, 3).await.unwrap().of.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(store.folds.folded(&conv, 4, 99).await.unwrap(), FoldedPart::default());
        let detail = store.inbox.details(&user("bob"), std::slice::from_ref(&conv)).await.unwrap().remove(0);
        let last = detail.last.unwrap();
        assert_eq!((detail.head, last.seq, last.folded.deleted), (9, 3, Some(user("alice"))), "the newest message");
        assert_eq!(detail.counts.unread(detail.read.counts, &conv, &user("bob")), 3 - detail.read.counts.first);
        bed.reopen().await;
    }
}

pub async fn only_who_may_writes_about_a_message(bed: &mut impl Bed) {
    let store = bed.store();
    let lobby = lobby(&store, &["mod", "bob", "carol"]).await;
    change(&store, &lobby, "alice", &made("mod", Role::Moderator)).await.unwrap();
    let conv = ConvId::room(&lobby);
    let less = || denied::<Seq>(Denied::Role(Role::Moderator));
    for (n, name) in ["alice", "mod", "carol", "bob"].into_iter().enumerate() {
        let re = say(&store, &lobby, "bob", &format!("m{n}")).await.unwrap();
        let target = target(&store, &conv, re).await;
        let edit = put(&store, &conv, about(Kind::Edit, name, &format!("e{n}"), &target)).await;
        assert_eq!(edit.is_ok(), name == "bob", "{name}: {edit:?}");
        assert!(name == "bob" || edit == denied(Denied::NotAuthor));
        assert!(put(&store, &conv, reaction(name, &format!("r{n}"), &target, "+1", true)).await.is_ok());
        let deleted = put(&store, &conv, about(Kind::Delete, name, &format!("d{n}"), &target)).await;
        assert!(if name == "carol" { deleted == less() } else { deleted.is_ok() }, "{name}: {deleted:?}");
    }
    let re = say(&store, &lobby, "bob", "last").await.unwrap();
    let target = target(&store, &conv, re).await;
    let strange = put(&store, &conv, reaction("eve", "r", &target, "+1", true)).await;
    assert_eq!(strange, denied(Denied::NotMember));
    change(&store, &lobby, "alice", &kicked("bob")).await.unwrap();
    assert_eq!(put(&store, &conv, about(Kind::Edit, "bob", "e", &target)).await, denied(Denied::NotMember));
    assert_eq!(put(&store, &conv, about(Kind::Delete, "bob", "d", &target)).await, denied(Denied::NotMember));
    let direct = dm("alice", "bob");
    put(&store, &direct, message("alice", "m")).await.unwrap();
    let target = super::kinds::target(&store, &direct, 1).await;
    assert_eq!(put(&store, &direct, about(Kind::Edit, "bob", "e", &target)).await, denied(Denied::NotAuthor));
    assert_eq!(put(&store, &direct, about(Kind::Delete, "bob", "d", &target)).await, denied(Denied::NotAuthor));
    for kind in [Kind::Edit, Kind::Delete, Kind::Reaction] {
        let bare = NewMessage { kind, ..message("alice", "bare") };
        assert_eq!(put(&store, &direct, bare).await, denied(Denied::NoTarget));
    }
    let rows = checked(&store, &lobby).await;
    assert_eq!(folds(&store, &conv).await, by_hand(&rows));
}

/// The order of the log decides; what was seen to be gone is refused, and a second try is answered all the same.
pub async fn what_is_gone_takes_no_more(bed: &mut impl Bed) {
    let (store, conv) = (bed.store(), dm("alice", "bob"));
    put(&store, &conv, message("alice", "m")).await.unwrap();
    let before = target(&store, &conv, 1).await;
    let edit = about(Kind::Edit, "alice", "e", &before);
    assert_eq!(put(&store, &conv, edit.clone()).await, Ok(2));
    assert_eq!(put(&store, &conv, about(Kind::Delete, "alice", "d", &before)).await, Ok(3));
    assert_eq!(put(&store, &conv, reaction("bob", "late", &before, "+1", true)).await, Ok(4), "who saw it before");
    let after = target(&store, &conv, 1).await;
    let gone = denied(Denied::Gone(Gone::Deleted));
    assert_eq!(put(&store, &conv, about(Kind::Edit, "alice", "e2", &after)).await, gone);
    assert_eq!(put(&store, &conv, reaction("bob", "r", &after, "+1", true)).await, gone);
    let again = NewMessage { refs: Some(Refs::about(after.clone())), ..edit.clone() };
    assert_eq!(put(&store, &conv, again).await, Ok(2), "what is stored is answered");
    assert_eq!(folds(&store, &conv).await[&1].deleted, Some(user("alice")));
    put(&store, &conv, message("alice", "m2")).await.unwrap();
    let other = target(&store, &conv, 5).await;
    let moved = NewMessage { refs: Some(Refs::about(other)), ..edit.clone() };
    let reused = Err(StoreError::CidReused { seq: 2 });
    assert_eq!(put(&store, &conv, moved).await, reused, "about another message");
    let plain = NewMessage { kind: Kind::Message, refs: None, ..edit };
    assert_eq!(put(&store, &conv, plain).await, reused, "of another kind");
}

pub async fn many_react_and_some_are_named(bed: &mut impl Bed) {
    let store = bed.store();
    let names: Vec<_> = (0..70).map(|n| format!("user{n:02}")).collect();
    let lobby = lobby(&store, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let conv = ConvId::room(&lobby);
    let re = say(&store, &lobby, "alice", "m").await.unwrap();
    let target = target(&store, &conv, re).await;
    // All in one commit, and each twice: set, taken back by some.
    let mut batch: Vec<_> = names.iter().map(|name| reaction(name, "set", &target, "+1", true)).collect();
    batch.extend(names.iter().take(10).map(|name| reaction(name, "back", &target, "+1", false)));
    assert!(store.logs.append(&conv, batch).await.iter().all(Result::is_ok));
    let of = &folds(&store, &conv).await[&re];
    assert_eq!((of.reactions[0].count, of.reactions[0].who.len()), (60, Reacted::WHO));
    assert_eq!(of.reactions[0].who[0], user("user10"), "by name");
    assert_eq!(folds(&store, &conv).await, by_hand(&checked(&store, &lobby).await));
}

/// Whatever people do to each other's messages in whatever batches: the fold is that of the log.
pub async fn any_life_is_folded_as_by_hand(bed: &mut impl Bed) {
    let seed = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let lobby = lobby(&bed.store(), &["bob", "carol"]).await;
    for conv in [dm("alice", "bob"), ConvId::room(&lobby)] {
        let (mut cid, people) = (0, ["alice", "bob", "carol"]);
        let people = &people[..if conv.is_room() { 3 } else { 2 }];
        for round in 0..30 {
            let store = bed.store();
            let rows = log(&*store.logs, &conv).await;
            let messages: Vec<_> = rows.iter().filter(|row| row.kind == Kind::Message).collect();
            let mut batch = Vec::new();
            for _ in 0..dice.random_range(1..10) {
                cid += 1;
                let (sender, cid) = (people[dice.random_range(0..people.len())], format!("c{cid}"));
                let Some(row) = messages.get(dice.random_range(0..messages.len().max(1))) else {
                    batch.push(message(sender, &cid));
                    continue;
                };
                // As somebody saw it who does not know of any deletion.
                let target = Target::of(row, None, NOW).unwrap();
                let text = ["+1", "-1", "ä"][dice.random_range(0..3)];
                batch.push(match dice.random_range(0..10) {
                    0..3 => message(sender, &cid),
                    3..5 => about(Kind::Edit, sender, &cid, &target),
                    5 => about(Kind::Delete, sender, &cid, &target),
                    _ => reaction(sender, &cid, &target, text, dice.random_bool(0.7)),
                });
            }
            for answer in store.logs.append(&conv, batch).await {
                assert!(
                    matches!(answer, Ok(_) | Err(StoreError::Denied(Denied::NotAuthor | Denied::Role(_)))),
                    "{answer:?}"
                );
            }
            if round % 10 == 9 {
                bed.reopen().await;
            }
            let store = bed.store();
            assert_eq!(folds(&store, &conv).await, by_hand(&log(&*store.logs, &conv).await));
        }
    }
    checked(&bed.store(), &lobby).await;
}
