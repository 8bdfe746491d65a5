//! Frames to and from bytes. Their floor is to copy those bytes.

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use natter::{
    model::{Body, Cid, ConvId, UserId},
    protocol::{Encoding, Message, Request, ServerFrame, SharedFrame},
};

const ENCODINGS: [&str; 2] = ["json", "msgpack"];

fn encoding(name: &str) -> Encoding {
    if name == "json" { Encoding::Json } else { Encoding::MsgPack }
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a user's name")
}

fn message() -> ServerFrame {
    let conv = ConvId::direct(&user("alice"), &user("bob"));
    let message = Message::new(conv, 4_711, user("alice"), 1_790_000_000_000, Body::text(&"x".repeat(200)));
    ServerFrame::Message(Message { cid: Cid::new("0123456789abcdef").ok(), ..message })
}

#[derive(serde::Serialize)]
struct Send {
    op: &'static str,
    #[serde(rename = "ref")]
    reference: u64,
    to: &'static str,
    cid: &'static str,
    body: String,
}

fn send(encoding: Encoding) -> Bytes {
    let body = "x".repeat(200);
    encoding.encode(&Send { op: "send", reference: 17, to: "@bob", cid: "0123456789abcdef", body })
}

#[divan::bench(args = ENCODINGS)]
fn encode_a_message(bencher: Bencher<'_, '_>, name: &str) {
    let (encoding, frame) = (encoding(name), message());
    bencher.counter(BytesCount::new(encoding.encode(&frame).len())).bench(|| encoding.encode(&frame));
}

#[divan::bench(args = ENCODINGS)]
fn floor_of_encode_a_copy(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = encoding(name).encode(&message());
    bencher.counter(BytesCount::new(bytes.len())).bench(|| Bytes::copy_from_slice(&bytes));
}

#[divan::bench(args = ENCODINGS)]
fn decode_a_send(bencher: Bencher<'_, '_>, name: &str) {
    let encoding = encoding(name);
    let bytes = send(encoding);
    assert!(Request::decode(encoding, &bytes).is_ok(), "the frame is none");
    bencher.counter(BytesCount::new(bytes.len())).bench(|| Request::decode(encoding, &bytes));
}

/// What a node does with a message of another node for clients that speak JSON, once however many they are.
#[divan::bench]
fn msgpack_to_json(bencher: Bencher<'_, '_>) {
    let bytes = Encoding::MsgPack.encode(&message());
    bencher.with_inputs(|| SharedFrame::encoded(bytes.clone())).bench_refs(|frame| frame.bytes(Encoding::Json));
}
