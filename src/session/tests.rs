//! The whole session under random interleavings: frames, notices, store answers that are late, failed or stale, timers,
//! tokens that expire, announcements, a socket that stalls. The model knows only the logs, what the client got and
//! acknowledged, and which of its requests are still without an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use compact_str::ToCompactString;
use proptest::prelude::*;

use super::{any_kind::of_any_kind, greeting::Arrival, *};
use crate::{
    model::{Body, Cid, ConvId, Counts, DeviceId, Gap, Recipient, Row, Seq, SessionId, Since, UserId},
    protocol::{
        Answer, Ask, ClientFrame, CloseReason, ErrorCode, LiveMessage, Op, Refused, Request, ServerFrame, SharedFrame,
        ask, client::Hello, server::Announcement,
    },
};

/// Enough that every limit is met: more than `known`, `behind` and `window` below hold.
const CONVS: usize = 9;
const RATE: Rate = Rate { per_sec: 20, burst: 5 };

fn rules() -> Arc<Rules> {
    Arc::new(Rules {
        window: 6,
        page_rows: 3,
        behind: 2,
        known: 2,
        warm: 1,
        rest_after: 30,
        hole_after: 2_000,
        pending: 20,
        requests: Some(RATE),
        reconcile: 30_000,
        ..crate::node::rules(&crate::config::Config::default())
    })
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn conv(index: usize) -> ConvId {
    ConvId::direct(&user("me"), &user(&format!("peer{index}")))
}

fn index_of(of: &ConvId) -> usize {
    (0..CONVS).find(|index| conv(*index) == *of).unwrap()
}

fn identity(attempt: u64) -> Identity {
    let device = Device::new(user("me"), DeviceId::new("phone").unwrap());
    Identity { device, rank: SessionRank { number: 0, attempt, session: SessionId::random() } }
}

fn row(seq: Seq) -> Row {
    let (sender, cid, body) = (user("peer"), Cid::new("c").unwrap(), Body::text("hi"));
    let (kind, counts) = (crate::model::Kind::Message, Counts::default());
    of_any_kind(Row { seq, kind, sender, service: false, cid, ts: 0, body, counts, refs: None })
}

/// Something under way, with what the store knew when it was asked.
#[derive(Debug)]
struct Asked {
    what: What,
    tops: [Seq; CONVS],
    cursors: [Seq; CONVS],
    stamp: u64,
}

/// What the store says of its stamp: even once it is settled.
fn stamped(stamp: u64) -> Stamped {
    Stamped {
        since: Since::new(u128::from(stamp).to_be_bytes()),
        clean: stamp.is_multiple_of(2),
        retired: false,
        in_rooms: true,
    }
}

#[derive(Debug)]
enum What {
    Upkeep(Upkeep),
    Ask { reference: Option<u64>, ask: Ask },
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// The stamp says that a message comes, its head does not show yet.
    Raise(usize),
    Settle,
    Notice {
        pick: usize,
        keep: bool,
        head_only: bool,
    },
    Lose(usize),
    Lagged,
    Answer {
        pick: usize,
        stale: bool,
        fail: bool,
    },
    Ack {
        conv: usize,
        back: u64,
    },
    AckAhead {
        conv: usize,
        above: bool,
    },
    Request(Kind),
    Token(bool),
    Announce {
        number: u64,
        attempt: u64,
        other_device: bool,
    },
    Credit(bool),
    Compare(Tick),
    Tick(Tick),
    Silence,
    /// With what the client was told last, or without.
    Restart {
        resume: bool,
    },
}

/// A request with a `ref`: each gets exactly one answer.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Send,
    Read,
    History,
    Conversations,
    Signal,
    Unserved,
    Ping,
    Bad,
}

fn step() -> impl Strategy<Value = Step> {
    let any_conv = 0..CONVS;
    let kind = prop_oneof![
        3 => Just(Kind::Send),
        1 => Just(Kind::Read),
        1 => Just(Kind::History),
        1 => Just(Kind::Conversations),
        1 => Just(Kind::Signal),
        1 => Just(Kind::Unserved),
        1 => Just(Kind::Ping),
        1 => Just(Kind::Bad),
    ];
    prop_oneof![
        6 => any_conv.clone().prop_map(Step::Append),
        3 => any_conv.clone().prop_map(Step::Raise),
        6 => Just(Step::Settle),
        9 => (any::<usize>(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(pick, keep, head_only)| Step::Notice { pick, keep, head_only }),
        2 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Lagged),
        12 => (any::<usize>(), any::<bool>(), prop::bool::weighted(0.15))
            .prop_map(|(pick, stale, fail)| Step::Answer { pick, stale, fail }),
        6 => (any_conv.clone(), 0..3_u64).prop_map(|(conv, back)| Step::Ack { conv, back }),
        1 => (any_conv, any::<bool>()).prop_map(|(conv, above)| Step::AckAhead { conv, above }),
        3 => kind.prop_map(Step::Request),
        1 => any::<bool>().prop_map(Step::Token),
        1 => (4..7_u64, 4..7_u64, any::<bool>())
            .prop_map(|(number, attempt, other_device)| Step::Announce { number, attempt, other_device }),
        2 => any::<bool>().prop_map(Step::Credit),
        1 => (0..3_000_u64).prop_map(Step::Compare),
        4 => (0..3_000_u64).prop_map(Step::Tick),
        1 => Just(Step::Silence),
        1 => any::<bool>().prop_map(|resume| Step::Restart { resume }),
    ]
}

struct World {
    rules: Arc<Rules>,
    now: Tick,
    tops: [Seq; CONVS],
    cursors: [Seq; CONVS],
    /// Highest seq the device ever acknowledged.
    acked: [Seq; CONVS],
    notices: Vec<(usize, Seq)>,
    /// Odd while a raise is under way or not settled.
    stamp: u64,
    /// The raise under way: answered, and visible to all, when it has landed.
    raising: Option<usize>,
    /// The tops at each clean stamp.
    tops_at: BTreeMap<u64, [Seq; CONVS]>,
    /// What the client was told last.
    since: Option<Since>,
    skipped: usize,
    session: Session,
    /// The tops when this session started: `caught_up` promises at least these.
    tops_at_start: [Seq; CONVS],
    /// What this session's client got last, where it got anything.
    got: BTreeMap<usize, Seq>,
    asked: Vec<Asked>,
    caught_up: usize,
    next_ref: u64,
    /// Requests without an answer.
    open: BTreeSet<u64>,
    /// When requests passed the rate limit.
    passed: Vec<Tick>,
    token_ends: Tick,
    alive_at: Tick,
    blocked_since: Option<Tick>,
}

impl World {
    fn new() -> Self {
        let (session, now) = (Self::fresh(1, 1_000_000, None, 1), 1);
        let mut world = Self {
            rules: rules(),
            now,
            tops: [0; CONVS],
            cursors: [0; CONVS],
            acked: [0; CONVS],
            notices: Vec::new(),
            stamp: 0,
            raising: None,
            tops_at: BTreeMap::from([(0, [0; CONVS])]),
            since: None,
            skipped: 0,
            session: session.0,
            tops_at_start: [0; CONVS],
            got: BTreeMap::new(),
            asked: Vec::new(),
            caught_up: 0,
            next_ref: 0,
            open: BTreeSet::new(),
            passed: Vec::new(),
            token_ends: 0,
            alive_at: 1,
            blocked_since: None,
        };
        world.restart(false);
        world
    }

    /// Through the greeting, as the gateway does it.
    fn fresh(now: Tick, ends: Tick, since: Option<Since>, stamp: u64) -> (Session, Vec<Effect>) {
        let since = since.map(|since| since.to_compact_string());
        let hello = Hello { token: None, device: identity(0).device.device, client: None, attempt: 5, since };
        let request = Request { reference: Some(0), frame: ClientFrame::Hello(hello) };
        let introduced = Greeting.on_frame(Ok(request)).unwrap();
        let expiry = Expiry { tick: ends, at: ends };
        let entering =
            introduced.on_token(Some(Ok((user("me"), expiry))), SessionId::random()).unwrap().on_entered(5, 1);
        let (session, mut first) = entering.on_registered(Arrival {
            rules: rules(),
            node: "n".into(),
            ts: 0,
            now,
            phase: 500,
            is_new: false,
            stamps: stamped(stamp),
        });
        assert!(matches!(first.remove(0), Effect::Frame(ServerFrame::Welcome(_))), "welcome comes first");
        (session, first)
    }

    fn restart(&mut self, resume: bool) {
        self.token_ends = self.now + 600_000;
        let (session, first) = Self::fresh(self.now, self.token_ends, self.since.filter(|_| resume), self.stamp);
        self.session = session;
        self.got.clear();
        // Cursor writes of the old session may still land; its reads and its answers go nowhere.
        self.asked.retain(|asked| matches!(asked.what, What::Upkeep(Upkeep::RaiseCursor { .. })));
        self.open.clear();
        self.passed.clear();
        self.caught_up = 0;
        self.tops_at_start = self.tops;
        (self.alive_at, self.blocked_since) = (self.now, None);
        self.take(first);
        self.credit(true);
    }

    fn take(&mut self, out: Vec<Effect>) {
        let mut closed = None;
        for effect in out {
            assert!(closed.is_none(), "something after the close: {effect:?}");
            match effect {
                Effect::HandLive(live) => self.hand(index_of(&live.conv), live.seq),
                Effect::HandRow(of, row) => self.hand(index_of(&of), row.seq),
                Effect::Frame(frame) => self.on_frame(frame),
                Effect::Ask { reference, ask } => self.ask(What::Ask { reference, ask }),
                Effect::Upkeep(Upkeep::Announce(_) | Upkeep::Undelivered { .. }) | Effect::Ping => {}
                Effect::Upkeep(need) => self.ask(What::Upkeep(need)),
                Effect::Unlisten(room) => panic!("nobody listens on {room}"),
                Effect::CompareSkipped { .. } => self.skipped += 1,
                Effect::GapsFound { found, .. } => assert!(found > 0 && found <= CONVS),
                Effect::Cut { conv, first, .. } => panic!("{conv}: {first} is merely late (R18)"),
                Effect::LeftToHistory { conv, .. } => panic!("{conv} is never so far behind"),
                Effect::CheckToken { .. } => panic!("tokens are answered at once in this model"),
                Effect::Close(reason) => closed = Some(reason),
            }
        }
        let known = self.session.delivery().known();
        assert!(known <= self.rules.known + self.rules.behind + self.rules.window as usize + CONVS);
        if let Some(reason) = closed {
            self.on_close(reason);
        }
    }

    fn on_close(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::TokenExpired => assert!(self.now >= self.token_ends),
            CloseReason::Idle => {
                let since = self.blocked_since.map_or(self.alive_at + self.rules.idle, |at| at + self.rules.stall);
                assert!(self.now >= since, "closed as idle after {} of silence", self.now - self.alive_at);
            }
            CloseReason::Replaced | CloseReason::Superseded => {}
            other => panic!("closed with {other:?}"),
        }
        self.restart(true);
    }

    fn on_frame(&mut self, frame: ServerFrame) {
        let answered = match &frame {
            ServerFrame::CaughtUp { since } => {
                self.caught_up += 1;
                assert_eq!(self.caught_up, 1, "caught_up comes once");
                for (index, top) in self.tops_at_start.iter().enumerate() {
                    let had = self.got.get(&index).copied().unwrap_or(0).max(self.acked[index]);
                    assert!(had >= *top, "caught_up before conversation {index}: {had} of {top}");
                }
                if let Some(since) = since {
                    self.told_since(Since::parse(since).unwrap());
                }
                return;
            }
            ServerFrame::Sent(_)
            | ServerFrame::History(_)
            | ServerFrame::Conversations(_)
            | ServerFrame::TokenOk { .. }
            | ServerFrame::Pong { .. }
            | ServerFrame::Error { .. } => frame.reference(),
            other => panic!("a session says {other:?}"),
        };
        if let Some(reference) = answered {
            assert!(self.open.remove(&reference), "a second answer to {reference}");
        }
    }

    /// What the client is told to say next time: everything was acknowledged that there was then, durably.
    fn told_since(&mut self, since: Since) {
        let (_, tops) = self.tops_at.iter().find(|(stamp, _)| stamped(**stamp).since == since).unwrap();
        assert!(self.cursors.iter().zip(tops).all(|(cursor, top)| cursor >= top), "{:?} of {tops:?}", self.cursors);
        self.since = Some(since);
    }

    fn append(&mut self, conv: usize) {
        self.tops[conv] += 1;
        self.notices.push((conv, self.tops[conv]));
    }

    /// A user has one raise under way at most.
    fn land(&mut self) {
        if let Some(conv) = self.raising.take() {
            self.append(conv);
        }
    }

    fn raise(&mut self, conv: usize) {
        self.land();
        self.stamp += if self.stamp.is_multiple_of(2) { 1 } else { 2 };
        self.raising = Some(conv);
    }

    fn settle_stamp(&mut self) {
        self.land();
        self.stamp += self.stamp % 2;
        self.tops_at.insert(self.stamp, self.tops);
    }

    fn ask(&mut self, what: What) {
        assert!(self.asked.len() < 96, "it asks without end: {:?}", self.asked);
        if let What::Upkeep(Upkeep::RaiseCursor { conv, seq }) = &what {
            assert!(*seq <= self.acked[index_of(conv)], "a cursor is written from acks only");
        }
        self.asked.push(Asked { what, tops: self.tops, cursors: self.cursors, stamp: self.stamp });
    }

    /// I3, and I2's half that can be seen at once: nothing is skipped that the device did not acknowledge.
    fn hand(&mut self, conv: usize, seq: Seq) {
        assert!(seq <= self.tops[conv]);
        let acked = self.acked[conv];
        match self.got.get(&conv) {
            Some(last) => {
                let skip = (*last).max(acked) + 1;
                assert!(seq > *last && seq <= skip, "conversation {conv}: {seq} after {last}, acknowledged {acked}");
            }
            None => assert!(seq <= acked + 1, "conversation {conv}: starts at {seq}, acknowledged {acked}"),
        }
        self.got.insert(conv, seq);
    }

    fn answer(&mut self, pick: usize, stale: bool, fail: bool) {
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.remove(pick % self.asked.len());
        let (tops, cursors, stamp) =
            if stale { (asked.tops, asked.cursors, asked.stamp) } else { (self.tops, self.cursors, self.stamp) };
        let mut out = Vec::new();
        match asked.what {
            What::Ask { reference, ask } => {
                let outcome = if fail {
                    Err(Refused::new(ErrorCode::Unavailable, "the store is away"))
                } else {
                    Ok(self.outcome(&ask))
                };
                if outcome == Ok(Answer::Done) {
                    // Nothing is said: that is the answer.
                    self.open.remove(&reference.unwrap());
                }
                self.session.on_outcome(ask.op(), reference, outcome, &mut out);
            }
            What::Upkeep(need) => {
                let done = self.done(need, tops, cursors, (!fail).then_some(stamp));
                self.session.on_upkeep(done, self.now, &mut out);
            }
        }
        self.take(out);
    }

    fn outcome(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Send(_) => {
                self.raise(0);
                self.land();
                Answer::Sent(ask::Sent { reference: None, conv: conv(0), seq: self.tops[0], ts: 0 })
            }
            Ask::History(ask) => Answer::History(ask::HistoryPage {
                reference: None,
                conv: ask.conv.clone(),
                messages: Vec::new(),
                more: false,
                next: None,
            }),
            Ask::Conversations(_) => {
                Answer::Conversations(ask::ConversationsPage { reference: None, items: Vec::new(), next: None })
            }
            // The rest changes nothing for a session.
            _ => Answer::Done,
        }
    }

    /// `stamp`: nothing where the store does not answer.
    fn done(&mut self, need: Upkeep, tops: [Seq; CONVS], cursors: [Seq; CONVS], stamp: Option<u64>) -> UpkeepDone {
        let fail = stamp.is_none();
        match need {
            Upkeep::ReadStamps { cause, .. } => UpkeepDone::StampsRead { cause, stamps: stamp.map(stamped).ok_or(()) },
            Upkeep::Fill { conv, .. } if fail => UpkeepDone::Filled { conv, cursor: None, rows: Err(()) },
            Upkeep::ReadCursor { conv } => {
                let cursor = if fail { Err(()) } else { Ok(cursors[index_of(&conv)]) };
                UpkeepDone::CursorRead { conv, cursor }
            }
            Upkeep::FindRow { conv, .. } if fail => UpkeepDone::RowFound { conv, next: Err(()) },
            Upkeep::FindRow { conv, after, upto } => {
                let next = (after + 1..=upto.min(tops[index_of(&conv)])).next();
                UpkeepDone::RowFound { conv, next: Ok(next) }
            }
            Upkeep::Fill { conv, after, rows, .. } => {
                let index = index_of(&conv);
                let cursor = after.is_none().then_some(cursors[index]);
                let start = after.unwrap_or(cursors[index]);
                let rows = (start + 1..=tops[index]).take(rows).map(row).collect();
                UpkeepDone::Filled { conv, cursor, rows: Ok(rows) }
            }
            Upkeep::Compare { cause, .. } if fail => UpkeepDone::Compared { cause, page: Err(()) },
            Upkeep::Compare { after, cause, .. } => {
                let gap = |i: usize| Gap { conv: conv(i), head: tops[i], cursor: cursors[i] };
                let mut all: Vec<_> = (0..CONVS).map(gap).collect();
                all.sort_by(|one, other| one.conv.cmp(&other.conv));
                all.retain(|gap| after.as_ref().is_none_or(|after| gap.conv > *after));
                let next = (all.len() > 3).then(|| all[2].conv.clone());
                all.truncate(3);
                UpkeepDone::Compared { cause, page: Ok((all, next)) }
            }
            Upkeep::CompareRooms { cause, .. } => {
                let page = if fail { Err(()) } else { Ok((Vec::new(), None)) };
                UpkeepDone::RoomsCompared { cause, page }
            }
            Upkeep::CheckAck(check) => {
                let index = index_of(&check.conv);
                let unavailable = || Err(Refused::new(ErrorCode::Unavailable, "the store is away"));
                let found = if fail { unavailable() } else { Ok((tops[index], cursors[index])) };
                UpkeepDone::AckChecked { check, found }
            }
            Upkeep::RaiseCursor { conv, seq } => {
                let stored = (!fail).then_some(seq);
                let index = index_of(&conv);
                self.cursors[index] = self.cursors[index].max(stored.unwrap_or(0));
                UpkeepDone::CursorRaised { conv, stored }
            }
            Upkeep::ReadRoom { .. } | Upkeep::Announce(_) | Upkeep::Undelivered { .. } => {
                unreachable!("not asked for in this model")
            }
        }
    }

    /// The client says something, if the session reads it.
    fn say(&mut self, decoded: Result<ClientFrame, Refused>, reference: Option<u64>) {
        if !self.session.wants_input() {
            return;
        }
        self.alive_at = self.now;
        self.session.on_alive(self.now);
        self.open.extend(reference);
        let limited = decoded.as_ref().is_ok_and(|frame| frame.op().is_limited());
        let decoded = decoded.map(|frame| Request { reference, frame });
        let decoded = decoded.map_err(|refused| crate::protocol::client::FrameError { reference, refused });
        let mut out = Vec::new();
        self.session.on_frame(decoded, self.now, &mut out);
        let refused = out
            .iter()
            .any(|effect| matches!(effect, Effect::Frame(ServerFrame::Error { code: ErrorCode::RateLimited, .. })));
        if limited && !refused {
            self.passed.push(self.now);
            self.within_rate();
        }
        self.take(out);
    }

    /// No more than a burst and the rate passed in any stretch of time that ends now.
    fn within_rate(&self) {
        for (position, from) in self.passed.iter().enumerate() {
            let passed = (self.passed.len() - position) as u64;
            let most = u64::from(RATE.burst) + (self.now - from) * u64::from(RATE.per_sec) / 1000 + 1;
            assert!(passed <= most, "{passed} requests passed within {} ms", self.now - from);
        }
    }

    fn ack(&mut self, index: usize, seq: Seq) {
        if !self.session.wants_input() {
            return;
        }
        self.acked[index] = self.acked[index].max(seq.min(self.tops[index]));
        self.say(Ok(ClientFrame::Ack { conv: conv(index), seq }), None);
    }

    fn request(&mut self, kind: Kind) {
        self.next_ref += 1;
        let to = Recipient::User(user("peer0"));
        let frame = match kind {
            Kind::Send => Ask::Send(ask::Send {
                to,
                cid: Cid::new("c").unwrap(),
                body: Body::text("hi"),
                handed: 0,
                options: ask::SendOptions::default(),
            }),
            Kind::Read => Ask::Read(ask::Read { conv: conv(0), seq: 0, handed: 0 }),
            Kind::History => {
                Ask::History(ask::History { conv: conv(0), from: ask::HistoryFrom::Before(9), limit: 9, raw: false })
            }
            Kind::Conversations => Ask::Conversations(ask::Conversations { after: None, limit: 9 }),
            Kind::Signal => Ask::Signal(ask::Signal { to, kind: "typing".into(), body: None }),
            Kind::Unserved => Ask::Unserved(Op::Presence),
            Kind::Ping => return self.say(Ok(ClientFrame::Ping), Some(self.next_ref)),
            Kind::Bad => return self.say(Err(Refused::new(ErrorCode::BadFrame, "no map")), Some(self.next_ref)),
        };
        self.say(Ok(ClientFrame::Ask(frame)), Some(self.next_ref));
    }

    fn token(&mut self, good: bool) {
        self.next_ref += 1;
        self.open.insert(self.next_ref);
        let ends = self.now + 600_000;
        let checked = if good { Ok(Expiry { tick: ends, at: ends }) } else { Err("token: no".to_owned()) };
        if good {
            self.token_ends = ends;
        }
        let mut out = Vec::new();
        self.session.on_token(Some(self.next_ref), checked, &mut out);
        self.take(out);
    }

    /// The session under test has the number 5 and the attempt 5.
    fn announce(&mut self, number: u64, attempt: u64, other_device: bool) {
        let device = DeviceId::new(if other_device { "laptop" } else { "phone" }).unwrap();
        let session = SessionId::random();
        let mut out = Vec::new();
        let theirs = SessionRank { number, attempt, session: session.clone() };
        let above = theirs > self.session.identity().rank;
        assert!(number == 5 || above == (number > 5), "R11: the later connection is the larger");
        self.session.on_announcement(&Announcement { device, session, number, attempt }, &mut out);
        let closed = out.iter().find_map(|effect| match effect {
            Effect::Close(reason) => Some(*reason),
            _ => None,
        });
        let closes = closed.is_some();
        let code = if attempt < 5 { CloseReason::Superseded } else { CloseReason::Replaced };
        assert!(closed.is_none_or(|reason| reason == code), "R11: {closed:?}, attempt {attempt}");
        let speaks = out.iter().any(|effect| matches!(effect, Effect::Upkeep(Upkeep::Announce(_))));
        assert_eq!(closes, above && !other_device, "R11: of two of one device the smaller closes");
        assert_eq!(speaks, !above && !other_device, "R11: the larger one speaks up");
        self.take(out);
    }

    fn notice(&mut self, pick: usize, keep: bool, head_only: bool) {
        if self.notices.is_empty() {
            return;
        }
        let at = pick % self.notices.len();
        let (index, seq) = if keep { self.notices[at] } else { self.notices.remove(at) };
        let mut out = Vec::new();
        if head_only {
            self.session.on_notice(&conv(index), seq, self.now, &mut out);
        } else {
            let frame = SharedFrame::encoded(vec![0; 100].into());
            let live = Arc::new(LiveMessage {
                conv: conv(index),
                seq,
                puts_out: None,
                expires: None,
                ts: 0,
                frame,
                from_bus: true,
            });
            self.session.on_live(live, self.now, &mut out);
        }
        self.take(out);
    }

    /// Time passes; the session is woken when it wants to be, as its connection's timer does.
    fn pass(&mut self, time: Tick) {
        let until = self.now + time;
        for _ in 0..1_000 {
            let due = self.session.deadline();
            if due > until {
                self.now = until;
                return;
            }
            self.now = due.max(self.now);
            let mut out = Vec::new();
            self.session.on_tick(self.now, &mut out);
            self.take(out);
        }
        panic!("its timer never comes to rest: deadline {} at {}", self.session.deadline(), self.now);
    }

    fn credit(&mut self, open: bool) {
        self.blocked_since = if open { None } else { self.blocked_since.or(Some(self.now)) };
        let mut out = Vec::new();
        self.session.on_output(if open { 10_000 } else { 0 }, self.now, &mut out);
        self.take(out);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append(conv) => {
                self.raise(conv);
                self.land();
            }
            Step::Raise(conv) => self.raise(conv),
            Step::Settle => self.settle_stamp(),
            Step::Notice { pick, keep, head_only } => self.notice(pick, keep, head_only),
            Step::Lose(pick) => {
                if !self.notices.is_empty() {
                    self.notices.remove(pick % self.notices.len());
                }
            }
            Step::Lagged => {
                let mut out = Vec::new();
                self.session.on_lagged(&mut out);
                self.take(out);
            }
            Step::Answer { pick, stale, fail } => self.answer(pick, stale, fail),
            Step::Ack { conv, back } => {
                if let Some(last) = self.got.get(&conv) {
                    self.ack(conv, last.saturating_sub(back));
                }
            }
            Step::AckAhead { conv, above } => self.ack(conv, self.tops[conv] + if above { 1_000_000 } else { 0 }),
            Step::Request(kind) => self.request(kind),
            Step::Token(good) => self.token(good),
            Step::Announce { number, attempt, other_device } => self.announce(number, attempt, other_device),
            Step::Credit(open) => self.credit(open),
            Step::Compare(delay) => self.session.on_compare(Cause::Reconnect, delay, self.now),
            Step::Tick(time) => self.pass(time),
            Step::Silence => self.pass(70_000),
            Step::Restart { resume } => self.restart(resume),
        }
    }

    /// Everything under way comes to its end, and the client acknowledges what it gets. Bounded: a session that spins
    /// fails here.
    fn settle(&mut self) {
        self.land();
        for _ in 0..3_000 {
            self.credit(true);
            self.notice(0, false, false);
            self.answer(0, false, false);
            for (conv, last) in self.got.clone() {
                if last > self.acked[conv] || self.session.delivery().unacked() > 0 {
                    self.ack(conv, last);
                }
            }
            self.pass(200);
            // The client is there.
            (self.alive_at, self.token_ends) = (self.now, self.now + 600_000);
            self.session.on_alive(self.now);
            let mut out = Vec::new();
            self.session.on_token(None, Ok(Expiry { tick: self.token_ends, at: self.token_ends }), &mut out);
            let delivery = self.session.delivery();
            if self.asked.is_empty()
                && self.notices.is_empty()
                && delivery.behind() == 0
                && !delivery.is_comparing()
                && !delivery.is_backing_off()
            {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}, asked {:?}", self.session, self.asked);
    }

    fn nothing_is_left(&self) {
        for conv in 0..CONVS {
            let had = self.got.get(&conv).copied().unwrap_or(0).max(self.acked[conv]);
            assert_eq!(had, self.tops[conv], "conversation {conv} is not complete: {:#?}", self.session);
        }
        assert_eq!(self.caught_up, 1);
        assert!(self.open.is_empty(), "requests without an answer: {:?}", self.open);
        assert!(!self.session.is_waiting() && self.session.wants_input(), "{:#?}", self.session);
    }
}

/// `PROPTEST_CASES=100000 cargo test --release session::tests` for a longer look.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    ProptestConfig { cases, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// I2, I3, R4–R8, R11, R12: whatever was lost, late or refused, a reconnect brings everything, in order; each request
    /// has exactly one answer; `caught_up` comes once, and not before what it promises.
    #[test]
    fn a_session_keeps_its_promises(steps in proptest::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.settle();
        world.run(Step::Compare(0));
        world.pass(1);
        world.settle();
        world.nothing_is_left();
    }
}

/// A peer whose socket is full is given up when it takes nothing for long, and not while it takes something, however
/// little.
#[test]
fn a_peer_that_takes_bytes_is_not_given_up() {
    let (mut session, rules) = (World::fresh(1, u64::MAX / 2, None, 1).0, rules());
    let mut closed_at = |step: u64| {
        let (mut now, mut bytes) = (1_000, 0);
        let mut out = Vec::new();
        session.on_output(0, now, &mut out);
        let begin = now;
        while now < begin + 10 * rules.stall {
            now = session.deadline().max(now);
            bytes += step;
            session.on_moved(Moved { bytes, more: true }, now);
            out.clear();
            session.on_tick(now, &mut out);
            if out.iter().any(|effect| matches!(effect, Effect::Close(CloseReason::Idle))) {
                return Some(now - begin);
            }
        }
        session.on_output(1, now, &mut out);
        session.on_tick(now + 1, &mut out);
        assert!(!out.iter().any(|effect| matches!(effect, Effect::Close(_))), "it has just taken everything");
        None
    };
    assert_eq!(closed_at(100), None);
    assert_eq!(closed_at(0), Some(rules.stall));
}

/// What the system of a peer takes by itself, such as pings, is no sign of the peer.
#[test]
fn a_peer_whose_system_alone_answers_is_given_up() {
    let (mut session, rules) = (World::fresh(1, u64::MAX / 2, None, 1).0, rules());
    let (mut now, mut bytes, mut out) = (1, 0, Vec::new());
    session.on_output(1_000, now, &mut out);
    while now < 1 + rules.idle {
        now = session.deadline();
        bytes += 2;
        session.on_moved(Moved { bytes, more: false }, now);
        out.clear();
        session.on_tick(now, &mut out);
    }
    assert!(out.iter().any(|effect| matches!(effect, Effect::Close(CloseReason::Idle))), "{out:?}");
}

/// A read mark at or below what the session was handed, or has acknowledged, needs no look at the top: the session says so
/// itself, whatever stands in the frame.
#[test]
fn a_read_mark_says_how_far_the_session_knows_the_log() {
    let (mut session, mut now) = (World::fresh(1, u64::MAX / 2, None, 1).0, 1);
    let mut handed = |session: &mut Session, index: usize| {
        // Not faster than may be asked.
        now += 10_000;
        let mut out = Vec::new();
        let read = Ask::Read(ask::Read { conv: conv(index), seq: 9, handed: 9 });
        session.on_frame(Ok(Request { reference: None, frame: ClientFrame::Ask(read) }), now, &mut out);
        out.into_iter().find_map(|effect| match effect {
            Effect::Ask { ask: Ask::Read(read), .. } => Some(read.handed),
            _ => None,
        })
    };
    assert_eq!(handed(&mut session, 0), Some(0), "nothing is known");
    let check = AckCheck { reference: None, conv: conv(0), seq: 5 };
    let ack = ClientFrame::Ack { conv: conv(0), seq: 5 };
    session.on_frame(Ok(Request { reference: None, frame: ack }), 10_002, &mut Vec::new());
    session.on_upkeep(UpkeepDone::AckChecked { check, found: Ok((7, 2)) }, 10_003, &mut Vec::new());
    assert_eq!(handed(&mut session, 0), Some(5));
    assert_eq!(handed(&mut session, 1), Some(0), "of another conversation");
}

/// A comparison that finds nothing, as it was asked for. That of the login has its stamps already.
fn compare(session: &mut Session, cause: Cause, now: Tick, out: &mut Vec<Effect>) {
    session.on_upkeep(UpkeepDone::StampsRead { cause, stamps: Ok(stamped(1)) }, now, out);
    session.on_upkeep(UpkeepDone::Compared { cause, page: Ok((Vec::new(), None)) }, now, out);
    session.on_upkeep(UpkeepDone::RoomsCompared { cause, page: Ok((Vec::new(), None)) }, now, out);
}

/// R12: a comparison that failed keeps its cause, and with it its class, and is tried again later and later. What would
/// compare meanwhile is left to it.
#[test]
fn a_comparison_that_failed_is_tried_again_as_itself_and_ever_later() {
    let (mut waits, mut sessions) = ([0; 8], 0);
    for _ in 0..200 {
        let (mut session, mut now) = (World::fresh(1, u64::MAX / 2, None, 1).0, 1);
        let mut out = Vec::new();
        compare(&mut session, Cause::Login, now, &mut out);
        // The sweep comes, and from then on the store is away.
        let mut asked = loop {
            now = session.deadline();
            session.on_alive(now);
            session.on_tick(now, &mut out);
            let compared = out.drain(..).find_map(|effect| match effect {
                Effect::Upkeep(Upkeep::ReadStamps { cause, .. }) => Some(cause),
                _ => None,
            });
            match compared {
                Some(Cause::Sweep) => break now,
                Some(cause) => compare(&mut session, cause, now, &mut out),
                None => {}
            }
        };
        for wait in &mut waits {
            session.on_upkeep(UpkeepDone::StampsRead { cause: Cause::Sweep, stamps: Err(()) }, now, &mut out);
            session.on_lagged(&mut out);
            let again = |out: &mut Vec<Effect>| {
                out.drain(..).any(|effect| match effect {
                    Effect::Upkeep(Upkeep::ReadStamps { cause, urgency }) => {
                        assert_eq!((cause, urgency), (Cause::Sweep, Urgency::Background));
                        true
                    }
                    _ => false,
                })
            };
            assert!(!again(&mut out), "it does not wait");
            while !again(&mut out) {
                now = session.deadline();
                session.on_alive(now);
                session.on_tick(now, &mut out);
            }
            assert!(now - asked <= 60_000, "after {} ms", now - asked);
            *wait += now - asked;
            asked = now;
        }
        sessions += 1;
    }
    let means = waits.map(|sum| sum / sessions);
    assert!(means[0] < 700 && means[3] > 2 * means[0] && means[7] > 20_000, "{means:?}");
}

mod stamps;
