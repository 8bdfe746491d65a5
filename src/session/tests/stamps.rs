//! Step by step: when stamps spare a comparison, when they must not, and what that saves.

use super::*;

const MINUTE: Tick = 60_000;

/// A session on a clock of its own, with a store that answers at once.
struct One {
    session: Session,
    now: Tick,
    /// Of the store; odd: not clean.
    stamp: u64,
    gaps: Vec<Gap>,
    /// Pages fail.
    broken: bool,
    /// Comparisons that read heads, and those that did not.
    whole: usize,
    skipped: usize,
    caught_up: Vec<Option<String>>,
    /// What else it wants.
    wants: Vec<Upkeep>,
}

impl One {
    fn new(since: Option<&str>, is_new: bool, phase: u64, stamp: u64) -> Self {
        let since = since.map(Into::into);
        let hello = Hello { token: None, device: identity(0).device.device, client: None, attempt: 1, since };
        let request = Request { reference: None, frame: ClientFrame::Hello(hello) };
        let expiry = Expiry { tick: Tick::MAX, at: Tick::MAX };
        let introduced = Greeting.on_frame(Ok(request)).unwrap();
        let entering = introduced.on_token(Some(Ok((user("me"), expiry))), SessionId::random()).unwrap();
        let rules = Arc::new(crate::node::rules(&crate::config::Config::default()));
        let (session, first) = entering.on_registered(Arrival {
            rules,
            node: "n".into(),
            ts: 0,
            now: 0,
            phase,
            is_new,
            stamps: stamped(stamp),
        });
        let (gaps, caught_up, wants) = (Vec::new(), Vec::new(), Vec::new());
        let mut one = Self { session, now: 0, stamp, gaps, broken: false, whole: 0, skipped: 0, caught_up, wants };
        one.on_output();
        one.take(first);
        one
    }

    fn on_output(&mut self) {
        let mut out = Vec::new();
        self.session.on_output(64 << 10, self.now, &mut out);
        self.take(out);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let done = match effect {
                Effect::Upkeep(Upkeep::ReadStamps { cause, .. }) => {
                    UpkeepDone::StampsRead { cause, stamps: Ok(stamped(self.stamp)) }
                }
                Effect::Upkeep(Upkeep::Compare { cause, .. }) => {
                    self.whole += 1;
                    let page = if self.broken { Err(()) } else { Ok((self.gaps.clone(), None)) };
                    UpkeepDone::Compared { cause, page }
                }
                Effect::Upkeep(Upkeep::CompareRooms { cause, .. }) => {
                    UpkeepDone::RoomsCompared { cause, page: Ok((Vec::new(), None)) }
                }
                Effect::CompareSkipped { .. } => {
                    self.skipped += 1;
                    continue;
                }
                Effect::Frame(ServerFrame::CaughtUp { since }) => {
                    self.caught_up.push(since.map(Into::into));
                    continue;
                }
                Effect::Upkeep(need) => {
                    self.wants.push(need);
                    continue;
                }
                _ => continue,
            };
            self.done(done);
        }
    }

    fn done(&mut self, done: UpkeepDone) {
        let mut out = Vec::new();
        self.session.on_upkeep(done, self.now, &mut out);
        self.take(out);
    }

    fn pass(&mut self, time: Tick) {
        let until = self.now + time;
        while self.session.deadline() <= until {
            self.now = self.session.deadline().max(self.now);
            self.session.on_alive(self.now);
            let mut out = Vec::new();
            self.session.on_tick(self.now, &mut out);
            self.take(out);
        }
        self.now = until;
    }

    fn counts(&self) -> (usize, usize) {
        (self.whole, self.skipped)
    }
}

fn text(stamp: u64) -> String {
    stamped(stamp).since.to_string()
}

/// R12: with the same clean stamps nothing is compared; with others, or some that are not clean, everything.
#[test]
fn only_clean_and_equal_stamps_spare_a_comparison() {
    let mut one = One::new(None, false, 0, 2);
    assert_eq!(one.counts(), (1, 0), "the login has nothing to compare its stamps with");
    one.pass(1_500);
    assert_eq!(one.counts(), (1, 1), "the second look");
    one.pass(5 * MINUTE);
    assert_eq!(one.counts(), (1, 6), "five sweeps");
    one.stamp = 3;
    one.pass(3 * MINUTE);
    assert_eq!(one.counts(), (4, 6), "the same, but not clean");
    one.stamp = 4;
    one.pass(3 * MINUTE);
    assert_eq!(one.counts(), (5, 8), "once for the change");
}

/// R12: stamps that were read before a page that failed say nothing of the heads on it.
#[test]
fn a_comparison_that_failed_leaves_no_stamps() {
    let mut one = One::new(None, false, 0, 2);
    one.pass(1_500);
    (one.stamp, one.broken) = (4, true);
    one.pass(MINUTE);
    let tries = one.whole;
    assert!(tries > 1 && one.session.delivery().is_backing_off());
    one.broken = false;
    one.pass(2 * MINUTE);
    assert_eq!(one.whole, tries + 1, "the heads are still to be compared");
}

/// R12: whatever the stamps say, the heads are compared about once an hour, and those of many sessions not at once.
#[test]
fn heads_are_compared_once_an_hour_all_the_same() {
    let mut minutes = BTreeSet::new();
    for phase in (0..1_000).step_by(100) {
        let mut one = One::new(Some(&text(2)), false, phase, 2);
        let first = (0..).find(|_| {
            one.pass(MINUTE);
            one.whole > 0
        });
        minutes.insert(first.unwrap() + 1);
    }
    let (first, last) = (*minutes.first().unwrap(), *minutes.last().unwrap());
    assert!(first >= 45 && last <= 76 && minutes.len() > 8, "{minutes:?}");
}

/// A client that was told up to when it has everything is caught up at once while nothing has changed, and compared like
/// everybody else when anything has, when its device is new, or when it says something else.
#[test]
fn a_login_that_resumes_compares_only_what_changed() {
    let told = |since: Option<&str>, is_new, stamp| {
        let one = One::new(since, is_new, 0, stamp);
        (one.whole, one.skipped, one.caught_up)
    };
    let same = text(2);
    assert_eq!(told(Some(&same), false, 2), (0, 1, vec![Some(same.clone())]));
    assert_eq!(told(Some(&same), false, 3), (1, 0, vec![None]), "not clean, so nothing to resume with either");
    assert_eq!(told(Some(&text(3)), false, 3), (1, 0, vec![None]), "nobody was told these");
    assert_eq!(told(Some(&same), false, 4), (1, 0, vec![Some(text(4))]));
    assert_eq!(told(Some(&same), true, 2), (1, 0, vec![Some(same.clone())]), "a new device");
    assert_eq!(told(None, false, 2), (1, 0, vec![Some(same)]));
    for other in ["", "later", "zz000000000000000000000000000002"] {
        assert_eq!(told(Some(other), false, 2).0, 1, "{other:?}");
    }
}

/// A client is told up to when it has everything only when all of it is acknowledged, and stored as such.
#[test]
fn a_client_is_told_nothing_before_its_cursors_are_stored() {
    let behind = |stored: bool| {
        let mut one = One::new(None, false, 0, 1);
        one.caught_up.clear();
        // Caught up was told already: look at what would be told now.
        (one.stamp, one.gaps) = (2, vec![Gap { conv: conv(0), head: 1, cursor: 0 }]);
        one.pass(1_500);
        assert!(one.session.delivery().since().is_none(), "it is behind");
        one.done(UpkeepDone::Filled { conv: conv(0), cursor: None, rows: Ok(vec![row(1)]) });
        assert!(one.session.delivery().since().is_none(), "not acknowledged");
        let ack = Request { reference: None, frame: ClientFrame::Ack { conv: conv(0), seq: 1 } };
        let mut out = Vec::new();
        one.session.on_frame(Ok(ack), one.now, &mut out);
        one.take(out);
        assert!(one.session.delivery().since().is_none(), "acknowledged, not stored");
        one.done(UpkeepDone::CursorRaised { conv: conv(0), stored: stored.then_some(1) });
        one.session.delivery().since()
    };
    assert_eq!(behind(false), None);
    assert_eq!(behind(true), Some(stamped(2).since));
}

/// The first page looks at many conversations at once; behind a page that was full of gaps the next one at few.
#[test]
fn where_many_are_behind_pages_look_at_few() {
    let gap = |n: usize| Gap { conv: ConvId::new(&format!("dm:me:p{n:04}")).unwrap(), head: 1, cursor: 0 };
    let full: Vec<Gap> = (0..GAPS).map(gap).collect();
    let next_page = |gaps: Vec<Gap>| {
        let rules = Rules { behind: 1_000, ..(*rules()).clone() };
        let (at, mut session, mut out) =
            (delivery::At { rules: &rules, now: 1 }, Delivery::begin(&user("me"), &rules, None, 0, 1), Vec::new());
        session.compare_at_login();
        session.on_stamps(stamped(2), at, &mut out);
        assert!(out.iter().any(|effect| matches!(effect, Effect::Upkeep(Upkeep::Compare { sparse: true, .. }))));
        out.clear();
        session.on_gaps(gaps, Some(gap(5_000).conv), at, &mut out);
        out.into_iter().find_map(|effect| match effect {
            Effect::Upkeep(Upkeep::Compare { sparse, .. }) => Some(sparse),
            _ => None,
        })
    };
    assert_eq!(next_page(full), Some(false));
    assert_eq!(next_page(vec![gap(1)]), Some(true));
}

/// What 50,000 idle users with 100 conversations each make the store read, counted on one in a hundred of them for two
/// hours: a stamp is one row, a comparison 100 heads and 100 cursors.
#[test]
fn idle_users_cost_a_row_a_minute_each() {
    const FLEET: u64 = 500;
    const OF_ALL: f64 = 100.0;
    const ROWS: usize = 200;
    let (mut stamps, mut whole) = (0, 0);
    let (from, until) = (10 * MINUTE, 130 * MINUTE);
    for n in 0..FLEET {
        let mut one = One::new(None, false, n * 1_000 / FLEET, 2);
        one.pass(from);
        let before = one.counts();
        one.pass(until - from);
        let (compared, skipped) = (one.whole - before.0, one.skipped - before.1);
        stamps += compared + skipped;
        whole += compared;
    }
    let seconds = (until - from) as f64 / 1_000.0;
    let per_sec = |rows: usize| rows as f64 * OF_ALL / seconds;
    let (sweep, hourly) = (per_sec(stamps), per_sec(whole * ROWS));
    println!("50,000 idle users: {sweep:.0} rows/s for sweeps, {hourly:.0} rows/s for the comparisons once an hour");
    assert!(sweep > 700.0 && sweep <= 1_000.0, "{sweep}");
    assert!(hourly <= 3_000.0, "{hourly}");
}
