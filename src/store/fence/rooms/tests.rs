//! What a room's role does, step by step.

use super::*;
use crate::{
    model::{
        Body, Cid, ConvId,
        room::{Denied, Reach, Standing},
    },
    store::{
        Appended,
        fence::{Applied, Effect, Event, Limits, Placed, Role},
    },
};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn says(sender: &str, cid: &str) -> NewMessage {
    NewMessage::of_user(user(sender), Cid::new(cid).unwrap(), 1, Body::text("hi"))
}

fn changes(sender: &str, cid: &str, change: &Change) -> NewMessage {
    NewMessage { kind: Kind::Event, body: change.to_body(), ..says(sender, cid) }
}

fn created() -> Change {
    Change::Created { topic: None, public: true, history: Reach::Join, lifetime: None }
}

fn kicked() -> Change {
    Change::Kicked { user: user("bob") }
}

/// A role that has recovered an empty log.
fn empty() -> Role<u8> {
    let mut role = Role::new(ConvId::new("room:r").unwrap(), 2, Limits::default());
    role.mend(0);
    assert!(matches!(role.take_effects()[..], [Effect::ReadRoom]));
    role.on(Event::Room(RoomAt::default()));
    role.on(Event::Rows { rows: Vec::new(), more: false });
    role.take_effects();
    role
}

/// Answers every effect as a store with nothing in it would, until there is none; returns the answers, and what was done.
fn drive(role: &mut Role<u8>) -> (Vec<(u8, StoreResult<Appended>)>, Vec<&'static str>) {
    let (mut answers, mut done) = (Vec::new(), Vec::new());
    loop {
        let effects = role.take_effects();
        if effects.is_empty() {
            return (answers, done);
        }
        for effect in effects {
            let (name, event) = match effect {
                Effect::Answer(ticket, result) => {
                    answers.push((ticket, result));
                    continue;
                }
                Effect::ReadMembers(users) => ("members", Event::Members(vec![Member::STRANGER; users.len()])),
                Effect::Write(_) => ("write", Event::Written),
                Effect::Validate => ("validate", Event::Validated),
                Effect::Apply(_) => ("apply", Event::Applied),
                Effect::Raise(_) => ("raise", Event::Raised),
                Effect::Look { asked, .. } => {
                    let found = |at: Option<Seq>| crate::model::Row {
                        counts: crate::model::Counts::default(),
                        ..stored(at.unwrap())
                    };
                    ("look", Event::Looked(asked.iter().map(|look| Some(found(look.at))).collect()))
                }
                other => panic!("{other:?}"),
            };
            done.push(name);
            role.on(event);
        }
    }
}

/// A row of bob's.
fn stored(seq: Seq) -> crate::model::Row {
    let NewMessage { kind, sender, service, cid, ts, body, .. } = says("bob", "m");
    crate::model::Row { seq, kind, sender, service, cid, ts, body, counts: crate::model::Counts::default(), refs: None }
}

fn fresh(seq: Seq) -> StoreResult<Appended> {
    Ok(Appended { seq, ts: 1, fresh: true, expires: None })
}

fn denied(why: Denied) -> StoreResult<Appended> {
    Err(StoreError::Denied(why))
}

/// A room of alice's that bob has joined, and where bob has said something at seq 3.
fn with_bob() -> Role<u8> {
    let mut role = empty();
    role.submit(1, changes("alice", "c", &created()));
    drive(&mut role);
    role.submit(2, changes("bob", "j", &Change::Joined));
    role.submit(3, says("bob", "m"));
    let (answers, _) = drive(&mut role);
    assert_eq!(answers, [(2, fresh(2)), (3, fresh(3))]);
    role
}

#[test]
fn who_may_not_is_refused_without_a_seq_and_only_by_a_home_that_is_alive() {
    let mut role = empty();
    role.submit(1, says("bob", "m"));
    assert_eq!(drive(&mut role), (vec![(1, denied(Denied::NoSuchRoom))], vec!["members", "validate"]));
    role.submit(2, changes("alice", "c", &created()));
    let (answers, done) = drive(&mut role);
    assert_eq!(answers, [(2, fresh(1))], "the refused one took no seq");
    assert_eq!(done, ["members", "write", "validate", "apply", "raise"], "nothing is shown before it is applied");
    role.submit(3, says("bob", "m"));
    assert_eq!(drive(&mut role).0, [(3, denied(Denied::NotMember))]);
}

#[test]
fn a_batch_sees_what_it_changed_itself() {
    let mut role = with_bob();
    // Comes while a batch is under way: what waits goes together.
    role.submit(1, says("alice", "a"));
    role.submit(2, changes("alice", "k", &kicked()));
    role.submit(3, says("bob", "b"));
    role.submit(4, changes("bob", "again", &Change::Joined));
    role.submit(5, says("bob", "d"));
    let (answers, _) = drive(&mut role);
    let expected = [(1, fresh(4)), (2, fresh(5)), (3, denied(Denied::NotMember)), (4, fresh(6)), (5, fresh(7))];
    assert_eq!(answers, expected);
}

#[test]
fn a_retry_is_answered_after_a_kick() {
    let mut role = with_bob();
    role.submit(1, changes("alice", "k", &kicked()));
    drive(&mut role);
    role.submit(2, says("bob", "m"));
    role.submit(3, says("bob", "new"));
    let (answers, _) = drive(&mut role);
    assert!(answers.contains(&(2, Ok(Appended { seq: 3, ts: 1, fresh: false, expires: None }))), "{answers:?}");
    assert!(answers.contains(&(3, denied(Denied::NotMember))), "{answers:?}");
}

#[test]
fn nothing_is_answered_before_it_is_applied() {
    let mut role = with_bob();
    role.submit(1, changes("alice", "k", &kicked()));
    assert!(matches!(role.take_effects()[..], [Effect::Write(_)]));
    role.on(Event::Written);
    role.take_effects();
    role.on(Event::Validated);
    let effects = role.take_effects();
    let [Effect::Apply(Applied { members, .. })] = &effects[..] else { panic!("{effects:?}") };
    assert!(
        matches!(&members[..], [(user, Member { standing: Standing::Out, changed: 4, .. })] if user.as_str() == "bob")
    );
    role.submit(2, says("alice", "a"));
    assert!(
        role.take_effects().is_empty() && !role.is_quiet(),
        "the next batch waits, for it is judged by the members"
    );
    role.on(Event::Applied);
    let effects = role.take_effects();
    assert!(
        matches!(&effects[..], [Effect::Raise(raise), Effect::Write(_)] if raise.event == 4 && raise.room.is_some()),
        "{effects:?}"
    );
    assert_eq!(role.end().len(), 2);
}

#[test]
fn a_recovery_applies_what_no_table_has() {
    let mut first = empty();
    first.submit(1, changes("alice", "c", &created()));
    first.submit(2, changes("bob", "j", &Change::Joined));
    first.take_effects();
    first.on(Event::Members(vec![Member::STRANGER]));
    let Some(Effect::Write(rows)) = first.take_effects().pop() else { panic!("nothing is written") };
    let mut role = Role::new(ConvId::new("room:r").unwrap(), 3, Limits::default());
    role.mend(9_u8);
    role.on(Event::Room(RoomAt::default()));
    role.on(Event::Rows { rows: rows.to_vec(), more: false });
    role.on(Event::Written);
    role.take_effects();
    role.on(Event::Validated);
    let effects = role.take_effects();
    assert!(matches!(effects[..], [Effect::ReadEvents { last, above: 0 }] if last == rows.len() as Seq), "{effects:?}");
    let events = rows.iter().filter_map(Placed::made).map(|(seq, made)| (seq, made.clone()));
    role.on(Event::Events(events.collect()));
    assert!(
        matches!(&role.take_effects()[..], [Effect::Apply(Applied { members, .. })] if members.len() == rows.len())
    );
    role.on(Event::Applied);
    let effects = role.take_effects();
    assert!(matches!(&effects[..], [Effect::Raise(raise)] if raise.room.is_some()), "{effects:?}");
}

/// Tables that know more than the log: another home has gone on, and this one does not know it yet.
#[test]
fn a_home_that_was_overtaken_judges_nobody() {
    let mut role = empty();
    role.submit(1, changes("alice", "c", &created()));
    role.take_effects();
    let mut spans = crate::model::room::Spans::NONE;
    spans.enter(1);
    let standing = Standing::Member(crate::model::room::Role::Owner);
    role.on(Event::Members(vec![Member { standing, spans, changed: 1 }]));
    assert!(matches!(role.take_effects()[..], [Effect::Validate]), "whoever was fenced ends here");
    role.on(Event::Validated);
    assert!(matches!(role.take_effects()[..], [Effect::Answer(1, Err(StoreError::Unavailable(_)))]));
}
