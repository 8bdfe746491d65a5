//! Who is told of messages in rooms besides those who listen there, for push services (R9): members of small rooms and users
//! who are mentioned get a notice on their own subject, and of whoever nobody holds `natter.event.offline` tells; of a larger
//! room one event tells. Called by the appender for what was stored, off the path of the answer.
//!
//! One room is looked at once per [`Settings::every`], at once after a pause: what comes in between is told together, with the
//! last message that is not the user's own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::rounds::Rounds;
use crate::{
    metrics::{Metrics, StoreOp},
    model::{ConvId, Kind, NewMessage, RoomId, Seq, UserId},
    overload::{Class, Overload, cost},
    protocol::event::{EventKind, RoomMessage, What},
    routing::{Missed, Router},
    store::{Appended, Rooms, StoreError, StoreResult, is_served},
};

/// Rooms that are remembered; beyond that nobody is told.
const ROOMS: usize = 10_000;
/// Mentioned users that are remembered of one room.
const MENTIONED: usize = 1_000;
/// Members in one read.
const PAGE: usize = 256;
/// Users, former members included, that are read of a room which is small by now.
const HEARD_OF: usize = 4_096;

/// How push services are told of rooms.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// In rooms of at most so many members each of them is told.
    pub members: usize,
    /// A room is looked at no more often.
    pub every: Duration,
}

/// What is to be told. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pushes(Arc<Inner>);

struct Inner {
    rooms: Arc<dyn Rooms>,
    router: Router,
    overload: Overload,
    metrics: Arc<Metrics>,
    settings: Settings,
    waiting: Mutex<HashMap<RoomId, Option<Waiting>>>,
    rounds: Rounds,
}

/// A message: its place and who wrote it.
type Place = (Seq, UserId);

/// What was stored in a room since it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    last: Place,
    /// The last one that somebody else wrote.
    other: Option<Place>,
    /// The last one that mentions each of them.
    mentioned: BTreeMap<UserId, Place>,
}

impl Waiting {
    fn of(message: &NewMessage, seq: Seq) -> Self {
        let mut waiting = Self { last: (seq, message.sender.clone()), other: None, mentioned: BTreeMap::new() };
        waiting.mention(message, seq);
        waiting
    }

    /// Takes one more; messages come in any order.
    fn add(&mut self, message: &NewMessage, seq: Seq) {
        self.take((seq, message.sender.clone()));
        self.mention(message, seq);
    }

    fn take(&mut self, place: Place) {
        if place.1 == self.last.1 {
            self.last.0 = self.last.0.max(place.0);
        } else if place.0 > self.last.0 {
            self.other = Some(std::mem::replace(&mut self.last, place));
        } else if self.other.as_ref().is_none_or(|other| place.0 > other.0) {
            self.other = Some(place);
        }
    }

    fn mention(&mut self, message: &NewMessage, seq: Seq) {
        let refs = message.refs.iter().flat_map(|refs| &refs.mentions);
        for user in refs.filter(|user| **user != message.sender) {
            if self.mentioned.len() < MENTIONED || self.mentioned.contains_key(user) {
                let place = self.mentioned.entry(user.clone()).or_insert_with(|| (seq, message.sender.clone()));
                if seq > place.0 {
                    *place = (seq, message.sender.clone());
                }
            }
        }
    }

    /// The last message that the user did not write.
    fn for_user(&self, user: &UserId) -> Option<&Place> {
        if self.last.1 == *user { self.other.as_ref() } else { Some(&self.last) }
    }

    fn join(&mut self, later: Self) {
        let Self { last, other, mentioned } = later;
        other.into_iter().chain([last]).for_each(|place| self.take(place));
        for (user, place) in mentioned {
            let known = self.mentioned.entry(user).or_insert_with(|| place.clone());
            if place.0 > known.0 {
                *known = place;
            }
        }
    }
}

impl Pushes {
    pub(super) fn new(
        rooms: Arc<dyn Rooms>,
        router: Router,
        overload: Overload,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Self {
        let (waiting, rounds) = (Mutex::default(), Rounds::default());
        Self(Arc::new(Inner { rooms, router, overload, metrics, settings, waiting, rounds }))
    }

    /// A batch was stored. A second try was told before, and so is what is about a message: push services hear of messages.
    pub(super) fn on_stored(&self, conv: &ConvId, batch: &[(NewMessage, Appended)]) {
        let Some(room) = conv.as_room() else { return };
        let fresh = |stored: &&(NewMessage, Appended)| stored.1.fresh && stored.0.kind == Kind::Message;
        let mut rest = batch.iter().filter(fresh).map(|(message, stored)| (message, stored.seq));
        let Some((message, seq)) = rest.next() else { return };
        let mut found = Waiting::of(message, seq);
        rest.for_each(|(message, seq)| found.add(message, seq));
        let mut waiting = self.0.waiting.lock();
        if let Some(known) = waiting.get_mut(&room) {
            match known {
                Some(known) => known.join(found),
                None => *known = Some(found),
            }
        } else if waiting.len() < ROOMS {
            waiting.insert(room.clone(), Some(found));
            drop(waiting);
            self.0.rounds.spawn(self.0.clone().tell(room));
        } else {
            self.0.metrics.notices_forgotten.inc();
        }
    }

    /// Waits until everything that was stored is told. What is stored meanwhile prolongs it.
    pub(super) async fn idle(&self) {
        self.0.rounds.idle().await;
    }
}

impl Inner {
    /// Tells of a room until nothing comes any more.
    async fn tell(self: Arc<Self>, room: RoomId) {
        while let Some(waiting) = self.take(&room) {
            if let Err(error) = self.tell_members(&room, &waiting).await {
                // A live event, as that of direct messages: the message itself waits in the log.
                tracing::debug!(%room, %error, "push services are not told of messages in a room");
            }
            self.rounds.pause(self.settings.every).await;
        }
    }

    /// What is to be told now; with nothing the room is forgotten.
    fn take(&self, room: &RoomId) -> Option<Waiting> {
        let mut all = self.waiting.lock();
        let waiting = all.get_mut(room).and_then(Option::take);
        if waiting.is_none() {
            all.remove(room);
        }
        waiting
    }

    /// Members are read after the message was answered, so whoever it was written for is among them, unless they left since.
    /// Whoever joined meanwhile is told of nothing before their join.
    async fn tell_members(&self, room: &RoomId, waiting: &Waiting) -> StoreResult<()> {
        let conv = ConvId::room(room);
        let ids = std::slice::from_ref(room);
        let Some(row) = self.in_turn(1, self.rooms.rooms(ids)).await?.pop().flatten() else { return Ok(()) };
        let members = row.room.members as usize;
        if members > self.settings.members {
            let (seq, from) = &waiting.last;
            self.router.events().tell(EventKind::RoomMessage, || {
                let (conv, from, seq) = (conv.clone(), from.clone(), *seq);
                What::RoomMessage(RoomMessage { conv, from, seq, members: row.room.members })
            });
            for (user, (seq, from)) in &waiting.mentioned {
                let member = self.in_turn(1, self.rooms.member(room, user)).await?;
                if member.was_in_at(*seq) {
                    let (conv, from) = (conv.clone(), from.clone());
                    self.router.notify(user, &Missed { conv, seq: *seq, from, mention: true });
                }
            }
            return Ok(());
        }
        let (mut after, mut read) = (None, 0);
        while read < HEARD_OF {
            let page = self.in_turn(PAGE, self.rooms.members(room, after.as_ref(), PAGE)).await?;
            for (user, member) in &page {
                if let Some((seq, from)) = waiting.for_user(user).filter(|(seq, _)| member.was_in_at(*seq)) {
                    let (conv, from, mention) = (conv.clone(), from.clone(), waiting.mentioned.contains_key(user));
                    self.router.notify(user, &Missed { conv, seq: *seq, from, mention });
                }
            }
            read += page.len();
            if page.len() < PAGE {
                break;
            }
            after = page.into_iter().last().map(|(user, _)| user);
        }
        Ok(())
    }

    async fn in_turn<T>(&self, rows: usize, read: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let turn = self.overload.turn(Class::Listing, cost(rows, 0)).await.map_err(StoreError::unavailable)?;
        let found = read.await;
        turn.end(cost(rows, 0), is_served(&found));
        super::counted(&self.metrics, StoreOp::Rooms, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, Cid, Refs};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn message(from: &str, mentions: &[&str]) -> NewMessage {
        let refs = Refs { mentions: mentions.iter().map(|name| user(name)).collect(), ..Refs::default() };
        let cid = Cid::new("c").unwrap();
        NewMessage { refs: refs.boxed(), ..NewMessage::of_user(user(from), cid, 1, Body::text("hi")) }
    }

    #[test]
    fn everybody_hears_of_the_last_message_that_is_not_their_own() {
        for order in [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3]] {
            let from = |seq: Seq| if seq >= 3 { "alice" } else { "bob" };
            let mut waiting = Waiting::of(&message(from(order[0]), &[]), order[0]);
            order[1..].iter().for_each(|seq| waiting.add(&message(from(*seq), &[]), *seq));
            assert_eq!(waiting.for_user(&user("alice")), Some(&(2, user("bob"))), "{order:?}");
            for name in ["bob", "carol"] {
                assert_eq!(waiting.for_user(&user(name)), Some(&(4, user("alice"))), "{order:?}");
            }
        }
        assert_eq!(Waiting::of(&message("bob", &[]), 1).for_user(&user("bob")), None);
    }

    #[test]
    fn the_last_mention_counts_and_never_ones_own() {
        let mut waiting = Waiting::of(&message("alice", &["bob", "alice"]), 1);
        waiting.add(&message("carol", &["bob"]), 3);
        waiting.join(Waiting::of(&message("alice", &["bob", "eve"]), 2));
        let expected = [(user("bob"), (3, user("carol"))), (user("eve"), (2, user("alice")))];
        assert_eq!(waiting.mentioned.into_iter().collect::<Vec<_>>(), expected);
    }
}
