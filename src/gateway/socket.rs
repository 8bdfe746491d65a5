//! The WebSocket under a session: frames in, frames out, in the session's encoding and with its reasons to close.
//!
//! Called by the greeting and the pump. The protocol itself is in [`super::websocket`].

use std::{
    borrow::Cow,
    task::{Context, Poll, Waker},
};

use tokio::net::TcpStream;

use super::{
    moved::moved,
    websocket::{Connection, End, Fault, Incoming},
};
use crate::{
    protocol::{CloseReason, Encoding},
    session::Moved,
};

/// Something from the peer.
#[derive(Debug)]
pub(super) enum Arrived<'a> {
    /// A data frame in the connection's encoding.
    Frame(Cow<'a, [u8]>),
    /// A data frame of the other kind: text where binary was agreed on, or the reverse.
    WrongKind,
    /// A ping, a pong, or a fragment of nothing: the peer lives.
    Control,
}

/// A connection after its upgrade.
#[derive(Debug)]
pub(super) struct Socket {
    connection: Connection,
    encoding: Encoding,
    /// Read by [`Socket::look_ahead`], for the next to ask; none once the session is there.
    ahead: Option<Box<Arrived<'static>>>,
}

impl Socket {
    /// Takes over an upgraded connection. `read_ahead` is what HTTP had read beyond its own end.
    pub(super) fn new(stream: TcpStream, read_ahead: &[u8], encoding: Encoding, most_frame: usize) -> Self {
        Self { connection: Connection::new(stream, read_ahead, most_frame), encoding, ahead: None }
    }

    /// Whose connection it is, for the log: behind a proxy the proxy's. Empty when it is gone already.
    pub(super) fn address(&self) -> String {
        self.connection.stream().peer_addr().map(|address| address.to_string()).unwrap_or_default()
    }

    /// How frames are written here.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes written that are not yet out.
    pub(super) fn waiting(&self) -> usize {
        self.connection.waiting()
    }

    /// How much of what was written the peer has taken.
    pub(super) fn moved(&self) -> Moved {
        moved(self.connection.stream())
    }

    /// The next frame; `Err` ends the connection. Whoever stops before this is pending calls [`Socket::rest`].
    pub(super) fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived<'_>, CloseReason>> {
        if let Some(arrived) = self.ahead.take() {
            return Poll::Ready(Ok(*arrived));
        }
        let encoding = self.encoding;
        self.connection.poll_next(cx).map(|next| next.map(|next| arrived(next, encoding)).map_err(reason_of))
    }

    /// No more is read for now.
    pub(super) fn rest(&mut self) {
        self.connection.rest();
    }

    /// The next frame; sends what waits meanwhile.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) async fn arrived(&mut self) -> Result<Arrived<'static>, CloseReason> {
        if let Some(arrived) = self.ahead.take() {
            return Ok(*arrived);
        }
        self.connection.next().await.map(|next| arrived(next, self.encoding)).map_err(reason_of)
    }

    /// Why the connection has ended already, if it has, without waiting: also where the peer closed it and nobody has
    /// read that yet.
    pub(super) fn look_ahead(&mut self) -> Option<CloseReason> {
        if self.ahead.is_some() {
            return None;
        }
        // Nothing is to be woken: whoever reads next asks with a waker of its own.
        let found = match self.poll_arrived(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(reason)) => return Some(reason),
            Poll::Ready(Ok(Arrived::Frame(frame))) => Some(Arrived::Frame(Cow::Owned(frame.into_owned()))),
            Poll::Ready(Ok(Arrived::WrongKind)) => Some(Arrived::WrongKind),
            Poll::Ready(Ok(Arrived::Control)) => Some(Arrived::Control),
            Poll::Pending => None,
        };
        self.ahead = found.map(Box::new);
        self.rest();
        None
    }

    /// Queues a frame; [`Socket::poll_flush`] sends it.
    pub(super) fn write(&mut self, frame: &[u8]) {
        match self.encoding {
            Encoding::Json => self.connection.text(frame),
            Encoding::MsgPack => self.connection.binary(frame),
        }
    }

    /// Queues a ping.
    pub(super) fn ping(&mut self) {
        self.connection.ping();
    }

    /// Says why and sends what waits, as long as the peer takes it. Also where the peer went first: the answer to its
    /// close frame waits.
    pub(super) async fn end(&mut self, reason: CloseReason) {
        if reason != CloseReason::Gone {
            self.connection.close(reason.code(), reason.text());
        }
        self.connection.finish().await;
    }

    /// Sends what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.connection.poll_flush(cx).map_err(|_| CloseReason::Gone)
    }
}

fn arrived(incoming: Incoming<'_>, encoding: Encoding) -> Arrived<'_> {
    match (incoming, encoding) {
        (Incoming::Text(bytes), Encoding::Json) | (Incoming::Binary(bytes), Encoding::MsgPack) => Arrived::Frame(bytes),
        (Incoming::Text(_) | Incoming::Binary(_), _) => Arrived::WrongKind,
        (Incoming::Control, _) => Arrived::Control,
    }
}

fn reason_of(end: End) -> CloseReason {
    match end {
        End::Gone | End::Closed => CloseReason::Gone,
        End::Fault(Fault::Protocol) => CloseReason::Protocol,
        End::Fault(Fault::NotUtf8) => CloseReason::NotUtf8,
        End::Fault(Fault::TooLarge) => CloseReason::FrameTooLarge,
    }
}
