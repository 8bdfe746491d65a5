//! One task per connection: moves frames from the socket and mail from the mailbox into the session, and carries out
//! what the session wants. Polled by hand, so that nothing awaits a slow socket while mail, pings and timers wait.
//!
//! Started by [`super::accept`] after the greeting.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use governor::DefaultDirectRateLimiter;
use tokio::time::Sleep;

use super::{
    Gateway,
    live::{Live, message_of},
    mailbox::Mail,
    registry::SessionHandle,
    requests,
    socket::{Incoming, Socket},
};
use crate::{
    metrics::{DeliveryPath, FrameOp},
    model::{ConvId, Row, Seq},
    protocol::{ClientFrame, CloseReason, ErrorCode, Request, ServerFrame, client::FrameError},
    session::{Effect, Joined, refusal},
};

/// A session over live messages and stored rows.
pub type Session = Joined<Arc<Live>, Row>;
type Effects = Vec<Effect<Arc<Live>, Row>>;

/// Frames read before what they caused is written: enough to write many answers at once, few enough to be fair.
const FRAMES: usize = 64;
/// Rounds before other tasks get their turn.
const ROUNDS: usize = 4;

/// A connection past its `welcome`.
pub struct Pump {
    gateway: Arc<Gateway>,
    handle: Arc<SessionHandle>,
    socket: Socket,
    session: Session,
    limiter: Option<Box<DefaultDirectRateLimiter>>,
    timer: Pin<Box<Sleep>>,
    /// Conversations behind, as last told to the metric.
    behind: usize,
    /// The node drains: the connection ends when what the client asked for is answered.
    leaving: bool,
}

impl Pump {
    /// A pump; `first` is what the session wanted at its start.
    ///
    /// # Errors
    /// When the connection broke meanwhile.
    pub fn new(
        gateway: Arc<Gateway>,
        handle: Arc<SessionHandle>,
        socket: Socket,
        session: Session,
        first: Effects,
    ) -> Result<Box<Self>, CloseReason> {
        let limiter = gateway.settings.sends.map(|(rate, burst)| {
            let quota = governor::Quota::per_second(rate).allow_burst(burst);
            Box::new(governor::RateLimiter::direct(quota))
        });
        let timer = Box::pin(tokio::time::sleep_until(gateway.instant(session.deadline())));
        let mut pump = Box::new(Self { gateway, handle, socket, session, limiter, timer, behind: 0, leaving: false });
        pump.carry_out(first)?;
        Ok(pump)
    }

    /// Runs the connection to its end, closes it, and writes the cursors that are not written yet.
    pub async fn run(mut self: Box<Self>) -> CloseReason {
        let reason = std::future::poll_fn(|cx| self.poll(cx)).await;
        // Boxed: only connections that end pay for it.
        Box::pin(self.finish(reason)).await;
        reason
    }

    async fn finish(mut self: Box<Self>, reason: CloseReason) {
        self.gateway.registry.leave(&self.handle);
        self.socket.end(reason).await;
        self.gateway.metrics.behind_conversations.dec_by(self.behind as i64);
        requests::write_cursors(&self.gateway, &self.handle, self.session.delivery()).await;
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
        let now = self.gateway.now();
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
            match self.socket.poll_incoming(cx) {
                Poll::Pending => break,
                Poll::Ready(incoming) => self.on_incoming(incoming?, now, out),
            }
            busy = true;
        }
        if self.session.deadline() <= now {
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
        self.session.on_output(credit, self.gateway.now(), &mut out);
        let busy = !out.is_empty();
        self.carry_out(out)?;
        Ok(busy)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.gateway.instant(self.session.deadline());
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
            Mail::Live(live) => self.session.on_live(&live.conv.clone(), live, now, out),
            Mail::Heard(conv, seq) => self.session.on_heard(&conv, seq, now, out),
            Mail::Appended { reference, conv, answer } => self.session.on_appended(reference, conv, answer, out),
            Mail::Page { conv, cursor, rows } => self.session.on_page(&conv, cursor, rows, now, out),
            Mail::Cursor { conv, stored } => self.session.on_cursor(&conv, stored, now, out),
            Mail::Passing(frame) => {
                if self.socket.waiting() < self.gateway.settings.out_bytes {
                    self.socket.write(frame.bytes(self.handle.encoding))?;
                }
            }
            Mail::Announcement(other) => self.session.on_announcement(&other, out),
            Mail::Gaps { cause, page } => {
                let found = self.session.on_gaps(page, now, out);
                requests::count_gaps(&self.gateway.metrics, cause, found);
            }
            Mail::Top { asked, found } => self.session.on_top(asked, found, now, out),
            Mail::ReadStored { reference, stored } => self.session.on_read_stored(reference, stored, out),
            Mail::Listing(frame) => self.session.on_listing(*frame, out),
            Mail::Doubt { cause, delay } => self.session.on_doubt(cause, delay, now),
            Mail::Close(reason, farewell) => {
                if let Some(frame) = farewell {
                    self.write(&frame)?;
                }
                if reason != CloseReason::Drain {
                    return Err(reason);
                }
                self.leaving = true;
            }
        }
        Ok(())
    }

    fn on_incoming(&mut self, incoming: Incoming, now: u64, out: &mut Effects) {
        self.session.on_sign(now);
        let payload = match incoming {
            Incoming::Sign => return,
            Incoming::WrongKind => {
                let message = format!("{} frames are not of this kind", self.handle.encoding.subprotocol());
                let error = FrameError { reference: None, code: ErrorCode::BadFrame, message };
                return self.session.on_bad_frame(error, out);
            }
            Incoming::Frame(payload) => payload,
        };
        self.handle.active_at.store(now, Ordering::Relaxed);
        match Request::decode(self.handle.encoding, &payload, self.gateway.rules.body_bytes) {
            Err(error) => {
                self.gateway.metrics.frames_in.of(FrameOp::Unknown).inc();
                self.session.on_bad_frame(error, out);
            }
            Ok(request) => {
                let (op, limited) = op_of(&request.frame);
                self.gateway.metrics.frames_in.of(op).inc();
                if op == FrameOp::Ack {
                    self.gateway.metrics.acks.inc();
                }
                if limited && self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err()) {
                    let text = "too many requests: wait, then send it again with the same cid";
                    out.push(Effect::Frame(refusal(request.reference, ErrorCode::RateLimited, text)));
                } else {
                    self.session.on_request(request, now, out);
                }
            }
        }
    }

    /// One message's way ends here: with `append` and its seq, the log tells it from socket to socket.
    fn trace(&self, conv: &ConvId, seq: Seq) {
        let identity = &self.handle.identity;
        tracing::debug!(%conv, seq, user = %identity.user, device = %identity.device, "handed out");
    }

    fn write(&mut self, frame: &ServerFrame) -> Result<(), CloseReason> {
        if let ServerFrame::Error { code, .. } = frame {
            self.gateway.metrics.error(code.word());
        }
        self.socket.write(self.handle.encoding.encode(frame))
    }

    fn carry_out(&mut self, effects: Effects) -> Result<(), CloseReason> {
        for effect in effects {
            match effect {
                Effect::HandLive(live) => {
                    let path = if live.from_bus { DeliveryPath::Bus } else { DeliveryPath::Local };
                    self.gateway.metrics.delivered.of(path).inc();
                    self.trace(&live.conv, live.seq);
                    self.socket.write(live.frame.bytes(self.handle.encoding))?;
                }
                Effect::HandRow(conv, row) => {
                    self.trace(&conv, row.seq);
                    self.gateway.metrics.delivered.of(DeliveryPath::Fill).inc();
                    self.write(&ServerFrame::Message(message_of(&conv, row)))?;
                }
                Effect::Frame(frame) => self.write(&frame)?,
                Effect::Ping => self.socket.ping()?,
                Effect::Close(reason) => return Err(reason),
                Effect::Refresh { reference, token } => self.refresh(reference, &token)?,
                other => requests::start(&self.gateway, &self.handle, other),
            }
        }
        Ok(())
    }

    fn refresh(&mut self, reference: Option<u64>, token: &str) -> Result<(), CloseReason> {
        let checked = requests::check_token(&self.gateway, Some(&self.handle.identity.user), token);
        let mut out = Vec::new();
        self.session.on_token(reference, checked.map(|(_, expiry)| expiry).map_err(|(_, text)| text), &mut out);
        // Only an answer comes of it, so this does not nest.
        self.carry_out(out)
    }
}

/// The metric's label of a frame, and whether the rate limit counts it.
fn op_of(frame: &ClientFrame) -> (FrameOp, bool) {
    match frame {
        ClientFrame::Hello(_) => (FrameOp::Hello, false),
        ClientFrame::Send { .. } => (FrameOp::Send, true),
        ClientFrame::Ack { .. } => (FrameOp::Ack, false),
        ClientFrame::Read { .. } => (FrameOp::Read, true),
        ClientFrame::History { .. } => (FrameOp::History, true),
        ClientFrame::Conversations { .. } => (FrameOp::Conversations, true),
        ClientFrame::Signal { .. } => (FrameOp::Signal, true),
        ClientFrame::Token { .. } => (FrameOp::Token, true),
        ClientFrame::Later(op) => (FrameOp::from_name(op), true),
    }
}
