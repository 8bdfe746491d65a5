//! The node's side of the wire: addresses to connect to, and one connection with all the ways in which it can misbehave.
//! Called by the stage.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message as WsMessage,
        handshake::server::{Callback, ErrorResponse, Request, Response},
        http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

use super::{
    rules::{FRAMES, Fault},
    script::Way,
};
use crate::protocol::Encoding;

/// How long the other side may take for its part of a handshake.
const MOMENT: Duration = Duration::from_secs(20);
/// A client that reads nothing does not hold up its scenario for longer.
const WRITE: Duration = Duration::from_secs(10);
/// A slow way passes so many bytes …
const PIECE: usize = 16;
/// … in this time.
const PAUSE: Duration = Duration::from_millis(10);

/// The addresses of a scenario.
#[derive(Debug)]
pub(super) struct Listeners(Vec<TcpListener>);

impl Listeners {
    pub(super) async fn bind(count: usize) -> io::Result<Self> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        Ok(Self(all))
    }

    /// As `NATTER_URL` gives them to a client.
    pub(super) fn urls(&self) -> String {
        let addresses = self.0.iter().filter_map(|listener| listener.local_addr().ok());
        addresses.map(|address| format!("ws://{address}/v1/ws")).collect::<Vec<_>>().join(",")
    }

    /// The next connection, and at which address. Cancel safe.
    pub(super) async fn next(&self) -> (usize, TcpStream) {
        poll_fn(|cx| {
            for (address, listener) in self.0.iter().enumerate() {
                if let Poll::Ready(Ok((stream, _))) = listener.poll_accept(cx) {
                    return Poll::Ready((address, stream));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// What comes from the client.
#[derive(Debug)]
pub(super) enum Heard {
    Frame(Vec<u8>),
    Ping,
    Pong,
    /// The code; `None` where the socket just ended.
    Closed(Option<u16>),
}

/// A connection, from the node's side.
#[derive(Debug)]
pub(super) struct Wire {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
    /// The token of the request's header.
    pub bearer: Option<String>,
}

/// Takes what the client offers, if it is one subprotocol of the two.
struct Negotiate<'a>(&'a mut Result<Encoding, Fault>, &'a mut Option<String>);

impl Callback for Negotiate<'_> {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        *self.1 = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        let several = offered.is_some_and(|offered| offered.contains(','));
        let chosen = Encoding::negotiate(offered).filter(|_| !several);
        *self.0 = chosen.ok_or_else(|| Fault::new(2, format!("it offered the subprotocols {offered:?}")));
        if request.uri().path() != "/v1/ws" {
            *self.0 = Err(Fault::new(FRAMES, format!("it asked for {}, not for the path it was given", request.uri())));
        }
        if let (Some(encoding), Some(_)) = (chosen, offered)
            && let Ok(name) = encoding.subprotocol().parse()
        {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        Ok(response)
    }
}

impl Wire {
    /// Does the handshake.
    pub(super) async fn accept(stream: TcpStream) -> Result<Self, Fault> {
        let (mut encoding, mut bearer) = (Ok(Encoding::Json), None);
        let _ = stream.set_nodelay(true);
        let opened = timeout(MOMENT, accept_hdr_async(stream, Negotiate(&mut encoding, &mut bearer))).await;
        let socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(Fault::new(FRAMES, format!("its WebSocket handshake failed: {error}"))),
            Err(_) => return Err(Fault::new(FRAMES, "it connected and sent no WebSocket handshake")),
        };
        Ok(Self { socket, encoding: encoding?, bearer })
    }

    /// Answers the request for a WebSocket with an HTTP status.
    pub(super) async fn refuse(mut stream: TcpStream, status: u16) {
        read_request(&mut stream).await;
        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    /// Ends a connection in the middle of its handshake.
    pub(super) async fn hang_up(mut stream: TcpStream) {
        read_request(&mut stream).await;
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The next thing from the client. Cancel safe.
    pub(super) async fn heard(&mut self) -> Heard {
        loop {
            return match self.socket.next().await {
                Some(Ok(WsMessage::Text(text))) => Heard::Frame(text.as_bytes().to_vec()),
                Some(Ok(WsMessage::Binary(payload))) => Heard::Frame(payload.to_vec()),
                Some(Ok(WsMessage::Ping(_))) => Heard::Ping,
                Some(Ok(WsMessage::Pong(_))) => Heard::Pong,
                Some(Ok(WsMessage::Close(frame))) => Heard::Closed(frame.map(|frame| frame.code.into())),
                Some(Ok(WsMessage::Frame(_))) => continue,
                Some(Err(_)) | None => Heard::Closed(None),
            };
        }
    }

    async fn write(&mut self, message: WsMessage) {
        // A connection that is gone is noticed by reading.
        let _ = timeout(WRITE, self.socket.send(message)).await;
    }

    /// Says a frame.
    pub(super) async fn say(&mut self, frame: &Value, way: Way) {
        let payload = match self.encoding {
            Encoding::Json => frame.to_string().into_bytes(),
            Encoding::MsgPack => self.encoding.encode(frame).to_vec(),
        };
        let first = if self.encoding == Encoding::Json { Data::Text } else { Data::Binary };
        match way {
            Way::Whole => match String::from_utf8(payload) {
                Ok(text) if self.encoding == Encoding::Json => self.write(WsMessage::text(text)).await,
                Ok(text) => self.write(WsMessage::binary(text.into_bytes())).await,
                Err(error) => self.write(WsMessage::binary(error.into_bytes())).await,
            },
            Way::Fragments => self.say_in_fragments(&payload, first).await,
            Way::Slow => {
                let mut bytes = Vec::new();
                // Into memory it cannot fail.
                let _ = Frame::message(payload, OpCode::Data(first), true).format(&mut bytes);
                for piece in bytes.chunks(PIECE) {
                    self.bytes(piece).await;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn say_in_fragments(&mut self, payload: &[u8], first: Data) {
        let third = payload.len() / 3;
        let pieces = [&payload[..third], &payload[third..2 * third], &payload[2 * third..]];
        for (place, piece) in pieces.into_iter().enumerate() {
            let kind = if place == 0 { first } else { Data::Continue };
            self.write(WsMessage::Frame(Frame::message(piece.to_vec(), OpCode::Data(kind), place == 2))).await;
            if place < 2 {
                self.write(WsMessage::Ping(Vec::new().into())).await;
            }
        }
    }

    /// Says a text frame that need not be JSON.
    pub(super) async fn text(&mut self, text: &str) {
        self.write(WsMessage::text(text.to_owned())).await;
    }

    pub(super) async fn binary(&mut self, bytes: &[u8]) {
        self.write(WsMessage::binary(bytes.to_vec())).await;
    }

    /// Writes bytes past the WebSocket.
    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        let _ = timeout(WRITE, self.socket.get_mut().write_all(bytes)).await;
    }

    pub(super) async fn ping(&mut self) {
        self.write(WsMessage::Ping(b"natter".to_vec().into())).await;
    }

    /// Closes with a code, or without one, and waits for the client's word in the background.
    pub(super) async fn close(mut self, code: Option<u16>) {
        let frame = code.map(|code| CloseFrame { code: code.into(), reason: "by the scenario".into() });
        self.write(WsMessage::Close(frame)).await;
        tokio::spawn(async move {
            let _ = timeout(MOMENT, async { while self.socket.next().await.is_some_and(|next| next.is_ok()) {} }).await;
        });
    }

    /// Ends the connection without a close frame.
    pub(super) async fn cut(self) {
        let mut stream = self.socket.into_inner();
        let _ = stream.shutdown().await;
        // What the client still writes is read: else the system would say "reset", and that might pass what was written.
        tokio::spawn(async move {
            let mut rest = [0; 1024];
            let _ = timeout(MOMENT, async { while let Ok(1..) = stream.read(&mut rest).await {} }).await;
        });
    }

    /// Ends it with a reset.
    pub(super) fn reset(self) {
        let _ = self.socket.get_ref().set_zero_linger();
    }
}

/// All of a request, or the end of the connection would be a reset.
async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let read = async {
        while !request.ends_with(b"\r\n\r\n") && request.len() < 16 << 10 {
            let Ok(byte) = stream.read_u8().await else { return };
            request.push(byte);
        }
    };
    let _ = timeout(MOMENT, read).await;
}
