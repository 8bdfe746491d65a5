//! Random interleavings of everything that can happen to a session, against a model that knows only logs, what the
//! client got and what it acknowledged.
//!
//! The model's store answers late, with what it knew when it was asked or with what it knows now; the bus loses,
//! repeats and reorders; the socket stalls; sessions end and start again at the stored cursor. A row may be lost for good.
//! Some of the conversations are rooms, which the user joins and leaves.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{Body, Cid, Counts, Gap, Kind, RoomId, Row, Since, UserId, room::Change},
    protocol::{ServerFrame, SharedFrame},
    session::any_kind::of_any_kind,
    session::{RoomPlace, Stamped, Upkeep},
};

mod rooms;
mod steps;

use rooms::Log;

const CONVS: usize = 7;
/// The conversations before it are direct ones, the others are rooms.
const FIRST_ROOM: usize = 5;

fn me() -> UserId {
    UserId::new("me").unwrap()
}

fn conv(index: usize) -> ConvId {
    if index >= FIRST_ROOM {
        return ConvId::room(&RoomId::new(&format!("room{index}")).unwrap());
    }
    ConvId::direct(&me(), &UserId::new(&format!("peer{index}")).unwrap())
}

fn live(index: usize, seq: Seq) -> Arc<LiveMessage> {
    let frame = SharedFrame::encoded(vec![0; 100].into());
    Arc::new(LiveMessage { conv: conv(index), seq, puts_out: None, expires: None, ts: 0, frame, from_bus: true })
}

fn row(seq: Seq) -> Row {
    let (sender, cid, body) = (UserId::new("peer").unwrap(), Cid::new("c").unwrap(), Body::text("hi"));
    let (kind, counts) = (Kind::Message, Counts::default());
    of_any_kind(Row { seq, kind, sender, service: false, cid, ts: 0, body, counts, refs: None })
}

fn rules() -> Rules {
    // Small, so that every limit is met often.
    Rules {
        window: 6,
        page_rows: 3,
        behind: 2,
        backlog: 8,
        known: 2,
        warm: 1,
        rest_after: 30,
        hole_after: 2_000,
        room_ack_coalesce: 500,
        ..crate::node::rules(&crate::config::Config::default())
    }
}

/// A store request with what the store knew when it was asked.
#[derive(Debug, Clone)]
struct Asked {
    request: Request,
    tops: [Seq; CONVS],
    cursors: [Seq; CONVS],
}

#[derive(Debug, Clone)]
enum Request {
    Fill { conv: usize, after: Option<Seq>, rows: usize },
    Position { conv: usize },
    Row { conv: usize, after: Seq, upto: Seq },
    Room { conv: usize, after: Option<Seq>, at: Seq },
    Rooms { after: Option<ConvId> },
    Stamps,
    Compare { after: Option<ConvId> },
    Top { conv: usize, seq: Seq },
    Cursor { conv: usize, seq: Seq },
}

struct World {
    rules: Rules,
    now: Tick,
    tops: [Seq; CONVS],
    cursors: [Seq; CONVS],
    /// Highest seq the device ever acknowledged.
    acked: [Seq; CONVS],
    /// A row that the store has lost.
    lost: [Option<Seq>; CONVS],
    /// This session's client was told that it is left out.
    cut: [bool; CONVS],
    /// This session's client was told that everything up to here is left to the history.
    left: [Seq; CONVS],
    /// What happened in the rooms.
    logs: [Log; CONVS],
    /// The session listens on the room.
    listens: [bool; CONVS],
    notices: Vec<(usize, Seq)>,
    session: Delivery,
    /// What this session's client got last, where it got anything.
    got: BTreeMap<usize, Seq>,
    asked: Vec<Asked>,
    caught_up: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// The user joins or is put out, and that row may be lost.
    Member {
        room: usize,
        lost: bool,
    },
    AppendLost(usize),
    Notice {
        pick: usize,
        keep: bool,
    },
    Lose(usize),
    Answer {
        pick: usize,
        stale: bool,
    },
    Fail(usize),
    Ack {
        conv: usize,
        back: u64,
    },
    AckAhead {
        conv: usize,
        above: bool,
    },
    Credit(bool),
    Tick(Tick),
    Compare,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let any_conv = 0..CONVS;
    prop_oneof![
        6 => any_conv.clone().prop_map(Step::Append),
        3 => (FIRST_ROOM..CONVS, (0..12_u8)).prop_map(|(room, lost)| Step::Member { room, lost: lost == 0 }),
        1 => any_conv.clone().prop_map(Step::AppendLost),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(pick, keep)| Step::Notice { pick, keep }),
        1 => any::<usize>().prop_map(Step::Lose),
        10 => (any::<usize>(), any::<bool>()).prop_map(|(pick, stale)| Step::Answer { pick, stale }),
        1 => any::<usize>().prop_map(Step::Fail),
        6 => (any_conv.clone(), 0..3_u64).prop_map(|(conv, back)| Step::Ack { conv, back }),
        1 => (any_conv, any::<bool>()).prop_map(|(conv, above)| Step::AckAhead { conv, above }),
        2 => any::<bool>().prop_map(Step::Credit),
        3 => (0..3_000_u64).prop_map(Step::Tick),
        1 => Just(Step::Compare),
        1 => Just(Step::Restart),
    ]
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            rules: rules(),
            now: 1,
            tops: [0; CONVS],
            cursors: [0; CONVS],
            acked: [0; CONVS],
            lost: [None; CONVS],
            cut: [false; CONVS],
            left: [0; CONVS],
            logs: Default::default(),
            listens: [false; CONVS],
            notices: Vec::new(),
            session: Delivery::default(),
            got: BTreeMap::new(),
            asked: Vec::new(),
            caught_up: 0,
        };
        world.restart();
        world
    }

    fn restart(&mut self) {
        self.session = Delivery::begin(&me(), &self.rules, None, 500, self.now);
        self.listens = [false; CONVS];
        self.got.clear();
        self.cut = [false; CONVS];
        self.left = [0; CONVS];
        // Cursor writes of the old session may still land; its reads go nowhere.
        self.asked.retain(|asked| matches!(asked.request, Request::Cursor { .. }));
        self.caught_up = 0;
        let mut out = Vec::new();
        self.session.set_credit(10_000, At { rules: &self.rules, now: self.now }, &mut out);
        self.session.compare(Cause::Login, &mut out);
        self.take(out);
    }

    fn index(of: &ConvId) -> usize {
        (0..CONVS).find(|index| conv(*index) == *of).unwrap()
    }

    fn take(&mut self, out: Vec<Effect>) {
        for effect in out {
            let need = match effect {
                Effect::HandLive(live) => {
                    self.hand(Self::index(&live.conv), live.seq);
                    continue;
                }
                Effect::HandRow(of, row) => {
                    self.hand(Self::index(&of), row.seq);
                    continue;
                }
                Effect::Cut { conv, first, from } => {
                    let conv = Self::index(&conv);
                    assert_eq!(
                        (Some(first), from),
                        (self.lost[conv], first + 1),
                        "only what is lost is left out (R18)"
                    );
                    self.cut[conv] = true;
                    continue;
                }
                Effect::LeftToHistory { conv, from } => {
                    self.leave(Self::index(&conv), from);
                    continue;
                }
                Effect::Unlisten(room) => {
                    self.listens[Self::index(&room)] = false;
                    continue;
                }
                Effect::Frame(ServerFrame::Truncated { conv, from }) => {
                    self.jumped(Self::index(&conv), from);
                    continue;
                }
                Effect::CompareSkipped { .. } => continue,
                Effect::Upkeep(need) => need,
                other => panic!("delivery wants {other:?}"),
            };
            match need {
                Upkeep::Fill { conv, after, rows, bytes } => {
                    assert!(rows > 0 && bytes > 0);
                    self.ask(Request::Fill { conv: Self::index(&conv), after, rows });
                }
                Upkeep::ReadCursor { conv } => self.ask(Request::Position { conv: Self::index(&conv) }),
                Upkeep::FindRow { conv, after, upto } => {
                    self.ask(Request::Row { conv: Self::index(&conv), after, upto })
                }
                Upkeep::ReadRoom { conv, after, at, backlog } => {
                    assert_eq!(backlog, self.rules.backlog);
                    self.ask(Request::Room { conv: Self::index(&conv), after, at });
                }
                Upkeep::CompareRooms { after, backlog: 8, .. } => self.ask(Request::Rooms { after }),
                Upkeep::ReadStamps { .. } => self.ask(Request::Stamps),
                Upkeep::Compare { after, .. } => self.ask(Request::Compare { after }),
                Upkeep::RaiseCursor { conv, seq } => {
                    let conv = Self::index(&conv);
                    assert!(seq <= self.acked[conv], "a cursor is written from acks only");
                    self.ask(Request::Cursor { conv, seq });
                }
                Upkeep::Undelivered { .. } => {}
                other => panic!("delivery needs {other:?}"),
            }
        }
        if self.session.take_caught_up() {
            self.caught_up += 1;
        }
        assert!(self.caught_up <= 1);
        self.session.assert_sound(&self.rules);
        let most = self.rules.known + self.rules.behind + self.rules.window as usize + CONVS;
        assert!(self.session.known() <= most);
    }

    fn ask(&mut self, request: Request) {
        assert!(self.asked.len() < 64, "it asks without end: {:?}", self.asked);
        self.asked.push(Asked { request, tops: self.tops, cursors: self.cursors });
    }

    /// I3, and I2's half that can be seen at once: nothing is skipped that the device did not acknowledge.
    fn hand(&mut self, conv: usize, seq: Seq) {
        assert!(seq <= self.tops[conv] && self.lost[conv] != Some(seq));
        assert!(self.is_mine(conv, seq), "room {conv}: {seq} is not for the user: {:?}", self.logs[conv]);
        let floor = self.acked[conv].max(self.left[conv]);
        match self.got.get(&conv) {
            Some(last) => {
                let skip = self.next_of(conv, floor.max(*last));
                assert!(seq > *last && seq <= skip, "conv {conv}: {seq} after {last}, acked or left {floor}");
            }
            None => {
                let skip = self.next_of(conv, floor);
                assert!(seq <= skip, "conv {conv}: starts at {seq}, acked or left {floor}");
            }
        }
        self.got.insert(conv, seq);
    }

    fn answer(&mut self, pick: usize, stale: bool, fail: bool) {
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.remove(pick % self.asked.len());
        let (tops, cursors) = if stale { (asked.tops, asked.cursors) } else { (self.tops, self.cursors) };
        let (rules, now) = (self.rules.clone(), self.now);
        let mut out = Vec::new();
        match asked.request {
            Request::Fill { conv: index, .. } if fail => {
                self.session.on_page(&conv(index), None, Err(()), At { rules: &rules, now }, &mut out);
            }
            Request::Fill { conv: index, after, rows } => {
                let cursor = after.is_none().then_some(cursors[index]);
                let start = after.unwrap_or(cursors[index]);
                let there = |seq: &Seq| self.lost[index] != Some(*seq);
                let page = (start + 1..=tops[index]).take_while(there).take(rows);
                let page = page.map(|seq| self.logs[index].row(seq)).collect();
                self.session.on_page(&conv(index), cursor, Ok(page), At { rules: &rules, now }, &mut out);
            }
            Request::Position { conv: index } => {
                let cursor = if fail { Err(()) } else { Ok(cursors[index]) };
                self.session.on_cursor_read(&conv(index), cursor, At { rules: &rules, now }, &mut out);
            }
            Request::Row { conv: index, after, upto } => {
                let there = |seq: &Seq| self.lost[index] != Some(*seq);
                let next = (after + 1..=upto.max(tops[index])).find(|seq| *seq <= tops[index] && there(seq));
                let next = if fail { Err(()) } else { Ok(next) };
                self.session.on_row_found(&conv(index), next, At { rules: &rules, now }, &mut out);
            }
            Request::Room { conv: index, .. } if fail => {
                self.session.on_room_read(&conv(index), Err(()), At { rules: &rules, now }, &mut out);
            }
            Request::Room { conv: index, after, at } => {
                assert!(at <= tops[index], "it was heard of");
                let place = self.place(index, after.ok_or(asked.cursors[index]), tops[index]);
                self.session.on_room_read(&conv(index), Ok(place), At { rules: &rules, now }, &mut out);
            }
            Request::Stamps | Request::Compare { .. } | Request::Rooms { .. } if fail => {
                let cause = self.session.on_compare_failed(Cause::Login);
                self.session.end_back_off();
                self.session.compare(cause, &mut out);
            }
            Request::Rooms { after } => {
                let index = after.map_or(FIRST_ROOM, |after| Self::index(&after) + 1);
                let place = self.place(index, Err(asked.cursors[index]), tops[index]);
                let next = (index + 1 < CONVS).then(|| conv(index));
                self.session.on_rooms(vec![(conv(index), place)], next, At { rules: &rules, now }, &mut out);
            }
            Request::Stamps => {
                // Counted in the same commit as the heads, as the embedded store does.
                let count = u128::from(tops[..FIRST_ROOM].iter().sum::<Seq>());
                let stamps =
                    Stamped { since: Since::new(count.to_be_bytes()), clean: true, retired: false, in_rooms: true };
                self.session.on_stamps(stamps, At { rules: &rules, now }, &mut out);
            }
            Request::Compare { after } => {
                let gap = |i: usize| Gap { conv: conv(i), head: tops[i], cursor: cursors[i] };
                let mut all: Vec<_> = (0..FIRST_ROOM).map(gap).collect();
                all.sort_by(|one, other| one.conv.cmp(&other.conv));
                all.retain(|gap| after.as_ref().is_none_or(|after| gap.conv > *after));
                let next = (all.len() > 2).then(|| all[1].conv.clone());
                all.truncate(2);
                self.session.on_gaps(all, next, At { rules: &rules, now }, &mut out);
            }
            Request::Top { .. } if fail => self.session.on_check_failed(),
            // What was not for the user cannot be acknowledged.
            Request::Top { conv: index, seq }
                if seq > cursors[index] && seq <= tops[index] && !self.is_mine(index, seq) =>
            {
                self.session.on_check_failed();
            }
            Request::Top { conv: index, seq } => {
                let taken = self.session.on_top(
                    &conv(index),
                    seq,
                    tops[index],
                    cursors[index],
                    At { rules: &rules, now },
                    &mut out,
                );
                assert_eq!(taken, seq <= tops[index], "R7");
            }
            Request::Cursor { conv: index, seq } => {
                let stored = (!fail).then_some(seq);
                self.cursors[index] = self.cursors[index].max(stored.unwrap_or(0));
                self.session.on_cursor(&conv(index), stored, At { rules: &rules, now }, &mut out);
            }
        }
        self.take(out);
    }

    fn ack(&mut self, index: usize, seq: Seq) {
        let mut out = Vec::new();
        self.acked[index] = self.acked[index].max(seq.min(self.last_mine(index)));
        let (rules, now) = (self.rules.clone(), self.now);
        if !self.session.on_ack(&conv(index), seq, At { rules: &rules, now }, &mut out) {
            self.ask(Request::Top { conv: index, seq });
        }
        self.take(out);
    }

    fn notice(&mut self, pick: usize, keep: bool) {
        if self.notices.is_empty() {
            return;
        }
        let at = pick % self.notices.len();
        let (index, seq) = if keep { self.notices[at] } else { self.notices.remove(at) };
        let (rules, now) = (self.rules.clone(), self.now);
        let mut out = Vec::new();
        if self.logs[index].is_join(seq) {
            self.session.on_notice(&conv(index), seq, At { rules: &rules, now }, &mut out);
        } else {
            let frame = SharedFrame::encoded(vec![0; 100].into());
            let puts_out = self.logs[index].puts_out(seq);
            let live =
                Arc::new(LiveMessage { conv: conv(index), seq, puts_out, expires: None, ts: 0, frame, from_bus: true });
            self.session.on_live(live, At { rules: &rules, now }, &mut out);
        }
        self.take(out);
    }

    fn pass(&mut self, time: Tick) {
        self.now += time;
        let (rules, now) = (self.rules.clone(), self.now);
        let mut out = Vec::new();
        self.session.on_tick(At { rules: &rules, now }, &mut out);
        self.take(out);
    }

    fn credit(&mut self, open: bool) {
        let (rules, now) = (self.rules.clone(), self.now);
        let mut out = Vec::new();
        self.session.set_credit(if open { 10_000 } else { 0 }, At { rules: &rules, now }, &mut out);
        self.take(out);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append(conv) => {
                self.tops[conv] += 1;
                if conv < FIRST_ROOM || self.listens[conv] {
                    self.notices.push((conv, self.tops[conv]));
                }
            }
            Step::Member { room, lost } => self.change(room, lost),
            Step::AppendLost(conv) if self.lost[conv].is_some() => self.run(Step::Append(conv)),
            Step::AppendLost(conv) => {
                self.tops[conv] += 1;
                self.lost[conv] = Some(self.tops[conv]);
            }
            Step::Notice { pick, keep } => self.notice(pick, keep),
            Step::Lose(pick) => {
                if !self.notices.is_empty() {
                    self.notices.remove(pick % self.notices.len());
                }
            }
            Step::Answer { pick, stale } => self.answer(pick, stale, false),
            Step::Fail(pick) => self.answer(pick, true, true),
            Step::Ack { conv, back } => {
                if let Some(last) = self.got.get(&conv) {
                    self.ack(conv, last.saturating_sub(back));
                }
            }
            Step::AckAhead { conv, above } => {
                let seq = if above { self.tops[conv] + 1_000_000 } else { self.last_mine(conv) };
                // What the client acknowledges without having got it in this session it had before.
                self.ack(conv, seq);
            }
            Step::Credit(open) => self.credit(open),
            Step::Tick(time) => self.pass(time),
            Step::Compare => {
                let mut out = Vec::new();
                self.session.compare(Cause::Reconnect, &mut out);
                self.take(out);
            }
            Step::Restart => self.restart(),
        }
    }

    /// Everything that is under way comes to its end, the client acknowledges what it gets. No comparison is
    /// started from outside. Bounded: a session that spins fails here.
    fn settle(&mut self) {
        // Behind a row that is lost the log goes on, or nobody can tell that it is lost.
        for conv in 0..CONVS {
            if self.lost[conv] == Some(self.tops[conv]) {
                self.run(Step::Append(conv));
            }
        }
        self.credit(true);
        for _ in 0..2_000 {
            self.credit(true);
            let idle = self.asked.is_empty() && self.notices.is_empty();
            self.notice(0, false);
            self.answer(0, false, false);
            for (conv, last) in self.got.clone() {
                if last > self.acked[conv] || self.session.unacked() > 0 {
                    self.ack(conv, last);
                }
            }
            self.pass(1_000);
            let works = self.session.convs.values().any(Conv::has_work);
            if idle && self.asked.is_empty() && !works && !self.session.is_comparing() {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}, asked {:?}", self.session, self.asked);
    }

    fn everything_arrived(&self) {
        for conv in 0..CONVS {
            let had = self.got.get(&conv).copied().unwrap_or(0).max(self.acked[conv]);
            let last = self.last_mine(conv);
            // Of the newest part every row may be lost.
            let left = self.left[conv] >= last;
            assert!(had == last || left, "conv {conv} is not complete, {had} of {last}: {:#?}", self.session);
        }
        assert_eq!(self.caught_up, 1);
    }
}

/// `PROPTEST_CASES=100000 cargo test --release delivery` for a longer look.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_500);
    ProptestConfig { cases, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// I2, I3, R4–R8: whatever was lost, one comparison of heads brings everything, in order, within the window.
    #[test]
    fn nothing_is_lost_or_out_of_order(steps in proptest::collection::vec(step(), 0..160)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.settle();
        world.run(Step::Compare);
        world.settle();
        world.everything_arrived();
    }

    /// R5: where the bus only repeats and reorders, and the store only answers late, everything arrives without
    /// another comparison than that of the start.
    #[test]
    fn what_was_heard_arrives_without_reconcile(steps in proptest::collection::vec(step(), 0..160)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Lose(_) | Step::Compare => {}
                // A session that starts again has not heard what was published before: its comparison tells.
                other => world.run(other),
            }
        }
        world.settle();
        world.everything_arrived();
    }
}

/// R8: the top and cursor for an acknowledgement come late, when the conversation was delivered, acknowledged and
/// forgotten meanwhile. The old cursor must not become its position: it would be handed out again. Found by the model.
#[test]
fn an_old_answer_to_an_acknowledgement_rewinds_nothing() {
    let mut world = World::new();
    world.settle();
    // The check is under way with what the store knew now: nothing.
    world.ack(2, 0);
    let late = world.asked.pop().unwrap();
    assert!(matches!(late.request, Request::Top { conv: 2, .. }));
    world.run(Step::Append(2));
    world.settle();
    assert_eq!((world.got.get(&2), world.cursors[2]), (Some(&1), 1));
    // Others come, so that there is no room for it.
    for other in [0, 1, 3, 4] {
        world.run(Step::Append(other));
        world.settle();
    }
    // While a page of heads is being read nothing is forgotten, what the late answer brings neither.
    world.run(Step::Compare);
    world.asked.push(late);
    world.answer(1, true, false);
    world.run(Step::Append(2));
    world.settle();
    world.everything_arrived();
}

/// Acknowledgements of what another session of the device got: no more of those conversations are kept than of others, and
/// each cursor is written all the same.
#[test]
fn acknowledgements_that_the_store_judged_keep_to_the_bound_of_memory() {
    let (rules, mut session, mut out) = (rules(), Delivery::default(), Vec::new());
    let at = At { rules: &rules, now: 0 };
    let convs: Vec<_> = (0..100).map(|n| ConvId::new(&format!("dm:me:peer{n}")).unwrap()).collect();
    for conv in &convs {
        assert!(!session.on_ack(conv, 1, at, &mut out), "the store must judge");
    }
    for conv in &convs {
        assert!(session.on_top(conv, 1, 1, 0, at, &mut out));
        session.assert_sound(&rules);
    }
    assert!(session.known() <= rules.known + rules.behind + rules.window as usize, "{} are kept", session.known());
    let raises = |effect: &Effect| matches!(effect, Effect::Upkeep(Upkeep::RaiseCursor { seq: 1, .. }));
    assert_eq!(out.iter().filter(|effect| raises(effect)).count(), convs.len());
}
