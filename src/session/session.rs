//! A session after its `welcome`: the client's frames, the answers that come back, and timers. What concerns the order
//! and completeness of messages it leaves to [`Delivery`].
//!
//! Called by the gateway's connection task, one method per event; what is to be done comes out as effects.

use std::sync::Arc;

use compact_str::ToCompactString;

use super::{
    AckCheck, Cause, Delivery, Effect, Expiry, GapsPage, Identity, Moved, RoomsPage, Rules, Stamped, Tick, Upkeep,
    UpkeepDone, View, delivery::At, gate::Gate, greeting::Arrival, retry::Retry,
};
use crate::{
    model::{ConvId, Seq, SessionRank, Since},
    protocol::{
        Ask, ClientFrame, CloseReason, ErrorCode, LiveMessage, Op, Outcome, Refused, Request, ServerFrame, ask,
        client::FrameError, server::Announcement,
    },
};

/// A live session.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    rules: Arc<Rules>,
    delivery: Delivery,
    /// Requests under way, by weight.
    pending: usize,
    /// The rate of requests.
    gate: Gate,
    expiry: Expiry,
    /// When the peer was last known to live.
    alive_at: Tick,
    ping_at: Tick,
    sweep_at: Option<Tick>,
    compare_at: Option<(Tick, Cause)>,
    /// A comparison failed: when it is tried again, and in which class (R12).
    retry_at: Option<(Tick, Cause)>,
    retry: Retry,
    recheck_at: Option<Tick>,
    /// Since when the peer takes nothing, though the socket is full.
    blocked_since: Option<Tick>,
    /// Bytes that it had taken at the last look.
    moved: u64,
}

type Out = Vec<Effect>;

impl Session {
    /// A session whose device is registered and whose subscription was fenced (or could not be).
    pub(super) fn start(
        identity: Identity,
        expiry: Expiry,
        since: Option<Since>,
        arrival: Arrival,
        out: &mut Out,
    ) -> Self {
        let Arrival { rules, now, phase, stamps, .. } = arrival;
        let delivery = Delivery::begin(&identity.device.user, &rules, since, phase, now);
        let sweep_at = (rules.reconcile > 0).then(|| now + rules.reconcile / 2 + rules.reconcile * phase / 1000);
        let mut session = Self {
            retry: Retry::new(identity.rank.session.as_str()),
            identity,
            delivery,
            pending: 0,
            gate: Gate::new(rules.requests, now),
            expiry,
            alive_at: now,
            ping_at: now + rules.ping,
            sweep_at,
            compare_at: None,
            retry_at: None,
            recheck_at: Some(now + rules.recheck),
            blocked_since: None,
            moved: 0,
            rules,
        };
        session.announce(out);
        session.delivery.compare_at_login();
        session.on_stamps(Cause::Login, Ok(stamps), now, out);
        session
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its deliveries, for metrics and for the cursors to write at the end.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// How it stands to a conversation, for operators.
    pub fn view(&self, conv: &ConvId, now: Tick) -> View {
        let blocked_for = self.blocked_since.map(|since| now.saturating_sub(since));
        View { window: self.rules.window, blocked_for, ..self.delivery.view(conv, now) }
    }

    /// Whether another frame may be read from the socket: not while too much is under way, nor while the peer
    /// leaves unread what was written. That is the whole back-pressure towards a client.
    pub fn wants_input(&self) -> bool {
        self.pending < self.rules.pending && self.blocked_since.is_none()
    }

    /// Whether requests of the client are not answered yet.
    pub fn is_waiting(&self) -> bool {
        self.pending > 0
    }

    /// How many bytes the socket takes, and whether any are still waiting there.
    pub fn on_output(&mut self, credit: usize, now: Tick, out: &mut Out) {
        self.blocked_since = match self.blocked_since {
            Some(_) if credit > 0 => {
                // It took what was waiting, and could not have answered a ping before it did.
                self.alive_at = now;
                None
            }
            blocked => blocked.or((credit == 0).then_some(now)),
        };
        self.delivery.set_credit(credit, At { rules: &self.rules, now }, out);
        self.assert_sound();
    }

    /// How much the peer has taken by now. One that is in the middle of it lives, however slowly it reads: it has not
    /// come to the ping that it should answer.
    pub fn on_moved(&mut self, moved: Moved, now: Tick) {
        let grew = moved.bytes > self.moved;
        self.moved = moved.bytes;
        if grew && (moved.more || self.blocked_since.is_some()) {
            self.alive_at = now;
            self.blocked_since = self.blocked_since.map(|_| now);
        }
    }

    /// Something arrived from the peer, if only a pong.
    pub fn on_alive(&mut self, now: Tick) {
        self.alive_at = now;
    }

    /// A WebSocket ping or pong.
    pub fn on_control(&mut self, now: Tick, out: &mut Out) {
        self.on_rubbish(now, out);
    }

    /// Something came that asks for nothing; too much of it ends the session.
    fn on_rubbish(&mut self, now: Tick, out: &mut Out) {
        if self.gate.is_fed_up(now) {
            out.push(Effect::Close(CloseReason::Violation));
        }
    }

    /// A frame, or why it could not be read.
    pub fn on_frame(&mut self, decoded: Result<Request, FrameError>, now: Tick, out: &mut Out) {
        let Request { reference, frame } = match decoded {
            Ok(request) => request,
            Err(FrameError { reference, refused }) => {
                out.push(Effect::Frame(refused.into_frame(reference)));
                return self.on_rubbish(now, out);
            }
        };
        if let Err(refused) = self.gate.admit(&frame, now) {
            return self.on_refused(reference, refused, now, out);
        }
        match frame {
            ClientFrame::Hello(_) => out.push(Effect::Close(CloseReason::Violation)),
            ClientFrame::Ack { conv, seq } => self.on_ack(AckCheck { reference, conv, seq }, now, out),
            ClientFrame::Token { token } => out.push(Effect::CheckToken { reference, token }),
            ClientFrame::Ping => out.push(Effect::Frame(ServerFrame::Pong { reference })),
            ClientFrame::Ask(ask) => self.on_ask(reference, ask, out),
        }
        self.assert_sound();
    }

    /// Above the rate limit. Who goes on regardless of the answers is closed.
    fn on_refused(&mut self, reference: Option<u64>, refused: Refused, now: Tick, out: &mut Out) {
        out.push(Effect::Frame(refused.into_frame(reference)));
        if self.gate.is_deaf(now) {
            out.push(Effect::Close(CloseReason::Violation));
        }
    }

    fn on_ask(&mut self, reference: Option<u64>, mut ask: Ask, out: &mut Out) {
        if let Ask::Send(ask::Send { to, handed, .. }) = &mut ask {
            *handed = self.delivery.handed(&ConvId::between(&self.identity.device.user, to));
        }
        if let Ask::Read(ask::Read { conv, handed, .. }) = &mut ask {
            *handed = self.delivery.handed(conv);
        }
        self.pending += ask.op().weight();
        out.push(Effect::Ask { reference, ask });
    }

    /// A request of the client ended. `sent` never moves a position (R6).
    pub fn on_outcome(&mut self, op: Op, reference: Option<u64>, outcome: Outcome, out: &mut Out) {
        self.pending -= op.weight();
        let frame = match outcome {
            Ok(answer) => answer.into_frame(reference),
            Err(refused) => Some(refused.into_frame(reference)),
        };
        out.extend(frame.map(Effect::Frame));
    }

    fn on_ack(&mut self, check: AckCheck, now: Tick, out: &mut Out) {
        if check.seq == 0 {
            // Says nothing, of whatever conversation: nothing that the store should be asked for.
            return;
        }
        if !self.delivery.on_ack(&check.conv, check.seq, At { rules: &self.rules, now }, out) {
            // The store must be asked, so it counts; an acknowledgement of what was handed out here never does.
            if let Err(refused) = self.gate.admit_check(now) {
                return self.on_refused(check.reference, refused, now, out);
            }
            self.pending += Op::Ack.weight();
            out.push(Effect::Upkeep(Upkeep::CheckAck(check)));
        }
    }

    /// The top and the stored cursor that an acknowledgement was waiting for.
    fn on_ack_checked(&mut self, check: AckCheck, found: Result<(Seq, Seq), Refused>, now: Tick, out: &mut Out) {
        self.pending -= Op::Ack.weight();
        let AckCheck { reference, conv, seq } = check;
        let refused = match found {
            Err(refused) => {
                self.delivery.on_check_failed();
                if !refused.code.retry() {
                    self.gate.fine(now);
                }
                refused
            }
            Ok((top, cursor)) => {
                if self.delivery.on_top(&conv, seq, top, cursor, At { rules: &self.rules, now }, out) {
                    return self.after_delivery(out);
                }
                self.gate.fine(now);
                Refused::new(ErrorCode::BadAck, format!("seq: {seq} is above the top of {conv}, which is {top}"))
            }
        };
        out.push(Effect::Frame(refused.into_frame(reference)));
    }

    /// Something that the session needed was done, or could not be.
    pub fn on_upkeep(&mut self, done: UpkeepDone, now: Tick, out: &mut Out) {
        match done {
            UpkeepDone::Filled { conv, cursor, rows } => {
                self.delivery.on_page(&conv, cursor, rows, At { rules: &self.rules, now }, out);
                self.after_delivery(out);
            }
            UpkeepDone::CursorRead { conv, cursor } => {
                self.delivery.on_cursor_read(&conv, cursor, At { rules: &self.rules, now }, out);
                self.after_delivery(out);
            }
            UpkeepDone::RoomRead { conv, place } => {
                self.delivery.on_room_read(&conv, place, At { rules: &self.rules, now }, out);
                self.after_delivery(out);
            }
            UpkeepDone::RowFound { conv, next } => {
                self.delivery.on_row_found(&conv, next, At { rules: &self.rules, now }, out);
                self.after_delivery(out);
            }
            UpkeepDone::StampsRead { cause, stamps } => self.on_stamps(cause, stamps, now, out),
            UpkeepDone::Compared { cause, page } => self.on_gaps(cause, page, now, out),
            UpkeepDone::RoomsCompared { cause, page } => self.on_rooms(cause, page, now, out),
            UpkeepDone::AckChecked { check, found } => self.on_ack_checked(check, found, now, out),
            UpkeepDone::CursorRaised { conv, stored } => {
                self.delivery.on_cursor(&conv, stored, At { rules: &self.rules, now }, out);
            }
        }
        self.assert_sound();
    }

    /// A fresh token was checked.
    pub fn on_token(&mut self, reference: Option<u64>, checked: Result<Expiry, String>, out: &mut Out) {
        out.push(Effect::Frame(match checked {
            Ok(expiry) => {
                self.expiry = expiry;
                ServerFrame::TokenOk { reference, exp: expiry.at }
            }
            Err(text) => Refused::new(ErrorCode::Unauthorized, text).into_frame(reference),
        }));
    }

    /// A live message.
    pub fn on_live(&mut self, live: Arc<LiveMessage>, now: Tick, out: &mut Out) {
        self.delivery.on_live(live, At { rules: &self.rules, now }, out);
        self.assert_sound();
    }

    /// What was handed out last cannot be written in the client's encoding: the client is told that it is left out.
    pub fn on_unwritable(&mut self, conv: &ConvId, seq: Seq, now: Tick, out: &mut Out) {
        self.delivery.on_unwritable(conv, seq, At { rules: &self.rules, now }, out);
        self.assert_sound();
    }

    /// A node told again how far a conversation is, because it was cut off when it first did.
    pub fn on_notice(&mut self, conv: &ConvId, seq: Seq, now: Tick, out: &mut Out) {
        self.delivery.on_notice(conv, seq, At { rules: &self.rules, now }, out);
        self.assert_sound();
    }

    /// Live messages were dropped before they came here.
    pub fn on_lagged(&mut self, out: &mut Out) {
        self.delivery.compare(Cause::Lagged, out);
    }

    /// The stamps of the inbox: nothing has changed, or the heads are read.
    fn on_stamps(&mut self, cause: Cause, stamps: Result<Stamped, ()>, now: Tick, out: &mut Out) {
        let Ok(stamps) = stamps else { return self.on_compare_failed(cause, now) };
        if stamps.retired {
            // What it goes by from now on would be cursors that start anew, and it would hand out everything again.
            return out.push(Effect::Close(CloseReason::Retired));
        }
        self.delivery.on_stamps(stamps, At { rules: &self.rules, now }, out);
        if !self.delivery.is_comparing() {
            self.retry.reset();
        }
        self.after_delivery(out);
    }

    /// A page of the user's rooms.
    fn on_rooms(&mut self, cause: Cause, page: Result<RoomsPage, ()>, now: Tick, out: &mut Out) {
        let Ok((rooms, next)) = page else { return self.on_compare_failed(cause, now) };
        self.retry.reset();
        let found = self.delivery.on_rooms(rooms, next, At { rules: &self.rules, now }, out);
        if found > 0 {
            out.push(Effect::GapsFound { cause, found });
        }
        self.after_delivery(out);
    }

    fn on_compare_failed(&mut self, cause: Cause, now: Tick) {
        // It keeps its cause, and with it its class: what waited for its share of the budget waits for it again.
        let cause = self.delivery.on_compare_failed(cause);
        self.retry_at = Some((now + self.retry.after_failure(), cause));
    }

    /// A page of heads above cursors.
    fn on_gaps(&mut self, cause: Cause, page: Result<GapsPage, ()>, now: Tick, out: &mut Out) {
        let Ok((gaps, next)) = page else { return self.on_compare_failed(cause, now) };
        self.retry.reset();
        let found = self.delivery.on_gaps(gaps, next, At { rules: &self.rules, now }, out);
        if found > 0 {
            out.push(Effect::GapsFound { cause, found });
        }
        self.after_delivery(out);
    }

    /// The heads are to be compared at `now + delay` and once more a recheck later (R12): the connection to NATS
    /// was made anew, or notices were dropped.
    pub fn on_compare(&mut self, cause: Cause, delay: Tick, now: Tick) {
        self.compare_by(now + delay, cause);
        self.recheck_at = Some(now + delay + self.rules.recheck);
    }

    /// Another session of this user announced itself (R11): of two of one device only the smaller closes, and the code
    /// tells its client whether to come back. The larger one speaks up again, so that a smaller one that missed it
    /// hears of it.
    pub fn on_announcement(&mut self, other: &Announcement, out: &mut Out) {
        let mine = &self.identity.rank;
        if other.device != self.identity.device.device || other.session == mine.session {
            return;
        }
        let theirs = SessionRank { number: other.number, attempt: other.attempt, session: other.session.clone() };
        if theirs < *mine {
            self.announce(out);
        } else if theirs.attempt < mine.attempt {
            // Whoever counted further knows of the other one, or neither of the two is of this client any more.
            out.push(Effect::Close(CloseReason::Superseded));
        } else {
            out.push(Effect::Close(CloseReason::Replaced));
        }
    }

    fn announce(&self, out: &mut Out) {
        let Identity { device, rank } = &self.identity;
        let (device, session) = (device.device.clone(), rank.session.clone());
        let announcement = Announcement { device, session, number: rank.number, attempt: rank.attempt };
        out.push(Effect::Upkeep(Upkeep::Announce(announcement)));
    }

    /// Debug builds check what delivery's counters promise: after every step in the tests of this module, otherwise now and
    /// then, because it looks at every conversation.
    fn assert_sound(&self) {
        #[cfg(debug_assertions)]
        {
            use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
            static STEPS: AtomicU32 = AtomicU32::new(0);
            if !cfg!(test) && !STEPS.fetch_add(1, Relaxed).is_multiple_of(32) {
                return;
            }
            self.delivery.assert_sound(&self.rules);
            assert_eq!(self.retry_at.is_some(), self.delivery.is_backing_off(), "a comparison waits for a retry");
        }
    }

    fn after_delivery(&mut self, out: &mut Out) {
        if self.delivery.take_caught_up() {
            let since = self.delivery.since().map(|since| since.to_compact_string());
            out.push(Effect::Frame(ServerFrame::CaughtUp { since }));
        }
    }

    fn compare_by(&mut self, at: Tick, cause: Cause) {
        if self.compare_at.is_none_or(|(planned, _)| at < planned) {
            self.compare_at = Some((at, cause));
        }
    }

    /// When [`Session::on_tick`] wants to be called.
    pub fn deadline(&self) -> Tick {
        let silence = match self.blocked_since {
            Some(since) => since + self.rules.stall,
            None => self.alive_at + self.rules.idle,
        };
        let times = [
            Some(silence),
            Some(self.ping_at),
            Some(self.expiry.tick),
            self.delivery.wake(),
            self.sweep_at,
            self.recheck_at,
            self.compare_at.map(|(at, _)| at),
            self.retry_at.map(|(at, _)| at),
        ];
        times.into_iter().flatten().min().unwrap_or(silence)
    }

    /// Time passed.
    pub fn on_tick(&mut self, now: Tick, out: &mut Out) {
        if self.expiry.tick <= now {
            return out.push(Effect::Close(CloseReason::TokenExpired));
        }
        // A peer that reads slowly cannot answer pings that it has not read: it gets the longer time.
        let dead = match self.blocked_since {
            Some(since) => since + self.rules.stall <= now,
            None => self.alive_at + self.rules.idle <= now,
        };
        if dead {
            return out.push(Effect::Close(CloseReason::Idle));
        }
        if self.ping_at <= now {
            self.ping_at = now + self.rules.ping;
            out.push(Effect::Ping);
        }
        self.on_compare_times(now, out);
        self.delivery.on_tick(At { rules: &self.rules, now }, out);
        self.after_delivery(out);
        self.assert_sound();
    }

    fn on_compare_times(&mut self, now: Tick, out: &mut Out) {
        let mut due = None;
        if let Some((at, cause)) = self.retry_at
            && at <= now
        {
            self.retry_at = None;
            self.delivery.end_back_off();
            due = Some(cause);
        }
        if let Some((at, cause)) = self.compare_at
            && at <= now
        {
            self.compare_at = None;
            due = due.or(Some(cause));
        }
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = None;
            due = due.or(Some(Cause::Recheck));
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = Some(now + self.rules.reconcile);
            due = due.or(Some(Cause::Sweep));
        }
        if let Some(cause) = due {
            self.announce(out);
            self.delivery.compare(cause, out);
        }
    }
}
