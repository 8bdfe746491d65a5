//! Histories step by step that the model above would meet too seldom, or whose subject it does not know: what push
//! services are told, what pages are asked for, rows that cannot be handed out.

use super::*;

mod absences;
mod rooms;

/// A session on its own, with what it wants done.
struct Alone {
    rules: Rules,
    now: Tick,
    session: Delivery,
    out: Vec<Effect>,
}

impl Alone {
    fn new(tune: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = crate::node::rules(&crate::config::Config::default());
        tune(&mut rules);
        let mut alone = Self { rules, now: 1_000, session: Delivery::default(), out: Vec::new() };
        alone.credit(64 << 10);
        alone
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Delivery, At<'_>, &mut Out) -> T) -> T {
        let done = step(&mut self.session, At { rules: &self.rules, now: self.now }, &mut self.out);
        self.session.assert_sound(&self.rules);
        done
    }

    fn credit(&mut self, bytes: usize) {
        self.step(|session, at, out| session.set_credit(bytes, at, out));
    }

    fn hear(&mut self, index: usize, seq: Seq) {
        self.step(|session, at, out| session.on_live(live(index, seq), at, out));
    }

    /// A conversation that the session has a position in.
    fn known(&mut self, index: usize) {
        self.hear(index, 1);
        self.cursor(index, Ok(0));
        self.ack(index, 1);
        self.step(|session, at, out| session.on_cursor(&conv(index), Some(1), at, out));
        self.out.clear();
    }

    fn cursor(&mut self, index: usize, cursor: Result<Seq, ()>) {
        self.step(|session, at, out| session.on_cursor_read(&conv(index), cursor, at, out));
    }

    /// A comparison in which these are found with head and cursor.
    fn compare(&mut self, gaps: Vec<(usize, Seq, Seq)>) {
        let gaps = gaps.into_iter().map(|(index, head, cursor)| Gap { conv: conv(index), head, cursor }).collect();
        self.step(|session, at, out| {
            session.compare_at_login();
            let stamps = Stamped { since: Since::new([1; 16]), clean: true, retired: false, in_rooms: true };
            session.on_stamps(stamps, at, out);
            session.on_gaps(gaps, None, at, out);
            session.on_rooms(Vec::new(), None, at, out);
        });
        let is_page = |need: &Upkeep| matches!(need, Upkeep::Compare { .. } | Upkeep::CompareRooms { .. });
        self.out.retain(|effect| !matches!(effect, Effect::Upkeep(need) if is_page(need)));
    }

    /// What was handed out live, and what was asked for, since the last call.
    fn live_and_wants(&mut self) -> (Vec<Seq>, Vec<Upkeep>) {
        let (mut handed, mut wants) = (Vec::new(), Vec::new());
        for effect in self.wants() {
            match effect {
                Effect::HandLive(live) => handed.push(live.seq),
                Effect::Upkeep(need) => wants.push(need),
                other => panic!("{other:?}"),
            }
        }
        (handed, wants)
    }

    fn page(&mut self, index: usize, cursor: Option<Seq>, seqs: std::ops::RangeInclusive<Seq>) {
        let rows = Ok(seqs.map(row).collect());
        self.step(|session, at, out| session.on_page(&conv(index), cursor, rows, at, out));
    }

    fn ack(&mut self, index: usize, seq: Seq) {
        assert!(self.step(|session, at, out| session.on_ack(&conv(index), seq, at, out)));
    }

    fn pass(&mut self, time: Tick) {
        self.now += time;
        self.step(|session, at, out| session.on_tick(at, out));
    }

    /// What it wanted since the last call.
    fn wants(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    fn told(&mut self) -> Vec<(usize, Seq, Seq)> {
        let told = |effect: Effect| match effect {
            Effect::Upkeep(Upkeep::Undelivered { conv, after, upto }) => Some((World::index(&conv), after, upto)),
            _ => None,
        };
        self.wants().into_iter().filter_map(told).collect()
    }

    fn fills(&mut self) -> Vec<(usize, Option<Seq>, usize, usize)> {
        let fill = |effect: Effect| match effect {
            Effect::Upkeep(Upkeep::Fill { conv, after, rows, bytes }) => {
                Some((World::index(&conv), after, rows, bytes))
            }
            _ => None,
        };
        self.wants().into_iter().filter_map(fill).collect()
    }
}

/// R9: not only the first message that a session leaves unacknowledged: each later one too, once it has waited, all of
/// a conversation together.
#[test]
fn push_services_hear_of_every_message_that_waits_in_vain() {
    let mut alone = Alone::new(|_| ());
    alone.known(0);
    alone.hear(0, 2);
    alone.pass(10_000);
    alone.hear(0, 3);
    alone.pass(19_999);
    assert_eq!(alone.told(), []);
    alone.pass(1);
    assert_eq!(alone.told(), [(0, 1, 3)]);
    alone.pass(100_000);
    assert_eq!(alone.told(), [], "told once");
    alone.hear(0, 4);
    alone.pass(30_000);
    assert_eq!(alone.told(), [(0, 3, 4)]);
    alone.ack(0, 3);
    alone.pass(100_000);
    assert_eq!(alone.told(), [], "4 was told before");
    alone.hear(0, 5);
    alone.ack(0, 5);
    alone.pass(100_000);
    assert_eq!(alone.told(), [], "all is acknowledged");
}

/// What a comparison found not behind has its position: the next message needs nothing of the store.
#[test]
fn the_first_live_message_after_a_login_goes_straight_to_the_socket() {
    let mut alone = Alone::new(|_| ());
    alone.compare(vec![(0, 7, 7), (1, 3, 3)]);
    alone.hear(0, 8);
    assert_eq!(alone.live_and_wants(), (vec![8], vec![]));
    // Not the next one: what is missing is read from the position on.
    alone.hear(1, 5);
    let (handed, wants) = alone.live_and_wants();
    assert!(handed.is_empty() && matches!(wants[..], [Upkeep::Fill { after: Some(3), .. }]), "{handed:?} {wants:?}");
}

/// R8: heads and cursors of a page may be older than a position that the session has had since it asked.
#[test]
fn what_a_comparison_read_late_moves_no_position_back() {
    let mut alone = Alone::new(|rules| rules.warm = 1);
    alone.known(0);
    alone.known(1);
    alone.compare(vec![(0, 0, 0), (1, 0, 0)]);
    alone.hear(0, 2);
    alone.hear(1, 2);
    assert_eq!(alone.live_and_wants(), (vec![2, 2], vec![]));
}

/// What moved and is at rest costs its position and nothing else, and goes on from there.
#[test]
fn what_is_at_rest_gives_its_memory_back() {
    let mut alone = Alone::new(|_| ());
    (0..CONVS).for_each(|index| alone.known(index));
    alone.hear(0, 2);
    assert!(alone.session.convs.capacity() >= CONVS);
    alone.pass(alone.rules.rest_after);
    assert_eq!((alone.session.convs.len(), alone.session.known()), (1, CONVS), "one waits to be acknowledged");
    alone.ack(0, 2);
    alone.step(|session, at, out| session.on_cursor(&conv(0), Some(2), at, out));
    alone.pass(alone.rules.rest_after);
    assert_eq!((alone.session.convs.capacity(), alone.session.known()), (0, CONVS));
    assert_eq!(alone.session.wake(), None, "nothing is left to do");
    alone.wants();
    alone.hear(0, 3);
    alone.hear(1, 2);
    assert_eq!(alone.live_and_wants(), (vec![3, 2], vec![]));
}

/// Without a position the message is kept in hand, and only the cursor is read.
#[test]
fn a_live_message_waits_in_hand_for_its_cursor() {
    let mut alone = Alone::new(|_| ());
    alone.hear(0, 3);
    assert_eq!(alone.live_and_wants(), (vec![], vec![Upkeep::ReadCursor { conv: conv(0) }]));
    alone.cursor(0, Ok(2));
    assert_eq!(alone.live_and_wants(), (vec![3], vec![]));
    // The cursor says that there is more before it.
    alone.hear(1, 3);
    alone.cursor(1, Ok(1));
    let (handed, wants) = alone.live_and_wants();
    assert!(handed.is_empty() && matches!(wants[..], [_, Upkeep::Fill { after: Some(1), .. }]), "{handed:?} {wants:?}");
    alone.page(1, None, 2..=3);
    alone.wants();
    // The device has it.
    alone.hear(2, 3);
    alone.cursor(2, Ok(3));
    assert_eq!(alone.live_and_wants().0, Vec::<Seq>::new());
    // The store does not answer: it is read like everything else, when it does.
    alone.hear(3, 3);
    alone.cursor(3, Err(()));
    alone.wants();
    alone.pass(100);
    assert_eq!(alone.fills().iter().map(|fill| (fill.0, fill.1)).collect::<Vec<_>>(), [(3, None)]);
}

/// R8: the cursor that was being read is older than what an acknowledgement has shown meanwhile.
#[test]
fn a_cursor_that_comes_late_moves_no_position_back() {
    let mut alone = Alone::new(|_| ());
    alone.hear(0, 3);
    assert!(!alone.step(|session, at, out| session.on_ack(&conv(0), 3, at, out)), "the store must judge");
    assert!(alone.step(|session, at, out| session.on_top(&conv(0), 3, 3, 0, at, out)));
    alone.cursor(0, Ok(0));
    assert_eq!(alone.live_and_wants().0, Vec::<Seq>::new(), "it has 3");
    alone.hear(0, 4);
    assert_eq!(alone.live_and_wants().0, [4]);
}

/// R9: what waits behind a full window is not handed out, and nobody acknowledges it either.
#[test]
fn push_services_hear_of_what_is_never_handed_out() {
    let mut alone = Alone::new(|rules| rules.window = 2);
    alone.known(0);
    alone.known(1);
    for seq in 2..=9 {
        alone.hear(0, seq);
    }
    alone.hear(1, 7);
    assert_eq!(alone.session.unacked(), 2);
    alone.pass(30_000);
    let mut told = alone.told();
    told.sort_unstable();
    assert_eq!(told, [(0, 1, 9), (1, 1, 7)]);
    // A client that acknowledges, if slowly, is there: the other conversation waits for its turn.
    alone.hear(1, 8);
    alone.pass(20_000);
    alone.ack(0, 2);
    alone.pass(20_000);
    assert_eq!(alone.told(), []);
    alone.pass(10_000);
    assert_eq!(alone.told(), [(1, 7, 8)]);
}

/// R9: a session that ends owes what it heard live; a backlog it never had anything to do with it does not.
#[test]
fn a_session_that_ends_says_what_it_owes() {
    let mut alone = Alone::new(|_| ());
    alone.known(0);
    alone.known(1);
    alone.hear(0, 2);
    alone.hear(1, 2);
    alone.ack(1, 2);
    alone.step(|session, _, out| session.compare(Cause::Sweep, out));
    let gap = Gap { conv: conv(2), head: 50, cursor: 0 };
    alone.step(|session, at, out| session.on_gaps(vec![gap], None, at, out));
    let owed: Vec<_> = alone.session.owed().collect();
    assert_eq!(owed, [Upkeep::Undelivered { conv: conv(0), after: 1, upto: 2 }]);
}

/// What a page reads must have room when it comes: neither more bytes than the socket takes nor more rows than the
/// window has, pages under way included.
#[test]
fn pages_ask_for_what_there_is_room_for() {
    let mut alone = Alone::new(|rules| (rules.window, rules.page_rows) = (64, 50));
    alone.known(0);
    alone.known(1);
    alone.credit(0);
    alone.hear(0, 90);
    alone.hear(1, 90);
    assert_eq!(alone.fills(), [], "the socket takes nothing");
    alone.credit(1_000);
    assert_eq!(alone.fills(), [(0, Some(1), 32, 500), (1, Some(1), 32, 250)]);
    alone.page(0, None, 2..=3);
    // The other page keeps its 32 rows, and the two that were handed out are not acknowledged.
    let asked = alone.fills();
    assert_eq!(asked.len(), 1);
    let (index, after, rows, bytes) = asked[0];
    assert!(index == 0 && after == Some(3) && rows <= 30 && bytes <= 750, "{asked:?}");
}

/// R18, R14: a body that cannot be written is left out, and said to be; it takes no place in the window.
#[test]
fn what_cannot_be_written_is_left_out() {
    let mut alone = Alone::new(|rules| rules.window = 2);
    alone.known(0);
    alone.hear(0, 2);
    alone.hear(0, 3);
    assert_eq!(alone.session.unacked(), 2);
    alone.wants();
    alone.step(|session, at, out| session.on_unwritable(&conv(0), 3, at, out));
    let cut = alone.wants();
    assert!(matches!(&cut[..], [Effect::Cut { first: 3, from: 4, .. }]), "{cut:?}");
    assert_eq!(alone.session.unacked(), 1);
    alone.hear(0, 4);
    assert!(matches!(&alone.wants()[..], [Effect::HandLive(live)] if live.seq == 4), "there is room for it");
    alone.ack(0, 4);
    assert_eq!(alone.session.unacked(), 0);
}

/// R18: a row that is missing is waited for; only after long, and only where the store has a row behind it, the session
/// goes on there.
#[test]
fn a_hole_is_stepped_over_after_long() {
    let mut alone = Alone::new(|_| ());
    alone.known(0);
    alone.hear(0, 9);
    let mut fills = 0;
    let found = loop {
        let asked = alone.wants();
        assert_eq!(asked.len(), 1, "{asked:?}");
        match &asked[0] {
            Effect::Upkeep(Upkeep::Fill { .. }) => fills += 1,
            Effect::Upkeep(Upkeep::FindRow { after: 1, upto: 9, .. }) => break alone.now,
            other => panic!("{other:?}"),
        }
        alone.step(|session, at, out| session.on_page(&conv(0), None, Ok(Vec::new()), at, out));
        while alone.out.is_empty() {
            alone.pass(100);
            alone.out.retain(|effect| !matches!(effect, Effect::Upkeep(Upkeep::Undelivered { .. })));
        }
    };
    assert!((61_000..75_000).contains(&found) && (10..40).contains(&fills), "after {found} ms and {fills} fills");
    alone.step(|session, at, out| session.on_row_found(&conv(0), Ok(Some(7)), at, out));
    let cut = alone.wants();
    assert!(matches!(&cut[0], Effect::Cut { first: 2, from: 7, .. }), "{cut:?}");
    assert!(matches!(&cut[1], Effect::Upkeep(Upkeep::Fill { after: Some(6), .. })), "{cut:?}");
    alone.page(0, None, 7..=9);
    assert_eq!((alone.session.behind(), alone.session.unacked()), (0, 3));
    alone.ack(0, 9);
    assert_eq!(alone.session.unacked(), 0);
}

/// R18: while the store does not answer, nothing is known of any row.
#[test]
fn a_store_that_does_not_answer_makes_no_hole() {
    let mut alone = Alone::new(|_| ());
    alone.known(0);
    alone.hear(0, 3);
    assert_eq!(alone.fills().len(), 1);
    for _ in 0..200 {
        alone.step(|session, at, out| session.on_page(&conv(0), None, Err(()), at, out));
        alone.pass(5_000);
        let asked = alone.wants();
        let fills = |want: &Effect| matches!(want, Effect::Upkeep(Upkeep::Fill { .. }));
        let finds = |want: &Effect| matches!(want, Effect::Upkeep(Upkeep::FindRow { .. }));
        assert!(asked.iter().any(fills) && !asked.iter().any(finds), "{asked:?}");
    }
}

/// A cursor that the store does not take is not written again every second by every session.
#[test]
fn a_cursor_that_is_not_taken_is_written_again_ever_later() {
    let mut alone = Alone::new(|_| ());
    alone.known(0);
    alone.hear(0, 2);
    alone.pass(5_000);
    alone.ack(0, 2);
    let mut began = alone.now;
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert!(alone.wants().iter().any(|want| matches!(want, Effect::Upkeep(Upkeep::RaiseCursor { seq: 2, .. }))));
        alone.step(|session, at, out| session.on_cursor(&conv(0), None, at, out));
        while !alone.out.iter().any(|want| matches!(want, Effect::Upkeep(Upkeep::RaiseCursor { .. }))) {
            alone.pass(500);
        }
        waits.push((alone.now - began) / 1_000);
        began = alone.now;
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
}
