//! A listener that speaks the protocol exactly as the test scripts it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message as WsMessage, Utf8Bytes,
        handshake::server::{Callback, ErrorResponse, Request as HttpRequest, Response},
        http::header::SEC_WEBSOCKET_PROTOCOL,
        protocol::CloseFrame,
    },
};

use super::conv;
use crate::{
    client::{Client, ClientOptions, Pace},
    model::{DeviceId, Seq, SessionId, UserId},
    protocol::{
        Ask, Body, ClientFrame, CloseReason, Encoding, ErrorCode, Message, Request, ServerFrame, ask,
        server::{Limits, Signal, Welcome},
    },
};

const LONG: Duration = Duration::from_secs(10);

pub(super) struct Node {
    listener: TcpListener,
    url: String,
}

/// One accepted connection, from the node's side.
pub(super) struct Peer {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
    pub(super) attempt: u64,
    pub(super) token: String,
    pub(super) since: Option<String>,
}

/// Takes the first subprotocol that is asked for.
struct Negotiate<'a>(&'a mut Encoding);

impl Callback for Negotiate<'_> {
    fn on_request(self, request: &HttpRequest, mut response: Response) -> Result<Response, ErrorResponse> {
        let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        *self.0 = Encoding::negotiate(offered).unwrap();
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, self.0.subprotocol().parse().unwrap());
        Ok(response)
    }
}

pub(super) fn signal() -> Signal {
    Signal { conv: None, from: UserId::new("bob").unwrap(), kind: "typing".into(), body: None }
}

impl Node {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/v1/ws", listener.local_addr().unwrap());
        Self { listener, url }
    }

    pub(super) fn options(&self) -> ClientOptions {
        let ms = Duration::from_millis;
        let pace = Pace { reconnect: ms(100), reconnect_most: ms(10_000), gather: ms(5) };
        ClientOptions { pace, ..ClientOptions::new(&self.url, "t", "laptop") }
    }

    pub(super) async fn connect(&self) -> (Client, Peer) {
        let (client, peer) = tokio::join!(Client::connect(self.options()), self.accept());
        (client.unwrap(), peer)
    }

    /// Accepts a connection, reads its hello and says nothing.
    pub(super) async fn accept_silently(&self) -> Peer {
        let (stream, _) = timeout(LONG, self.listener.accept()).await.expect("nobody connects").unwrap();
        let mut encoding = Encoding::Json;
        let socket = accept_hdr_async(stream, Negotiate(&mut encoding)).await.unwrap();
        let mut peer = Peer { socket, encoding, attempt: 0, token: String::new(), since: None };
        let ClientFrame::Hello(hello) = peer.recv().await.frame else { panic!("no hello") };
        (peer.attempt, peer.token) = (hello.attempt, hello.token.unwrap());
        peer.since = hello.since.map(Into::into);
        peer
    }

    /// Accepts a connection and hangs up during the handshake: at once, or in the middle of its answer.
    pub(super) async fn hang_up(&self, in_the_answer: bool) {
        let (mut stream, _) = timeout(LONG, self.listener.accept()).await.expect("nobody connects").unwrap();
        // All of the request, or the end would be a reset.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        if in_the_answer {
            stream.write_all(b"HTTP/1.1 101 Switching").await.unwrap();
        }
    }

    /// Accepts a connection and welcomes it.
    pub(super) async fn accept(&self) -> Peer {
        let mut peer = self.accept_silently().await;
        let welcome = Welcome {
            reference: None,
            user: UserId::new("alice").unwrap(),
            device: DeviceId::new("laptop").unwrap(),
            session: SessionId::random(),
            new: false,
            node: "script".into(),
            ts: 0,
            exp: 0,
            ping_secs: 25,
            limits: Limits { body: 65_536, window: 256 },
        };
        peer.say(&ServerFrame::Welcome(welcome)).await;
        peer.say(&ServerFrame::CaughtUp { since: None }).await;
        peer
    }
}

impl Peer {
    pub(super) async fn recv(&mut self) -> Request {
        loop {
            match timeout(LONG, self.socket.next()).await.expect("the client says nothing").unwrap().unwrap() {
                WsMessage::Text(text) => return Request::decode(self.encoding, text.as_bytes()).unwrap(),
                WsMessage::Binary(payload) => return Request::decode(self.encoding, &payload).unwrap(),
                WsMessage::Ping(_) | WsMessage::Pong(_) => {}
                other => panic!("{other:?} instead of a frame"),
            }
        }
    }

    /// The code with which the client closes.
    pub(super) async fn closed(&mut self) -> u16 {
        match timeout(LONG, self.socket.next()).await.unwrap().unwrap().unwrap() {
            WsMessage::Close(frame) => frame.unwrap().code.into(),
            other => panic!("{other:?} instead of a close"),
        }
    }

    pub(super) async fn say(&mut self, frame: &ServerFrame) {
        let payload = self.encoding.encode(frame);
        let message = match self.encoding {
            Encoding::Json => WsMessage::Text(Utf8Bytes::try_from(payload).unwrap()),
            Encoding::MsgPack => WsMessage::Binary(payload),
        };
        self.socket.send(message).await.unwrap();
    }

    pub(super) async fn sent(&mut self, reference: u64, seq: Seq) {
        self.say(&ServerFrame::Sent(ask::Sent { reference: Some(reference), conv: conv(), seq, ts: 1 })).await;
    }

    pub(super) async fn error(&mut self, reference: Option<u64>, code: ErrorCode) {
        let message = "refused by the script".into();
        self.say(&ServerFrame::Error { reference, code, message, retry: code.retry(), retry_after_ms: None }).await;
    }

    pub(super) async fn message(&mut self, seq: Seq) {
        self.big_message(seq, "hello").await;
    }

    pub(super) async fn big_message(&mut self, seq: Seq, text: &str) {
        self.say(&ServerFrame::Message(message(seq, text))).await;
    }

    pub(super) async fn answer(&mut self, request: Request) {
        let reference = request.reference;
        let frame = match request.frame {
            ClientFrame::Ask(Ask::History(ask::History { conv, .. })) => ServerFrame::History(ask::HistoryPage {
                reference,
                conv,
                messages: vec![message(1, "x")],
                more: true,
                next: Some(1),
            }),
            ClientFrame::Ask(Ask::Conversations(_)) => {
                ServerFrame::Conversations(ask::ConversationsPage { reference, items: vec![], next: Some("y".into()) })
            }
            ClientFrame::Ping => ServerFrame::Pong { reference },
            ClientFrame::Token { .. } => ServerFrame::TokenOk { reference, exp: 77 },
            other => panic!("{other:?} has no answer"),
        };
        self.say(&frame).await;
    }

    pub(super) async fn close(mut self, reason: CloseReason) {
        let frame = CloseFrame { code: reason.code().into(), reason: Utf8Bytes::from_static(reason.text()) };
        self.socket.send(WsMessage::Close(Some(frame))).await.unwrap();
        // Wait until the client has answered, or it might see a reset instead of the code.
        while timeout(LONG, self.socket.next()).await.unwrap().is_some_and(|frame| frame.is_ok()) {}
    }
}

fn message(seq: Seq, text: &str) -> Message {
    Message::new(conv(), seq, UserId::new("bob").unwrap(), 1, Body::text(text))
}
