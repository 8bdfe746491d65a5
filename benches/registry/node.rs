//! A node of the design with a registry: users' sockets, and a door for what other nodes forward.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use data_encoding::BASE64URL_NOPAD;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use natter::{
    model::{ConvId, DeviceId, NewMessage, Recipient, SessionId, UserId, now_millis},
    protocol::{
        Ask, ClientFrame, Encoding, Message, Request, ServerFrame, ask,
        server::{Limits, Welcome},
    },
    store::{Logs as _, embedded::EmbeddedStore},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::resp;

/// Frames on their way to a socket.
type Out = mpsc::UnboundedSender<Frame>;
/// A send and its `ref`.
type Asked = (Option<u64>, ask::Send);

pub(crate) struct Node {
    store: Arc<EmbeddedStore>,
    registry: resp::Client,
    http: Http<HttpConnector, Full<Bytes>>,
    /// Where others forward to.
    address: String,
    users: Mutex<HashMap<String, Out>>,
}

impl Node {
    pub(crate) fn new(store: Arc<EmbeddedStore>, registry: resp::Client, forwards: &TcpListener) -> Self {
        let address = forwards.local_addr().expect("an address").to_string();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Http::builder(TokioExecutor::new()).build(connector);
        Self { store, registry, http, address, users: Mutex::default() }
    }

    pub(crate) async fn run(self: Arc<Self>, sockets: TcpListener, forwards: TcpListener) {
        let door = Router::new().route("/to/{user}", post(deliver)).with_state(self.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = forwards.accept().await {
                let _ = stream.set_nodelay(true);
                let service = TowerToHyperService::new(door.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        while let Ok((socket, _)) = sockets.accept().await {
            let _ = socket.set_nodelay(true);
            tokio::spawn(self.clone().session(socket));
        }
    }

    async fn session(self: Arc<Self>, socket: TcpStream) {
        let Ok(socket) = tokio_tungstenite::accept_async(socket).await else { return };
        let (mut write, mut read) = socket.split();
        let (out, mut frames) = mpsc::unbounded_channel::<Frame>();
        tokio::spawn(async move {
            let mut some = Vec::new();
            while frames.recv_many(&mut some, 64).await > 0 {
                for frame in some.drain(..) {
                    if write.feed(frame).await.is_err() {
                        return;
                    }
                }
                if write.flush().await.is_err() {
                    return;
                }
            }
        });
        let (sends, sending) = mpsc::unbounded_channel();
        let mut sending = Some(sending);
        let mut me = None;
        while let Some(Ok(frame)) = read.next().await {
            let encoding = if frame.is_text() { Encoding::Json } else { Encoding::MsgPack };
            match Request::decode(encoding, &frame.into_data()) {
                Ok(Request { frame: ClientFrame::Hello(hello), .. }) => {
                    let user = user_of(hello.token.as_deref().unwrap_or_default());
                    self.registry.set(user.as_str(), &self.address).await;
                    self.users.lock().expect("the users").insert(user.to_string(), out.clone());
                    welcome(&user, hello.device, &out, encoding);
                    if let Some(sending) = sending.take() {
                        tokio::spawn(self.clone().send_all(user.clone(), sending, out.clone(), encoding));
                    }
                    me = Some(user);
                }
                Ok(Request { frame: ClientFrame::Ask(Ask::Send(send)), reference }) => {
                    drop(sends.send((reference, send)))
                }
                // What it did not ask of the node costs it nothing.
                _ => {}
            }
        }
        if let Some(me) = me {
            self.users.lock().expect("the users").remove(me.as_str());
        }
    }

    /// In order: what waits is stored together, answered, and forwarded.
    async fn send_all(
        self: Arc<Self>,
        me: UserId,
        mut sends: mpsc::UnboundedReceiver<Asked>,
        out: Out,
        encoding: Encoding,
    ) {
        let mut some = Vec::new();
        while sends.recv_many(&mut some, 64).await > 0 {
            let mut by_peer: Vec<(UserId, Vec<Asked>)> = Vec::new();
            for (reference, send) in some.drain(..) {
                let Recipient::User(peer) = &send.to else { continue };
                match by_peer.iter_mut().find(|(known, _)| known == peer) {
                    Some((_, of_peer)) => of_peer.push((reference, send)),
                    None => by_peer.push((peer.clone(), vec![(reference, send)])),
                }
            }
            for (peer, sends) in by_peer {
                self.send_to(&me, &peer, sends, &out, encoding).await;
            }
        }
    }

    async fn send_to(&self, me: &UserId, peer: &UserId, sends: Vec<Asked>, out: &Out, encoding: Encoding) {
        let conv = ConvId::direct(me, peer);
        let message =
            |send: &ask::Send| NewMessage::of_user(me.clone(), send.cid.clone(), now_millis(), send.body.clone());
        let stored = self.store.append(&conv, sends.iter().map(|(_, send)| message(send)).collect()).await;
        let mut forwarded = Vec::new();
        for ((reference, send), stored) in sends.into_iter().zip(stored) {
            let Ok(stored) = stored else { continue };
            let (seq, ts) = (stored.seq, stored.ts);
            write(out, encoding, &ServerFrame::Sent(ask::Sent { reference, conv: conv.clone(), seq, ts }));
            let message = Message { cid: Some(send.cid), ..Message::new(conv.clone(), seq, me.clone(), ts, send.body) };
            forwarded.push(frame(encoding, &ServerFrame::Message(message)));
        }
        let Some(node) = self.registry.get(peer.as_str()).await.and_then(|node| String::from_utf8(node).ok()) else {
            return;
        };
        if node == self.address {
            return self.hand_out(peer.as_str(), forwarded);
        }
        let mut body = Vec::new();
        for frame in forwarded {
            let bytes = frame.into_data();
            body.extend(u32::try_from(bytes.len()).expect("a frame").to_be_bytes());
            body.extend(bytes);
        }
        let kind = if encoding == Encoding::Json { "json" } else { "msgpack" };
        let request = axum::http::Request::post(format!("http://{node}/to/{peer}")).header("content-type", kind);
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        // Where the registry is stale, the message waits until its user comes and asks.
        let _ = self.http.request(request).await;
    }

    fn hand_out(&self, user: &str, frames: Vec<Frame>) {
        if let Some(out) = self.users.lock().expect("the users").get(user) {
            frames.into_iter().for_each(|frame| drop(out.send(frame)));
        }
    }
}

async fn deliver(
    State(node): State<Arc<Node>>,
    axum::extract::Path(user): axum::extract::Path<String>,
    headers: axum::http::HeaderMap,
    body: Bytes,
) -> StatusCode {
    let is_text = headers.get("content-type").is_some_and(|kind| kind == "json");
    let (mut rest, mut frames) = (body, Vec::new());
    while rest.len() >= 4 {
        let len = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let bytes = rest.slice(4..4 + len);
        rest = rest.slice(4 + len..);
        frames.push(match is_text {
            true => Frame::Text(bytes.try_into().expect("JSON is text")),
            false => Frame::Binary(bytes),
        });
    }
    node.hand_out(&user, frames);
    StatusCode::OK
}

/// Whom a token names; nobody looks whether it is good.
fn user_of(token: &str) -> UserId {
    let claims = token.split('.').nth(1).and_then(|part| BASE64URL_NOPAD.decode(part.as_bytes()).ok());
    let claims: serde_json::Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
    UserId::new(claims["sub"].as_str().unwrap_or_default()).expect("the load names its users")
}

fn welcome(user: &UserId, device: DeviceId, out: &Out, encoding: Encoding) {
    let limits = Limits { body: 65_536, window: 100_000 };
    let welcome = Welcome {
        reference: None,
        user: user.clone(),
        device,
        session: SessionId::random(),
        new: false,
        node: "registry".to_owned(),
        ts: now_millis(),
        exp: now_millis() + 86_400_000,
        ping_secs: 600,
        limits,
    };
    write(out, encoding, &ServerFrame::Welcome(welcome));
    write(out, encoding, &ServerFrame::CaughtUp { since: None });
}

fn write(out: &Out, encoding: Encoding, said: &ServerFrame) {
    let _ = out.send(frame(encoding, said));
}

fn frame(encoding: Encoding, said: &ServerFrame) -> Frame {
    let bytes = encoding.encode(said);
    match encoding {
        Encoding::Json => Frame::Text(bytes.try_into().expect("JSON is text")),
        Encoding::MsgPack => Frame::Binary(bytes),
    }
}
