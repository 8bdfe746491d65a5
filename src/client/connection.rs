//! One socket: frames in and out in either encoding. It does not reconnect and remembers nothing of what was sent.
//! Called by the driver, the bench, and tests that must send what a proper client never would.
//!
//! Writing never waits: [`Connection::queue`] puts a frame into the buffer, and the owner of the connection flushes it
//! when there is nothing else to do. Several frames then share one system call, and a node that does not read cannot
//! keep its client from reading, which could deadlock both.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Error as WsError, Message as WsMessage, Utf8Bytes,
        client::IntoClientRequest,
        error::{ProtocolError, UrlError},
        handshake::client::Request,
        http::{HeaderValue, header},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    ConnectError,
    tls::{Authorities, dial, why_failed},
};
use crate::protocol::{Encoding, ServerFrame, client::Outgoing, server::Welcome};

/// The largest frame accepted from a node: a page of `history` with 200 of the largest bodies fits.
const MAX_FRAME: usize = 64 << 20;
/// How much may wait in the buffer before it is written without a flush.
const WRITE_BUFFER: usize = 32 << 10;

/// Where and how to open a connection.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `ws://host:port/v1/ws`, or `wss://host/v1/ws`.
    pub url: String,
    /// Whose certificates are accepted on `wss://`.
    pub authorities: Authorities,
    /// The subprotocol to ask for.
    pub encoding: Encoding,
    /// A token for the request's header, for clients that do not send it in `hello`.
    pub bearer: Option<String>,
    /// Bytes per read: large for throughput, small for many idle connections.
    pub read_buffer: usize,
}

impl Endpoint {
    /// An endpoint with a buffer for an ordinary client.
    pub fn new(url: impl Into<String>, encoding: Encoding) -> Self {
        Self { url: url.into(), authorities: Authorities::system(), encoding, bearer: None, read_buffer: 8 << 10 }
    }

    fn request(&self) -> Result<Request, ConnectError> {
        let mut request = self.url.as_str().into_client_request().map_err(|_| ConnectError::Url(self.url.clone()))?;
        let protocol = HeaderValue::from_static(self.encoding.subprotocol());
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        if let Some(token) = &self.bearer {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let value = value.map_err(|_| ConnectError::Token("it holds characters that no token has".into()))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// What comes from the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// One frame, not yet decoded.
    Frame(Bytes),
    /// The end. The code is 1006 when the socket ended without a close frame.
    Closed {
        /// The close code.
        code: u16,
        /// The node's words.
        reason: String,
    },
}

/// One socket to one node.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    encoding: Encoding,
    unflushed: bool,
    heard: u64,
    come_back: Option<Duration>,
}

impl Connection {
    /// Opens the socket. Sends nothing yet: `hello` is up to the caller.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(endpoint.read_buffer)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let request = endpoint.request()?;
        let connector = endpoint.authorities.connector(request.uri().scheme_str() == Some("wss"));
        let connector = connector.map_err(|reason| ConnectError::Tls { url: endpoint.url.clone(), reason })?;
        let opened = dial(request, config, connector).await;
        let (socket, _) = opened.map_err(|error| connect_error(&endpoint.url, error))?;
        Ok(Self { socket, encoding: endpoint.encoding, unflushed: false, heard: 0, come_back: None })
    }

    /// Sends `hello` and waits for `welcome`.
    ///
    /// # Errors
    /// The close, with the message of the preceding error frame if there was one.
    pub async fn hello(&mut self, hello: &Outgoing<'_>) -> Result<Welcome, ConnectError> {
        self.send(hello).await?;
        let mut words = None;
        loop {
            match self.next().await {
                Incoming::Frame(payload) => match ServerFrame::decode(self.encoding, &payload) {
                    Ok(ServerFrame::Welcome(welcome)) => return Ok(welcome),
                    Ok(ServerFrame::Error { message, .. }) => words = Some(message),
                    // The close that follows says why, in words.
                    Ok(ServerFrame::Goodbye { reconnect_ms, .. }) => {
                        self.come_back = Some(Duration::from_millis(reconnect_ms));
                    }
                    Ok(other) => return Err(ConnectError::Protocol(format!("{other:?} before welcome"))),
                    // A later node may have more to say.
                    Err(_) if is_frame(self.encoding, &payload) => {}
                    Err(error) => return Err(ConnectError::Protocol(error)),
                },
                Incoming::Closed { code, reason } => {
                    return Err(ConnectError::Closed { code, reason: words.unwrap_or(reason) });
                }
            }
        }
    }

    /// When to come back, where the node said so instead of `welcome`.
    pub fn come_back(&self) -> Option<Duration> {
        self.come_back
    }

    /// The encoding of this connection's frames.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Grows with everything that comes in, pings included: a connection on which it stops growing is dead.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether a frame may be queued. While this is pending, the socket takes no more.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.socket.poll_ready_unpin(cx).map_err(ConnectError::lost)
    }

    /// Puts a frame into the buffer.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn queue(&mut self, frame: &Outgoing<'_>) -> Result<(), ConnectError> {
        self.queue_raw(self.encoding.encode(frame))
    }

    /// Puts the bytes of a frame into the buffer, whatever they are.
    ///
    /// # Errors
    /// When the connection is gone, or the bytes are not UTF-8 on a JSON connection.
    pub fn queue_raw(&mut self, payload: Bytes) -> Result<(), ConnectError> {
        let message = match self.encoding {
            Encoding::Json => WsMessage::Text(Utf8Bytes::try_from(payload).map_err(ConnectError::lost)?),
            Encoding::MsgPack => WsMessage::Binary(payload),
        };
        self.unflushed = true;
        self.socket.start_send_unpin(message).map_err(ConnectError::lost)
    }

    /// Writes what is in the buffer.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        if self.unflushed {
            ready!(std::pin::Pin::new(&mut self.socket).poll_flush(cx)).map_err(ConnectError::lost)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes one frame and waits until the system has taken it.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, frame: &Outgoing<'_>) -> Result<(), ConnectError> {
        self.queue(frame)?;
        self.flush().await
    }

    /// Waits until the system has taken what is in the buffer.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn flush(&mut self) -> Result<(), ConnectError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The next frame or the end. Answers pings along the way.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            let next = ready!(self.socket.poll_next_unpin(cx));
            self.heard += 1;
            let incoming = match next {
                Some(Ok(WsMessage::Text(text))) => Incoming::Frame(text.into()),
                Some(Ok(WsMessage::Binary(payload))) => Incoming::Frame(payload),
                Some(Ok(WsMessage::Close(frame))) => closed(frame),
                Some(Ok(_)) => {
                    // tungstenite has put the pong into the buffer; it goes out with the next flush.
                    self.unflushed = true;
                    continue;
                }
                Some(Err(error)) => Incoming::Closed { code: 1006, reason: plain_words(&error) },
                None => Incoming::Closed { code: 1006, reason: "the connection ended".into() },
            };
            return Poll::Ready(incoming);
        }
    }

    /// The next frame or the end. Also writes what is in the buffer, if only pongs.
    pub async fn next(&mut self) -> Incoming {
        poll_fn(|cx| {
            if let Poll::Ready(incoming) = self.poll_next(cx) {
                return Poll::Ready(incoming);
            }
            match self.poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Incoming::Closed { code: 1006, reason: error.to_string() }),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// The next frame, decoded.
    ///
    /// # Errors
    /// The end, or a frame that cannot be read.
    pub async fn next_frame(&mut self) -> Result<ServerFrame, ConnectError> {
        match self.next().await {
            Incoming::Frame(payload) => ServerFrame::decode(self.encoding, &payload).map_err(ConnectError::Protocol),
            Incoming::Closed { code, reason } => Err(ConnectError::Closed { code, reason }),
        }
    }

    /// Says goodbye with code 1000 and flushes. Does not wait for the node to agree.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
        // A connection that is already gone counts as closed.
        let _ = self.socket.send(WsMessage::Close(Some(frame))).await;
    }
}

/// Whether it is a frame of the protocol at all, of whatever version.
fn is_frame(encoding: Encoding, payload: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Named {
        #[allow(dead_code, reason = "that it is there is enough")]
        op: String,
    }
    encoding.decode::<Named>(payload).is_ok()
}

fn closed(frame: Option<CloseFrame>) -> Incoming {
    frame.map_or(Incoming::Closed { code: 1005, reason: String::new() }, |frame| Incoming::Closed {
        code: frame.code.into(),
        reason: frame.reason.as_str().to_owned(),
    })
}

fn plain_words(error: &WsError) -> String {
    match error {
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => "the connection ended".into(),
        other => other.to_string(),
    }
}

fn connect_error(url: &str, error: WsError) -> ConnectError {
    let url = url.to_owned();
    match error {
        WsError::Http(response) => ConnectError::Http { url, status: response.status().as_u16() },
        WsError::Url(UrlError::UnableToConnect(reason)) => ConnectError::Unreachable { url, reason },
        WsError::Url(_) => ConnectError::Url(url),
        WsError::Io(error) => match why_failed(&error) {
            Some(reason) => ConnectError::Tls { url, reason },
            None => ConnectError::Unreachable { url, reason: error.to_string() },
        },
        // It ended before the handshake did: a node that stops, or a proxy that has none.
        WsError::ConnectionClosed | WsError::AlreadyClosed => {
            ConnectError::Unreachable { url, reason: "it hung up".into() }
        }
        WsError::Protocol(ProtocolError::HandshakeIncomplete | ProtocolError::ResetWithoutClosingHandshake) => {
            ConnectError::Unreachable { url, reason: "it hung up during the handshake".into() }
        }
        other => ConnectError::Protocol(other.to_string()),
    }
}
