//! Which node should be home of a slot: the one whose name weighs most together with the slot ("highest random weight").
//! Every node computes the same from the same names, without a table, and when a node comes or goes only its own slots
//! move. Pure. Called by [`super::keep`] and `super::takeover`.

use crate::{fnv::Fnv, store::slots::Slot};

/// The names, the slot's best home first.
pub(super) fn ranked<'a>(slot: Slot, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut ranked: Vec<_> = names.into_iter().map(|name| (weight(slot, name), name)).collect();
    ranked.sort_unstable_by(|one, other| other.cmp(one));
    ranked.dedup();
    ranked.into_iter().map(|(_, name)| name).collect()
}

/// The slot's best home; `None` without names.
pub(super) fn best<'a>(slot: Slot, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names.into_iter().max_by_key(|name| (weight(slot, name), *name))
}

/// A hash that every build computes alike, as [`Slot::of`] is: nodes of two versions must agree.
fn weight(slot: Slot, name: &str) -> u64 {
    let hash = Fnv::new().with(name.as_bytes()).with(&slot.number().to_be_bytes()).sum();
    // FNV leaves names that differ in one character too much alike: the finish of SplitMix64 spreads them.
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::slots::SLOTS;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn the_choice_is_the_same_in_every_build() {
        let names = ["natter-1", "natter-2", "natter-3"];
        let homes: Vec<_> = (0..8).map(|number| best(slot(number), names).unwrap()).collect();
        let wanted = [2, 1, 2, 1, 2, 2, 3, 3].map(|number| format!("natter-{number}"));
        assert_eq!(homes, wanted);
    }

    #[test]
    fn slots_spread_evenly() {
        for count in [2_u16, 3, 5, 10] {
            let names: Vec<_> = (1..=count).map(|number| format!("natter-{number}")).collect();
            let mut homes = BTreeMap::<&str, u16>::new();
            for slot in Slot::all() {
                *homes.entry(best(slot, names.iter().map(String::as_str)).unwrap()).or_default() += 1;
            }
            let even = SLOTS / count;
            assert!(homes.values().all(|held| (even / 2..even * 2).contains(held)), "{count} nodes: {homes:?}");
            assert_eq!(homes.len(), usize::from(count));
        }
    }

    proptest! {
        #[test]
        fn only_what_must_move_moves(
            names in proptest::collection::btree_set("[a-z0-9_-]{1,12}", 2..12),
            number in 0..SLOTS,
            gone in any::<prop::sample::Index>(),
        ) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let gone = *gone.get(&names);
            let before = best(slot(number), names.iter().copied()).unwrap();
            let after = best(slot(number), names.iter().copied().filter(|name| *name != gone)).unwrap();
            prop_assert!(before == gone || before == after);
            let order = ranked(slot(number), names.iter().copied());
            prop_assert_eq!(order[0], before);
            prop_assert_eq!(order.len(), names.len());
            if before == gone {
                prop_assert_eq!(after, order[1]);
            }
            let mut turned = names.clone();
            turned.reverse();
            prop_assert_eq!(ranked(slot(number), turned), order);
        }
    }
}
