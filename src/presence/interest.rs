//! Which users somebody watches on other nodes, roughly: NATS does not tell a publisher whether anybody listens, and nothing is
//! to be published for those whom nobody watches. Users are in 65,536 groups by a hash; a node tells the others the groups of
//! those who are watched on it, each when it is new, and all of them every `presence.probe_ms`. Whatever of that is lost, or
//! not known yet, costs no more than the wait for the next look at a user. No I/O and no clock. Kept by
//! [`super::Presence`].

use std::collections::HashMap;

use compact_str::CompactString;

use crate::{fnv::fnv1a, model::UserId, session::Tick};

/// A group of users.
pub(super) type Group = u16;

const GROUPS: usize = 1 << 16;
const WORDS: usize = GROUPS / 64;
/// Nodes of which it is remembered; of more everything is published.
const NODES: usize = 1_024;
/// A node that is not heard for so many rounds is gone.
const ROUNDS: Tick = 4;

/// The same on every node.
pub(super) fn group(user: &UserId) -> Group {
    let hash = fnv1a(user.as_str().as_bytes());
    (hash >> 48) as Group ^ (hash >> 16) as Group
}

struct OfNode {
    groups: Box<[u64; WORDS]>,
    until: Tick,
}

/// What the other nodes watch.
#[derive(Default)]
pub(super) struct Interest {
    nodes: HashMap<CompactString, OfNode>,
    /// Not all nodes have told theirs since.
    blind_until: Tick,
    /// The connection on which they did.
    generation: Option<u64>,
}

impl Interest {
    /// A node told of groups that are watched there; `all`: of no others.
    pub(super) fn on_told(&mut self, node: &str, all: bool, groups: &[Group], now: Tick, round: Tick) {
        self.nodes.retain(|_, of| of.until > now);
        if self.nodes.len() >= NODES && !self.nodes.contains_key(node) {
            self.blind_until = now.saturating_add(ROUNDS * round);
            return;
        }
        let of = self.nodes.entry(node.into()).or_insert_with(|| OfNode { groups: Box::new([0; WORDS]), until: 0 });
        of.until = now.saturating_add(ROUNDS.saturating_mul(round));
        if all {
            of.groups.fill(0);
        }
        for group in groups {
            of.groups[usize::from(*group) / 64] |= 1 << (group % 64);
        }
    }

    /// What the connection is: on a new one it is not known for two rounds whom the others watch.
    pub(super) fn on_connection(&mut self, generation: Option<u64>, now: Tick, round: Tick) {
        if self.generation != generation {
            self.generation = generation;
            self.blind_until = now.saturating_add(round.saturating_mul(2));
        }
    }

    /// Whether somebody may watch the user on another node.
    pub(super) fn may_be_in(&mut self, user: &UserId, generation: Option<u64>, now: Tick, round: Tick) -> bool {
        self.on_connection(generation, now, round);
        let group = group(user);
        let (word, bit) = (usize::from(group) / 64, 1 << (group % 64));
        now < self.blind_until || self.nodes.values().any(|of| of.until > now && of.groups[word] & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Tick = 100;

    fn user(n: usize) -> UserId {
        UserId::new(&format!("u{n}")).unwrap()
    }

    #[test]
    fn only_the_watched_and_a_few_by_chance_are_published() {
        let mut interest = Interest::default();
        assert!(interest.may_be_in(&user(1), Some(1), 0, ROUND), "nobody has told yet");
        let watched: Vec<_> = (0..100).map(|n| group(&user(n))).collect();
        interest.on_told("n2", true, &watched[..50], 10, ROUND);
        interest.on_told("n3", false, &watched[50..], 10, ROUND);
        let published = |interest: &mut Interest, now| {
            (0..10_000).filter(|n| interest.may_be_in(&user(*n), Some(1), now, ROUND)).count()
        };
        let count = published(&mut interest, 201);
        assert!((100..150).contains(&count), "{count} of 10,000, of whom 100 are watched");
        assert!((0..100).all(|n| interest.may_be_in(&user(n), Some(1), 201, ROUND)));
        interest.on_told("n2", true, &[], 300, ROUND);
        assert!((50..80).contains(&published(&mut interest, 301)), "what is not watched any more");
        assert_eq!(published(&mut interest, 411), 0, "n3 was not heard for long");
        assert!(interest.may_be_in(&user(7_777), Some(2), 420, ROUND), "what was told while the connection was lost");
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_remembered_is_published() {
        let mut interest = Interest::default();
        interest.may_be_in(&user(1), Some(1), 0, ROUND);
        (0..NODES + 1).for_each(|n| interest.on_told(&format!("n{n}"), true, &[], 1_000, ROUND));
        assert_eq!(interest.nodes.len(), NODES);
        assert!(interest.may_be_in(&user(1), Some(1), 1_000, ROUND));
    }
}
