//! An outage of the store with thousands of sessions, on a clock of the test's own: real sessions, the real lines, and
//! clients that try again as the Rust client does. What is counted is the requests that reach the store.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use super::{room_places, upkeep};
use crate::{
    config::Config,
    model::{ConvId, Counts, Device, DeviceId, Gap, Kind, Row, Seq, SessionId, Since, UserId},
    node,
    overload::{Class, Lines, Tick, cost},
    protocol::{Body, ClientFrame, LiveMessage, Request, SharedFrame, client::Hello},
    session::{Cause, Effect, Expiry, Greeting, Rules, Session, Stamped, Upkeep, UpkeepDone, greeting::Arrival},
};

const SESSIONS: usize = 2_000;
/// Each client writes a message so often.
const SEND_EVERY: Tick = 10_000;
const OUTAGE: std::ops::Range<Tick> = 60_000..120_000;
const END: Tick = 240_000;
/// The store answers after so long, or does not.
const LATENCY: Tick = 5;
const TIMEOUT: Tick = 3_000;
const PATIENCE: Tick = 5_000;

#[derive(Debug, Clone)]
enum Work {
    Stamps { of: usize, cause: Cause },
    Compare { of: usize, cause: Cause },
    Rooms { of: usize, cause: Cause },
    Fill { of: usize, after: Option<Seq>, rows: usize },
    Cursor { of: usize },
    Find { of: usize, after: Seq },
    Raise { of: usize, seq: Seq },
    Append { conv: usize },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Send { by: usize, tries: u32 },
    Tick { of: usize },
    Answer { work: usize, asked: Tick },
    PatienceOver { work: usize },
    Wake,
}

/// Work that was asked for and has not ended: what was taken for it, and its ticket while it waits in line.
struct Asked {
    work: Work,
    class: Class,
    taken: u64,
    ticket: Option<u64>,
}

struct World {
    now: Tick,
    events: BinaryHeap<Reverse<(Tick, u64, Event)>>,
    number: u64,
    lines: Lines<usize>,
    wake_at: Tick,
    works: Vec<Option<Asked>>,
    sessions: Vec<Session>,
    next_tick: Vec<Tick>,
    rules: Arc<Rules>,
    /// Per conversation of two: the log's end, and the sends that wait or are in flight.
    tops: Vec<Seq>,
    waiting: Vec<Vec<(usize, u32)>>,
    in_flight: Vec<Vec<(usize, u32)>>,
    appending: Vec<bool>,
    cursors: Vec<Seq>,
    got: Vec<Seq>,
    /// Requests started, by tenth of a second.
    started: BTreeMap<Tick, u64>,
    chance: u64,
}

fn conv(of: usize) -> ConvId {
    let user = |n: usize| UserId::new(&format!("u{n}")).unwrap();
    ConvId::direct(&user(of & !1), &user(of | 1))
}

fn session(of: usize, rules: &Arc<Rules>, now: Tick) -> (Session, Vec<Effect>) {
    let device = Device::new(UserId::new(&format!("u{of}")).unwrap(), DeviceId::new("d").unwrap());
    let hello = Hello { token: None, device: device.device, client: None, attempt: 1, since: None };
    let request = Request { reference: None, frame: ClientFrame::Hello(hello) };
    let introduced = Greeting.on_frame(Ok(request)).unwrap();
    let expiry = Expiry { tick: 10 * END, at: 10 * END };
    let entering = introduced.on_token(Some(Ok((device.user, expiry))), SessionId::random()).unwrap();
    let phase = (of % 1_000) as u64;
    let stamps = Stamped { since: Since::new([0; 16]), clean: false, retired: false, in_rooms: true };
    let arrival = Arrival { rules: rules.clone(), node: "n".into(), ts: 0, now, phase, is_new: false, stamps };
    entering.on_entered(1, 1).on_registered(arrival)
}

impl World {
    fn new(config: &Config) -> Self {
        let rules = Arc::new(node::rules(config));
        let mut world = Self {
            now: 0,
            events: BinaryHeap::new(),
            number: 0,
            lines: Lines::new(node::work_limits(config), 0),
            wake_at: Tick::MAX,
            works: Vec::new(),
            sessions: Vec::new(),
            next_tick: vec![Tick::MAX; SESSIONS],
            tops: vec![0; SESSIONS / 2],
            waiting: vec![Vec::new(); SESSIONS / 2],
            in_flight: vec![Vec::new(); SESSIONS / 2],
            appending: vec![false; SESSIONS / 2],
            cursors: vec![0; SESSIONS],
            got: vec![0; SESSIONS],
            started: BTreeMap::new(),
            chance: 42,
            rules,
        };
        for of in 0..SESSIONS {
            world.now = (of as u64 * 20_000) / SESSIONS as u64;
            let (session, first) = session(of, &world.rules, world.now);
            world.sessions.push(session);
            world.step(of, |session, now, out| {
                session.on_output(64 << 10, now, out);
            });
            world.carry_out(of, first);
            world.at(20_000 + of as u64 * SEND_EVERY / SESSIONS as u64, Event::Send { by: of, tries: 0 });
            // What became due meanwhile, in its order.
            world.run_to(world.now);
        }
        world
    }

    fn at(&mut self, when: Tick, event: Event) {
        self.number += 1;
        self.events.push(Reverse((when, self.number, event)));
    }

    fn is_up(&self, when: Tick) -> bool {
        !OUTAGE.contains(&when)
    }

    /// Between 0.5 and 1, always the same ones.
    fn jitter(&mut self, whole: Tick) -> Tick {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        whole / 2 + (self.chance >> 33) % (whole / 2 + 1)
    }

    fn run_to(&mut self, end: Tick) {
        while self.events.peek().is_some_and(|Reverse((when, _, _))| *when <= end) {
            let Some(Reverse((when, _, event))) = self.events.pop() else { return };
            self.now = self.now.max(when);
            match event {
                Event::Send { by, tries } => self.send(by, tries),
                Event::Tick { of } if self.next_tick[of] == when => {
                    self.next_tick[of] = Tick::MAX;
                    self.step(of, |session, now, out| session.on_tick(now, out));
                }
                Event::Tick { .. } => {}
                Event::Answer { work, asked } => self.answer(work, asked),
                Event::PatienceOver { work } => self.lose_patience(work),
                Event::Wake if self.wake_at == when => {
                    self.wake_at = Tick::MAX;
                    self.call();
                }
                Event::Wake => {}
            }
        }
        self.now = end;
    }

    fn send(&mut self, by: usize, tries: u32) {
        if tries == 0 && self.now + SEND_EVERY < END - 60_000 {
            self.at(self.now + SEND_EVERY, Event::Send { by, tries: 0 });
        }
        self.waiting[by / 2].push((by, tries));
        if !self.appending[by / 2] {
            self.appending[by / 2] = true;
            self.ask(Work::Append { conv: by / 2 }, Class::Append, 1);
        }
    }

    /// As [`super::Ops`] does: its turn at once, a place in the line, or a refusal.
    fn ask(&mut self, work: Work, class: Class, cost: u64) {
        let number = self.works.len();
        self.works.push(Some(Asked { work, class, taken: cost, ticket: None }));
        if self.lines.try_start(class, cost, self.now) {
            return self.start(number);
        }
        match self.lines.wait(class, cost, number) {
            Ok(ticket) => {
                if let Some(asked) = &mut self.works[number] {
                    asked.ticket = Some(ticket);
                }
                if class != Class::Listing {
                    self.at(self.now + PATIENCE, Event::PatienceOver { work: number });
                }
                self.call();
            }
            Err(_) => self.finish(number, false),
        }
    }

    fn call(&mut self) {
        for one in self.lines.started(self.now) {
            self.start(one.waiter);
        }
        if let Some(when) = self.lines.wake(self.now).filter(|when| *when < self.wake_at) {
            self.wake_at = when;
            self.at(when, Event::Wake);
        }
    }

    fn start(&mut self, number: usize) {
        *self.started.entry(self.now / 100).or_default() += 1;
        if let Some(Asked { work: Work::Append { conv }, .. }) = self.works[number] {
            self.in_flight[conv] = std::mem::take(&mut self.waiting[conv]);
        }
        if let Some(asked) = &mut self.works[number] {
            asked.ticket = None;
        }
        let answered = self.now + if self.is_up(self.now) { LATENCY } else { TIMEOUT };
        self.at(answered, Event::Answer { work: number, asked: self.now });
    }

    fn answer(&mut self, number: usize, asked: Tick) {
        let served = self.is_up(asked) && self.is_up(self.now);
        let Some(Asked { class, taken, work, .. }) = &self.works[number] else { return };
        // Nobody is in a room: no more was read than that.
        let cost = if matches!(work, Work::Rooms { .. }) { 1 } else { *taken };
        self.lines.end(*class, *taken, cost, Some(served), self.now);
        self.finish(number, served);
        self.call();
    }

    fn lose_patience(&mut self, number: usize) {
        let Some(Asked { class, ticket: Some(ticket), .. }) = &self.works[number] else { return };
        if self.lines.leave(*class, *ticket).is_some() {
            self.finish(number, false);
        }
    }

    fn finish(&mut self, number: usize, served: bool) {
        let Some(Asked { work, .. }) = self.works[number].take() else { return };
        match work {
            Work::Append { conv } => self.appended(conv, served),
            Work::Stamps { of, cause } => {
                let since = Since::new(u128::from(self.tops[of / 2]).to_be_bytes());
                let stamps =
                    if served { Ok(Stamped { since, clean: true, retired: false, in_rooms: true }) } else { Err(()) };
                self.upkeep(of, UpkeepDone::StampsRead { cause, stamps });
            }
            Work::Compare { of, cause } => {
                let (head, cursor) = (self.tops[of / 2], self.cursors[of]);
                let gaps = if head > cursor { vec![Gap { conv: conv(of), head, cursor }] } else { Vec::new() };
                let page = if served { Ok((gaps, None)) } else { Err(()) };
                self.upkeep(of, UpkeepDone::Compared { cause, page });
            }
            Work::Rooms { of, cause } => {
                let page = if served { Ok((Vec::new(), None)) } else { Err(()) };
                self.upkeep(of, UpkeepDone::RoomsCompared { cause, page });
            }
            Work::Fill { of, after, rows } => {
                let start = after.unwrap_or(self.cursors[of]);
                let page = (start + 1..=self.tops[of / 2]).take(rows).map(row).collect();
                let cursor = after.is_none().then_some(self.cursors[of]);
                let done = if served { Ok(page) } else { Err(()) };
                self.upkeep(of, UpkeepDone::Filled { conv: conv(of), cursor: cursor.filter(|_| served), rows: done });
            }
            Work::Cursor { of } => {
                let cursor = served.then_some(self.cursors[of]).ok_or(());
                self.upkeep(of, UpkeepDone::CursorRead { conv: conv(of), cursor });
            }
            Work::Find { of, after } => {
                let next = (after < self.tops[of / 2]).then_some(after + 1);
                self.upkeep(of, UpkeepDone::RowFound { conv: conv(of), next: served.then_some(next).ok_or(()) });
            }
            Work::Raise { of, seq } => {
                if served {
                    self.cursors[of] = self.cursors[of].max(seq);
                }
                self.upkeep(of, UpkeepDone::CursorRaised { conv: conv(of), stored: served.then_some(seq) });
            }
        }
    }

    fn appended(&mut self, number: usize, served: bool) {
        let mut batch = std::mem::take(&mut self.in_flight[number]);
        if batch.is_empty() {
            // Refused before it was started.
            batch = std::mem::take(&mut self.waiting[number]);
        }
        self.appending[number] = false;
        for (by, tries) in batch {
            if served {
                self.tops[number] += 1;
                let seq = self.tops[number];
                for of in [by, by ^ 1] {
                    let frame = SharedFrame::encoded(vec![0; 100].into());
                    let live = Arc::new(LiveMessage {
                        conv: conv(of),
                        seq,
                        puts_out: None,
                        expires: None,
                        ts: 0,
                        frame,
                        from_bus: false,
                    });
                    self.step(of, |session, now, out| session.on_live(live, now, out));
                }
            } else {
                let wait = self.jitter((200 << tries.min(16)).min(10_000));
                self.at(self.now + wait, Event::Send { by, tries: tries + 1 });
            }
        }
        if !self.waiting[number].is_empty() {
            self.appending[number] = true;
            self.ask(Work::Append { conv: number }, Class::Append, 1);
        }
    }

    fn upkeep(&mut self, of: usize, done: UpkeepDone) {
        self.step(of, |session, now, out| session.on_upkeep(done, now, out));
    }

    fn step(&mut self, of: usize, event: impl FnOnce(&mut Session, Tick, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        event(&mut self.sessions[of], self.now, &mut out);
        self.carry_out(of, out);
        let deadline = self.sessions[of].deadline().max(self.now + 1);
        if deadline < self.next_tick[of] {
            self.next_tick[of] = deadline;
            self.at(deadline, Event::Tick { of });
        }
    }

    fn carry_out(&mut self, of: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::HandLive(live) => self.acknowledge(of, live.seq),
                Effect::HandRow(_, row) => self.acknowledge(of, row.seq),
                Effect::Ping => self.sessions[of].on_alive(self.now),
                Effect::Upkeep(Upkeep::Fill { after, rows, .. }) => {
                    self.ask(Work::Fill { of, after, rows }, Class::Fill, cost(rows, 0));
                }
                Effect::Upkeep(Upkeep::ReadStamps { cause, urgency }) => {
                    self.ask(Work::Stamps { of, cause }, upkeep::class_of(urgency), 1);
                }
                Effect::Upkeep(Upkeep::Compare { cause, urgency, .. }) => {
                    self.ask(Work::Compare { of, cause }, upkeep::class_of(urgency), 256);
                }
                Effect::Upkeep(Upkeep::CompareRooms { cause, urgency, .. }) => {
                    let taken = cost(room_places::PAGE_ROWS, 0);
                    self.ask(Work::Rooms { of, cause }, upkeep::class_of(urgency), taken);
                }
                Effect::Upkeep(Upkeep::ReadCursor { .. }) => self.ask(Work::Cursor { of }, Class::Fill, 1),
                Effect::Upkeep(Upkeep::FindRow { after, .. }) => self.ask(Work::Find { of, after }, Class::Fill, 4),
                Effect::Upkeep(Upkeep::RaiseCursor { seq, .. }) => {
                    self.ask(Work::Raise { of, seq }, Class::Fill, 1);
                }
                Effect::Close(reason) => panic!("session {of} was closed at {}: {reason:?}", self.now),
                _ => {}
            }
        }
    }

    fn acknowledge(&mut self, of: usize, seq: Seq) {
        assert_eq!(seq, self.got[of] + 1, "session {of}: in order, without gaps");
        self.got[of] = seq;
        let frame = ClientFrame::Ack { conv: conv(of), seq };
        self.step(of, |session, now, out| {
            session.on_output(64 << 10, now, out);
            session.on_frame(Ok(Request { reference: None, frame }), now, out);
        });
    }

    /// The most requests in any second of a time, and how many there were per second on average.
    fn load(&self, times: std::ops::Range<Tick>) -> (u64, u64) {
        let of = |tenth: Tick| self.started.get(&tenth).copied().unwrap_or(0);
        let second = |first: Tick| (first..first + 10).map(of).sum::<u64>();
        let tenths = times.start / 100..times.end / 100;
        let all: u64 = tenths.clone().map(of).sum();
        (tenths.map(second).max().unwrap_or(0), all * 1_000 / (times.end - times.start))
    }
}

fn row(seq: Seq) -> Row {
    let (sender, cid) = (UserId::new("peer").unwrap(), crate::model::Cid::new("c").unwrap());
    let (kind, counts) = (Kind::Message, Counts::default());
    Row { seq, kind, sender, service: false, cid, ts: 0, body: Body::text("hi"), counts, refs: None }
}

/// Plays an outage; returns the load before it, and the most in any second after it.
fn outage(config: &Config) -> (u64, u64) {
    let mut world = World::new(config);
    world.run_to(END);
    let missing = (0..SESSIONS).filter(|of| world.got[*of] != world.tops[of / 2]).count();
    assert_eq!(missing, 0, "sessions that have not got everything two minutes after the outage");
    let behind: usize = world.sessions.iter().map(|session| session.delivery().behind()).sum();
    assert!(behind == 0 && world.waiting.iter().all(Vec::is_empty));
    assert!(!world.lines.is_recovering(), "all is as usual again");
    let (usual, most) = (world.load(40_000..60_000).1, world.load(OUTAGE.end..END).0);
    println!("{usual} requests a second before the outage, at most {most} after it");
    (usual, most)
}

#[test]
fn after_an_outage_no_second_asks_for_twice_as_much_as_usual() {
    let (usual, most) = outage(&Config::default());
    assert!((300..2_000).contains(&usual), "{usual} requests a second");
    assert!(most <= 2 * usual, "{most} requests in a second, usual are {usual}");
}

/// What the pace is for: without it the same fleet asks for more than the store had to do before it failed.
#[test]
fn without_the_pace_the_same_outage_ends_in_a_storm() {
    let mut config = Config::default();
    config.limits.recovery_per_sec = 1_000_000;
    let (usual, most) = outage(&config);
    assert!(most > 2 * usual, "{most} requests in a second, usual are {usual}: the test above proves nothing");
}
