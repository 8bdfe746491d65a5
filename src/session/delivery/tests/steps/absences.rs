//! Long absences step by step: where the position of a returning device comes from, each way once.

use super::*;

const ROOM: usize = FIRST_ROOM;

/// Told that the log goes on for it at this seq.
fn told(effects: &[Effect]) -> Vec<Seq> {
    let from = |effect: &Effect| match effect {
        Effect::LeftToHistory { from, .. } => Some(*from),
        _ => None,
    };
    effects.iter().filter_map(from).collect()
}

fn strict() -> Alone {
    let mut alone = Alone::new(|rules| rules.backlog = 10);
    alone.session = Delivery::begin(&me(), &alone.rules, None, 0, alone.now);
    alone.credit(64 << 10);
    alone
}

/// What the newest rows are read behind, after the client was told.
fn begins_at(alone: &mut Alone, from: Seq) {
    let wants = alone.wants();
    assert_eq!(told(&wants), [from], "{wants:?}");
    let fill = |effect: &Effect| matches!(effect, Effect::Upkeep(Upkeep::Fill { after: Some(after), .. }) if *after == from - 1);
    assert!(wants.last().is_some_and(fill), "the client is told before anything is handed out: {wants:?}");
}

#[test]
fn a_comparison_finds_it_too_far_behind() {
    let mut alone = strict();
    alone.compare(vec![(0, 111, 100), (1, 110, 100), (2, 5, 0)]);
    let wants = alone.wants();
    assert_eq!(told(&wants), [102], "only where more than the bound is missing: {wants:?}");
    alone.page(0, None, 102..=111);
    assert_eq!(alone.session.unacked(), 10, "what is left to the history is not the client's to acknowledge");
    alone.ack(0, 111);
    assert_eq!(alone.session.unacked(), 0);
    assert!(alone.wants().iter().any(|want| matches!(want, Effect::Upkeep(Upkeep::RaiseCursor { seq: 111, .. }))));
}

#[test]
fn an_acknowledgement_of_what_was_left_out_is_taken_and_moves_nothing() {
    let mut alone = strict();
    alone.compare(vec![(0, 111, 0)]);
    begins_at(&mut alone, 102);
    alone.ack(0, 50);
    alone.pass(5_000);
    let raises = |want: &Effect| matches!(want, Effect::Upkeep(Upkeep::RaiseCursor { .. }));
    assert!(!alone.wants().iter().any(raises), "nothing new was acknowledged");
    alone.page(0, None, 102..=111);
    assert_eq!(alone.session.unacked(), 10);
}

#[test]
fn a_live_message_comes_before_the_cursor_is_known() {
    let mut alone = strict();
    alone.hear(0, 111);
    alone.wants();
    alone.cursor(0, Ok(7));
    begins_at(&mut alone, 102);
    alone.page(0, None, 102..=111);
    assert_eq!((alone.session.behind(), alone.session.unacked()), (0, 10));
}

#[test]
fn a_notice_makes_it_read_a_page_from_the_cursor() {
    let mut alone = strict();
    alone.step(|session, at, out| session.on_notice(&conv(0), 111, at, out));
    assert_eq!(alone.fills()[0].1, None, "from the stored cursor");
    alone.page(0, Some(7), 8..=17);
    begins_at(&mut alone, 102);
    assert_eq!(alone.session.unacked(), 0, "the page began at the cursor: nothing of it was handed out");
}

/// Who is slow is not away: what a session has begun to hand out it hands out whole.
#[test]
fn a_session_that_is_there_is_never_cut() {
    let mut alone = strict();
    alone.compare(vec![(0, 110, 100)]);
    alone.hear(0, 300);
    alone.page(0, None, 101..=110);
    alone.compare(vec![(0, 400, 100)]);
    alone.ack(0, 110);
    let wants = alone.wants();
    assert_eq!(told(&wants), [0; 0], "{wants:?}");
    let next = |want: &Effect| matches!(want, Effect::Upkeep(Upkeep::Fill { after: Some(110), .. }));
    assert!(wants.iter().any(next), "{wants:?}");
}

/// The store knows which rows of a room are for the user, so it says where a returning device begins.
#[test]
fn a_room_begins_where_the_store_says() {
    let place = RoomPlace { upto: 111, last: 111, start: Some(101), is_cut: true };
    let mut alone = strict();
    alone.step(|session, at, out| {
        session.compare_at_login();
        let stamps = Stamped { since: Since::new([1; 16]), clean: true, retired: false, in_rooms: true };
        session.on_stamps(stamps, at, out);
        session.on_gaps(Vec::new(), None, at, out);
    });
    let asks = |want: &Effect| matches!(want, Effect::Upkeep(Upkeep::CompareRooms { backlog: 10, .. }));
    assert!(alone.wants().iter().any(asks));
    alone.step(|session, at, out| session.on_rooms(vec![(conv(ROOM), place)], None, at, out));
    begins_at(&mut alone, 102);

    let mut alone = strict();
    alone.hear(ROOM, 111);
    let asks = |want: &Effect| matches!(want, Effect::Upkeep(Upkeep::ReadRoom { after: None, backlog: 10, .. }));
    assert!(alone.wants().iter().any(asks));
    alone.step(|session, at, out| session.on_room_read(&conv(ROOM), Ok(place), at, out));
    begins_at(&mut alone, 102);
}
