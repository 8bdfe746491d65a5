//! Of what a comparison looks at and finds not behind: the conversations with the most recent heads, for the positions of
//! a session. Used by the engines.

use crate::model::{Gap, Millis};

/// How many of them a page brings.
const MOST: usize = 64;

/// The most recent of those that were added.
#[derive(Debug, Default)]
pub(super) struct Level(Vec<(Millis, Gap)>);

impl Level {
    /// A conversation whose head is not above the cursor, with the time of its last message.
    pub(super) fn add(&mut self, ts: Millis, gap: Gap) {
        if self.0.len() == 2 * MOST {
            self.0.select_nth_unstable_by(MOST, |(a, _), (b, _)| b.cmp(a));
            self.0.truncate(MOST);
        }
        self.0.push((ts, gap));
    }

    /// The most recent first.
    pub(super) fn into_gaps(mut self) -> Vec<Gap> {
        self.0.sort_unstable_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.conv.cmp(&y.conv)));
        self.0.truncate(MOST);
        self.0.into_iter().map(|(_, gap)| gap).collect()
    }
}
