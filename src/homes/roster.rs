//! Who is alive, from what nodes announce of themselves once a second. Pure: time is handed in. Called by
//! [`super::Shared`], which hears the announcements.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use compact_str::CompactString;

use super::wire::Here;
use crate::store::slots::Incarnation;

/// A node is live while it was heard within this time: three announcements may be lost.
const LIVE: Duration = Duration::from_millis(3_500);
/// A node gets slots once it was heard without a pause for this long: one that comes and goes moves nothing.
const STEADY: Duration = Duration::from_secs(3);
/// A node has listened long enough after this time: whoever is there is heard, and is steady.
const SETTLED: Duration = Duration::from_millis(4_500);
/// A node that was heard within this time counts when the word of most is asked for: a node that hears nobody any more
/// is most likely the one that is cut off.
const RECENT: Duration = Duration::from_secs(30);
/// A node that was not heard for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Most nodes that are kept: far more than a mesh has.
const NODES: usize = 512;

/// The other nodes, as one node hears them.
#[derive(Debug)]
pub(super) struct Roster {
    own: CompactString,
    /// When this node began to listen.
    since: Instant,
    nodes: BTreeMap<CompactString, Heard>,
}

#[derive(Debug)]
struct Heard {
    number: u64,
    leaving: bool,
    hears_us: bool,
    /// The first announcement without a pause since.
    since: Instant,
    last: Instant,
}

impl Heard {
    fn is_live(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) <= LIVE
    }

    fn is_steady(&self, now: Instant) -> bool {
        self.is_live(now) && now.saturating_duration_since(self.since) >= STEADY
    }
}

impl Roster {
    pub(super) fn new(own: &str, now: Instant) -> Self {
        Self { own: own.into(), since: now, nodes: BTreeMap::new() }
    }

    /// A node announced itself.
    pub(super) fn on_here(&mut self, here: &Here, now: Instant) {
        let Incarnation { node, number } = &here.who;
        self.nodes.retain(|_, heard| now.saturating_duration_since(heard.last) < FORGOTTEN);
        let known = self.nodes.get(node);
        // What a former life said may come late.
        let late = known.is_some_and(|heard| heard.number > *number);
        if *node == self.own || late || (known.is_none() && self.nodes.len() >= NODES) {
            return;
        }
        let since =
            known.filter(|heard| heard.number == *number && heard.is_live(now)).map_or(now, |heard| heard.since);
        let hears_us = here.hears.iter().any(|heard| heard.node == self.own);
        let heard = Heard { number: *number, leaving: here.leaving, hears_us, since, last: now };
        self.nodes.insert(node.clone(), heard);
    }

    /// Those that are heard now.
    pub(super) fn live(&self, now: Instant) -> Vec<Incarnation> {
        self.select(|heard| heard.is_live(now))
    }

    /// Those that are heard now and stay: they may take a slot that somebody waits for.
    pub(super) fn staying(&self, now: Instant) -> Vec<Incarnation> {
        self.select(|heard| heard.is_live(now) && !heard.leaving)
    }

    /// Those among which slots are placed, besides this node: heard steadily, there to stay, and hearing this node, or it
    /// could not be told what it was given.
    pub(super) fn steady(&self, now: Instant) -> Vec<Incarnation> {
        self.select(|heard| heard.is_steady(now) && !heard.leaving && heard.hears_us)
    }

    /// Those whose word counts when an incarnation is to be fenced.
    pub(super) fn recent(&self, now: Instant) -> Vec<Incarnation> {
        self.select(|heard| !heard.leaving && now.saturating_duration_since(heard.last) <= RECENT)
    }

    /// Whether this node has listened long enough to know who is there.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= SETTLED
    }

    /// Whether the incarnation is over: a later one of its name was heard.
    pub(super) fn is_over(&self, who: &Incarnation) -> bool {
        self.nodes.get(&who.node).is_some_and(|heard| heard.number > who.number)
    }

    /// Whether the incarnation itself is heard now.
    pub(super) fn hears(&self, who: &Incarnation, now: Instant) -> bool {
        self.nodes.get(&who.node).is_some_and(|heard| heard.number == who.number && heard.is_live(now))
    }

    fn select(&self, wanted: impl Fn(&Heard) -> bool) -> Vec<Incarnation> {
        let chosen = self.nodes.iter().filter(|(_, heard)| wanted(heard));
        chosen.map(|(node, heard)| Incarnation { node: node.clone(), number: heard.number }).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn who(node: &str, number: u64) -> Incarnation {
        Incarnation { node: node.into(), number }
    }

    fn here(node: &str, number: u64) -> Here {
        Here { who: who(node, number), leaving: false, hears: vec![who("me", 1)] }
    }

    /// A roster, and its clock in milliseconds.
    struct Bed {
        roster: Roster,
        begin: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let begin = Instant::now();
            Self { roster: Roster::new("me", begin), begin }
        }

        fn at(&self, millis: u64) -> Instant {
            self.begin + Duration::from_millis(millis)
        }

        fn hear(&mut self, here: &Here, millis: impl IntoIterator<Item = u64>) {
            for millis in millis {
                self.roster.on_here(here, self.at(millis));
            }
        }

        fn live(&self, millis: u64) -> usize {
            self.roster.live(self.at(millis)).len()
        }

        fn steady(&self, millis: u64) -> usize {
            self.roster.steady(self.at(millis)).len()
        }
    }

    #[test]
    fn a_node_is_live_at_once_and_steady_after_a_while() {
        let mut bed = Bed::new();
        bed.hear(&here("n2", 1), (0..=2_900).step_by(1_000));
        assert_eq!((bed.live(0), bed.steady(2_999)), (1, 0));
        bed.hear(&here("n2", 1), [3_000]);
        assert_eq!(bed.steady(3_000), 1);
        assert_eq!((bed.live(6_500), bed.live(6_501), bed.steady(6_501)), (1, 0, 0));
        // After a pause it begins anew.
        bed.hear(&here("n2", 1), [7_000]);
        assert_eq!((bed.live(7_000), bed.steady(7_000)), (1, 0));
    }

    #[test]
    fn a_new_life_begins_anew_and_a_former_one_is_not_heard() {
        let mut bed = Bed::new();
        bed.hear(&here("n2", 1), (0..=4_000).step_by(1_000));
        bed.hear(&here("n2", 2), [4_500]);
        assert_eq!((bed.live(4_500), bed.steady(4_500)), (1, 0));
        assert!(bed.roster.is_over(&who("n2", 1)) && !bed.roster.is_over(&who("n2", 2)));
        bed.hear(&here("n2", 1), [5_000]);
        assert_eq!(bed.roster.live(bed.at(5_000)), [who("n2", 2)]);
        assert!(!bed.roster.hears(&who("n2", 1), bed.at(5_000)) && bed.roster.hears(&who("n2", 2), bed.at(5_000)));
    }

    #[test]
    fn a_leaving_node_gets_nothing_and_has_no_word() {
        let mut bed = Bed::new();
        bed.hear(&here("n2", 1), (0..=4_000).step_by(1_000));
        assert_eq!((bed.steady(4_000), bed.roster.recent(bed.at(4_000)).len()), (1, 1));
        bed.hear(&Here { leaving: true, ..here("n2", 1) }, [4_500]);
        assert_eq!((bed.live(4_500), bed.steady(4_500), bed.roster.recent(bed.at(4_500)).len()), (1, 0, 0));
    }

    #[test]
    fn a_node_that_does_not_hear_this_one_gets_nothing_from_it() {
        let mut bed = Bed::new();
        bed.hear(&Here { hears: vec![who("n3", 1)], ..here("n2", 1) }, (0..=5_000).step_by(1_000));
        assert_eq!((bed.live(5_000), bed.steady(5_000)), (1, 0));
    }

    #[test]
    fn a_node_that_went_silent_has_a_word_for_a_while() {
        let mut bed = Bed::new();
        bed.hear(&here("n2", 1), [0]);
        assert_eq!(bed.roster.recent(bed.at(30_000)).len(), 1);
        assert_eq!(bed.roster.recent(bed.at(30_001)).len(), 0);
    }

    #[test]
    fn memory_is_bounded_and_oneself_is_no_other() {
        let mut bed = Bed::new();
        for number in 0..2_000 {
            bed.hear(&here(&format!("n{number}"), 1), [0]);
        }
        bed.hear(&here("me", 9), [0]);
        assert_eq!(bed.live(0), NODES);
        bed.hear(&here("late", 1), [60_000]);
        assert_eq!(bed.roster.nodes.len(), 1);
    }

    proptest! {
        /// Whatever order and times announcements come in: the number of a name does not go back while the name is known,
        /// steady nodes are live, and a steady one was heard in every stretch of its last three seconds.
        #[test]
        fn steady_means_heard_without_a_pause(
            heard in proptest::collection::vec((0_u64..3, 1_u64..3, 0_u64..3_000, any::<bool>()), 1..60)
        ) {
            let mut bed = Bed::new();
            let (mut clock, mut log) = (0, Vec::new());
            let mut numbers = BTreeMap::<u64, (u64, u64)>::new();
            for (node, number, pause, leaving) in heard {
                clock += pause;
                let name = format!("n{node}");
                bed.hear(&Here { leaving, ..here(&name, number) }, [clock]);
                numbers.retain(|_, (_, last)| Duration::from_millis(clock - *last) < FORGOTTEN);
                let (known, last) = numbers.entry(node).or_default();
                if number >= *known {
                    (*known, *last) = (number, clock);
                    log.push((name, number, clock));
                }
                let now = bed.at(clock);
                let live = bed.roster.live(now);
                for who in bed.roster.steady(now) {
                    prop_assert!(live.contains(&who));
                    let times: Vec<_> = log.iter().filter(|(name, number, _)| *name == *who.node && *number == who.number)
                        .map(|(_, _, at)| *at).collect();
                    let old = times.iter().rposition(|at| clock - at >= 3_000);
                    prop_assert!(old.is_some(), "{who} is steady and was heard at {times:?} before {clock}");
                    let whole = times[old.unwrap()..].windows(2).all(|pair| pair[1] - pair[0] <= 3_500);
                    prop_assert!(whole, "{who}: {times:?}");
                }
                for who in live {
                    let node: u64 = who.node[1..].parse().unwrap();
                    prop_assert_eq!(who.number, numbers[&node].0);
                }
            }
        }
    }
}
