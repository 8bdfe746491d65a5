//! All subscriptions in one table: number → who is called. No task, no channel and no map entry each. Called by
//! [`super::state`].

use super::ops::Sid;
use crate::bus::OnMessage;

/// Numbers below it are the bus's own subscriptions.
pub(super) const FIRST: Sid = 8;

/// Every subscription of a bus, on whatever connection.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// A place in the table. Its place is the lower half of the subscription's number, and how often it was used before is
/// the upper half: a message that is still on its way to an ended subscription must not reach the next one here.
struct Slot {
    uses: u32,
    entry: Option<Entry>,
}

struct Entry {
    /// The subject, or the subject, a blank and the queue group: what a SUB says.
    filter: Box<str>,
    on_message: OnMessage,
}

impl Table {
    /// Adds a subscription and gives it its number.
    pub(super) fn insert(&mut self, filter: Box<str>, on_message: OnMessage) -> Sid {
        let entry = Some(Entry { filter, on_message });
        match self.free.pop() {
            Some(place) => {
                let slot = &mut self.slots[place as usize];
                slot.entry = entry;
                sid(place as usize, slot.uses)
            }
            None => {
                self.slots.push(Slot { uses: 0, entry });
                sid(self.slots.len() - 1, 0)
            }
        }
    }

    /// Ends a subscription. What it captured is the caller's to drop, not under a lock.
    pub(super) fn remove(&mut self, sid: Sid) -> Option<OnMessage> {
        let place = self.place(sid)?;
        let slot = &mut self.slots[place];
        let entry = slot.entry.take()?;
        slot.uses = slot.uses.wrapping_add(1);
        self.free.push(u32::try_from(place).unwrap_or(u32::MAX));
        Some(entry.on_message)
    }

    /// Whom a message is for.
    pub(super) fn get(&self, sid: Sid) -> Option<&OnMessage> {
        let slot = &self.slots[self.place(sid)?];
        slot.entry.as_ref().map(|entry| &entry.on_message)
    }

    /// The place of a subscription that has not ended.
    pub(super) fn place(&self, sid: Sid) -> Option<usize> {
        let place = usize::try_from((sid & u64::from(u32::MAX)).checked_sub(FIRST)?).ok()?;
        let slot = self.slots.get(place)?;
        (slot.entry.is_some() && u64::from(slot.uses) == sid >> 32).then_some(place)
    }

    /// How many places there are, used or not.
    pub(super) fn places(&self) -> usize {
        self.slots.len()
    }

    /// The subscription in a place: its filter and its number.
    pub(super) fn at(&self, place: usize) -> Option<(&str, Sid)> {
        let slot = self.slots.get(place)?;
        let entry = slot.entry.as_ref()?;
        Some((&entry.filter, sid(place, slot.uses)))
    }
}

fn sid(place: usize, uses: u32) -> Sid {
    (u64::from(uses) << 32) + place as u64 + FIRST
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn nobody() -> OnMessage {
        Arc::new(|_| ())
    }

    #[test]
    fn numbers_are_never_given_twice_and_places_are() {
        let mut table = Table::default();
        let (one, two) = (table.insert("a".into(), nobody()), table.insert("b q".into(), nobody()));
        assert_eq!((one, two), (FIRST, FIRST + 1));
        assert!(table.remove(one).is_some() && table.remove(one).is_none() && table.get(one).is_none());
        let three = table.insert("c".into(), nobody());
        assert_eq!((table.places(), table.at(0), table.at(1)), (2, Some(("c", three)), Some(("b q", two))));
        assert!(three != one && table.get(one).is_none() && table.get(three).is_some());
        for strange in [0, FIRST - 1, FIRST + 2, u64::MAX, three + (1 << 32)] {
            assert!(table.get(strange).is_none() && table.remove(strange).is_none(), "{strange}");
        }
        assert_eq!(table.at(2), None);
    }

    /// What a subscription costs besides its subject: its place, and its share of the free list that a churn leaves.
    #[test]
    fn a_subscription_costs_tens_of_bytes_beside_its_subject() {
        const COUNT: usize = 10_000;
        let mut table = Table::default();
        let sids: Vec<_> = (0..COUNT).map(|i| table.insert(format!("u{i}").into(), nobody())).collect();
        let most = table.slots.capacity() * size_of::<Slot>();
        assert_eq!(size_of::<Slot>(), 40);
        assert!(most / COUNT <= 80, "{} bytes each, with the room that the table has left", most / COUNT);
        for sid in sids {
            table.remove(sid);
        }
        let again: Vec<_> = (0..COUNT).map(|i| table.insert(format!("u{i}").into(), nobody())).collect();
        assert_eq!((table.places(), again.len()), (COUNT, COUNT), "places are used again");
        assert!(table.free.capacity() * size_of::<u32>() / COUNT <= 8);
    }
}
