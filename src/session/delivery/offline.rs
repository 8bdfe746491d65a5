//! Of which messages push services are told because this session does not acknowledge them (R9): those that were handed
//! to a dead socket, and those that wait behind them. Used by [`super::Delivery`].
//!
//! Told per conversation, with the last seq, after each time that something new has waited for long enough.

use super::{At, Delivery, Out, min};
use crate::{
    model::{ConvId, Seq},
    session::{Effect, Upkeep},
};

impl Delivery {
    /// Something was handed out or heard of: the time runs until it is acknowledged.
    pub(super) fn watch(&mut self, conv: &ConvId, at: At<'_>) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if entry.waiting_since.is_none() && entry.is_owed() {
            entry.waiting_since = Some(at.now);
            self.wake_at(at.now + at.rules.offline_after);
        }
    }

    /// Tells of what has waited for too long. While a client acknowledges anything at all, what it was not handed yet
    /// waits for its turn and not in vain.
    pub(super) fn tell_offline(&mut self, at: At<'_>, out: &mut Out) {
        for (conv, entry) in &mut self.convs {
            let Some(since) = entry.waiting_since else { continue };
            let since = if entry.unacked() > 0 { since } else { since.max(self.acked_at) };
            let due = since + at.rules.offline_after;
            if due > at.now {
                self.wake = min(self.wake, due);
                continue;
            }
            entry.waiting_since = None;
            if entry.is_owed() {
                self.is_deaf = true;
                let (after, upto) = (entry.acked.max(entry.told), entry.newest());
                entry.told = upto;
                out.push(Effect::Upkeep(Upkeep::Undelivered { conv: conv.clone(), after, upto }));
            }
        }
    }

    /// There is no room to remember a message: of one that nobody will acknowledge soon push services are told now.
    pub(super) fn tell_unkept(&mut self, conv: &ConvId, seq: Seq, out: &mut Out) {
        if self.is_deaf {
            let after = seq.saturating_sub(1);
            out.push(Effect::Upkeep(Upkeep::Undelivered { conv: conv.clone(), after, upto: seq }));
        }
    }

    /// What the session heard of, live, that nobody acknowledged and that push services were not told of: for its end.
    pub fn owed(&self) -> impl Iterator<Item = Upkeep> {
        self.convs.iter().filter_map(|(conv, entry)| {
            let after: Seq = entry.acked.max(entry.told);
            (entry.heard > after).then(|| Upkeep::Undelivered { conv: conv.clone(), after, upto: entry.heard })
        })
    }
}
