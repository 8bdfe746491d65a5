//! Which parts of the queue a node takes and gives back, so that all nodes share them and none is left alone. No I/O. Called
//! by [`super`].

use std::collections::{BTreeMap, BTreeSet};

use crate::bus::queue::{Held, PARTS};

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Share {
    free: BTreeSet<u16>,
    /// Turns whose holder asked for nothing, and how much they had been handed.
    silent: BTreeMap<String, u64>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Turns whose holders are gone: their parts are to be taken as well.
    pub(super) remove: Vec<String>,
    /// Parts to take.
    pub(super) take: Vec<u16>,
    /// How many turns to give back, for nodes that have fewer.
    pub(super) give: usize,
}

impl Share {
    /// One look: who holds what, which parts are this node's, and how many nodes there are. A part that is free is taken
    /// within this node's share; one that is still free at the next look, by anybody. A holder that asks for nothing at two
    /// looks and was handed nothing in between is gone, or stopped: taking its turn is safe in any case (R27).
    pub(super) fn look(&mut self, held: &[Held], own: &BTreeSet<u16>, nodes: usize) -> Plan {
        let mut plan = Plan::default();
        let (before, was_silent) = (std::mem::take(&mut self.free), std::mem::take(&mut self.silent));
        let fair = usize::from(PARTS).div_ceil(nodes.max(1));
        plan.give = own.len().saturating_sub(fair);
        let mut room = fair.saturating_sub(own.len());
        for part in (0..PARTS).filter(|part| !own.contains(part)) {
            let turns: Vec<_> = held.iter().filter(|turn| turn.part == part).collect();
            let gone = |turn: &&Held| !turn.waiting && was_silent.get(&turn.name) == Some(&turn.handed);
            let is_free = turns.iter().all(gone);
            if !is_free {
                let silent = turns.iter().filter(|turn| !turn.waiting);
                self.silent.extend(silent.map(|turn| (turn.name.clone(), turn.handed)));
                continue;
            }
            plan.remove.extend(turns.iter().map(|turn| turn.name.clone()));
            if room > 0 || before.contains(&part) {
                room = room.saturating_sub(1);
                plan.take.push(part);
            } else {
                self.free.insert(part);
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(part: u16, name: &str, waiting: bool, handed: u64) -> Held {
        Held { part, name: name.to_owned(), waiting, handed }
    }

    fn all(holders: &[(&str, std::ops::Range<u16>)]) -> Vec<Held> {
        holders.iter().flat_map(|(name, parts)| parts.clone().map(|part| held(part, name, true, 0))).collect()
    }

    #[test]
    fn one_node_takes_all_and_gives_half_when_there_are_two() {
        let mut share = Share::default();
        assert_eq!(share.look(&[], &BTreeSet::new(), 1).take.len(), usize::from(PARTS));
        let own: BTreeSet<u16> = (0..PARTS).collect();
        let plan = share.look(&all(&[("n1", 0..PARTS)]), &own, 2);
        assert_eq!(plan, Plan { give: 8, ..Plan::default() });
    }

    #[test]
    fn what_is_free_is_taken_within_the_share_and_soon_by_anybody() {
        let mut share = Share::default();
        let own: BTreeSet<u16> = (0..7).collect();
        let holders = all(&[("n1", 0..7)]);
        assert_eq!(share.look(&holders, &own, 2).take, [7, 8], "nine is its share");
        let own: BTreeSet<u16> = (0..9).collect();
        let holders = all(&[("n1", 0..9)]);
        assert_eq!(share.look(&holders, &own, 2).take, [9, 10, 11, 12, 13, 14, 15, 16], "nobody else takes them");
    }

    #[test]
    fn a_holder_that_asks_for_nothing_twice_is_gone() {
        let mut share = Share::default();
        let (own, others) = ((1..9).collect(), all(&[("n1", 1..9), ("n3", 9..PARTS)]));
        let mut look = |turn: Held| {
            let held: Vec<_> = others.iter().cloned().chain([turn]).collect();
            share.look(&held, &own, 2)
        };
        assert_eq!(look(held(0, "n2", false, 5)), Plan::default());
        assert_eq!(look(held(0, "n2", false, 6)), Plan::default(), "it was handed something");
        assert_eq!(look(held(0, "n2", true, 6)), Plan::default());
        assert_eq!(look(held(0, "n2", false, 6)), Plan::default());
        let plan = look(held(0, "n2", false, 6));
        assert_eq!((plan.remove, plan.take), (vec!["n2".to_owned()], vec![0]));
    }
}
