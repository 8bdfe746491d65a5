//! A table of causes, each judged right, and that the hops and words are those of the cause.

use super::{Verdict::*, *};
use crate::{
    model::{ConvId, DeviceId, Kind, SessionId, UserId},
    operators::wire::{State, WhyAsk},
    routing::Seen,
    session::View,
};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn asked() -> WhyAsk {
    WhyAsk { conv: ConvId::new("dm:alice:bob").unwrap(), seq: 7, user: user("bob") }
}

fn device(name: &str, cursor: u64) -> DeviceFacts {
    DeviceFacts { device: DeviceId::new(name).unwrap(), cursor, seen: 0 }
}

/// The message is there, and no device has it.
fn stored(devices: Vec<DeviceFacts>) -> Stored {
    let row = RowFacts {
        kind: Kind::Message,
        from: user("alice"),
        ts: 1,
        count: 7,
        expires: None,
        is_expired: false,
        deleted_by: None,
        is_edited: false,
    };
    let delivered = devices.iter().map(|device| device.cursor).max().unwrap_or(0);
    Stored {
        standing: Standing::In,
        is_service: false,
        top: 9,
        head: Some(9),
        row: Some(row),
        blocked: Some((user("alice"), false)),
        read: 0,
        delivered,
        devices,
    }
}

fn session(device: &str, view: View, waiting_bytes: usize) -> SessionFacts {
    let (session, device) = (SessionId::random(), DeviceId::new(device).unwrap());
    SessionFacts { session, device, since: 0, seen: Some(Seen { view, waiting_bytes }) }
}

fn here(sessions: Vec<SessionFacts>) -> Here {
    Here { state: State::Serving, on_nats: true, room_on_nats: true, sessions, peers: Vec::new() }
}

fn on(node: Here) -> Vec<(String, Here)> {
    vec![("n2".to_owned(), node)]
}

fn view(position: u64, acked: u64, heard: u64) -> View {
    View { position: Some(position), acked, heard, unacked: position - acked, window: 256, ..View::default() }
}

fn verdict(stored: &Stored, nodes: &[(String, Here)]) -> Verdict {
    judge(&asked(), stored, nodes, &[]).verdict
}

#[test]
fn of_one_device_each_cause_has_its_verdict() {
    let phone = |cursor| stored(vec![device("phone", cursor)]);
    let with = |view, waiting| on(here(vec![session("phone", view, waiting)]));
    let blocked = View { blocked_for: Some(5_000), is_full: true, ..view(7, 3, 9) };
    let behind = View { is_full: true, ..view(5, 5, 9) };
    let cut = Here { on_nats: false, ..here(vec![session("phone", view(5, 5, 5), 0)]) };
    let cut_room = Here { room_on_nats: false, ..here(vec![session("phone", view(5, 5, 5), 0)]) };
    let stuck = here(vec![SessionFacts { seen: None, ..session("phone", view(0, 0, 0), 0) }]);
    let unknown = View { position: None, window: 256, ..View::default() };
    for (wanted, stored, nodes) in [
        (Acknowledged, phone(7), vec![]),
        (Acknowledged, phone(3), with(view(9, 8, 9), 0)),
        (LeftToHistory, phone(3), with(View { stored: 7, ..view(8, 7, 9) }, 0)),
        (Acknowledged, phone(3), with(View { stored: 3, ..view(8, 7, 9) }, 0)),
        (HandedOut, phone(3), with(view(7, 3, 9), 0)),
        (NotReading, phone(3), with(blocked, 70_000)),
        (NotReading, phone(3), with(view(9, 3, 9), 10)),
        (NotReading, phone(3), with(behind, 0)),
        (WindowFull, phone(3), with(View { unacked: 256, ..view(6, 3, 9) }, 0)),
        (Unheard, phone(5), with(view(5, 5, 5), 0)),
        (Unheard, phone(5), with(unknown, 0)),
        (CutOff, phone(5), on(cut)),
        (CutOff, phone(5), on(cut_room)),
        (Reading, phone(5), with(View { reading: true, ..view(5, 5, 9) }, 0)),
        (Silent, phone(5), on(stuck)),
        (Offline, phone(5), vec![]),
        (NotMember, phone(5), with(View { closed: true, ..view(5, 5, 9) }, 0)),
    ] {
        let report = judge(&asked(), &stored, &nodes, &[]);
        assert_eq!(report.verdict, wanted, "{report:#?}");
        assert_eq!((report.devices.len(), report.devices[0].verdict), (1, wanted));
    }
}

#[test]
fn what_keeps_it_from_everybody_comes_before_the_devices() {
    let offline = || stored(vec![device("phone", 5)]);
    let row = |change: fn(&mut RowFacts)| {
        let mut found = offline();
        found.row.iter_mut().for_each(change);
        found
    };
    let not_then = |since, until| Stored { standing: Standing::NotThen { since, until }, ..offline() };
    for (wanted, stored, words) in [
        (NeverAppended, Stored { top: 6, row: None, ..offline() }, "ends at 6"),
        (Blocked, Stored { top: 6, row: None, blocked: Some((user("alice"), true)), ..offline() }, "blocks"),
        (Lost, Stored { row: None, ..offline() }, "goes on to 9"),
        (BelowHead, Stored { head: Some(6), ..offline() }, "at 6"),
        (BelowHead, Stored { head: None, ..offline() }, "at 0"),
        (Deleted, row(|row| row.deleted_by = Some(user("alice"))), "deleted by alice"),
        (Expired, row(|row| (row.expires, row.is_expired) = (Some(1), true)), "expired"),
        (NotMember, not_then(Some(8), None), "since 8"),
        (NotMember, not_then(None, Some(4)), "left dm:alice:bob at 4"),
        (NotMember, not_then(None, None), "never a member"),
        (NotTheirs, Stored { standing: Standing::Foreign, ..offline() }, "none of the two"),
        (NotTheirs, Stored { standing: Standing::NoRoom, ..offline() }, "there is no"),
        (Service, Stored { is_service: true, ..offline() }, "service"),
        (NoDevice, stored(vec![]), "gets it when it logs in"),
        (NoDevice, Stored { read: 8, ..stored(vec![]) }, "history"),
    ] {
        let report = judge(&asked(), &stored, &[], &[]);
        assert!(report.verdict == wanted && report.text.contains(words), "{wanted:?}: {report:#?}");
    }
}

/// What all devices have was delivered, whatever became of it later.
#[test]
fn a_message_that_was_delivered_and_then_deleted_was_delivered() {
    let mut found = stored(vec![device("phone", 7)]);
    found.row.as_mut().unwrap().deleted_by = Some(user("alice"));
    assert_eq!(verdict(&found, &[]), Acknowledged);
    assert!(judge(&asked(), &found, &[], &[]).hops.iter().any(|hop| hop.contains("deleted by alice")));
}

#[test]
fn devices_that_differ_are_told_apart() {
    let found = stored(vec![device("desk", 5), device("phone", 8), device("tablet", 5)]);
    let nodes = on(here(vec![session("tablet", view(7, 5, 9), 0)]));
    let report = judge(&asked(), &found, &nodes, &[]);
    assert_eq!(report.verdict, Partly);
    let each: Vec<_> = report.devices.iter().map(|device| (device.verdict, device.node.as_deref())).collect();
    assert_eq!(each, [(Offline, None), (Acknowledged, None), (HandedOut, Some("n2"))]);
    assert!(
        report.text.starts_with("phone acknowledged it and desk, tablet did not. desk: offline"),
        "{}",
        report.text
    );
    assert!(report.text.contains("tablet: handed out"), "{}", report.text);
}

/// Nobody acknowledged it, and yet the cursor is above it: the device began there.
#[test]
fn a_device_that_began_behind_it_has_it_in_its_history() {
    let found = Stored { delivered: 0, read: 8, ..stored(vec![device("phone", 8)]) };
    assert_eq!(verdict(&found, &[]), LeftToHistory);
    let found = Stored { delivered: 8, read: 8, ..stored(vec![device("phone", 8)]) };
    assert_eq!(verdict(&found, &[]), Acknowledged);
}

#[test]
fn nodes_that_do_not_answer_are_named() {
    let found = stored(vec![device("phone", 5)]);
    let report = judge(&asked(), &found, &[], &["n3".to_owned()]);
    assert!(report.verdict == Offline && report.text.contains("n3 did not answer"), "{report:?}");
    assert_eq!(report.hops.last().unwrap(), "not answering: n3");
}
