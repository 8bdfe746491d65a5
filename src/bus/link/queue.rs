//! What waits to be written: ops in their wire form, in pieces of which each becomes one write. Called by
//! [`super::state`].

use std::collections::VecDeque;

use super::{
    codec::{PUB_COST, encode},
    ops::ClientOp,
};

/// The size of a piece, unless one op alone is larger: what a socket takes at once.
const PIECE: usize = 64 << 10;

/// Ops in the order in which they go out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Vec<u8>>,
    waiting: usize,
    /// The size of the piece that was taken and is being written.
    taken: usize,
    /// The memory of a piece that was written.
    spare: Vec<u8>,
}

impl Queue {
    /// Appends an op.
    pub(super) fn push(&mut self, op: &ClientOp<'_>) {
        let room = PIECE.saturating_sub(self.pieces.back().map_or(PIECE, Vec::len));
        if most(op) > room {
            self.pieces.push_back(std::mem::take(&mut self.spare));
        }
        if let Some(piece) = self.pieces.back_mut() {
            let before = piece.len();
            encode(op, piece);
            self.waiting += piece.len() - before;
        }
    }

    /// The next piece to write; `spent` is the one before it, whose memory is used again.
    pub(super) fn take(&mut self, mut spent: Vec<u8>) -> Option<Vec<u8>> {
        self.taken = 0;
        if (1..=PIECE).contains(&spent.capacity()) {
            spent.clear();
            self.spare = spent;
        }
        let piece = self.pieces.pop_front()?;
        self.taken = piece.len();
        self.waiting -= piece.len();
        Some(piece)
    }

    /// Bytes that are not written yet.
    pub(super) fn bytes(&self) -> usize {
        self.waiting + self.taken
    }

    /// Forgets everything: the connection it was for is gone.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The most bytes that an op takes; commands without texts of their own are far below a piece.
fn most(op: &ClientOp<'_>) -> usize {
    match op {
        ClientOp::Pub { subject, reply, payload } => {
            PUB_COST + subject.len() + reply.map_or(0, str::len) + payload.len()
        }
        ClientOp::Sub { filter, .. } => PUB_COST + filter.len(),
        _ => PUB_COST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(queue: &mut Queue, payload: &[u8]) {
        queue.push(&ClientOp::Pub { subject: "a", reply: None, payload });
    }

    #[test]
    fn what_waits_goes_out_together_and_in_order() {
        let mut queue = Queue::default();
        for number in 0..1_000 {
            publish(&mut queue, number.to_string().as_bytes());
        }
        queue.push(&ClientOp::Ping);
        let bytes = queue.bytes();
        let piece = queue.take(Vec::new()).unwrap();
        assert_eq!((piece.len(), queue.bytes()), (bytes, bytes), "what is being written waits as well");
        let text = String::from_utf8(piece.clone()).unwrap();
        assert!(text.starts_with("PUB a 1\r\n0\r\nPUB a 1\r\n1\r\n") && text.ends_with("PUB a 3\r\n999\r\nPING\r\n"));
        assert_eq!((queue.take(piece), queue.bytes()), (None, 0));
    }

    #[test]
    fn pieces_are_bounded_and_their_memory_is_used_again() {
        let mut queue = Queue::default();
        for _ in 0..10 {
            publish(&mut queue, &[7; 20_000]);
        }
        publish(&mut queue, &[7; 200_000]);
        publish(&mut queue, b"x");
        let (mut spent, mut sizes) = (Vec::new(), Vec::new());
        while let Some(piece) = queue.take(spent) {
            sizes.push(piece.len());
            spent = piece;
        }
        assert!(sizes.iter().filter(|size| **size > PIECE).count() == 1 && sizes.len() == 6, "{sizes:?}");
        assert!(queue.spare.capacity() <= PIECE, "the large piece is kept");
        queue.clear();
        assert_eq!((queue.bytes(), queue.take(Vec::new())), (0, None));
    }
}
