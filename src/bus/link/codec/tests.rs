//! The codec against a writer of the server's side and a reader of the client's side, which share nothing with it.

use proptest::prelude::*;

use super::*;
use crate::bus::link::ops::{Connect, Proof};

/// A stream with every op, payloads that look like ops, and line ends of both kinds.
const STREAM: &[u8] =
    b"INFO {\"server_id\":\"S\",\"max_payload\":7,\"connect_urls\":[\"a:1\"],\"ldm\":true,\"new\":[]}\r\n\
    PING\r\nMSG natter.user.bob 7 4\r\n\x83\r\n\x01\r\nPONG\nHMSG a.b 12 r.s 12 15\r\nNATS/1.0\r\n\r\nabc\r\n\
    MSG\ta  1   r\t0\r\n\r\n+OK\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\n\
    HMSG x 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nMSG \xff\xfe 18446744073709551615 1\r\n\n\r\n";

fn msg<'a>(subject: &'a [u8], sid: Sid, reply: Option<&'a [u8]>, headers: &'a [u8], payload: &'a [u8]) -> ServerOp<'a> {
    ServerOp::Msg(Msg { subject, sid, reply, headers, payload })
}

/// What is in [`STREAM`].
fn wanted() -> Vec<ServerOp<'static>> {
    let info = Info {
        server_id: "S".into(),
        max_payload: 7,
        connect_urls: vec!["a:1".into()],
        is_lame_duck: true,
        ..Info::default()
    };
    vec![
        ServerOp::Info(Box::new(info)),
        ServerOp::Ping,
        msg(b"natter.user.bob", 7, None, b"", b"\x83\r\n\x01"),
        ServerOp::Pong,
        msg(b"a.b", 12, Some(b"r.s"), b"NATS/1.0\r\n\r\n", b"abc"),
        msg(b"a", 1, Some(b"r"), b"", b""),
        ServerOp::Ok,
        ServerOp::Err(b"Permissions Violation for Publish to \"x\""),
        msg(b"x", 1, None, b"NATS/1.0 503\r\n\r\n", b""),
        msg(b"\xff\xfe", u64::MAX, None, b"", b"\n"),
    ]
}

/// Feeds the pieces one after the other, as a connection does, and compares each op as it becomes whole.
fn read_in_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>, wanted: &[ServerOp<'_>]) {
    let (mut buffer, mut ops) = (Vec::new(), wanted.iter());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut start = 0;
        loop {
            match decode(&buffer[start..]).unwrap() {
                Decoded::Op(op, used) => {
                    assert_eq!(Some(&op), ops.next());
                    start += used;
                }
                Decoded::Part(needed) => {
                    assert!(needed > buffer.len() - start, "{needed} are there already");
                    break;
                }
            }
        }
        buffer.drain(..start);
    }
    assert!(buffer.is_empty() && ops.next().is_none(), "something is left");
}

#[test]
fn ops_are_the_same_wherever_the_stream_is_cut() {
    let wanted = wanted();
    for size in 1..=STREAM.len() {
        read_in_pieces(STREAM.chunks(size), &wanted);
    }
    for cut in 0..STREAM.len() {
        read_in_pieces([&STREAM[..cut], &STREAM[cut..]].into_iter(), &wanted);
    }
}

#[test]
fn what_no_server_sends_is_refused() {
    for (bytes, fault) in [
        (&b"MSG a 1\r\n"[..], Malformed::Arguments),
        (b"MSG a x 1\r\n", Malformed::Arguments),
        (b"MSG a 1 r s 1\r\n", Malformed::Arguments),
        (b"MSG a 1 -1\r\n", Malformed::Arguments),
        (b"MSG a 1 99999999999999999999\r\n", Malformed::Arguments),
        (b"MSG a 1 67108865\r\n", Malformed::LargeMessage),
        (b"MSG a 1 1 2 3 4 5 6\r\n", Malformed::Arguments),
        (b"HMSG a 1 3\r\n", Malformed::Arguments),
        (b"HMSG a 1 4 3\r\nabc\r\n", Malformed::Arguments),
        (b"MSG a 1 1\r\nabc\r\n", Malformed::Length),
        (b"INFO {\r\n", Malformed::Info),
        (b"HELLO\r\n", Malformed::Verb),
        (b"\r\n", Malformed::Verb),
    ] {
        assert_eq!(decode(bytes), Err(fault), "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(decode(&vec![b'x'; MAX_LINE]), Err(Malformed::LongLine));
}

#[test]
fn only_the_servers_own_status_says_that_nobody_hears() {
    let status = |headers: &[u8], payload: &[u8]| {
        Msg { subject: b"x", sid: 1, reply: None, headers, payload }.is_no_responders()
    };
    assert!(status(b"NATS/1.0 503\r\n\r\n", b"") && status(b"NATS/1.0 503 No Responders\r\n\r\n", b""));
    assert!(!status(b"NATS/1.0 503\r\n\r\n", b"x") && !status(b"NATS/1.0\r\nA: 503\r\n\r\n", b""));
    assert!(!status(b"", b"") && !status(b"NATS/1.0 5030\r\n\r\n", b""));
}

#[test]
fn no_text_from_outside_makes_a_second_command() {
    assert!(is_line("natter.user.bob", None) && is_line("a", Some("b.c")));
    for bad in ["", "a b", "a\r\nPUB x 0\r\n", "a\tb", "a\nb", "a\0", "a\x7f"] {
        assert!(!is_line(bad, None) && !is_line("a", Some(bad)), "{bad:?}");
    }
    let long = "x".repeat(MAX_COMMAND / 2);
    assert!(is_line(&long, None) && !is_line(&long, Some(&long)));
}

#[test]
fn secrets_are_sent_and_not_shown() {
    let proof = Proof { user: Some("node".into()), password: Some("hunter2".into()), ..Proof::default() };
    let connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required: true,
        name: "n1".into(),
        lang: "rust",
        version: "1",
        protocol: 1,
        echo: false,
        headers: true,
        no_responders: true,
        proof,
    };
    assert!(!format!("{connect:?}").contains("hunter2"));
    let mut out = Vec::new();
    encode(&ClientOp::Connect(&connect), &mut out);
    let json = out.strip_prefix(b"CONNECT ").and_then(|rest| rest.strip_suffix(b"\r\n")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!((json["user"].as_str(), json["pass"].as_str()), (Some("node"), Some("hunter2")));
    assert_eq!(
        (json["echo"].as_bool(), json["protocol"].as_u64(), json["jwt"].is_null()),
        (Some(false), Some(1), true)
    );
}

fn word() -> impl Strategy<Value = String> {
    "[!-~]{1,30}"
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    // Line ends and the starts of commands more often than chance would have them.
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        "(\r\n|PING|MSG a 1 1| ){0,12}".prop_map(String::into_bytes)
    ]
}

/// A message as a server writes it.
fn written(subject: &str, sid: Sid, reply: Option<&str>, headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let reply = reply.map_or(String::new(), |reply| format!("{reply} "));
    let line = match headers.len() {
        0 => format!("MSG {subject} {sid} {reply}{}\r\n", payload.len()),
        length => format!("HMSG {subject} {sid} {reply}{length} {}\r\n", length + payload.len()),
    };
    [line.as_bytes(), headers, payload, b"\r\n"].concat()
}

proptest! {
    #[test]
    fn what_a_server_writes_is_read_wherever_it_is_cut(
        messages in proptest::collection::vec((word(), any::<u64>(), proptest::option::of(word()), payload(), payload()), 1..6),
        size in 1_usize..200,
    ) {
        let wanted: Vec<_> = messages
            .iter()
            .map(|(subject, sid, reply, headers, payload)| {
                msg(subject.as_bytes(), *sid, reply.as_deref().map(str::as_bytes), headers, payload)
            })
            .collect();
        let stream: Vec<u8> = messages
            .iter()
            .flat_map(|(subject, sid, reply, headers, payload)| written(subject, *sid, reply.as_deref(), headers, payload))
            .collect();
        read_in_pieces(stream.chunks(size), &wanted);
    }

    #[test]
    fn what_is_sent_is_one_line_and_its_payload(
        subject in word(), reply in proptest::option::of(word()), payload in payload(), sid in any::<u64>(),
    ) {
        let mut out = Vec::new();
        encode(&ClientOp::Pub { subject: &subject, reply: reply.as_deref(), payload: &payload }, &mut out);
        prop_assert!(out.len() <= PUB_COST + subject.len() + reply.as_ref().map_or(0, String::len) + payload.len());
        let reply = reply.map_or(String::new(), |reply| format!("{reply} "));
        let line = format!("PUB {subject} {reply}{}\r\n", payload.len());
        prop_assert_eq!(&out, &[line.as_bytes(), &payload, b"\r\n"].concat());
        out.clear();
        encode(&ClientOp::Sub { filter: &subject, sid }, &mut out);
        encode(&ClientOp::Unsub { sid }, &mut out);
        prop_assert_eq!(out, format!("SUB {subject} {sid}\r\nUNSUB {sid}\r\n").into_bytes());
    }

    #[test]
    fn garbage_never_panics(bytes in payload(), verb in "(MSG |HMSG |INFO |-ERR |PING)?", at in 0_usize..300, with in any::<u8>()) {
        let _ = decode(&[verb.as_bytes(), &bytes[..]].concat());
        let mut bent = STREAM.to_vec();
        let at = at % bent.len();
        bent[at] = with;
        let mut start = 0;
        while let Ok(Decoded::Op(_, used)) = decode(&bent[start..]) {
            start += used;
        }
    }
}
