//! How far this device is in each conversation: what has arrived, what was acknowledged, and which acknowledgements are
//! still to be written. No I/O. Called by the driver.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};

use crate::model::{ConvId, Seq};

/// Acknowledgements are gathered for a while, or until this many messages wait for one, a quarter of the smallest window that a
/// node would set.
const GATHER_MESSAGES: usize = 32;
/// After a reconnect, this many conversations are acknowledged once more; for the rest, the node asks by sending
/// messages again.
const REPEATED: usize = 256;

/// What a message is to this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The next one.
    New,
    /// It is here already.
    Old,
    /// Something before it did not come.
    Gap,
}

#[derive(Debug, Default, Clone, Copy)]
struct Place {
    /// Everything up to here was handed to the events.
    have: Seq,
    /// The user is done with everything up to here.
    acked: Seq,
    /// Whatever comes next follows on what is here.
    loose: bool,
}

/// Positions of all conversations that this client has seen. Kept for the client's life: about 100 bytes each.
#[derive(Debug)]
pub(super) struct Places {
    gather: Duration,
    places: HashMap<ConvId, Place>,
    /// To be written: the cumulative acknowledgement per conversation.
    waiting: HashMap<ConvId, Seq>,
    waiting_messages: usize,
    since: Option<Instant>,
    /// Written on this connection, perhaps into a socket that was already dead.
    written: HashMap<ConvId, Seq>,
}

impl Places {
    pub(super) fn new(gather: Duration) -> Self {
        let (places, waiting, written) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { gather, places, waiting, waiting_messages: 0, since: None, written }
    }

    /// Takes a message in, unless it is old. Such a one is acknowledged again: the node sent it because it has not seen the
    /// acknowledgement.
    pub(super) fn take(&mut self, conv: &ConvId, seq: Seq, now: Instant) -> Taken {
        let place = self.places.entry(conv.clone()).or_default();
        if seq > place.have {
            // Of a conversation of which nothing is here, any message may be the first.
            if place.have > 0 && seq > place.have + 1 && !place.loose {
                return Taken::Gap;
            }
            (place.have, place.loose) = (seq, false);
            return Taken::New;
        }
        let acked = place.acked;
        if seq <= acked {
            self.wait(conv.clone(), acked, now);
        }
        Taken::Old
    }

    /// Whatever comes next in this conversation follows on what is here: the node has said so.
    pub(super) fn loosen(&mut self, conv: &ConvId) {
        self.places.entry(conv.clone()).or_default().loose = true;
    }

    /// The same for all of them: the node does not know the device any more.
    pub(super) fn loosen_all(&mut self) {
        self.places.values_mut().for_each(|place| place.loose = true);
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
        Some(if self.waiting_messages >= GATHER_MESSAGES { since } else { since + self.gather })
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

    const GATHER: Duration = Duration::from_millis(5);

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
        let (mut places, now) = (Places::new(GATHER), Instant::now());
        assert_eq!(places.take(&conv("b"), 1, now), Taken::New);
        assert_eq!(places.take(&conv("b"), 2, now), Taken::New);
        assert_eq!(places.take(&conv("b"), 2, now), Taken::Old, "the same again");
        assert_eq!(places.due(), None, "2 was not done with yet, so there is nothing to acknowledge");
        places.done(conv("b"), 2, now);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 2)]);
        assert_eq!(places.take(&conv("b"), 1, now), Taken::Old);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 2)], "cumulative, not the duplicate's own seq");
    }

    #[test]
    fn acknowledgements_are_gathered_per_conversation_for_a_while() {
        let (mut places, now) = (Places::new(GATHER), Instant::now());
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
        let (mut places, now) = (Places::new(GATHER), Instant::now());
        for seq in 1..=GATHER_MESSAGES as Seq {
            assert_eq!(places.next_ack(now), None);
            places.done(conv("b"), seq, now);
        }
        assert_eq!(drain(&mut places, now), [(conv("b"), GATHER_MESSAGES as Seq)]);
    }

    #[test]
    fn a_new_connection_repeats_what_the_old_one_may_have_lost() {
        let (mut places, now) = (Places::new(GATHER), Instant::now());
        places.done(conv("b"), 3, now);
        drain(&mut places, now + GATHER);
        places.repeat(now);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 3)]);
        places.done(conv("c"), 1, now);
        places.repeat(now);
        assert_eq!(drain(&mut places, now + GATHER), [(conv("b"), 3), (conv("c"), 1)]);
    }

    #[test]
    fn a_hole_is_not_passed_over() {
        let (mut places, now) = (Places::new(GATHER), Instant::now());
        assert_eq!(places.take(&conv("b"), 7, now), Taken::New, "the first one stands anywhere");
        assert_eq!(places.take(&conv("b"), 9, now), Taken::Gap);
        assert_eq!(places.take(&conv("b"), 8, now), Taken::New);
        assert_eq!(places.take(&conv("b"), 9, now), Taken::New);
        places.loosen(&conv("c"));
        assert_eq!(places.take(&conv("b"), 12, now), Taken::Gap, "another conversation was cut");
        places.loosen(&conv("b"));
        assert_eq!([12, 14].map(|seq| places.take(&conv("b"), seq, now)), [Taken::New, Taken::Gap], "for one message");
    }
}
