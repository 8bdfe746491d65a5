//! How often a node may fence others: so that one slow store, or one slow node, does not cascade through the mesh. Pure:
//! time is handed in. Called by [`super::fencing`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use compact_str::CompactString;

const WINDOW: Duration = Duration::from_secs(60);
/// Of all: a rack of six nodes that lose power together is taken over within a minute by a single survivor.
const PER_NODE: usize = 6;
/// Of one name: a node that comes back and is found silent three times within a minute is slow, not dead. To fence it
/// again would only take the work from it that it begins to do.
const PER_NAME: usize = 3;

/// The fences of the last minute.
#[derive(Debug, Default)]
pub(super) struct Limits(VecDeque<(Instant, CompactString)>);

impl Limits {
    /// Whether one more is in order now; it counts when it is.
    pub(super) fn admit(&mut self, node: &str, now: Instant) -> bool {
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let of_name = self.0.iter().filter(|(_, name)| name == node).count();
        let admitted = self.0.len() < PER_NODE && of_name < PER_NAME;
        if admitted {
            self.0.push_back((now, node.into()));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_limited_per_name_and_in_all_and_again_in_order_after_a_minute() {
        let (mut limits, begin) = (Limits::default(), Instant::now());
        let at = |secs| begin + Duration::from_secs(secs);
        let slow: Vec<_> = (0..5).map(|secs| limits.admit("n2", at(secs))).collect();
        assert_eq!(slow, [true, true, true, false, false]);
        let others: Vec<_> = (3..8).map(|n| limits.admit(&format!("n{n}"), at(10))).collect();
        assert_eq!(others, [true, true, true, false, false]);
        assert!(!limits.admit("n9", at(59)));
        assert!(limits.admit("n9", at(60)) && limits.admit("n2", at(61)) && !limits.admit("n2", at(61)));
    }
}
