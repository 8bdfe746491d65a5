//! What was read from a stream and is not decoded yet: most of the time nothing, during a poll the thread's buffer, and
//! between polls a copy of what its reader left, to the byte. Held by [`super::connection`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::lent;

/// Bytes that wait to be decoded.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    at: u32,
    end: u32,
}

impl Unread {
    /// A copy of these.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, end: bytes.len() as u32 }
    }

    /// What waits.
    pub(super) fn waiting(&mut self) -> &mut [u8] {
        &mut self.bytes[self.at as usize..self.end as usize]
    }

    /// The first `used` bytes are done. They can be looked at until more is read.
    pub(super) fn advance(&mut self, used: usize) {
        self.at += used as u32;
    }

    /// Bytes that ended so far before the first one that waits.
    pub(super) fn before(&self, back: usize, len: usize) -> &[u8] {
        let start = self.at as usize - back;
        &self.bytes[start..start + len]
    }

    /// Reads, when nothing waits; 0 at the end of the stream.
    pub(super) fn poll_fill(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.at, self.end, "what waits would be lost");
        self.release();
        let mut buffer = lent::take_to_read();
        let mut into = ReadBuf::new(&mut buffer);
        let polled = Pin::new(stream).poll_read(cx, &mut into);
        let read = into.filled().len();
        if read == 0 {
            lent::give_back_read(buffer);
        } else {
            (self.bytes, self.at, self.end) = (buffer, 0, read as u32);
        }
        polled.map_ok(|()| read)
    }

    /// The poll is over: keeps what waits, and no more than that.
    pub(super) fn rest(&mut self) {
        if self.at == self.end {
            self.release();
        } else if self.bytes.len() == lent::LENT {
            let left = Self::of(self.waiting());
            self.release();
            *self = left;
        }
    }

    fn release(&mut self) {
        lent::give_back_read(std::mem::take(self).bytes);
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }
}
