//! The WebSocket under a session: frames in, frames out, and how much of what was written still waits. The only
//! file that knows which library speaks the protocol.
//!
//! Called by the greeting and the pump. Small buffers: tungstenite zero-fills and keeps its read buffer, which is
//! most of what an idle connection costs (measured: 128 KiB by default, about 1.5 KB in all like this).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{
    Error, Message as WsMessage,
    error::{CapacityError, ProtocolError},
    protocol::{CloseFrame, Role, WebSocketConfig, frame::Utf8Bytes},
};

use super::moved::moved;
use crate::{
    protocol::{CloseReason, Encoding},
    session::Moved,
};

/// Frames are written out at the latest when so many bytes wait.
const WRITE_BUFFER: usize = 16 << 10;
const READ_BUFFER: usize = 512;
/// How long a peer has to take the close frame.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(2);

/// How long a peer that was told the reason may take to end the connection from its side.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

/// Something from the peer.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A data frame in the connection's encoding.
    Frame(Bytes),
    /// A data frame of the other kind: text where binary was agreed on, or the reverse.
    WrongKind,
    /// A ping or a pong: the peer lives.
    Control,
}

/// A connection after its upgrade.
#[derive(Debug)]
pub(super) struct Socket {
    stream: WebSocketStream<TcpStream>,
    encoding: Encoding,
    /// Read by [`Socket::look_ahead`], for the next [`Socket::poll_arrived`].
    ahead: Option<Arrived>,
    /// Bytes given to the library since it last said that all are out.
    waiting: usize,
}

impl Socket {
    /// Takes over an upgraded connection. `read_ahead` is what HTTP had read beyond its own end.
    pub(super) async fn accept(stream: TcpStream, read_ahead: Bytes, encoding: Encoding, most_frame: usize) -> Self {
        // A copy of exactly these bytes: as they are they would keep hyper's whole read buffer (8 KB) for life.
        let read_ahead = read_ahead.to_vec();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(most_frame))
            .max_frame_size(Some(most_frame));
        let stream = WebSocketStream::from_partially_read(stream, read_ahead, Role::Server, Some(config)).await;
        Self { stream, encoding, ahead: None, waiting: 0 }
    }

    /// Whose connection it is, for the log: behind a proxy the proxy's. Empty when it is gone already.
    pub(super) fn address(&self) -> String {
        self.stream.get_ref().peer_addr().map(|address| address.to_string()).unwrap_or_default()
    }

    /// How frames are written here.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes written that are not yet out.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How much of what was written the peer has taken.
    pub(super) fn moved(&self) -> Moved {
        moved(self.stream.get_ref())
    }

    /// The next frame; `Err` ends the connection.
    pub(super) fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived, CloseReason>> {
        if let Some(arrived) = self.ahead.take() {
            return Poll::Ready(Ok(arrived));
        }
        let message = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            None => return Poll::Ready(Err(CloseReason::Gone)),
            Some(Err(error)) => return Poll::Ready(Err(reason_of(&error))),
            Some(Ok(message)) => message,
        };
        Poll::Ready(Ok(match (message, self.encoding) {
            (WsMessage::Text(text), Encoding::Json) => Arrived::Frame(text.into()),
            (WsMessage::Binary(bytes), Encoding::MsgPack) => Arrived::Frame(bytes),
            (WsMessage::Text(_) | WsMessage::Binary(_), _) => Arrived::WrongKind,
            (WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_), _) => Arrived::Control,
            (WsMessage::Close(_), _) => {
                // The library has put its answer into the buffer; without it browsers report an unclean end.
                self.waiting += 1;
                return Poll::Ready(Err(CloseReason::Gone));
            }
        }))
    }

    /// The next frame.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) async fn arrived(&mut self) -> Result<Arrived, CloseReason> {
        std::future::poll_fn(|cx| self.poll_arrived(cx)).await
    }

    /// Why the connection has ended already, if it has, without waiting: also where the peer closed it and nobody has
    /// read that yet.
    pub(super) fn look_ahead(&mut self) -> Option<CloseReason> {
        // Nothing is to be woken: whoever reads next asks with a waker of its own.
        match self.poll_arrived(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(Err(reason)) => Some(reason),
            Poll::Ready(Ok(arrived)) => {
                self.ahead = Some(arrived);
                None
            }
            Poll::Pending => None,
        }
    }

    /// Queues a frame; [`Socket::poll_flush`] sends it.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn write(&mut self, frame: Bytes) -> Result<(), CloseReason> {
        let message = match self.encoding {
            // JSON is UTF-8, but the library has no way to take that on trust.
            Encoding::Json => match Utf8Bytes::try_from(frame) {
                Ok(text) => WsMessage::Text(text),
                Err(_) => return Err(CloseReason::Gone),
            },
            Encoding::MsgPack => WsMessage::Binary(frame),
        };
        self.put(message)
    }

    /// Queues a ping.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn ping(&mut self) -> Result<(), CloseReason> {
        self.put(WsMessage::Ping(Bytes::new()))
    }

    /// Queues the closing handshake.
    fn close(&mut self, reason: CloseReason) {
        let frame = CloseFrame { code: reason.code().into(), reason: Utf8Bytes::from_static(reason.text()) };
        let _ = self.put(WsMessage::Close(Some(frame)));
    }

    /// Says why and sends what waits, as long as that takes no longer than [`CLOSING`]. Also where the peer went
    /// first: the answer to its close frame waits.
    pub(super) async fn end(&mut self, reason: CloseReason) {
        if reason == CloseReason::Gone {
            let _ = tokio::time::timeout(CLOSING, self.flush()).await;
            return;
        }
        self.close(reason);
        if let Ok(Ok(())) = tokio::time::timeout(CLOSING, self.flush()).await {
            let _ = tokio::time::timeout(LINGER, self.linger()).await;
        }
    }

    /// Reads and forgets what the peer still sends until it ends the connection too. A socket that is closed with
    /// input unread is reset, and a reset takes back what the peer has not read: it would see 1006 and not the code.
    async fn linger(&mut self) {
        let stream = self.stream.get_mut();
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut forgotten = vec![0; 4096];
        while let Ok(1..) = stream.read(&mut forgotten).await {}
    }

    fn put(&mut self, message: WsMessage) -> Result<(), CloseReason> {
        self.waiting += message.len() + 8;
        Pin::new(&mut self.stream).start_send(message).map_err(|error| reason_of(&error))
    }

    /// Sends what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.waiting == 0 {
            return Poll::Ready(Ok(()));
        }
        let done = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.waiting = 0;
        Poll::Ready(done.map_err(|error| reason_of(&error)))
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) async fn flush(&mut self) -> Result<(), CloseReason> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }
}

fn reason_of(error: &Error) -> CloseReason {
    match error {
        Error::Utf8(_) => CloseReason::NotUtf8,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseReason::FrameTooLarge,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseReason::Gone,
        Error::Protocol(_) => CloseReason::Protocol,
        _ => CloseReason::Gone,
    }
}
