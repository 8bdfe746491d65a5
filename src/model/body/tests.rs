use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn from_json(text: &str) -> Result<Body, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

fn from_msgpack(bytes: &[u8]) -> Result<Body, String> {
    rmp_serde::from_slice(bytes).map_err(|e| e.to_string())
}

fn to_json(body: &Body) -> Value {
    let mut out = Vec::new();
    write_json(body.as_msgpack(), &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn every_kind_of_value_survives_both_ways() {
    let long: Vec<u32> = (0..70_000).collect();
    let wide: serde_json::Map<String, Value> = (0..20).map(|i| (format!("k{i}"), json!(i))).collect();
    for value in [
        json!(null),
        json!([true, false, 0, -1, i64::MIN, u64::MAX, 1.5, -0.25, "ä\u{0}\n\"", {"a": {"b": []}}]),
        json!(long),
        json!(wide),
        json!("x".repeat(300)),
    ] {
        let body = from_json(&value.to_string()).unwrap();
        assert_eq!(to_json(&body), value);
        assert_eq!(from_msgpack(body.as_msgpack()).unwrap(), body);
    }
}

#[test]
fn what_json_cannot_carry_is_refused() {
    let bad: [&[u8]; 8] = [
        b"\xc4\x01x",                // binary
        b"\xd4\x01x",                // extension
        b"\xca\x7f\x80\x00\x00",     // f32 infinity
        b"\xcb\x7f\xf8\0\0\0\0\0\0", // f64 NaN
        b"\xa1\xff",                 // not UTF-8
        b"\x81\x01\x01",             // key is a number
        b"\x81\xc0\x01",             // key is nil
        b"\x92\x01",                 // cut short
    ];
    for bytes in bad {
        assert!(from_msgpack(bytes).is_err(), "{bytes:02x?}");
        assert!(write_json(bytes, &mut Vec::new()).is_err(), "{bytes:02x?}");
    }
    assert!(write_json(b"\x01\x02", &mut Vec::new()).is_err(), "two values");
    for text in ["1e400", "\"\\ud800\"", "[1,]", "{\"a\":1", "NaN"] {
        assert!(from_json(text).is_err(), "{text}");
    }
}

#[test]
fn depth_is_limited() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(from_json(&nested(MAX_DEPTH)).is_ok());
    assert!(from_json(&nested(MAX_DEPTH + 1)).is_err());
    assert!(from_msgpack(&[vec![0x91; MAX_DEPTH + 1], vec![0xc0]].concat()).is_err());
    assert!(from_msgpack(&[vec![0x91; 100_000], vec![0xc0]].concat()).is_err());
}

#[test]
fn a_body_must_fit_in_either_encoding() {
    let control = Body::text(&"\u{1}".repeat(100));
    assert!(control.fits(602));
    assert!(!control.fits(601));
    let floats = from_json("[0.5,0.5,0.5,0.5]").unwrap();
    assert!(!floats.fits(36), "36 bytes of MessagePack items and their header");
    assert!(floats.fits(37));
}

proptest! {
    /// Whatever bytes are taken as a body can be turned into JSON and read back: R14.
    #[test]
    fn taken_means_it_reaches_everyone(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(body) = from_msgpack(&bytes) {
            let mut out = Vec::new();
            prop_assert!(write_json(body.as_msgpack(), &mut out).is_ok());
            prop_assert!(serde_json::from_slice::<Body>(&out).is_ok());
        }
        let _ = write_json(&bytes, &mut Vec::new());
    }
}
