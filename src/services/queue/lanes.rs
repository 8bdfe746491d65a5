//! The order within a part: one lane for each subject, and one message of a lane at a time. Called by [`super::part`].

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::{bus::queue::Queued, subject::Subject};

/// What is in hand of a part.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// A lane is there while one of its messages is worked on; this is what waits behind it.
    waiting: HashMap<Subject, VecDeque<Queued>>,
    /// The places of all that is in hand.
    places: BTreeSet<u64>,
}

impl Lanes {
    /// A message came. Returned when nothing of its subject is before it: it is to be worked on.
    pub(super) fn arrived(&mut self, queued: Queued) -> Option<Queued> {
        // Handed out once more while it is in hand.
        if !self.places.insert(queued.sequence) {
            return None;
        }
        match self.waiting.get_mut(&queued.subject) {
            Some(lane) => {
                lane.push_back(queued);
                None
            }
            None => {
                self.waiting.insert(queued.subject.clone(), VecDeque::new());
                Some(queued)
            }
        }
    }

    /// A message is done with: the next of its subject, to be worked on.
    pub(super) fn done(&mut self, queued: &Queued) -> Option<Queued> {
        self.places.remove(&queued.sequence);
        let next = self.waiting.get_mut(&queued.subject).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.waiting.remove(&queued.subject);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(subject: &str, sequence: u64) -> Queued {
        Queued::for_tests(Subject::unqueued(subject), sequence)
    }

    fn place(queued: Option<Queued>) -> Option<u64> {
        queued.map(|queued| queued.sequence)
    }

    #[test]
    fn one_of_a_subject_at_a_time_and_in_order_and_of_others_meanwhile() {
        let mut lanes = Lanes::default();
        assert_eq!(place(lanes.arrived(queued("a", 1))), Some(1));
        assert_eq!(place(lanes.arrived(queued("a", 2))), None);
        assert_eq!(place(lanes.arrived(queued("b", 3))), Some(3));
        assert_eq!(place(lanes.arrived(queued("a", 4))), None);
        assert_eq!(place(lanes.arrived(queued("a", 2))), None, "it is in hand");
        assert_eq!(place(lanes.done(&queued("b", 3))), None);
        assert_eq!(place(lanes.done(&queued("a", 1))), Some(2));
        assert_eq!(place(lanes.done(&queued("a", 2))), Some(4));
        assert_eq!(place(lanes.arrived(queued("a", 5))), None);
        assert_eq!(place(lanes.done(&queued("a", 4))), Some(5));
        assert_eq!(place(lanes.done(&queued("a", 5))), None);
        assert_eq!(place(lanes.arrived(queued("a", 6))), Some(6));
        assert!(lanes.waiting.len() == 1 && lanes.places.len() == 1);
    }
}
