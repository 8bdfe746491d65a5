//! What a client is told about a frame that cannot be read: for every field of every op, the code and a message that
//! names the field, in both encodings.

use natter::protocol::{Encoding, ErrorCode, Request, client::FrameError};
use serde_json::{Value, json};

fn decode(encoding: Encoding, frame: &Value) -> Result<Request, FrameError> {
    Request::decode(encoding, &encoding.encode(frame))
}

/// Both encodings must give the same answer.
#[track_caller]
fn refused(frame: &Value, code: ErrorCode, words: &str) {
    for encoding in [Encoding::Json, Encoding::MsgPack] {
        let error = decode(encoding, frame).expect_err(&format!("{encoding:?} took {frame}"));
        assert_eq!(error.refused.code, code, "{encoding:?} {frame}: {}", error.refused.message);
        assert!(
            error.refused.message.starts_with(words),
            "{encoding:?} {frame}: {:?}, not {words:?}",
            error.refused.message
        );
        assert_eq!(error.reference, frame["ref"].as_u64(), "{encoding:?} {frame}");
    }
}

/// A good frame of every op.
fn good() -> Vec<Value> {
    vec![
        json!({"op": "hello", "ref": 1, "token": "t", "device": "d", "client": "c", "attempt": 1, "since": "s"}),
        json!({"op": "send", "ref": 2, "to": "@bob", "cid": "c", "body": null}),
        json!({"op": "send", "ref": 2, "to": "@bob", "cid": "c", "body": 1, "reply_to": 1, "mentions": ["bob", "eve"], "expires": 9}),
        json!({"op": "edit", "ref": 2, "conv": "dm:a:b", "re": 1, "cid": "c", "body": null}),
        json!({"op": "delete", "ref": 2, "conv": "dm:a:b", "re": 1, "cid": "c"}),
        json!({"op": "react", "ref": 2, "conv": "dm:a:b", "re": 1, "cid": "c", "reaction": "+1"}),
        json!({"op": "unreact", "ref": 2, "conv": "dm:a:b", "re": 1, "cid": "c", "reaction": "+1"}),
        json!({"op": "readers", "ref": 2, "room": "r", "seq": 1, "after": "a", "limit": 5}),
        json!({"op": "ack", "conv": "dm:a:b", "seq": 1}),
        json!({"op": "read", "conv": "room:r", "seq": 1}),
        json!({"op": "history", "ref": 3, "conv": "dm:a:b", "before": 4, "limit": 5}),
        json!({"op": "history", "ref": 3, "conv": "dm:a:b", "after": 4, "limit": 5, "raw": true}),
        json!({"op": "conversations", "ref": 4, "after": "x", "limit": 5}),
        json!({"op": "signal", "to": "#r", "type": "typing", "body": {}}),
        json!({"op": "token", "ref": 5, "token": "t"}),
        json!({"op": "presence", "ref": 6, "users": ["a"], "watch": true}),
        json!({"op": "join", "ref": 7, "room": "r"}),
        json!({"op": "leave", "ref": 8, "room": "r"}),
    ]
}

fn with(frame: &Value, field: &str, value: Value) -> Value {
    let mut frame = frame.clone();
    frame[field] = value;
    frame
}

fn without(frame: &Value, field: &str) -> Value {
    let mut frame = frame.clone();
    frame.as_object_mut().unwrap().remove(field);
    frame
}

#[test]
fn good_frames_are_taken() {
    for frame in good() {
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            let request = decode(encoding, &frame).unwrap_or_else(|error| panic!("{encoding:?} {frame}: {error}"));
            assert_eq!(request.reference, frame["ref"].as_u64());
        }
    }
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let wrong = [json!(true), json!([1]), json!({"a": 1}), json!(1.5), json!(-1)];
    for frame in good() {
        for field in frame.as_object().unwrap().keys() {
            let (must, more) = match field.as_str() {
                "op" | "to" | "cid" | "conv" | "token" | "device" | "client" | "type" | "reaction" => {
                    ("a string", json!(5))
                }
                "ref" | "seq" | "attempt" | "before" | "limit" | "re" | "reply_to" | "expires" => {
                    ("an integer of 0 or more", json!("5"))
                }
                "mentions" => ("a list of strings", json!(["bob", 1])),
                "after" => ("a string or an integer of 0 or more", json!([])),
                _ => continue,
            };
            for value in wrong.iter().chain([&more]) {
                refused(&with(&frame, field, value.clone()), ErrorCode::BadFrame, &format!("{field}: must be {must}"));
            }
        }
    }
}

#[test]
fn a_missing_field_is_named() {
    let needed = [
        ("hello", &["device"][..]),
        ("send", &["to", "cid", "body"]),
        ("edit", &["conv", "re", "cid", "body"]),
        ("delete", &["conv", "re", "cid"]),
        ("react", &["conv", "re", "cid", "reaction"]),
        ("unreact", &["conv", "re", "cid", "reaction"]),
        ("readers", &["room", "seq"]),
        ("ack", &["conv", "seq"]),
        ("read", &["conv", "seq"]),
        ("history", &["conv"]),
        ("conversations", &[]),
        ("signal", &["to", "type"]),
        ("token", &["token"]),
    ];
    for frame in good() {
        refused(&without(&frame, "op"), ErrorCode::BadFrame, "op: missing");
        for (_, fields) in needed.iter().filter(|(op, _)| frame["op"] == *op) {
            for field in *fields {
                refused(&without(&frame, field), ErrorCode::BadFrame, &format!("{field}: missing"));
                if *field != "body" {
                    refused(&with(&frame, field, Value::Null), ErrorCode::BadFrame, &format!("{field}: missing"));
                }
            }
            for field in frame.as_object().unwrap().keys().filter(|f| *f != "op" && !fields.contains(&f.as_str())) {
                for encoding in [Encoding::Json, Encoding::MsgPack] {
                    let frame = without(&frame, field);
                    assert!(decode(encoding, &frame).is_ok(), "{encoding:?} {frame}: {field} should be optional");
                }
            }
        }
    }
}

#[test]
fn a_bad_name_is_named() {
    let long = "x".repeat(65);
    let cases = [
        ("hello", "device", vec!["", "a.b", "ä", long.as_str()]),
        ("send", "to", vec!["", "bob", "@", "@a.b", "#", "# x", "@*", "@>"]),
        ("send", "cid", vec!["", "a\u{0}b", long.as_str()]),
        ("ack", "conv", vec!["", "dm:b:a", "dm:a", "dm:a:b:c", "room:", "room:a.b", "x"]),
        ("read", "conv", vec!["", "dm:b:a"]),
        ("history", "conv", vec!["", "dm:b:a"]),
        ("signal", "to", vec!["", "bob"]),
        ("signal", "type", vec!["", "a b", long.as_str()]),
    ];
    for frame in good() {
        for (op, field, values) in &cases {
            for value in values.iter().filter(|_| frame["op"] == *op) {
                refused(&with(&frame, field, json!(value)), ErrorCode::BadName, &format!("{field}: "));
            }
        }
    }
}

#[test]
fn numbers_have_bounds() {
    let over = json!(1u64 << 53);
    let frame = |op: &str| good().into_iter().find(|frame| frame["op"] == op).unwrap();
    for op in ["ack", "read"] {
        refused(&with(&frame(op), "seq", over.clone()), ErrorCode::BadFrame, "seq: must be below 2^53");
    }
    refused(&with(&frame("history"), "before", over.clone()), ErrorCode::BadFrame, "before: must be below 2^53");
    for field in ["after", "around"] {
        let other = with(&without(&frame("history"), "before"), field, over.clone());
        refused(&other, ErrorCode::BadFrame, &format!("{field}: must be below 2^53"));
    }
    let many: Vec<_> = (0..51).map(|n| format!("u{n}")).collect();
    refused(&with(&frame("send"), "mentions", json!(many)), ErrorCode::BadFrame, "mentions: at most 50");
    refused(&with(&frame("delete"), "re", over.clone()), ErrorCode::BadFrame, "re: must be below 2^53");
    for reaction in ["", "a\u{7}", "x".repeat(65).as_str()] {
        refused(&with(&frame("react"), "reaction", json!(reaction)), ErrorCode::BadFrame, "reaction: m");
    }
    for (op, most) in [("history", 200), ("conversations", 100)] {
        for value in [0, most + 1] {
            let words = format!("limit: must be 1 to {most}");
            refused(&with(&frame(op), "limit", json!(value)), ErrorCode::BadFrame, &words);
        }
    }
    for field in ["after", "around"] {
        let both = with(&frame("history"), field, json!(1));
        refused(&both, ErrorCode::BadFrame, "before, after, around: give only one");
    }
    refused(&with(&without(&frame("history"), "before"), "after", json!("x")), ErrorCode::BadFrame, "after: must be");
    refused(&with(&frame("conversations"), "after", json!(1)), ErrorCode::BadFrame, "after: must be");
}

/// What `caught_up` brought is opaque: anything short is taken.
#[test]
fn since_is_short() {
    let hello = |since: String| json!({"op": "hello", "ref": 1, "device": "d", "since": since});
    refused(&hello("s".repeat(65)), ErrorCode::BadFrame, "since: must be at most 64 bytes");
    refused(&hello("ä".repeat(33)), ErrorCode::BadFrame, "since: must be at most 64 bytes");
    for taken in ["", "später", &"s".repeat(64)] {
        assert!(decode(Encoding::Json, &hello(taken.to_owned())).is_ok(), "{taken:?}");
    }
}

#[test]
fn unknown_ops_are_told_apart() {
    refused(&json!({"op": "shout", "ref": 3}), ErrorCode::UnknownOp, "op: no such op \"shout\"");
    refused(&json!({"op": "", "ref": 3}), ErrorCode::UnknownOp, "op: no such op");
    refused(&json!({"op": "x".repeat(10_000)}), ErrorCode::UnknownOp, "op: no such op");
}

#[test]
fn bodies_are_checked() {
    let send = |body: &str| format!(r#"{{"op":"send","ref":9,"to":"@b","cid":"c","body":{body}}}"#);
    let deep = "[".repeat(65) + &"]".repeat(65);
    for body in ["1e400", deep.as_str()] {
        let error = Request::decode(Encoding::Json, send(body).as_bytes()).unwrap_err();
        assert_eq!(
            (error.refused.code, error.reference),
            (ErrorCode::BadBody, Some(9)),
            "{body}: {}",
            error.refused.message
        );
        assert!(error.refused.message.starts_with("body: "), "{}", error.refused.message);
    }
    let head = b"\x85\xa2op\xa4send\xa3ref\x09\xa2to\xa2@b\xa3cid\xa1c\xa4body".to_vec();
    for body in [&b"\xc4\x01x"[..], b"\xd4\x01x", b"\x81\x01\x01", b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\xa1\xff"] {
        let error = Request::decode(Encoding::MsgPack, &[&head, body].concat()).unwrap_err();
        assert_eq!(
            (error.refused.code, error.reference),
            (ErrorCode::BadBody, Some(9)),
            "{body:02x?}: {}",
            error.refused.message
        );
    }
    // A bad field is named even when the body is bad too.
    let both = r#"{"op":"send","ref":9,"to":5,"cid":"c","body":1e400}"#;
    let error = Request::decode(Encoding::Json, both.as_bytes()).unwrap_err();
    assert_eq!(error.refused.message, "to: must be a string");
}

#[test]
fn what_is_no_frame_is_a_bad_frame() {
    for text in ["", "x", "5", "null", "[]", "{", "{}{}", "{\"op\":\"ack\"", "{op:1}", "\u{feff}{}"] {
        let error = Request::decode(Encoding::Json, text.as_bytes()).unwrap_err();
        assert_eq!(
            (error.refused.code, error.reference),
            (ErrorCode::BadFrame, None),
            "{text:?}: {}",
            error.refused.message
        );
    }
    let frames: [&[u8]; 7] = [b"", b"\xc1", b"\x05", b"\x90", b"\x82\xa2op\xa3ack", b"\x80\x80", b"\x81\xa1\xff\x01"];
    for bytes in frames {
        let error = Request::decode(Encoding::MsgPack, bytes).unwrap_err();
        assert_eq!(
            (error.refused.code, error.reference),
            (ErrorCode::BadFrame, None),
            "{bytes:02x?}: {}",
            error.refused.message
        );
    }
}

/// Only maps with field names are frames: no arrays in the order of some struct, no numbers instead of names.
#[test]
fn fields_have_names() {
    let error = Request::decode(Encoding::Json, br#"["ack",null,null,null,"dm:a:b",1]"#).unwrap_err();
    assert_eq!(error.refused.code, ErrorCode::BadFrame);
    let by_number = b"\x83\x00\xa3ack\x04\xa6dm:a:b\x05\x01";
    let error = Request::decode(Encoding::MsgPack, by_number).unwrap_err();
    assert_eq!(error.refused.code, ErrorCode::BadFrame, "{}", error.refused.message);
}

#[test]
fn a_field_given_twice_is_named() {
    let text = br#"{"op":"ack","conv":"dm:a:b","seq":1,"seq":2,"ref":4}"#;
    let error = Request::decode(Encoding::Json, text).unwrap_err();
    assert_eq!((error.refused.code, error.reference), (ErrorCode::BadFrame, Some(4)));
    assert_eq!(error.refused.message, "seq: given twice");
}
