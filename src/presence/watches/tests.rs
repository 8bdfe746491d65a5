use std::sync::Arc;

use super::*;
use crate::{
    model::{Device, DeviceId, SessionRank},
    protocol::Encoding,
    session::Identity,
};

const ROOM: Room = Room { per_session: 2, users: 3 };

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn session(name: &str) -> Arc<SessionHandle> {
    let device = Device::new(user(name), DeviceId::new("d").unwrap());
    let rank = SessionRank { number: 1, attempt: 1, session: SessionId::random() };
    Arc::new(SessionHandle::new(Identity { device, rank }, Encoding::Json))
}

fn add(watches: &mut Watches, session: &Arc<SessionHandle>, name: &str) -> Result<(), NotWatched> {
    watches.add(session, &user(name), 100, ROOM, || Subscription::new(()))
}

fn online() -> State {
    State { online: Some(true), last_seen: None }
}

fn offline() -> State {
    State { online: Some(false), last_seen: Some(7) }
}

fn told(told: Option<Told>) -> Option<(usize, State)> {
    told.map(|(sessions, state)| (sessions.len(), state))
}

#[test]
fn watches_are_bounded_and_end_with_their_session() {
    let mut watches = Watches::default();
    let (ann, ben) = (session("ann"), session("ben"));
    assert_eq!(add(&mut watches, &ann, "x"), Ok(()));
    assert_eq!(add(&mut watches, &ann, "x"), Ok(()), "it watches already");
    assert_eq!(add(&mut watches, &ann, "y"), Ok(()));
    assert_eq!(add(&mut watches, &ann, "z"), Err(NotWatched::TooMany));
    assert_eq!(add(&mut watches, &ben, "y"), Ok(()));
    assert_eq!(add(&mut watches, &ben, "z"), Ok(()));
    let cem = session("cem");
    assert_eq!(add(&mut watches, &cem, "w"), Err(NotWatched::Full));
    assert_eq!(add(&mut watches, &cem, "z"), Ok(()), "somebody watches that one already");
    assert_eq!(watches.remove_all(&ann).len(), 1, "nobody else watches x");
    assert_eq!((watches.len(), watches.queue.len(), watches.of.len()), (2, 2, 2));
    assert!(watches.remove(&ben, &user("z")).is_none() && watches.remove(&cem, &user("z")).is_some());
    assert_eq!(watches.remove_all(&ben).len(), 1);
    assert_eq!((watches.len(), watches.queue.len(), watches.of.len()), (0, 0, 0));
    ann.mailbox.close();
    assert_eq!(add(&mut watches, &ann, "x"), Err(NotWatched::Ended), "nobody would take it out again");
}

#[test]
fn only_a_change_is_told_and_every_user_is_looked_at_again_and_again() {
    let mut watches = Watches::default();
    let (ann, x) = (session("ann"), user("x"));
    add(&mut watches, &ann, "x").unwrap();
    assert_eq!(watches.take_due(99, 9), []);
    let mut now = 100;
    for (found, expected) in [
        (Ok(online()), Some((1, online()))),
        (Ok(online()), None),
        (Err(()), None),
        (Ok(offline()), Some((1, offline()))),
        (Ok(offline()), None),
    ] {
        let [(_, look)] = watches.take_due(now, 9)[..] else { panic!("nobody is due at {now}") };
        assert_eq!(watches.take_due(now, 9), [], "it is looked at");
        assert_eq!(told(watches.on_looked(&x, look, found, now, 1_000)), expected);
        let wait = watches.next().unwrap() - now;
        let usual = if found.is_err() { 2_000 } else { 1_000 };
        assert!((usual * 3 / 4..=usual * 5 / 4).contains(&wait), "{wait} after {found:?}");
        now += wait;
    }
}

#[test]
fn what_is_heard_during_a_look_is_worth_more_than_what_it_finds() {
    let mut watches = Watches::default();
    let (ann, x) = (session("ann"), user("x"));
    add(&mut watches, &ann, "x").unwrap();
    let [(_, look)] = watches.take_due(100, 9)[..] else { panic!() };
    assert_eq!(told(watches.on_came(&x)), Some((1, online())));
    assert_eq!(told(watches.on_looked(&x, look, Ok(offline()), 200, 1_000)), None, "found before the user came");
    assert_eq!(watches.next(), Some(200), "at once again");
    let [(_, look)] = watches.take_due(200, 9)[..] else { panic!() };
    assert_eq!(told(watches.on_looked(&x, look, Ok(online()), 200, 1_000)), None);
    watches.on_gone(&x, 300);
    assert_eq!(watches.next(), Some(300), "gone from one node: looked at, not believed");
    let [(_, look)] = watches.take_due(300, 9)[..] else { panic!() };
    watches.on_gone(&x, 310);
    assert_eq!(told(watches.on_looked(&x, look, Ok(online()), 320, 1_000)), None);
    assert_eq!(watches.next(), Some(320), "gone from another one meanwhile");
}

#[test]
fn whoever_could_not_be_told_is_told_by_the_next_look() {
    let mut watches = Watches::default();
    let (ann, x) = (session("ann"), user("x"));
    add(&mut watches, &ann, "x").unwrap();
    assert_eq!(told(watches.on_came(&x)), Some((1, online())));
    watches.untold(&x);
    let [(_, look)] = watches.take_due(100, 9)[..] else { panic!() };
    assert_eq!(told(watches.on_looked(&x, look, Ok(online()), 100, 1_000)), Some((1, online())));
    assert_eq!(told(watches.on_looked(&user("nobody"), look, Ok(online()), 100, 1_000)), None);
}
