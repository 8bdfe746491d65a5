//! A session after its `welcome`: requests, timers, and the marriage of both with [`Delivery`].
//!
//! Called by the gateway's pump, one method per event; what is to be done comes out as effects.

use std::sync::Arc;

use super::{
    Cause, Delivery, Effect, Expiry, Mark, Marking, Rules, Tick,
    delivery::{At, Placed},
    refusal,
};
use crate::{
    model::{ConvId, DeviceId, Millis, Parties, Recipient, Seq, SessionRank, UserId},
    protocol::{ClientFrame, CloseReason, ErrorCode, Request, ServerFrame, client::FrameError, server::Announcement},
};

/// Who a session is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// From the token.
    pub user: UserId,
    /// As the client named it.
    pub device: DeviceId,
    /// What decides between two sessions of the device.
    pub rank: SessionRank,
}

/// Conversations with head and cursor, and where the next page starts.
pub type GapsPage = (Vec<(ConvId, Seq, Seq)>, Option<ConvId>);

/// A page of a log is as heavy as this many small requests.
const HEAVY: usize = 16;
/// A comparison that failed is tried again after this long.
const COMPARE_RETRY: Tick = 2_000;

/// A live session. `L` is a live message, `R` a row; see [`Effect`].
#[derive(Debug)]
pub struct Joined<L, R> {
    identity: Identity,
    rules: Arc<Rules>,
    delivery: Delivery,
    pending: usize,
    expiry: Expiry,
    heard_at: Tick,
    ping_at: Tick,
    sweep_at: Option<Tick>,
    compare_at: Option<(Tick, Cause)>,
    recheck_at: Option<Tick>,
    /// Since when the peer leaves unread what was written.
    blocked_since: Option<Tick>,
    effects: std::marker::PhantomData<fn() -> (L, R)>,
}

type Out<L, R> = Vec<Effect<L, R>>;

impl<L: Placed, R: Placed> Joined<L, R> {
    /// A session whose device is registered and whose subscription was fenced (or could not be). `phase`, 0 to
    /// 999, spreads the slow sweeps of many sessions.
    pub fn start(
        identity: Identity,
        rules: Arc<Rules>,
        expiry: Expiry,
        phase: u64,
        now: Tick,
        out: &mut Out<L, R>,
    ) -> Self {
        let sweep_at = (rules.reconcile > 0).then(|| now + rules.reconcile / 2 + rules.reconcile * phase / 1000);
        let mut session = Self {
            identity,
            delivery: Delivery::default(),
            pending: 0,
            expiry,
            heard_at: now,
            ping_at: now + rules.ping,
            sweep_at,
            compare_at: None,
            recheck_at: Some(now + rules.recheck),
            blocked_since: None,
            rules,
            effects: std::marker::PhantomData,
        };
        out.push(Effect::Announce);
        session.delivery.compare(Cause::Login, out);
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
    pub fn on_output(&mut self, credit: usize, now: Tick, out: &mut Out<L, R>) {
        self.blocked_since = if credit > 0 { None } else { self.blocked_since.or(Some(now)) };
        self.delivery.set_credit(credit, At { rules: &self.rules, now }, out);
    }

    /// Something arrived from the peer, if only a pong.
    pub fn on_sign(&mut self, now: Tick) {
        self.heard_at = now;
    }

    /// A frame that could not be read.
    pub fn on_bad_frame(&mut self, error: FrameError, out: &mut Out<L, R>) {
        out.push(Effect::Frame(refusal(error.reference, error.code, error.message)));
    }

    /// A frame.
    pub fn on_request(&mut self, request: Request, now: Tick, out: &mut Out<L, R>) {
        let reference = request.reference;
        match request.frame {
            ClientFrame::Hello(_) => out.push(Effect::Close(CloseReason::Violation)),
            ClientFrame::Send { to: Recipient::User(to), cid, body } => {
                self.pending += 1;
                out.push(Effect::Append { reference, to, cid, body });
            }
            ClientFrame::Ack { conv, seq } => self.on_mark(reference, conv, seq, Mark::Cursor, now, out),
            ClientFrame::Read { conv, seq } => self.on_mark(reference, conv, seq, Mark::Read, now, out),
            ClientFrame::History { conv, from, limit } => {
                if self.belongs(reference, &conv, out) {
                    self.pending += HEAVY;
                    out.push(Effect::History { reference, conv, from, limit });
                }
            }
            ClientFrame::Conversations { after, limit } => {
                self.pending += HEAVY;
                out.push(Effect::Conversations { reference, after, limit });
            }
            ClientFrame::Signal { to: Recipient::User(to), kind, body } => {
                out.push(Effect::Signal { to, kind, body });
            }
            ClientFrame::Token { token } => out.push(Effect::Refresh { reference, token }),
            ClientFrame::Send { .. } | ClientFrame::Signal { .. } => self.later(reference, "rooms", out),
            ClientFrame::Later(op) => self.later(reference, op, out),
        }
    }

    fn later(&self, reference: Option<u64>, what: &str, out: &mut Out<L, R>) {
        let text = format!("{what}: not served by this version");
        out.push(Effect::Frame(refusal(reference, ErrorCode::Unsupported, text)));
    }

    fn belongs(&self, reference: Option<u64>, conv: &ConvId, out: &mut Out<L, R>) -> bool {
        let refused = match conv.parties() {
            Parties::Direct(..) if conv.is_direct_of(&self.identity.user) => return true,
            Parties::Direct(..) => (ErrorCode::NotMember, "conv: you are not part of this conversation"),
            Parties::Room(_) => (ErrorCode::Unsupported, "conv: rooms are not served by this version"),
        };
        out.push(Effect::Frame(refusal(reference, refused.0, refused.1)));
        false
    }

    fn on_mark(&mut self, reference: Option<u64>, conv: ConvId, seq: Seq, mark: Mark, now: Tick, out: &mut Out<L, R>) {
        if !self.belongs(reference, &conv, out) {
            return;
        }
        if mark == Mark::Cursor && self.delivery.on_ack(&conv, seq, At { rules: &self.rules, now }, out) {
            return;
        }
        self.pending += 1;
        out.push(Effect::ReadTop(Marking { reference, conv, seq, mark }));
    }

    /// The top and the stored cursor that a mark was waiting for.
    pub fn on_top(&mut self, asked: Marking, found: Result<(Seq, Seq), String>, now: Tick, out: &mut Out<L, R>) {
        self.pending -= 1;
        let Marking { reference, conv, seq, mark } = &asked;
        let (top, cursor) = match found {
            Ok(found) => found,
            Err(text) => return out.push(Effect::Frame(refusal(*reference, ErrorCode::Unavailable, text))),
        };
        let taken = match mark {
            Mark::Cursor => self.delivery.on_top(conv, *seq, top, cursor, At { rules: &self.rules, now }, out),
            Mark::Read => *seq <= top,
        };
        if !taken {
            let text = format!("seq: {seq} is above the top of {conv}, which is {top}");
            out.push(Effect::Frame(refusal(*reference, ErrorCode::BadAck, text)));
        } else if *mark == Mark::Read {
            self.pending += 1;
            out.push(Effect::RaiseRead(asked));
        }
        self.after_delivery(out);
    }

    /// The read mark was stored, or was not.
    pub fn on_read_stored(&mut self, reference: Option<u64>, stored: Result<(), String>, out: &mut Out<L, R>) {
        self.pending -= 1;
        if let Err(text) = stored {
            out.push(Effect::Frame(refusal(reference, ErrorCode::Unavailable, text)));
        }
    }

    /// A send was answered by the store. `sent` never moves a position (R6).
    pub fn on_appended(
        &mut self,
        reference: Option<u64>,
        conv: ConvId,
        answer: Result<(Seq, Millis), (ErrorCode, String)>,
        out: &mut Out<L, R>,
    ) {
        self.pending -= 1;
        out.push(Effect::Frame(match answer {
            Ok((seq, ts)) => ServerFrame::Sent { reference, conv, seq, ts },
            Err((code, text)) => refusal(reference, code, text),
        }));
    }

    /// The answer to `history` or `conversations`.
    pub fn on_listing(&mut self, frame: ServerFrame, out: &mut Out<L, R>) {
        self.pending -= HEAVY;
        out.push(Effect::Frame(frame));
    }

    /// A fresh token was checked.
    pub fn on_token(&mut self, reference: Option<u64>, checked: Result<Expiry, String>, out: &mut Out<L, R>) {
        out.push(Effect::Frame(match checked {
            Ok(expiry) => {
                self.expiry = expiry;
                ServerFrame::TokenOk { reference, exp: expiry.at }
            }
            Err(text) => refusal(reference, ErrorCode::Unauthorized, text),
        }));
    }

    /// A live message.
    pub fn on_live(&mut self, conv: &ConvId, live: L, now: Tick, out: &mut Out<L, R>) {
        self.delivery.on_live(conv, live, At { rules: &self.rules, now }, out);
    }

    /// A node told again how far a conversation is, because it was cut off when it first did.
    pub fn on_heard(&mut self, conv: &ConvId, seq: Seq, now: Tick, out: &mut Out<L, R>) {
        self.delivery.on_heard(conv, seq, At { rules: &self.rules, now }, out);
    }

    /// Live messages were dropped before they came here.
    pub fn on_lagged(&mut self, out: &mut Out<L, R>) {
        self.delivery.compare(Cause::Lagged, out);
    }

    /// A page of a log; see [`Delivery::on_page`].
    pub fn on_page(
        &mut self,
        conv: &ConvId,
        cursor: Option<Seq>,
        rows: Result<Vec<R>, ()>,
        now: Tick,
        out: &mut Out<L, R>,
    ) {
        self.delivery.on_page(conv, cursor, rows, At { rules: &self.rules, now }, out);
        self.after_delivery(out);
    }

    /// A page of heads above cursors. Returns how many conversations were behind.
    pub fn on_gaps(&mut self, page: Result<GapsPage, ()>, now: Tick, out: &mut Out<L, R>) -> usize {
        let Ok((gaps, next)) = page else {
            self.delivery.on_compare_failed();
            self.compare_by(now + COMPARE_RETRY, Cause::Login);
            return 0;
        };
        let found = self.delivery.on_gaps(gaps, next, At { rules: &self.rules, now }, out);
        self.after_delivery(out);
        found
    }

    /// A cursor write ended; `Some` is what the store confirmed.
    pub fn on_cursor(&mut self, conv: &ConvId, stored: Option<Seq>, now: Tick, out: &mut Out<L, R>) {
        self.delivery.on_cursor(conv, stored, At { rules: &self.rules, now }, out);
    }

    /// The heads are to be compared at `now + delay` and once more a recheck later (R12): the connection to NATS
    /// was made anew, or notices were dropped.
    pub fn on_doubt(&mut self, cause: Cause, delay: Tick, now: Tick) {
        self.compare_by(now + delay, cause);
        self.recheck_at = Some(now + delay + self.rules.recheck);
    }

    /// Another session of this user announced itself (R11): of two of one device only the smaller closes. The
    /// larger one speaks up again, so that a smaller one that missed it hears of it.
    pub fn on_announcement(&mut self, other: &Announcement, out: &mut Out<L, R>) {
        let mine = &self.identity.rank;
        if other.device != self.identity.device || other.session == mine.session {
            return;
        }
        let theirs = SessionRank { attempt: other.attempt, session: other.session.clone() };
        out.push(if theirs > *mine { Effect::Close(CloseReason::Replaced) } else { Effect::Announce });
    }

    fn after_delivery(&mut self, out: &mut Out<L, R>) {
        if self.delivery.take_caught_up() {
            out.push(Effect::Frame(ServerFrame::CaughtUp));
        }
    }

    fn compare_by(&mut self, at: Tick, cause: Cause) {
        if self.compare_at.is_none_or(|(planned, _)| at < planned) {
            self.compare_at = Some((at, cause));
        }
    }

    /// When [`Joined::on_tick`] wants to be called.
    pub fn deadline(&self) -> Tick {
        let silence = match self.blocked_since {
            Some(since) => since + self.rules.stall,
            None => self.heard_at + self.rules.idle,
        };
        let times = [
            Some(silence),
            Some(self.ping_at),
            Some(self.expiry.tick),
            self.delivery.wake(),
            self.sweep_at,
            self.recheck_at,
            self.compare_at.map(|(at, _)| at),
        ];
        times.into_iter().flatten().min().unwrap_or(silence)
    }

    /// Time passed.
    pub fn on_tick(&mut self, now: Tick, out: &mut Out<L, R>) {
        if self.expiry.tick <= now {
            return out.push(Effect::Close(CloseReason::TokenExpired));
        }
        // A peer that reads slowly cannot answer pings that it has not read: it gets the longer time.
        let dead = match self.blocked_since {
            Some(since) => since + self.rules.stall <= now,
            None => self.heard_at + self.rules.idle <= now,
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
    }

    fn on_compare_times(&mut self, now: Tick, out: &mut Out<L, R>) {
        let mut due = None;
        if let Some((at, cause)) = self.compare_at
            && at <= now
        {
            self.compare_at = None;
            due = Some(cause);
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
            out.push(Effect::Announce);
            self.delivery.compare(cause, out);
        }
    }
}
