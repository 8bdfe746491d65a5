//! One buffer to read into and one to write from for each thread. A connection takes one while it is polled and gives
//! it back when nothing is left in it, so 100,000 idle connections share a handful of them.
//!
//! Taken by value, so a connection that keeps one, or panics with one, costs a buffer and confuses nobody: the next
//! finds none and makes another.

use std::cell::Cell;

/// Bytes of one buffer: dozens of usual frames in one system call, and it stays in the processor's cache.
pub(super) const LENT: usize = 16 << 10;

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer to read into: [`LENT`] bytes, of which none mean anything.
pub(super) fn take_to_read() -> Vec<u8> {
    let buffer = READ.take();
    if buffer.len() == LENT { buffer } else { vec![0; LENT] }
}

/// Gives back what was read into, whatever is in it. Buffers of other sizes go.
pub(super) fn give_back_read(buffer: Vec<u8>) {
    if buffer.len() == LENT {
        READ.set(buffer);
    }
}

/// A buffer to write from: empty.
pub(super) fn take_to_write() -> Vec<u8> {
    let buffer = WRITE.take();
    if buffer.capacity() == 0 { Vec::with_capacity(LENT) } else { buffer }
}

/// Gives back what was written from. Buffers that have grown go: somebody was sent a large page, and the next needs none.
pub(super) fn give_back_write(mut buffer: Vec<u8>) {
    buffer.clear();
    if buffer.capacity() == LENT {
        WRITE.set(buffer);
    }
}
