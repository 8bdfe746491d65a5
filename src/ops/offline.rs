//! What push services are told of a user whom no device reaches (R9): at once after a pause, and then together, the last
//! message of each conversation no more often than [`Settings::every`], with how much is not read. What a device has acknowledged in the meantime
//! is not told. Called by the router.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    rounds::Rounds,
    unread::{self, Unread},
};
use crate::{
    metrics::Metrics,
    model::{ConvId, UserId},
    overload::{Class, Overload, cost},
    protocol::event::{EventKind, Offline, What},
    routing::{Missed, Router},
    store::{Store, is_served},
};

/// Users who are remembered; of others is told at once, without what is not read.
const USERS: usize = 65_536;
/// Conversations of one user that are remembered; of others as well.
const CONVS: usize = 64;
/// How long a read may wait for its turn: the event is worth more than the number in it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How push services are told of users who are away.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A user is told of no more often.
    pub every: Duration,
    /// Whether it is read how much is not read.
    pub unread: bool,
}

/// The users to be told of. Cheap to clone.
#[derive(Clone)]
pub(super) struct Away(Arc<Inner>);

struct Inner {
    store: Store,
    router: Router,
    overload: Overload,
    metrics: Arc<Metrics>,
    settings: Settings,
    waiting: Mutex<HashMap<UserId, Convs>>,
    rounds: Rounds,
}

/// What is to be told of one user.
type Convs = BTreeMap<ConvId, Missed>;

impl Away {
    pub(super) fn new(
        store: Store,
        router: Router,
        overload: Overload,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Self {
        let (waiting, rounds) = (Mutex::default(), Rounds::default());
        Self(Arc::new(Inner { store, router, overload, metrics, settings, waiting, rounds }))
    }

    /// Has push services told of a message, if they are told at all.
    pub(super) fn note(&self, user: UserId, missed: Missed) {
        if !self.0.router.events().wants(EventKind::Offline) {
            return;
        }
        let mut waiting = self.0.waiting.lock();
        let users = waiting.len();
        match waiting.get_mut(&user) {
            Some(convs) => {
                if let Some(missed) = add(convs, missed) {
                    drop(waiting);
                    self.0.tell(&user, missed, None);
                }
            }
            None if users < USERS => {
                waiting.insert(user.clone(), Convs::from([(missed.conv.clone(), missed)]));
                drop(waiting);
                self.0.rounds.spawn(self.0.clone().run(user));
            }
            None => {
                drop(waiting);
                self.0.tell(&user, missed, None);
            }
        }
    }

    /// For the router, which this holds.
    pub(super) fn weak(&self) -> WeakAway {
        WeakAway(Arc::downgrade(&self.0))
    }

    /// Waits until everything is told.
    pub(super) async fn idle(&self) {
        self.0.rounds.idle().await;
    }
}

/// What is held without keeping it alive.
pub(super) struct WeakAway(Weak<Inner>);

impl WeakAway {
    /// As [`Away::note`]; nothing once that is gone.
    pub(super) fn note(&self, user: UserId, missed: Missed) {
        if let Some(inner) = self.0.upgrade() {
            Away(inner).note(user, missed);
        }
    }
}

/// The last message of a conversation counts, and every mention. Gives back what there is no room for.
fn add(convs: &mut Convs, missed: Missed) -> Option<Missed> {
    if let Some(known) = convs.get_mut(&missed.conv) {
        let mention = known.mention || missed.mention;
        if missed.seq > known.seq {
            *known = missed;
        }
        known.mention = mention;
        return None;
    }
    if convs.len() >= CONVS {
        return Some(missed);
    }
    convs.insert(missed.conv.clone(), missed);
    None
}

impl Inner {
    /// Tells of a user until nothing comes any more.
    async fn run(self: Arc<Self>, user: UserId) {
        while let Some(convs) = self.take(&user) {
            for missed in convs.into_values() {
                let unread = self.read(&user, &missed.conv).await;
                if unread.as_ref().is_none_or(|unread| unread.delivered < missed.seq) {
                    self.tell(&user, missed, unread.map(|unread| unread.messages));
                }
            }
            self.rounds.pause(self.settings.every).await;
        }
    }

    /// What is to be told now; with nothing the user is forgotten.
    fn take(&self, user: &UserId) -> Option<Convs> {
        let mut all = self.waiting.lock();
        let convs = std::mem::take(all.get_mut(user)?);
        if convs.is_empty() {
            all.remove(user);
            return None;
        }
        Some(convs)
    }

    async fn read(&self, user: &UserId, conv: &ConvId) -> Option<Unread> {
        if !self.settings.unread {
            return None;
        }
        let rows = cost(unread::READS, 0);
        let turn = self.overload.turn_within(PATIENCE, Class::Listing, rows).await.ok()?;
        let read = unread::of(&self.store, user, conv).await;
        turn.end(rows, is_served(&read));
        super::counted(&self.metrics, unread::STORE_OP, read).ok().flatten()
    }

    fn tell(&self, user: &UserId, missed: Missed, unread: Option<u64>) {
        let Missed { conv, seq, from, mention } = missed;
        let what = || What::Offline(Offline { user: user.clone(), from, conv, seq, mention, unread });
        self.router.events().tell(EventKind::Offline, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(conv: &str, seq: u64, mention: bool) -> Missed {
        Missed { conv: ConvId::new(conv).unwrap(), seq, from: UserId::new("alice").unwrap(), mention }
    }

    #[test]
    fn of_a_conversation_the_last_message_and_any_mention_count() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut convs = Convs::new();
            for seq in order {
                assert_eq!(add(&mut convs, missed("dm:alice:bob", seq, seq == 2)), None);
            }
            assert_eq!(convs.into_values().collect::<Vec<_>>(), [missed("dm:alice:bob", 3, true)], "{order:?}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_comes_back() {
        let mut convs = Convs::new();
        for n in 0..CONVS {
            assert_eq!(add(&mut convs, missed(&format!("room:r{n}"), 1, false)), None);
        }
        assert_eq!(add(&mut convs, missed("room:one-more", 1, false)), Some(missed("room:one-more", 1, false)));
        assert_eq!(add(&mut convs, missed("room:r0", 2, false)), None, "what is known gets on");
    }
}
