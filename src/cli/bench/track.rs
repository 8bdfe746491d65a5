//! Checks that a session got every message once and in order, and says what it acknowledges. Called by the lanes.

use std::collections::{HashMap, VecDeque};

/// How a seq compares with what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    New,
    /// It came on an earlier connection too: the protocol allows that after a reconnect.
    Redelivered,
    /// It already came on this connection.
    Twice,
    /// It skipped something, which no session may do (I3).
    Gap,
}

/// The seqs of one conversation, and which of them are acknowledged.
#[derive(Debug, Default)]
pub(super) struct Seqs {
    last: u64,
    /// The last one on this connection, 0 before the first.
    here: u64,
    acked: u64,
}

impl Seqs {
    /// Everything up to `seq` is acknowledged at the first occasion.
    pub(super) fn behind(seq: u64) -> Self {
        Self { last: seq, ..Self::default() }
    }

    pub(super) fn on_seq(&mut self, seq: u64) -> Order {
        // Of what came before a reconnect, the node may leave out what was acknowledged again in the meantime.
        let order = match seq {
            seq if seq > self.last + 1 => Order::Gap,
            seq if seq <= self.here => Order::Twice,
            seq if seq <= self.last => Order::Redelivered,
            _ => Order::New,
        };
        self.here = self.here.max(seq);
        self.last = self.last.max(seq);
        order
    }

    /// What to acknowledge now, once at least `batch` messages wait for it.
    pub(super) fn ack(&mut self, batch: u64) -> Option<u64> {
        if self.last - self.acked < batch.max(1) {
            return None;
        }
        self.acked = self.last;
        Some(self.last)
    }

    /// A new connection: the acknowledgement may have been lost with the old one.
    pub(super) fn on_connected(&mut self) {
        self.acked = 0;
        self.here = 0;
    }
}

/// The conversations of a lane.
#[derive(Debug)]
pub(super) struct Convs {
    /// So many messages of one conversation share an acknowledgement.
    every: u64,
    places: HashMap<Box<str>, usize>,
    all: Vec<(Box<str>, Seqs)>,
    /// Where the latest message was: the next one is often of the same conversation.
    latest: usize,
    /// To be acknowledged: at most what a node hands out without.
    due: VecDeque<(usize, u64)>,
}

impl Convs {
    pub(super) fn new(every: u64) -> Self {
        Self { every, places: HashMap::new(), all: Vec::new(), latest: 0, due: VecDeque::new() }
    }

    /// One of them is known up to a place.
    pub(super) fn behind(mut self, conv: &str, seq: u64) -> Self {
        let place = self.place(conv);
        self.all[place].1 = Seqs::behind(seq);
        self
    }

    pub(super) fn on_seq(&mut self, conv: &str, seq: u64) -> Order {
        let place = self.place(conv);
        let seqs = &mut self.all[place].1;
        let order = seqs.on_seq(seq);
        if let Some(seq) = seqs.ack(self.every) {
            self.due.push_back((place, seq));
        }
        order
    }

    fn place(&mut self, conv: &str) -> usize {
        if self.all.get(self.latest).is_some_and(|(name, _)| **name == *conv) {
            return self.latest;
        }
        self.latest = match self.places.get(conv) {
            Some(place) => *place,
            None => {
                self.places.insert(conv.into(), self.all.len());
                self.all.push((conv.into(), Seqs::default()));
                self.all.len() - 1
            }
        };
        self.latest
    }

    /// What is left is to be acknowledged, too.
    pub(super) fn acknowledge_all(&mut self) {
        for (place, (_, seqs)) in self.all.iter_mut().enumerate() {
            if let Some(seq) = seqs.ack(1) {
                self.due.push_back((place, seq));
            }
        }
    }

    /// The next acknowledgement to write.
    pub(super) fn next_ack(&mut self) -> Option<(&str, u64)> {
        let (place, seq) = self.due.pop_front()?;
        Some((&self.all[place].0, seq))
    }

    /// A new connection.
    pub(super) fn on_connected(&mut self) {
        self.due.clear();
        for (_, seqs) in &mut self.all {
            seqs.on_connected();
        }
    }
}

/// Which numbers have arrived.
#[derive(Debug, Default)]
pub(super) struct Seen {
    words: Vec<u64>,
    pub(super) count: u64,
}

impl Seen {
    /// Records the number; whether it is new.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(new);
        new
    }

    /// All numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.words.len() as u64 * 64).filter(|number| self.contains(*number))
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.words.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_repeats_are_told_apart() {
        use Order::{Gap, New, Redelivered, Twice};
        let mut seqs = Seqs::default();
        let orders: Vec<_> = [1, 2, 2, 4, 3, 5].into_iter().map(|seq| seqs.on_seq(seq)).collect();
        assert_eq!(orders, [New, New, Twice, Gap, Twice, New]);
        seqs.on_connected();
        let orders: Vec<_> = [2, 3, 5, 6, 6].into_iter().map(|seq| seqs.on_seq(seq)).collect();
        assert_eq!(orders, [Redelivered, Redelivered, Redelivered, New, Twice]);
        seqs.on_connected();
        assert_eq!(seqs.on_seq(8), Gap);
        assert_eq!(Seqs::default().on_seq(2), Gap, "a new conversation starts at 1");
    }

    #[test]
    fn acknowledgements_come_in_batches() {
        let mut seqs = Seqs::default();
        assert_eq!(seqs.ack(0), None);
        for seq in 1..=3 {
            seqs.on_seq(seq);
        }
        assert_eq!((seqs.ack(4), seqs.ack(3), seqs.ack(1)), (None, Some(3), None));
        seqs.on_connected();
        assert_eq!(seqs.ack(1), Some(3));
    }

    #[test]
    fn each_conversation_has_its_own_places_and_acknowledgements() {
        let mut convs = Convs::new(2).behind("room:r", 7);
        let heard = [("a", 1), ("b", 1), ("a", 2), ("room:r", 8), ("a", 3), ("b", 3)];
        let orders: Vec<_> = heard.into_iter().map(|(conv, seq)| convs.on_seq(conv, seq)).collect();
        assert_eq!(orders[..5], [Order::New; 5]);
        assert_eq!(orders[5], Order::Gap);
        let acks = |convs: &mut Convs| -> Vec<String> {
            std::iter::from_fn(|| convs.next_ack().map(|(conv, seq)| format!("{conv} {seq}"))).collect()
        };
        assert_eq!(acks(&mut convs), ["a 2", "room:r 8", "b 3"]);
        convs.acknowledge_all();
        assert_eq!(acks(&mut convs), ["a 3"]);
        let mut convs = Convs::new(1);
        for seq in 1..=3 {
            convs.on_seq("a", seq);
        }
        assert_eq!(acks(&mut convs).len(), 3, "each by itself");
    }

    #[test]
    fn numbers_are_counted_once() {
        let mut seen = Seen::default();
        assert!(seen.insert(0) && seen.insert(64) && seen.insert(1000));
        assert!(!seen.insert(64));
        assert_eq!(seen.iter().collect::<Vec<_>>(), [0, 64, 1000]);
        assert_eq!((seen.count, seen.contains(1000), seen.contains(999), seen.contains(9999)), (3, true, false, false));
    }
}
