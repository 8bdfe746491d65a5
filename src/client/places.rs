//! How far this device is in each conversation: what has arrived, what was acknowledged, and which acknowledgements are
//! still to be written. No I/O. Called by the driver.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};

use crate::model::{ConvId, Seq};

/// Acknowledgements are gathered for this long …
const GATHER: Duration = Duration::from_millis(5);
/// … or until this many messages wait for one, a quarter of the smallest window that a node would set.
const GATHER_MESSAGES: usize = 32;
/// After a reconnect, this many conversations are acknowledged once more; for the rest, the node asks by sending
/// messages again.
const REPEATED: usize = 256;

#[derive(Debug, Default, Clone, Copy)]
struct Place {
    /// Everything up to here was handed to the events.
    have: Seq,
    /// The user is done with everything up to here.
    acked: Seq,
}

/// Positions of all conversations that this client has seen. Kept for the client's life: about 100 bytes each.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: HashMap<ConvId, Place>,
    /// To be written: the cumulative acknowledgement per conversation.
    waiting: HashMap<ConvId, Seq>,
    waiting_messages: usize,
    since: Option<Instant>,
    /// Written on this connection, perhaps into a socket that was already dead.
    written: HashMap<ConvId, Seq>,
}

impl Places {
    /// Whether a message is new. One that is not is acknowledged again: the node sent it because it has not seen the
    /// acknowledgement.
    pub(super) fn is_new(&mut self, conv: &ConvId, seq: Seq, now: Instant) -> bool {
        let place = self.places.entry(conv.clone()).or_default();
        if seq > place.have {
            place.have = seq;
            return true;
        }
        let acked = place.acked;
        if seq <= acked {
            self.wait(conv.clone(), acked, now);
        }
        false
    }

    /// The user of the client is done with everything up to `seq`.
    pub(super) fn done(&mut self, conv: ConvId, seq: Seq, now: Instant) {
        let place = self.places.entry(conv.clone()).or_default();
        // The user acknowledged above what has arrived: they know more, from an earlier run.
        place.have = place.have.max(seq);
        place.acked = place.acked.max(seq);
        let acked = place.acked;
        self.wait(conv, acked, now);
    }

    fn wait(&mut self, conv: ConvId, acked: Seq, now: Instant) {
        self.waiting.insert(conv, acked);
        self.waiting_messages += 1;
        self.since.get_or_insert(now);
    }

    /// When [`Places::next_ack`] has something to write.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.waiting_messages >= GATHER_MESSAGES { since } else { since + GATHER })
    }

    /// The next acknowledgement to write, if it is time.
    pub(super) fn next_ack(&mut self, now: Instant) -> Option<(ConvId, Seq)> {
        if self.due()? > now {
            return None;
        }
        let conv = self.waiting.keys().next()?.clone();
        let seq = self.waiting.remove(&conv)?;
        if self.waiting.is_empty() {
            self.since = None;
            self.waiting_messages = 0;
        }
        if self.written.len() < REPEATED || self.written.contains_key(&conv) {
            self.written.insert(conv.clone(), seq);
        }
        Some((conv, seq))
    }

    /// Everything that waits becomes due at once: the client is closing.
    pub(super) fn hurry(&mut self) {
        self.waiting_messages = self.waiting_messages.max(GATHER_MESSAGES);
    }

    /// What was written may be lost, with a connection or because it was refused: it is written again.
    pub(super) fn repeat(&mut self, now: Instant) {
        for (conv, seq) in std::mem::take(&mut self.written) {
            let acked = self.places.get(&conv).map_or(seq, |place| place.acked);
            self.wait(conv, acked, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(peer: &str) -> ConvId {
        ConvId::new(&format!("dm:a:{peer}")).unwrap()
    }

    fn drain(places: &mut Places, now: Instant) -> Vec<(ConvId, Seq)> {
        let mut all: Vec<_> = std::iter::from_fn(|| places.next_ack(now)).collect();
        all.sort();
        all
    }

    #[test]
    fn duplicates_are_dropped_and_acknowledged_again() {
        let (mut places, now) = (Places::default(), Instant::now());
        assert!(places.is_new(&conv("b"), 1, now));
        assert!(places.is_new(&conv("b"), 2, now));
        assert!(!places.is_new(&conv("b"), 2, now), "the same again");
        assert_eq!(places.due(), None, "2 was not done with yet, so there is nothing to acknowledge");
        places.done(conv("b"), 2, now);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 2)]);
        assert!(!places.is_new(&conv("b"), 1, now));
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 2)], "cumulative, not the duplicate's own seq");
    }

    #[test]
    fn acknowledgements_are_gathered_per_conversation_for_a_while() {
        let (mut places, now) = (Places::default(), Instant::now());
        for seq in 1..=10 {
            places.done(conv("b"), seq, now);
        }
        places.done(conv("c"), 7, now + GATHER / 2);
        assert_eq!(places.next_ack(now + GATHER / 2), None);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 10), (conv("c"), 7)]);
        assert_eq!((places.due(), places.next_ack(now + GATHER)), (None, None));
    }

    #[test]
    fn many_messages_do_not_wait() {
        let (mut places, now) = (Places::default(), Instant::now());
        for seq in 1..=GATHER_MESSAGES as Seq {
            assert_eq!(places.next_ack(now), None);
            places.done(conv("b"), seq, now);
        }
        assert_eq!(drain(&mut places, now), [(conv("b"), GATHER_MESSAGES as Seq)]);
    }

    #[test]
    fn a_new_connection_repeats_what_the_old_one_may_have_lost() {
        let (mut places, now) = (Places::default(), Instant::now());
        places.done(conv("b"), 3, now);
        drain(&mut places, now + GATHER);
        places.repeat(now);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 3)]);
        places.done(conv("c"), 1, now);
        places.repeat(now);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 3), (conv("c"), 1)]);
    }
}
