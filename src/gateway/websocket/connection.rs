//! A WebSocket on a TCP stream, after its handshake: messages in, messages out, pings answered, both sides of the
//! closing handshake. Polled by hand by whoever owns it; it has no task of its own.
//!
//! Used by [`super::super::socket`]; by itself it is an echo server's all, which is how its conformance is tested.

use std::{
    borrow::Cow,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Fault,
    decoder::{Decoder, Event, Payload},
    header::{MOST_CONTROL, OpCode},
    lent::LENT,
    outgoing::Outgoing,
    unread::Unread,
};

/// How long a peer has to take the close frame, and what waits before it.
const CLOSING: Duration = Duration::from_secs(2);
/// How long a peer that has it may take to end the connection from its side.
const LINGER: Duration = Duration::from_secs(1);

/// Something whole from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message: UTF-8.
    Text(Cow<'a, [u8]>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// A ping, whose answer is queued, a pong, or a fragment of nothing: the peer lives.
    Control,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The stream ended.
    Gone,
    /// The peer closed, and its answer is queued.
    Closed,
    /// The peer broke the protocol: it is to be closed with this.
    Fault(Fault),
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    unread: Unread,
    outgoing: Outgoing,
    /// A close frame is queued: nothing goes after it.
    is_closing: bool,
}

impl Connection {
    /// Takes over a stream after the handshake, with messages of at most `most` bytes. `read_ahead` was read beyond
    /// the handshake; it is copied, because it is a slice of a large buffer.
    pub fn new(stream: TcpStream, read_ahead: &[u8], most: usize) -> Self {
        let (decoder, unread) = (Decoder::new(most), Unread::of(read_ahead));
        Self { stream, decoder, unread, outgoing: Outgoing::default(), is_closing: false }
    }

    /// The stream, to ask it about itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Bytes that the stream has not taken.
    pub fn waiting(&self) -> usize {
        self.outgoing.waiting()
    }

    /// The next that is whole. Whoever stops before this is pending says so with [`Connection::rest`].
    ///
    /// # Errors
    /// Why nothing more comes.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming<'_>, End>> {
        if self.is_closing {
            return Poll::Ready(Err(End::Closed));
        }
        let (used, event) = loop {
            match self.decoder.next(self.unread.waiting()) {
                Ok((used, event)) => {
                    self.unread.advance(used);
                    if let Some(event) = event {
                        break (used, event);
                    }
                }
                Err(fault) => return Poll::Ready(Err(End::Fault(fault))),
            }
            match ready!(self.unread.poll_fill(&mut self.stream, cx)) {
                Ok(1..) => {}
                _ => return Poll::Ready(Err(End::Gone)),
            }
        };
        Poll::Ready(self.on_event(used, event))
    }

    /// `used` bytes before the first that waits are those of the event.
    fn on_event(&mut self, used: usize, event: Event) -> Result<Incoming<'_>, End> {
        let Self { stream, unread, outgoing, is_closing, .. } = self;
        let at = |payload| match payload {
            Payload::At(range) => Cow::Borrowed(unread.before(used - range.start, range.len())),
            Payload::Whole(bytes) => Cow::Owned(bytes),
        };
        Ok(match event {
            Event::Text(payload) => Incoming::Text(at(payload)),
            Event::Binary(payload) => Incoming::Binary(at(payload)),
            Event::Pong | Event::Nothing => Incoming::Control,
            Event::Ping(payload) => {
                outgoing.put(stream, OpCode::Pong, &at(payload));
                Incoming::Control
            }
            Event::Close(code) => {
                // Without an answer browsers report an unclean end.
                let code = code.map(u16::to_be_bytes);
                outgoing.put(stream, OpCode::Close, code.as_ref().map_or(&[], |code| code));
                *is_closing = true;
                return Err(End::Closed);
            }
        })
    }

    /// Reads no more for now: what was read and not looked at is kept, and the thread has its buffer back.
    pub fn rest(&mut self) {
        self.unread.rest();
    }

    /// The next that is whole; sends what waits meanwhile. Where the peer takes nothing no more is read either, or the
    /// answers to its pings would pile up.
    ///
    /// # Errors
    /// Why nothing more comes.
    pub async fn next(&mut self) -> Result<Incoming<'static>, End> {
        poll_fn(|cx| {
            match self.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending if self.waiting() > LENT => return Poll::Pending,
                _ => {}
            }
            let polled = self.poll_next(cx).map_ok(Incoming::into_owned);
            self.rest();
            polled
        })
        .await
    }

    /// Queues a text message, which the caller knows to be UTF-8.
    pub fn text(&mut self, text: &[u8]) {
        debug_assert!(std::str::from_utf8(text).is_ok(), "a text message is UTF-8");
        self.put(OpCode::Text, text);
    }

    /// Queues a binary message.
    pub fn binary(&mut self, bytes: &[u8]) {
        self.put(OpCode::Binary, bytes);
    }

    /// Queues a ping.
    pub fn ping(&mut self) {
        self.put(OpCode::Ping, &[]);
    }

    /// Queues the closing handshake.
    pub fn close(&mut self, code: u16, reason: &'static str) {
        debug_assert!(reason.len() as u64 + 2 <= MOST_CONTROL, "too long for a close frame: {reason}");
        self.put(OpCode::Close, &[&code.to_be_bytes(), reason.as_bytes()].concat());
        self.is_closing = true;
    }

    fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        if !self.is_closing {
            self.outgoing.put(&self.stream, opcode, payload);
        }
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// When the stream is broken.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_flush(&mut self.stream, cx)
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// When the stream is broken.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends what waits, the close frame last, and ends the stream; takes as long as the peer, up to a limit.
    pub async fn finish(&mut self) {
        if let Ok(Ok(())) = timeout(CLOSING, self.flush()).await {
            let _ = timeout(LINGER, self.linger()).await;
        }
    }

    /// Reads and forgets what the peer still sends until it ends the connection too. A socket that is closed with
    /// input unread is reset, and a reset takes back what the peer has not read: it would see 1006 and not the code.
    async fn linger(&mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut forgotten = vec![0; 4096];
        while let Ok(1..) = self.stream.read(&mut forgotten).await {}
    }

    /// Bytes on the heap, without the stream's.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.unread.held() + self.outgoing.held() + self.decoder.held()
    }
}

impl Incoming<'_> {
    /// The same with bytes of its own.
    fn into_owned(self) -> Incoming<'static> {
        match self {
            Incoming::Text(bytes) => Incoming::Text(Cow::Owned(bytes.into_owned())),
            Incoming::Binary(bytes) => Incoming::Binary(Cow::Owned(bytes.into_owned())),
            Incoming::Control => Incoming::Control,
        }
    }
}

#[cfg(test)]
mod tests;
