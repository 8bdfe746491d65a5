//! What waits to be written. All frames of one poll go out in one system call, from the thread's buffer; what the peer
//! does not take stays here.
//!
//! Held by [`super::connection`]. Copied and not vectored: a usual frame is smaller than what the kernel does for one
//! more piece.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{io::AsyncWrite, net::TcpStream};

use super::{
    header::{Header, OpCode},
    lent::{self, LENT},
};

/// Frames that wait.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// So many of them are written.
    done: usize,
}

impl Outgoing {
    /// Bytes that are not written.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Queues a frame. What waits already goes out first where it would not fit in the buffer and the stream takes it.
    pub(super) fn put(&mut self, stream: &TcpStream, opcode: OpCode, payload: &[u8]) {
        if self.waiting() > 0 && self.waiting() + payload.len() > LENT {
            self.write_now(stream);
        }
        if self.bytes.capacity() == 0 {
            self.bytes = lent::take_to_write();
        }
        Header::write(opcode, payload.len(), &mut self.bytes);
        self.bytes.extend_from_slice(payload);
    }

    /// Writes without waiting. A failure shows again at the next write that waits.
    fn write_now(&mut self, stream: &TcpStream) {
        while self.waiting() > 0 {
            match stream.try_write(&self.bytes[self.done..]) {
                Ok(written @ 1..) => self.done += written,
                _ => break,
            }
        }
        if self.waiting() == 0 {
            self.bytes.clear();
            self.done = 0;
        } else if self.done * 2 >= self.bytes.len() {
            // Each byte is moved at most once for one that is gone.
            self.bytes.drain(..self.done);
            self.done = 0;
        }
    }

    /// Writes what waits.
    pub(super) fn poll_flush(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            match Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.done..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.done += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.keep_little();
                    return Poll::Pending;
                }
            }
        }
        self.done = 0;
        lent::give_back_write(std::mem::take(&mut self.bytes));
        Poll::Ready(Ok(()))
    }

    /// The peer is slow: what waits for it is held in no more than twice as much memory.
    fn keep_little(&mut self) {
        if self.bytes.capacity() > self.waiting() * 2 {
            let left = self.bytes[self.done..].to_vec();
            lent::give_back_write(std::mem::replace(&mut self.bytes, left));
            self.done = 0;
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }
}
