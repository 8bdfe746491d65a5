//! Whom the client watches: a watch ends with its connection, so after a reconnect it is asked for again. No I/O. Called by
//! the driver and its pump.

use std::collections::BTreeSet;

use crate::{
    model::UserId,
    protocol::ask::{PRESENCE_LIMIT, Presences},
};

/// The watched users.
#[derive(Debug, Default)]
pub(super) struct Watched {
    users: BTreeSet<UserId>,
    /// Those of whom this connection's node has not answered yet.
    unanswered: BTreeSet<UserId>,
    /// Those of them that are to be asked for.
    unasked: BTreeSet<UserId>,
}

impl Watched {
    /// The program asked for it, or for its end.
    pub(super) fn set(&mut self, users: &[UserId], watch: bool) {
        for user in users {
            if watch {
                self.users.insert(user.clone());
            } else {
                self.users.remove(user);
                self.unanswered.remove(user);
                self.unasked.remove(user);
            }
        }
    }

    /// A new connection.
    pub(super) fn on_connected(&mut self) {
        self.unanswered = self.users.clone();
        self.repeat();
    }

    /// Something was refused for a while: what has no answer is asked for again.
    pub(super) fn repeat(&mut self) {
        self.unasked = self.unanswered.clone();
    }

    /// The next that are to be asked for, as many as one request takes.
    pub(super) fn next(&mut self) -> Option<Vec<UserId>> {
        let some: Vec<UserId> = self.unasked.iter().take(PRESENCE_LIMIT).cloned().collect();
        self.unasked.retain(|user| !some.contains(user));
        (!some.is_empty()).then_some(some)
    }

    /// An answer to that. Whoever may not be watched any more is not asked for again.
    pub(super) fn on_answer(&mut self, found: &Presences) {
        for seen in &found.items {
            self.unanswered.remove(&seen.user);
        }
        self.set(&found.refused, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ask::Seen;

    #[test]
    fn after_a_reconnect_all_are_asked_for_in_pieces_until_they_are_answered() {
        let user = |n: usize| UserId::new(&format!("u{n:03}")).unwrap();
        let all: Vec<UserId> = (0..PRESENCE_LIMIT + 2).map(user).collect();
        let mut watched = Watched::default();
        watched.set(&all, true);
        assert_eq!(watched.next(), None, "the program's own request asks for them");
        watched.on_connected();
        assert_eq!(watched.next().map(|some| some.len()), Some(PRESENCE_LIMIT));
        watched.set(&[user(0)], false);
        assert_eq!(watched.next(), Some(vec![user(PRESENCE_LIMIT), user(PRESENCE_LIMIT + 1)]));
        assert_eq!(watched.next(), None);
        let seen = |user| Seen { user, online: None, last_seen: None };
        let items = (1..PRESENCE_LIMIT).map(|n| seen(user(n))).collect();
        watched.on_answer(&Presences { reference: None, items, refused: vec![user(PRESENCE_LIMIT)] });
        watched.repeat();
        assert_eq!(watched.next(), Some(vec![user(PRESENCE_LIMIT + 1)]));
        watched.on_connected();
        let again: usize = std::iter::from_fn(|| watched.next()).map(|some| some.len()).sum();
        assert_eq!(again, PRESENCE_LIMIT, "all but the one that ended and the one that was refused");
    }
}
