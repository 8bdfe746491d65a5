//! What a mend does, step by step.

use super::*;
use crate::model::{Body, ConvId, Kind};

impl Ticket for u8 {
    fn is_gone(&self) -> bool {
        false
    }
}

fn placed(seq: Seq) -> Placed {
    let (sender, cid) = (UserId::new("alice").unwrap(), Cid::new(&seq.to_string()).unwrap());
    let counts = Counts { first: seq, second: 0 };
    let row = Row {
        seq,
        kind: Kind::Message,
        sender,
        service: false,
        cid,
        ts: 1,
        body: Body::text("hi"),
        counts,
        refs: None,
    };
    Placed { row, w: 1, pw: if seq == 1 { 0 } else { 1 }, event: 0, made: None, told: Told::default() }
}

fn conv() -> ConvId {
    ConvId::new("dm:alice:bob").unwrap()
}

fn head(seq: Seq) -> Head {
    Head { seq, counts: Counts { first: seq, second: 0 } }
}

/// A role whose heads are at 1, while its log goes to 2; asked to mend, up to the raise.
fn until_raise(ticket: u8) -> Role<u8> {
    let mut role = Role::new(conv(), 2, Limits::default());
    role.mend(ticket);
    assert!(!role.is_quiet() && matches!(role.take_effects()[..], [Effect::ReadHeads]));
    role.on(Event::Heads(head(1)));
    role.on(Event::Cids { found: Vec::new(), from: 1 });
    role.on(Event::Rows { rows: vec![placed(1), placed(2)], more: false });
    role.take_effects();
    role.on(Event::Written);
    assert!(matches!(role.take_effects()[..], [Effect::Validate]));
    role.on(Event::Validated);
    role
}

#[test]
fn a_mend_recovers_raises_the_heads_and_places_nothing() {
    let mut role = until_raise(7);
    let effects = role.take_effects();
    assert!(matches!(&effects[..], [Effect::Raise(raise)] if raise.upto == 2), "{effects:?}");
    role.on(Event::Raised);
    assert!(matches!(role.take_effects()[..], [Effect::Mended(7, 2)]) && role.is_quiet());
}

/// What this epoch raised may be lost since: an open conversation's heads are raised once more.
#[test]
fn a_mend_of_an_open_conversation_raises_its_heads_again() {
    let mut role = until_raise(7);
    role.take_effects();
    // Comes while a raise is under way: that one began before.
    role.mend(8);
    role.on(Event::Raised);
    assert!(matches!(&role.take_effects()[..], [Effect::Mended(7, 2), Effect::Raise(raise)] if raise.upto == 2));
    role.on(Event::Raised);
    assert!(matches!(role.take_effects()[..], [Effect::Mended(8, 2)]));
    role.mend(9);
    assert!(matches!(role.take_effects()[..], [Effect::Raise(_)]));
    assert_eq!(role.end(), [9]);
}

#[test]
fn an_empty_log_has_nothing_to_raise() {
    let mut role = Role::new(conv(), 2, Limits::default());
    role.mend(1_u8);
    role.take_effects();
    role.on(Event::Heads(head(0)));
    role.on(Event::Rows { rows: Vec::new(), more: false });
    let effects = role.take_effects();
    assert!(matches!(effects.last(), Some(Effect::Mended(1, 0))), "{effects:?}");
}

/// A log that lost its heads is read from its beginning: what it leaves in memory is of its end.
#[test]
fn a_long_log_without_heads_leaves_few_cids_in_memory() {
    let mut role = Role::new(conv(), 2, Limits { bucket: 4, ..Limits::default() });
    role.mend(1_u8);
    role.on(Event::Heads(head(0)));
    for seq in 1..=100 {
        role.on(Event::Rows { rows: vec![placed(seq)], more: true });
        role.on(Event::Written);
        assert!(role.cids() <= 8, "{} at {seq}", role.cids());
    }
    role.on(Event::Rows { rows: Vec::new(), more: false });
    role.on(Event::Validated);
    role.on(Event::Raised);
    assert!(matches!(role.take_effects().last(), Some(Effect::Mended(1, 100))));
}
