//! One task per connection: moves frames from the socket and mail from the mailbox into the session, and carries out
//! what the session wants. Polled by hand, so that nothing awaits a slow socket while mail, pings and timers wait.
//!
//! Started by [`super::accept`] after the greeting.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Sleep;

use super::{Gateway, expected::Expected, greet::tell_session, heard::Heard, socket::Socket, unwritable};
use crate::{
    metrics::DeliveryPath,
    model::{ConvId, Seq, now_millis},
    ops::Caller,
    protocol::{ClientFrame, CloseReason, ErrorCode, Message, Op, Refused, Request, ServerFrame, client::FrameError},
    routing::{Look, Mail, Point, Seen, SessionHandle, Step},
    session::{Effect, Session},
};

type Effects = Vec<Effect>;

/// Frames read before what they caused is written: enough to write many answers at once, few enough to be fair.
const FRAMES: usize = 64;
/// Rounds before other tasks get their turn.
const ROUNDS: usize = 4;

/// A connection past its `welcome`.
pub(super) struct Pump {
    gateway: Arc<Gateway>,
    handle: Arc<SessionHandle>,
    socket: Socket,
    session: Session,
    caller: Caller,
    timer: Pin<Box<Sleep>>,
    /// Conversations behind, as last told to the metric.
    behind: usize,
    /// The node drains: the connection ends when what the client asked for is answered.
    leaving: bool,
    /// A token waits for its key ([`Pump::on_token`]).
    waits_for_key: bool,
}

impl Pump {
    /// A pump; `first` is what the session wanted at its start.
    ///
    /// # Errors
    /// When the connection broke meanwhile.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        handle: Arc<SessionHandle>,
        socket: Socket,
        session: Session,
        first: Effects,
    ) -> Result<Box<Self>, CloseReason> {
        gateway.metrics.sessions.inc();
        let caller = Caller::session(handle.clone());
        let timer = Box::pin(tokio::time::sleep_until(gateway.clock.instant(session.deadline())));
        let (behind, leaving, waits_for_key) = (0, false, false);
        let mut pump =
            Box::new(Self { gateway, handle, socket, session, caller, timer, behind, leaving, waits_for_key });
        pump.carry_out(first)?;
        Ok(pump)
    }

    /// Runs the connection to its end, closes it, and writes the cursors that are not written yet.
    pub(super) async fn run(mut self: Box<Self>) -> CloseReason {
        // A panic costs this session only. What it knows may be half done by then, so its cursors stay as they are.
        let polled = AssertUnwindSafe(std::future::poll_fn(|cx| self.poll(cx))).catch_unwind().await;
        let reason = polled.unwrap_or(CloseReason::Internal);
        // Boxed: only connections that end pay for it.
        Box::pin(self.end(reason)).await;
        reason
    }

    async fn end(self: Box<Self>, reason: CloseReason) {
        let handle = self.handle.clone();
        let gateway = self.gateway.clone();
        self.finish(reason).await;
        tell_session(&gateway, &handle, Some(reason));
        let (device, rank) = (&handle.identity.device, &handle.identity.rank);
        let (reason, seconds) = (reason.label(), now_millis().saturating_sub(handle.since) / 1_000);
        tracing::info!(
            user = %device.user, device = %device.device, session = %rank.session, reason, seconds, "session closed"
        );
    }

    async fn finish(mut self: Box<Self>, reason: CloseReason) {
        self.gateway.registry.leave(&self.handle);
        if reason == CloseReason::Internal {
            return self.socket.end(reason).await;
        }
        self.tell_offline(reason);
        let device = self.handle.device();
        // At the same time: closing may take a while, and the peer may reconnect elsewhere and need its cursors before.
        let cursors = self.gateway.ops.write_cursors(&device, self.session.delivery());
        tokio::join!(self.socket.end(reason), cursors);
    }

    /// Of what this session leaves unacknowledged push services are told, unless its device is somewhere else by now or
    /// on its way there.
    fn tell_offline(&self, reason: CloseReason) {
        if matches!(reason, CloseReason::Replaced | CloseReason::Superseded | CloseReason::Retired | CloseReason::Drain)
        {
            return;
        }
        for need in self.session.delivery().owed() {
            self.gateway.ops.keep_up(&self.handle, need, |_| ());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match self.poll_rounds(cx) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(reason) => Poll::Ready(reason),
        }
    }

    /// Pending: everything is registered for a wake-up. Ready: there is more to do, after others had their turn.
    fn poll_rounds(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, CloseReason> {
        for _ in 0..ROUNDS {
            let mut out = Vec::new();
            let busy = self.poll_events(cx, &mut out)?;
            self.carry_out(out)?;
            let busy = self.poll_output(cx)? || busy;
            self.count_behind();
            if self.leaving && !self.session.is_waiting() {
                return Err(CloseReason::Drain);
            }
            if !busy && self.poll_timer(cx).is_pending() {
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready(()))
    }

    fn poll_events(&mut self, cx: &mut Context<'_>, out: &mut Effects) -> Result<bool, CloseReason> {
        let now = self.gateway.clock.now();
        self.handle.mailbox.register(cx.waker());
        let (mail, lagged) = self.handle.mailbox.take();
        let mut busy = !mail.is_empty() || lagged;
        for mail in mail {
            self.on_mail(mail, now, out)?;
        }
        if lagged {
            self.session.on_lagged(out);
        }
        for _ in 0..FRAMES {
            if self.leaving || !self.session.wants_input() {
                break;
            }
            match self.socket.poll_arrived(cx) {
                Poll::Pending => break,
                Poll::Ready(arrived) => {
                    let heard = Heard::of(arrived?, self.handle.encoding);
                    self.on_heard(heard, now, out);
                }
            }
            busy = true;
        }
        self.socket.rest();
        if self.session.deadline() <= now {
            // It may be the time to give the peer up.
            self.session.on_moved(self.socket.moved(), now);
            self.session.on_tick(now, out);
            busy = true;
        }
        Ok(busy)
    }

    /// Sends, and tells the session how much room there is; true when that made it want something.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        if let Poll::Ready(done) = self.socket.poll_flush(cx) {
            done?;
        }
        let mut out = Vec::new();
        let credit = self.gateway.settings.out_bytes.saturating_sub(self.socket.waiting());
        self.session.on_output(credit, self.gateway.clock.now(), &mut out);
        let busy = !out.is_empty();
        self.carry_out(out)?;
        Ok(busy)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.gateway.clock.instant(self.session.deadline());
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }

    fn count_behind(&mut self) {
        let behind = self.session.delivery().behind();
        if behind != self.behind {
            self.gateway.metrics.behind_conversations.inc_by(behind as i64 - self.behind as i64);
            self.behind = behind;
        }
    }

    fn on_mail(&mut self, mail: Mail, now: u64, out: &mut Effects) -> Result<(), CloseReason> {
        match mail {
            Mail::Live(live) => self.session.on_live(live, now, out),
            Mail::Notice(conv, seq) => self.session.on_notice(&conv, seq, now, out),
            Mail::Outcome { op, reference, outcome } => self.session.on_outcome(op, reference, outcome, out),
            Mail::Upkeep(done) => self.session.on_upkeep(done, now, out),
            Mail::Passing(frame) => {
                if self.socket.waiting() < self.gateway.settings.out_bytes
                    && let Some(frame) = frame.bytes(self.handle.encoding)
                {
                    self.socket.write(&frame);
                }
            }
            Mail::Member(conv, seq, frame) => {
                // The client first: it is only of the moment, and what follows may close the connection.
                self.on_mail(Mail::Passing(frame), now, out)?;
                self.session.on_notice(&conv, seq, now, out);
            }
            Mail::Announcement(other) => self.session.on_announcement(&other, out),
            Mail::Token { reference, token } => {
                self.waits_for_key = false;
                self.check_token(reference, &token)?;
            }
            Mail::Look(look) => {
                let Look { conv, tell } = *look;
                // Whoever asked may have given up.
                let _ = tell.send(Seen { view: self.session.view(&conv, now), waiting_bytes: self.socket.waiting() });
            }
            Mail::Compare { cause, delay } => self.session.on_compare(cause, delay, now),
            Mail::Close(reason, farewell) => {
                if let Some(frame) = farewell {
                    self.write(&frame);
                }
                if reason != CloseReason::Drain {
                    return Err(reason);
                }
                self.leaving = true;
            }
        }
        Ok(())
    }

    fn on_heard(&mut self, heard: Heard, now: u64, out: &mut Effects) {
        self.session.on_alive(now);
        let decoded = match heard {
            Heard::Control => return self.session.on_control(now, out),
            Heard::WrongKind => {
                let text = format!("{} frames are not of this kind", self.handle.encoding.subprotocol());
                Err(FrameError { reference: None, refused: Refused::new(ErrorCode::BadFrame, text) })
            }
            Heard::Request(decoded) => {
                self.handle.mark_active(now);
                self.count_frame(decoded.as_ref().ok().map(|request| request.frame.op()));
                if let Ok(Request { frame: ClientFrame::Ack { conv, seq }, .. }) = &decoded {
                    self.tell_trace(Step::Acknowledged, conv, *seq);
                }
                decoded
            }
        };
        self.session.on_frame(decoded, now, out);
    }

    fn count_frame(&self, op: Option<Op>) {
        let metrics = &self.gateway.metrics;
        match op {
            Some(op) => metrics.frames_in.of(op).inc(),
            None => metrics.bad_frames.inc(),
        };
        if op == Some(Op::Ack) {
            metrics.acks.inc();
        }
    }

    /// The last log line about a message: from `append` to here, its seq can be followed from socket to socket.
    fn trace(&self, conv: &ConvId, seq: Seq) {
        let device = &self.handle.identity.device;
        tracing::debug!(%conv, seq, user = %device.user, device = %device.device, "handed out");
        self.tell_trace(Step::Handed, conv, seq);
    }

    /// For an operator who follows the user, or the other one of the conversation.
    fn tell_trace(&self, step: Step, conv: &ConvId, seq: Seq) {
        let traces = self.gateway.ops.router().traces();
        if traces.is_on() {
            let device = &self.handle.identity.device;
            traces.tell(&device.user, &Point { device: Some(&device.device), ..Point::of(step, conv, seq) });
        }
    }

    fn write(&mut self, frame: &ServerFrame) {
        if let ServerFrame::Error { code, .. } = frame {
            self.gateway.metrics.error(code.word());
        }
        if let Some(frame) = unwritable::encode(frame, self.handle.encoding, &self.gateway.metrics) {
            self.socket.write(&frame);
        }
    }

    /// Writes a message of a log, or says that it is left out where it cannot be written (R14).
    fn hand(&mut self, conv: &ConvId, seq: Seq, frame: Option<Bytes>) -> Result<(), CloseReason> {
        if let Some(frame) = frame {
            self.socket.write(&frame);
            return Ok(());
        }
        self.gateway.metrics.unwritable_bodies.inc();
        let mut out = Vec::new();
        self.session.on_unwritable(conv, seq, self.gateway.clock.now(), &mut out);
        // No message among these: whatever a fill brings comes later, as mail.
        self.carry_out(out)
    }

    fn carry_out(&mut self, effects: Effects) -> Result<(), CloseReason> {
        for effect in effects {
            match effect {
                Effect::HandLive(live) => {
                    let path = if live.from_bus { DeliveryPath::Bus } else { DeliveryPath::Local };
                    self.gateway.metrics.delivered.of(path).inc();
                    self.gateway.metrics.observe_delivery(live.ts, now_millis());
                    self.trace(&live.conv, live.seq);
                    self.hand(&live.conv, live.seq, live.bytes(self.handle.encoding, now_millis))?;
                }
                Effect::HandRow(conv, row) => {
                    self.trace(&conv, row.seq);
                    self.gateway.metrics.delivered.of(DeliveryPath::Fill).inc();
                    let (seq, message) = (row.seq, ServerFrame::Message(Message::of(&conv, row, now_millis())));
                    self.hand(&conv, seq, self.handle.encoding.try_encode(&message).ok())?;
                }
                Effect::Frame(frame) => self.write(&frame),
                Effect::Ask { reference, ask } => {
                    let (op, expected) = (ask.op(), Expected::by(&self.handle));
                    self.gateway.ops.perform(&self.caller, ask, move |outcome| {
                        expected.answer(Mail::Outcome { op, reference, outcome });
                    });
                }
                Effect::Upkeep(need) => {
                    let me = &self.handle;
                    if need.is_answered() {
                        let expected = Expected::by(me);
                        self.gateway.ops.keep_up(me, need, move |done| expected.answer(Mail::Upkeep(done)));
                    } else {
                        self.gateway.ops.keep_up(me, need, |_| ());
                    }
                }
                Effect::CheckToken { reference, token } => self.on_token(reference, token)?,
                Effect::Cut { conv, first, from } => {
                    let user = &self.handle.identity.device.user;
                    tracing::error!(%conv, first, from, %user, "rows are missing or cannot be written: a session steps over them");
                    self.gateway.metrics.truncated.inc();
                    self.write(&ServerFrame::Truncated { conv, from });
                }
                Effect::LeftToHistory { conv, from } => {
                    self.gateway.metrics.backlogs_cut.inc();
                    self.write(&ServerFrame::Truncated { conv, from });
                }
                Effect::Unlisten(conv) => self.gateway.registry.unlisten(&self.handle, &conv),
                Effect::GapsFound { cause, found } => {
                    self.gateway.metrics.gaps_found.of(cause).inc_by(found as u64);
                }
                Effect::CompareSkipped { cause } => {
                    self.gateway.metrics.reconciles_skipped.of(cause).inc();
                }
                Effect::Ping => self.socket.ping(),
                Effect::Close(reason) => return Err(reason),
            }
        }
        Ok(())
    }

    /// A token whose key is unknown waits for the keys to be fetched again, one at a time.
    fn on_token(&mut self, reference: Option<u64>, token: String) -> Result<(), CloseReason> {
        let verifier = self.gateway.verifier();
        if self.waits_for_key || !verifier.lacks_key(&token) {
            return self.check_token(reference, &token);
        }
        self.waits_for_key = true;
        let expected = Expected::by(&self.handle);
        tokio::spawn(async move {
            verifier.fetch_again().await;
            expected.answer(Mail::Token { reference, token });
        });
        Ok(())
    }

    fn check_token(&mut self, reference: Option<u64>, token: &str) -> Result<(), CloseReason> {
        let checked = self.gateway.check_token(Some(&self.handle.identity.device.user), token);
        if let Err((_, reason)) = &checked {
            let user = &self.handle.identity.device.user;
            tracing::info!(%user, address = self.socket.address(), reason, "a token was refused");
        }
        let mut out = Vec::new();
        self.session.on_token(reference, checked.map(|(_, expiry)| expiry).map_err(|(_, text)| text), &mut out);
        // The only effect is an answer, so this does not recurse further.
        self.carry_out(out)
    }
}

impl Drop for Pump {
    /// Gives back what the session held, however it ends.
    fn drop(&mut self) {
        self.gateway.registry.leave(&self.handle);
        self.gateway.metrics.sessions.dec();
        self.gateway.metrics.behind_conversations.dec_by(self.behind as i64);
    }
}
