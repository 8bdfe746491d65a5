//! Users whose first session here began, or whose last one ended, until they are quiet: nothing is told of one who comes and
//! goes all the time. No I/O and no clock. Kept by [`super::Presence`].

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use crate::{
    model::{Millis, UserId},
    session::Tick,
};

/// Users who may wait. Of more nothing is told: whoever watches them finds out by looking.
const MOST: usize = 1 << 18;

/// A user who was quiet for long enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) user: UserId,
    /// Whether the user was here before the first change that was not told.
    pub(super) was_here: bool,
    /// When the last change was, for people.
    pub(super) at: Millis,
}

struct Waiting {
    was_here: bool,
    at: Millis,
    due: Tick,
}

/// Those who are not quiet yet.
#[derive(Default)]
pub(super) struct Changes {
    users: HashMap<UserId, Waiting>,
    queue: BinaryHeap<Reverse<(Tick, UserId)>>,
}

impl Changes {
    /// A user came, or went; told at `due` unless there is another change before.
    pub(super) fn note(&mut self, user: &UserId, was_here: bool, at: Millis, due: Tick) {
        if let Some(waiting) = self.users.get_mut(user) {
            (waiting.at, waiting.due) = (at, due);
        } else if self.users.len() < MOST {
            self.users.insert(user.clone(), Waiting { was_here, at, due });
            self.queue.push(Reverse((due, user.clone())));
        }
    }

    /// Those who are quiet by now, at most `most`.
    pub(super) fn take_due(&mut self, now: Tick, most: usize) -> Vec<Change> {
        let mut found = Vec::new();
        while found.len() < most && self.queue.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((_, user))) = self.queue.pop() else { break };
            match self.users.get(&user).map(|waiting| waiting.due) {
                Some(due) if due > now => self.queue.push(Reverse((due, user))),
                Some(_) => found.extend(self.take(user)),
                None => {}
            }
        }
        found
    }

    fn take(&mut self, user: UserId) -> Option<Change> {
        let Waiting { was_here, at, .. } = self.users.remove(&user)?;
        Some(Change { user, was_here, at })
    }

    /// When somebody is due.
    pub(super) fn next(&self) -> Option<Tick> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_and_goes_is_told_of_once_and_quiet() {
        let (bob, cleo) = (UserId::new("bob").unwrap(), UserId::new("cleo").unwrap());
        let mut changes = Changes::default();
        for n in 0..100 {
            let now = n * 1_000;
            assert_eq!(changes.take_due(now, 9), [], "not quiet at {now}");
            changes.note(&bob, n % 2 == 1, now, now + 5_000);
        }
        changes.note(&cleo, false, 99_500, 104_500);
        assert_eq!(changes.take_due(103_999, 9), []);
        // 100 changes: the user is as before, and what was before the first counts.
        let quiet = changes.take_due(104_000, 9);
        assert_eq!(quiet, [Change { user: bob, was_here: false, at: 99_000 }]);
        assert_eq!(changes.next(), Some(104_500));
        assert_eq!(changes.take_due(200_000, 9).len(), 1);
        assert_eq!((changes.next(), changes.users.len()), (None, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut changes = Changes::default();
        for n in 0..MOST + 10 {
            changes.note(&UserId::new(&format!("u{n}")).unwrap(), false, 0, 1);
        }
        assert_eq!((changes.users.len(), changes.queue.len()), (MOST, MOST));
        assert_eq!(changes.take_due(1, 7).len(), 7);
    }
}
