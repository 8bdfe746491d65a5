//! The messages of one append and what has been decided about each. No I/O: the append feeds it.

use std::collections::HashMap;

use crate::{
    model::{Cid, NewMessage, Seq, UserId, moves_mark},
    store::{Appended, StoreError, StoreResult},
};

/// Messages per conditional batch; each is two rows.
const MAX_ROWS: usize = 64;
/// Bytes of bodies per conditional batch: it travels through every replica three times.
const MAX_BYTES: usize = 256 * 1024;

/// What identifies a message in its conversation, and the `cid_key` of its cid row. A sender's name has no '/'.
pub(super) fn key_of(sender: &UserId, cid: &Cid) -> String {
    format!("{sender}/{cid}")
}

struct Item {
    message: NewMessage,
    key: String,
    decided: Option<StoreResult<Appended>>,
}

/// Where an answer comes from: the item with the message's (sender, cid).
struct Slot {
    item: usize,
    /// The first with its key, or an exact copy of it.
    same_body: bool,
    repeated: bool,
}

/// One append: its distinct messages in order, and for each message of the batch, which of them it is.
pub(super) struct Work {
    items: Vec<Item>,
    slots: Vec<Slot>,
}

impl Work {
    pub(super) fn new(batch: Vec<NewMessage>) -> Self {
        let mut work = Self { items: Vec::with_capacity(batch.len()), slots: Vec::with_capacity(batch.len()) };
        let mut known = HashMap::new();
        for message in batch {
            let key = key_of(&message.sender, &message.cid);
            if let Some(&item) = known.get(&key) {
                let first: &Item = &work.items[item];
                work.slots.push(Slot { item, same_body: first.message.body == message.body, repeated: true });
            } else {
                let item = work.items.len();
                known.insert(key.clone(), item);
                work.slots.push(Slot { item, same_body: true, repeated: false });
                work.items.push(Item { message, key, decided: None });
            }
        }
        work
    }

    /// The next messages to insert, at most `room`, within the caps of a batch.
    pub(super) fn chunk(&self, room: usize) -> Vec<usize> {
        let mut bytes = 0;
        self.undecided()
            .take(room.min(MAX_ROWS))
            .take_while(|item| {
                let fits = bytes == 0 || bytes + self.message(*item).body.size() <= MAX_BYTES;
                bytes += self.message(*item).body.size();
                fits
            })
            .collect()
    }

    pub(super) fn undecided(&self) -> impl Iterator<Item = usize> {
        (0..self.items.len()).filter(|item| self.items[*item].decided.is_none())
    }

    /// The undecided message that has this key.
    pub(super) fn undecided_with(&self, key: &str) -> Option<usize> {
        self.undecided().find(|item| self.items[*item].key == key)
    }

    pub(super) fn message(&self, item: usize) -> &NewMessage {
        &self.items[item].message
    }

    pub(super) fn key(&self, item: usize) -> &str {
        &self.items[item].key
    }

    pub(super) fn decide(&mut self, item: usize, answer: StoreResult<Appended>) {
        self.items[item].decided = Some(answer);
    }

    /// The highest seq given to each sender.
    pub(super) fn highest_by_sender(&self) -> Vec<(UserId, Seq)> {
        let mut highest: Vec<(UserId, Seq)> = Vec::new();
        for item in &self.items {
            let Some(Ok(appended)) = &item.decided else { continue };
            match highest.iter_mut().find(|(sender, _)| *sender == item.message.sender) {
                Some((_, seq)) => *seq = appended.seq.max(*seq),
                None => highest.push((item.message.sender.clone(), appended.seq)),
            }
        }
        highest
    }

    /// How far each sender's read mark moves: to the last of its messages below which nothing was kept from it.
    pub(super) fn marks_by_sender(&self) -> Vec<(UserId, Seq)> {
        let mut decided: Vec<(&NewMessage, Seq)> = Vec::new();
        for item in &self.items {
            if let Some(Ok(appended)) = &item.decided {
                decided.push((&item.message, appended.seq));
            }
        }
        decided.sort_by_key(|(_, seq)| *seq);
        let mut marks: Vec<(UserId, Seq)> = Vec::new();
        for (message, seq) in decided {
            let known = marks.iter_mut().find(|(sender, _)| *sender == message.sender);
            match known {
                Some((_, mark)) if moves_mark(seq, message.read_upto, *mark) => *mark = seq,
                None if moves_mark(seq, message.read_upto, 0) => marks.push((message.sender.clone(), seq)),
                _ => {}
            }
        }
        marks
    }

    /// Replaces every `Ok` answer: the heads could not be raised, so nothing may be answered `sent`.
    pub(super) fn withdraw(&mut self, error: &StoreError) {
        for item in &mut self.items {
            if matches!(item.decided, Some(Ok(_))) {
                item.decided = Some(Err(error.clone()));
            }
        }
    }

    /// An answer for each message of the batch; `otherwise` for those never decided.
    pub(super) fn answers(self, otherwise: &StoreError) -> Vec<StoreResult<Appended>> {
        let answer = |slot: &Slot| {
            let decided = self.items[slot.item].decided.clone().unwrap_or_else(|| Err(otherwise.clone()));
            match decided {
                Ok(appended) if !slot.same_body => Err(StoreError::CidReused { seq: appended.seq }),
                Ok(appended) if slot.repeated => Ok(Appended { fresh: false, ..appended }),
                decided => decided,
            }
        };
        self.slots.iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Body;

    fn message(cid: &str, body: &str) -> NewMessage {
        let (sender, cid) = (UserId::new("alice").unwrap(), Cid::new(cid).unwrap());
        NewMessage { sender, cid, ts: 1, body: Body::text(body), read_upto: 0 }
    }

    #[test]
    fn repeated_cids_share_a_seq_and_other_bodies_are_refused() {
        let mut work = Work::new(vec![message("x", "1"), message("y", "2"), message("x", "1"), message("x", "3")]);
        assert_eq!(work.chunk(10), [0, 1]);
        work.decide(0, Ok(Appended { seq: 7, ts: 1, fresh: true }));
        let down = StoreError::unavailable("down");
        let answers = work.answers(&down);
        assert_eq!(answers[0], Ok(Appended { seq: 7, ts: 1, fresh: true }));
        assert_eq!(answers[1], Err(down));
        assert_eq!(answers[2], Ok(Appended { seq: 7, ts: 1, fresh: false }));
        assert_eq!(answers[3], Err(StoreError::CidReused { seq: 7 }));
    }

    #[test]
    fn chunks_keep_to_room_rows_and_bytes() {
        let big = "x".repeat(MAX_BYTES);
        let many = (0..100).map(|n| message(&n.to_string(), "x")).collect();
        let work = Work::new(many);
        assert_eq!(work.chunk(3).len(), 3);
        assert_eq!(work.chunk(usize::MAX).len(), MAX_ROWS);
        let work = Work::new(vec![message("a", &big), message("b", "x")]);
        assert_eq!(work.chunk(9), [0], "one message always fits");
    }
}
