//! What must hold of a delivery's counters after every step. Debug builds check it, and so do the tests; see
//! [`super::Delivery`].

use super::{Conv, Delivery};
use crate::session::Rules;

impl Delivery {
    /// The counters say what the conversations say, and no conversation that is behind is forgotten.
    ///
    /// # Panics
    /// When they do not.
    pub(in crate::session) fn assert_sound(&self, rules: &Rules) {
        let behind = self.convs.values().filter(|entry| entry.is_behind()).count();
        assert_eq!(self.behind, behind, "behind: {self:#?}");
        assert_eq!(self.unacked, self.convs.values().map(Conv::unacked).sum::<u64>(), "unacked: {self:#?}");
        let fills = self.convs.values().filter(|entry| entry.filling.is_some()).count();
        assert_eq!(self.fills as usize, fills, "fills: {self:#?}");
        let kept = self.convs.values().filter_map(|entry| entry.filling);
        let kept = kept.fold((0, 0), |(rows, bytes), room| (rows + u64::from(room.rows), bytes + room.bytes as usize));
        assert_eq!((self.kept_rows, self.kept_bytes), kept, "kept: {self:#?}");
        let waited_for = self.convs.values().filter(|entry| entry.login_head.is_some()).count();
        assert_eq!(self.login_left, waited_for, "login_left: {self:#?}");
        assert!(self.unacked <= rules.window, "over the window: {self:#?}");
        let queued = self.convs.values().filter(|entry| entry.queued).count();
        assert_eq!(queued, self.queue.len(), "queue: {self:#?}");
        for conv in &self.queue {
            assert!(self.convs.get(conv).is_some_and(|entry| entry.queued), "{conv} is queued and unknown: {self:#?}");
        }
        for (conv, entry) in &self.convs {
            assert!(self.rested.get(conv).is_none(), "{conv} rests and moves: {self:#?}");
            assert!(
                entry.held.is_none() || entry.filling.is_some(),
                "{conv}: nobody comes for what is held: {self:#?}"
            );
            let is_cared_for = entry.queued || entry.filling.is_some();
            assert!(!entry.has_work() || is_cared_for, "{conv} is behind and not filled: {self:#?}");
            assert!(entry.acked <= entry.position.unwrap_or(entry.acked), "{conv}: acknowledged ahead: {self:#?}");
        }
    }
}
