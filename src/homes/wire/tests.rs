use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

fn who(node: &str, number: u64) -> Incarnation {
    Incarnation { node: node.into(), number }
}

fn message(cid: &str, body: Body) -> NewMessage {
    let (sender, cid) = (UserId::new("alice").unwrap(), Cid::new(cid).unwrap());
    let mentions = vec![UserId::new(&"m".repeat(64)).unwrap(); Refs::MENTIONS];
    let refs = Refs { reply_to: Some(3), mentions, ..Refs::default() }.boxed();
    NewMessage { kind: Kind::Edit, service: true, read_upto: 5, refs, ..NewMessage::of_user(sender, cid, 17, body) }
}

fn request(batch: Vec<NewMessage>) -> AppendRequest {
    AppendRequest { id: u64::MAX, conv: ConvId::new("dm:alice:bob").unwrap(), batch }
}

fn both_ways<T: Serialize + DeserializeOwned + PartialEq + Debug>(what: &T) {
    let bytes = encode(what);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(what));
    for end in 0..bytes.len() {
        assert!(decode::<T>(&bytes[..end]).is_err(), "cut at {end}: {what:?}");
    }
    assert!(decode::<T>(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many: {what:?}");
}

#[test]
fn all_of_it_travels_both_ways() {
    let slot = Slot::new(1023).unwrap();
    both_ways(&Here { who: who("n1", 3), leaving: true, hears: vec![who("n2", 1), who("n3", u64::MAX)] });
    both_ways(&request(vec![message("c1", Body::text("hi")), message("c2", Body::text(""))]));
    both_ways(&AppendAnswer::Done(vec![
        Outcome::Stored(7, 9, true),
        Outcome::CidReused(3),
        Outcome::Unavailable("why".into()),
        Outcome::NotHome,
        Outcome::Unsupported,
    ]));
    both_ways(&AppendAnswer::Refused("busy".into()));
    both_ways(&MendRequest { id: 4, conv: ConvId::new("dm:alice:bob").unwrap() });
    both_ways(&MendAnswer::Done(0));
    both_ways(&MendAnswer::NotHome);
    both_ways(&MendAnswer::Refused("busy".into()));
    both_ways(&Probe { slot, id: 4 });
    both_ways(&Alive { who: who("n1", 1), serves: true, under_way: false });
    both_ways(&TakeRequest { slot, given: true });
    both_ways(&TakeAnswer::HomeIs(who("n1", 1)));
    both_ways(&WordRequest { on: who("n1", 1) });
    both_ways(&Word { alive: false });
}

#[test]
fn another_version_is_told_apart_from_what_cannot_be_read() {
    let mut bytes = encode(&Word { alive: true }).to_vec();
    bytes[1] = VERSION + 1;
    assert_eq!(decode::<Word>(&bytes), Err(Unreadable::Version(VERSION + 1)));
    for bad in [&b""[..], b"{}", &[0x92], &[0x92, 0xff, 0xc3]] {
        assert!(matches!(decode::<Word>(bad), Err(Unreadable::Form(_))), "{bad:?}");
    }
}

#[test]
fn every_field_is_checked() {
    let bad = |what: &dyn Fn() -> Bytes, refused: &dyn Fn(&[u8]) -> bool| assert!(refused(&what()));
    bad(&|| encode(&(1024_u16, 0_u64)), &|bytes| decode::<Probe>(bytes).is_err());
    bad(&|| encode(&(("a.b", 1_u64),)), &|bytes| decode::<WordRequest>(bytes).is_err());
    let of_kind = |kind: u8, conv: &str, sender: &str, cid: &str, body: &serde_json::Value| {
        let bytes = encode(&(1_u64, conv, vec![(kind, sender, false, cid, 1_u64, body, 0_u64, None::<()>)]));
        decode::<AppendRequest>(&bytes)
    };
    let append = |conv: &str, sender: &str, cid: &str, body: &serde_json::Value| of_kind(0, conv, sender, cid, body);
    let body = serde_json::json!({"text": "hi"});
    assert!(append("dm:alice:bob", "alice", "c", &body).is_ok());
    assert!(of_kind(4, "dm:alice:bob", "alice", "c", &body).is_ok());
    assert!(of_kind(5, "dm:alice:bob", "alice", "c", &body).is_err());
    assert!(append("dm:bob:alice", "alice", "c", &body).is_err());
    assert!(append("dm:alice:bob", "al ice", "c", &body).is_err());
    assert!(append("dm:alice:bob", "alice", "", &body).is_err());
    let deep = (0..80).fold(body, |body, _| serde_json::json!([body]));
    assert!(append("dm:alice:bob", "alice", "c", &deep).is_err());
    assert!(decode::<AppendRequest>(&encode(&(1_u64, "dm:a:b", Vec::<u8>::new()))).is_err(), "an empty batch");
    let many = vec![message("c", Body::text("")); REQUEST_ROWS + 1];
    assert!(decode::<AppendRequest>(&encode(&request(many))).is_err());
}

#[test]
fn a_seq_that_cannot_be_is_not_believed() {
    for outcome in [Outcome::Stored(0, 1, true), Outcome::Stored(MAX_SEQ + 1, 1, true), Outcome::CidReused(0)] {
        assert!(matches!(StoreResult::<Appended>::from(outcome), Err(StoreError::Unavailable(_))));
    }
    assert!(decode::<MendAnswer>(&encode(&MendAnswer::Done(MAX_SEQ))).is_ok());
    assert!(decode::<MendAnswer>(&encode(&MendAnswer::Done(MAX_SEQ + 1))).is_err());
}

#[test]
fn every_answer_of_the_store_travels() {
    for result in [
        Ok(Appended { seq: 1, ts: 2, fresh: false, expires: None }),
        Ok(Appended { seq: 1, ts: 2, fresh: true, expires: Some(9) }),
        Err(StoreError::CidReused { seq: 4 }),
        Err(StoreError::unavailable("why")),
        Err(StoreError::NotHome),
        Err(StoreError::UNSERVED),
    ] {
        assert_eq!(StoreResult::<Appended>::from(Outcome::from(result.clone())), result);
    }
    let long = Outcome::from(Err(StoreError::unavailable("ä".repeat(10_000))));
    assert!(encode(&long).len() < 1_000);
}

proptest! {
    // The bodies are large.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn requests_stay_below_their_limit(sizes in proptest::collection::vec(0_usize..20_000, 1..300)) {
        let batch: Vec<_> = sizes.iter().map(|size| message(&"ä".repeat(32), Body::text(&"x".repeat(*size)))).collect();
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let count = fitting(rest);
            prop_assert!((1..=REQUEST_ROWS).contains(&count));
            let bytes = encode(&request(rest[..count].to_vec()));
            prop_assert!(bytes.len() <= REQUEST_BYTES, "{} bytes", bytes.len());
            prop_assert!(count == rest.len() || count == REQUEST_ROWS
                || rest[..=count].iter().map(|m| m.body.size()).sum::<usize>() > REQUEST_BYTES / 3);
            rest = &rest[count..];
        }
    }

}

proptest! {
    /// A body that was taken once is the same body at its home: a retry elsewhere must not look like another one.
    #[test]
    fn bodies_are_the_same_at_the_home(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(body) = rmp_serde::from_slice::<Body>(&bytes) {
            let sent = request(vec![message("c", body)]);
            prop_assert_eq!(decode::<AppendRequest>(&encode(&sent)).unwrap(), sent);
        }
    }

    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let framed = [&[0x92, VERSION], &bytes[..]].concat();
        for bytes in [&bytes, &framed] {
            let _ = decode::<AppendRequest>(bytes);
            let _ = decode::<AppendAnswer>(bytes);
            let _ = decode::<Here>(bytes);
        }
    }
}
