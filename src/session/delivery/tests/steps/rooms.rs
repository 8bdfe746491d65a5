//! Rooms step by step: the row that puts the user out, coming back, what is asked of the store in which order.

use super::*;

const ROOM: usize = FIRST_ROOM;
/// What the configuration says of itself.
const BACKLOG: u64 = 10_000;

/// A user's session that has handed out the first row of a room.
fn inside() -> Alone {
    let mut alone = Alone::new(|_| ());
    alone.session = Delivery::begin(&me(), &alone.rules, None, 0, alone.now);
    alone.credit(64 << 10);
    alone.hear(ROOM, 1);
    assert_eq!(alone.needs(), [Upkeep::ReadRoom { conv: conv(ROOM), after: None, at: 1, backlog: BACKLOG }]);
    alone.place(1, 1, Some(0));
    assert_eq!(alone.live_and_wants().0, [1]);
    alone
}

impl Alone {
    /// The row that puts the user out arrives.
    fn exit(&mut self, seq: Seq) {
        let frame = SharedFrame::encoded(vec![0; 100].into());
        let live = Arc::new(LiveMessage {
            conv: conv(ROOM),
            seq,
            puts_out: Some(me()),
            expires: None,
            ts: 0,
            frame,
            from_bus: true,
        });
        self.step(|session, at, out| session.on_live(live, at, out));
    }

    fn place(&mut self, upto: Seq, last: Seq, start: Option<Seq>) {
        let place = RoomPlace { upto, last, start, is_cut: false };
        self.step(|session, at, out| session.on_room_read(&conv(ROOM), Ok(place), at, out));
    }

    fn needs(&mut self) -> Vec<Upkeep> {
        let need = |effect| if let Effect::Upkeep(need) = effect { Some(need) } else { None };
        self.wants().into_iter().filter_map(need).collect()
    }
}

/// R21: nothing comes behind the row that puts the user out, which is handed out itself.
#[test]
fn the_row_that_puts_the_user_out_is_the_last() {
    let mut alone = inside();
    alone.exit(2);
    alone.hear(ROOM, 3);
    assert_eq!(
        alone.live_and_wants(),
        (vec![2], vec![Upkeep::ReadRoom { conv: conv(ROOM), after: Some(2), at: 2, backlog: BACKLOG }])
    );
    alone.place(3, 2, None);
    let left = alone.wants();
    assert!(matches!(&left[..], [Effect::Unlisten(room)] if *room == conv(ROOM)), "{left:?}");
    assert_eq!(alone.session.behind(), 0);
    alone.ack(ROOM, 2);
    assert_eq!(alone.session.unacked(), 0);
    // Somebody else's exit puts nobody else out.
    let mut alone = inside();
    let frame = SharedFrame::encoded(vec![0; 100].into());
    let puts_out = Some(UserId::new("bob").unwrap());
    let live =
        Arc::new(LiveMessage { conv: conv(ROOM), seq: 2, puts_out, expires: None, ts: 0, frame, from_bus: true });
    alone.step(|session, at, out| session.on_live(live, at, out));
    alone.hear(ROOM, 3);
    assert_eq!(alone.live_and_wants(), (vec![2, 3], vec![]));
}

/// R21: a page that was read before the exit was known ends there as well.
#[test]
fn a_page_ends_at_the_row_that_puts_the_user_out() {
    let mut alone = inside();
    alone.hear(ROOM, 5);
    alone.wants();
    let kick = Row { kind: Kind::Event, body: Change::Kicked { user: me() }.to_body(), ..row(3) };
    let rows = Ok(vec![row(2), kick, row(4), row(5)]);
    alone.step(|session, at, out| session.on_page(&conv(ROOM), None, rows, at, out));
    let wants = alone.wants();
    let handed: Vec<_> =
        wants.iter().filter_map(|want| if let Effect::HandRow(_, row) = want { Some(row.seq) } else { None }).collect();
    assert_eq!(handed, [2, 3]);
    // Up to 5 was heard of: no state of the room from before that is of use.
    assert!(matches!(wants.last(), Some(Effect::Upkeep(Upkeep::ReadRoom { after: Some(3), at: 5, .. }))), "{wants:?}");
}

/// R21: the client is told that there is something between that is not for it.
#[test]
fn whoever_came_back_goes_on_behind_the_join() {
    let mut alone = inside();
    alone.exit(2);
    alone.wants();
    alone.place(9, 9, Some(6));
    let wants = alone.wants();
    assert!(
        matches!(
            &wants[..],
            [
                Effect::Frame(ServerFrame::Truncated { from: 7, .. }),
                Effect::Upkeep(Upkeep::Fill { after: Some(6), rows: 3, .. })
            ]
        ),
        "{wants:?}"
    );
    alone.page(ROOM, None, 7..=9);
    assert_eq!(alone.session.unacked(), 5, "what lies between is not the client's to acknowledge");
    alone.ack(ROOM, 9);
    assert_eq!(alone.session.unacked(), 0);
}

/// R21: the hint of the join comes while the room is being read.
#[test]
fn an_answer_from_before_the_join_does_not_count() {
    let mut alone = inside();
    alone.exit(2);
    alone.wants();
    alone.step(|session, at, out| session.on_notice(&conv(ROOM), 7, at, out));
    alone.place(5, 2, None);
    assert!(alone.wants().is_empty(), "it listens on, and asks again a little later");
    alone.pass(100);
    assert_eq!(alone.needs(), [Upkeep::ReadRoom { conv: conv(ROOM), after: Some(2), at: 7, backlog: BACKLOG }]);
    alone.place(7, 7, Some(7));
    alone.wants();
    alone.hear(ROOM, 8);
    assert_eq!(alone.live_and_wants().0, [8]);
}

/// R12, R21: the login's page shows more of a room than a read of it that is under way. That read says that the user came back
/// and nothing of what came after it: `caught_up` waits for what the page has shown, and that is fetched.
#[test]
fn an_answer_from_before_the_page_is_not_all_there_is() {
    let mut alone = Alone::new(|_| ());
    alone.session = Delivery::begin(&me(), &alone.rules, None, 0, alone.now);
    alone.credit(64 << 10);
    alone.hear(ROOM, 1);
    alone.wants();
    alone.place(1, 1, Some(0));
    alone.wants();
    alone.exit(2);
    assert_eq!(alone.needs(), [Upkeep::ReadRoom { conv: conv(ROOM), after: Some(2), at: 2, backlog: BACKLOG }]);
    alone.step(|session, at, out| {
        session.compare_at_login();
        let since = Since::new([1; 16]);
        session.on_stamps(Stamped { since, clean: true, retired: false, in_rooms: true }, at, out);
        session.on_gaps(Vec::new(), None, at, out);
    });
    // Back at 4, and put out again at 8: it says nothing of the position that is not known.
    let rooms = vec![(conv(ROOM), RoomPlace { upto: 8, last: 8, start: None, is_cut: false })];
    alone.step(|session, at, out| session.on_rooms(rooms, None, at, out));
    alone.wants();
    alone.place(6, 6, Some(4));
    let wants = alone.needs();
    assert!(matches!(wants[..], [Upkeep::Fill { after: Some(4), rows: 4, .. }]), "up to 8: {wants:?}");
    alone.page(ROOM, None, 5..=8);
    assert!(alone.session.take_caught_up());
}

/// R12: what is behind in rooms is handed out before `caught_up`; and that waits for the rooms though the stamps say that no
/// direct conversation has changed.
#[test]
fn caught_up_waits_for_the_rooms() {
    let mut alone = Alone::new(|_| ());
    let since = Since::new([1; 16]);
    alone.session = Delivery::begin(&me(), &alone.rules, Some(since), 0, alone.now);
    alone.credit(64 << 10);
    alone.step(|session, at, out| {
        session.compare_at_login();
        session.on_stamps(Stamped { since, clean: true, retired: false, in_rooms: true }, at, out);
    });
    let asked = alone.needs();
    assert!(matches!(asked[..], [Upkeep::CompareRooms { after: None, .. }]), "{asked:?}");
    assert!(!alone.session.take_caught_up(), "the rooms are not compared");
    let place = RoomPlace { upto: 4, last: 4, start: Some(2), is_cut: false };
    let level = RoomPlace { upto: 9, last: 9, start: Some(9), is_cut: false };
    let rooms = vec![(conv(ROOM), place), (conv(ROOM + 1), level)];
    assert_eq!(alone.step(|session, at, out| session.on_rooms(rooms, None, at, out)), 1);
    assert!(!alone.session.take_caught_up(), "3 and 4 are missing");
    alone.page(ROOM, None, 3..=4);
    assert!(alone.session.take_caught_up());
    alone.wants();
    // Of the other one the position is known: the next message needs nothing of the store.
    alone.hear(ROOM + 1, 10);
    assert_eq!(alone.live_and_wants(), (vec![10], vec![]));
}

/// One message in a room has many members acknowledge: each writes a cursor there once in ten seconds at most, and what is not
/// written by then at the end.
#[test]
fn cursors_in_rooms_are_written_rarely() {
    let mut alone = inside();
    let mut writes = Vec::new();
    for seq in 1..=60 {
        if seq > 1 {
            alone.hear(ROOM, seq);
        }
        alone.ack(ROOM, seq);
        alone.pass(500);
        for need in alone.needs() {
            if let Upkeep::RaiseCursor { seq, .. } = need {
                writes.push((alone.now, seq));
                alone.step(|session, at, out| session.on_cursor(&conv(ROOM), Some(seq), at, out));
            }
        }
    }
    let (times, seqs): (Vec<_>, Vec<_>) = writes.iter().copied().unzip();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 10_000) && seqs.len() == 3, "{writes:?}");
    alone.hear(ROOM, 61);
    alone.ack(ROOM, 61);
    assert_eq!(alone.session.unwritten().map(|(_, seq)| seq).collect::<Vec<_>>(), [61]);
}
