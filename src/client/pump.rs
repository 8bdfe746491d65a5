//! One connection in use: frames in, frames out, until it ends. Called by the driver.
//!
//! Nothing here waits for a write: while the socket takes no more, frames still come in.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    ConnectError, Connection, Event, Incoming,
    driver::{Command, Driver},
    places::Taken,
    renewal::Renewal,
};
use crate::{
    model::{ConvId, Seq, UserId},
    protocol::{ErrorCode, ServerFrame, client::Outgoing, server::Welcome},
};

/// At most this many steps before queued frames are written although more is coming in.
const STEPS_PER_FLUSH: u32 = 32;
/// How long the last acknowledgements may take to be written.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// What a row of a log says to those who do not know what it is.
#[derive(serde::Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Placed {
    Message { conv: ConvId, seq: Seq },
}

/// Why a connection is no longer in use.
pub(super) enum Ended {
    Lost(ConnectError),
    Dropped(Option<oneshot::Sender<()>>),
}

enum Step {
    Incoming(Incoming),
    Command(Option<Command>),
    Taken(Vec<(ConvId, Seq)>),
    Tick,
    Broken(ConnectError),
}

/// A connection and the client's memory.
pub(super) struct Pump<'d> {
    driver: &'d mut Driver,
    connection: Connection,
    user: UserId,
    timer: Pin<Box<Sleep>>,
    silence: Silence,
    renewal: Renewal,
    steps: u32,
    /// The socket takes no more for now.
    blocked: bool,
}

/// Notices that nothing, not even a ping, has come for too long.
struct Silence {
    every: Duration,
    heard: u64,
    next: Instant,
}

impl Silence {
    /// True when nothing was heard since the last check. The node pings twice in that time.
    fn check(&mut self, heard: u64, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.every;
        std::mem::replace(&mut self.heard, heard) == heard
    }
}

impl<'d> Pump<'d> {
    pub(super) fn new(driver: &'d mut Driver, connection: Connection, welcome: Welcome) -> Self {
        let now = Instant::now();
        driver.requests.on_connected();
        driver.places.repeat(now);
        driver.marks.repeat();
        driver.watched.on_connected();
        driver.refusals.on_connected();
        if welcome.new {
            driver.places.loosen_all();
        }
        let renewal = Renewal::new(driver.options.token.clone(), welcome.ts, welcome.exp, now);
        let every = Duration::from_secs(welcome.ping_secs.max(1) * 2);
        let user = welcome.user.clone();
        driver.events.push(Event::Connected(Box::new(welcome)));
        let silence = Silence { every, heard: u64::MAX, next: now + every };
        let timer = Box::pin(sleep_until(now + every));
        Self { driver, connection, user, timer, silence, renewal, steps: 0, blocked: false }
    }

    pub(super) async fn run(mut self) -> Ended {
        loop {
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Incoming(Incoming::Frame(payload)) => {
                    if let Err(error) = self.on_payload(&payload) {
                        return Ended::Lost(error);
                    }
                }
                Step::Incoming(Incoming::Closed { code, reason }) => {
                    return Ended::Lost(ConnectError::Closed { code, reason });
                }
                Step::Command(None) => return self.finish(None).await,
                Step::Command(Some(Command::Close(done))) => return self.finish(Some(done)).await,
                Step::Command(Some(command)) => self.driver.on_command(command),
                Step::Taken(taken) => self.on_taken(taken),
                Step::Tick => {
                    let silent = self.silence.check(self.connection.heard(), Instant::now());
                    if silent && !self.driver.events.is_full() {
                        return Ended::Lost(ConnectError::lost("nothing heard for twice the time between pings"));
                    }
                }
                Step::Broken(error) => return Ended::Lost(error),
            }
        }
    }

    /// What to do next. Frames are written in one go when there is nothing else to do.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Err(error) = self.queue_due(cx) {
            return Poll::Ready(Step::Broken(error));
        }
        self.steps += 1;
        if self.steps < STEPS_PER_FLUSH
            && let Poll::Ready(step) = self.poll_inputs(cx)
        {
            return Poll::Ready(step);
        }
        self.steps = 0;
        if let Poll::Ready(Err(error)) = self.connection.poll_flush(cx) {
            return Poll::Ready(Step::Broken(error));
        }
        self.poll_inputs(cx)
    }

    fn poll_inputs(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(call) = self.renewal.poll(cx, Instant::now()) {
            self.driver.requests.add(call);
            return Poll::Ready(Step::Tick);
        }
        if self.driver.events.has_room(cx)
            && let Poll::Ready(incoming) = self.connection.poll_next(cx)
        {
            return Poll::Ready(Step::Incoming(incoming));
        }
        if let Poll::Ready(command) = self.driver.commands.poll_recv(cx) {
            return Poll::Ready(Step::Command(command));
        }
        if let Poll::Ready(taken) = self.driver.events.poll_taken(cx) {
            return Poll::Ready(Step::Taken(taken));
        }
        let due =
            [self.driver.places.due(), self.driver.requests.due(), self.driver.refusals.due(), self.renewal.due()];
        // What is due cannot be written to a blocked socket; its waker is called when it can.
        let due = due.into_iter().flatten().filter(|_| !self.blocked);
        let next = due.fold(self.silence.next, Instant::min);
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx).map(|()| Step::Tick)
    }

    /// Puts everything that is due into the socket's buffer, as far as it fits.
    fn queue_due(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectError> {
        let now = Instant::now();
        if self.driver.refusals.take_due(now) {
            self.driver.places.repeat(now);
            self.driver.marks.repeat();
            self.driver.watched.repeat();
        }
        loop {
            let ready = self.connection.poll_ready(cx)?;
            self.blocked = ready.is_pending();
            if self.blocked {
                return Ok(());
            }
            let (driver, connection) = (&mut *self.driver, &mut self.connection);
            if let Some((conv, seq)) = driver.places.next_ack(now) {
                connection.queue(&Outgoing::Ack { conv: conv.as_str(), seq })?;
            } else if let Some(written) = driver.requests.write_next(now, |frame| connection.queue(frame)) {
                written?;
            } else if let Some((conv, seq)) = driver.marks.next() {
                connection.queue(&Outgoing::Read { conv: conv.as_str(), seq })?;
            } else if let Some(users) = driver.watched.next() {
                let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
                connection.queue(&Outgoing::Presence { reference: None, users: &users, watch: Some(true) })?;
            } else if let Some((to, kind, body)) = driver.signals.pop_front() {
                connection.queue(&Outgoing::Signal { to: &to.to_string(), kind: &kind, body: body.as_ref() })?;
            } else {
                return Ok(());
            }
        }
    }

    fn on_taken(&mut self, taken: Vec<(ConvId, Seq)>) {
        let now = Instant::now();
        for (conv, seq) in taken {
            self.driver.places.done(conv, seq, now);
        }
    }

    fn on_payload(&mut self, payload: &[u8]) -> Result<(), ConnectError> {
        let frame = match ServerFrame::decode(self.connection.encoding(), payload) {
            Ok(frame) => frame,
            // A later node may send things that this client does not know. A row has its place all the same.
            Err(error) => {
                tracing::debug!(%error, "a frame was passed over");
                return match self.connection.encoding().decode(payload) {
                    Ok(Placed::Message { conv, seq }) => self.on_row(conv.clone(), seq, Event::Unknown { conv, seq }),
                    Err(_) => Ok(()),
                };
            }
        };
        match self.driver.requests.on_frame(frame, Instant::now()) {
            Some(ServerFrame::Message(message)) => {
                if message.from == self.user {
                    self.driver.requests.on_own(&message, &self.user);
                }
                self.on_row(message.conv.clone(), message.seq, Event::Message(message))
            }
            Some(frame) => {
                self.on_frame(frame);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A row of a log, in its place.
    fn on_row(&mut self, conv: ConvId, seq: Seq, event: Event) -> Result<(), ConnectError> {
        let Driver { places, gaps, events, .. } = &mut *self.driver;
        match places.take(&conv, seq, Instant::now()) {
            Taken::Old => return Ok(()),
            Taken::New => {}
            // Never acknowledged, so a new connection brings what is missing. Once: a hole that stays is in the log.
            Taken::Gap if gaps.get(&conv) != Some(&seq) => {
                gaps.insert(conv.clone(), seq);
                return Err(ConnectError::Gap { conv, seq });
            }
            Taken::Gap => {
                places.loosen(&conv);
                places.take(&conv, seq, Instant::now());
                events.push(Event::Truncated { conv, from: seq });
            }
        }
        events.push(event);
        Ok(())
    }

    fn on_frame(&mut self, frame: ServerFrame) {
        let event = match frame {
            ServerFrame::Receipt(receipt) => {
                if let (true, Some(read)) = (receipt.user == self.user, receipt.read) {
                    self.driver.marks.on_read(&receipt.conv, read);
                }
                Event::Receipt(receipt)
            }
            ServerFrame::Signal(signal) => Event::Signal(signal),
            ServerFrame::Presence(seen) => Event::Presence(seen),
            ServerFrame::Presences(found) => {
                self.driver.watched.on_answer(&found);
                found.items.into_iter().for_each(|seen| self.driver.events.push(Event::Presence(seen)));
                return;
            }
            ServerFrame::CaughtUp { since } => {
                // Without one, the last stays: it says what it said.
                self.driver.since = since.or(self.driver.since.take());
                // Only now: a node that accepts and drops at once must not be retried ever faster.
                self.driver.backoff.reset();
                self.driver.gaps.clear();
                Event::CaughtUp
            }
            ServerFrame::Truncated { conv, from } => {
                self.driver.places.loosen(&conv);
                Event::Truncated { conv, from }
            }
            ServerFrame::Goodbye { reason, reconnect_ms } => {
                self.driver.come_back = Some(Duration::from_millis(reconnect_ms));
                Event::Goodbye { reason, reconnect_ms }
            }
            ServerFrame::Error { code, message, retry, retry_after_ms, .. } => {
                if code == ErrorCode::BadAck {
                    self.driver.marks.forget();
                }
                if retry {
                    let wait = retry_after_ms.map(Duration::from_millis);
                    self.driver.refusals.on_refused(wait, Instant::now());
                }
                Event::Refused { code, message }
            }
            // A second answer to a request that was already answered.
            _ => return,
        };
        self.driver.events.push(event);
    }

    /// Acknowledges what was taken, and closes.
    async fn finish(mut self, done: Option<oneshot::Sender<()>>) -> Ended {
        let taken = poll_fn(|cx| Poll::Ready(self.driver.events.poll_taken(cx))).await;
        if let Poll::Ready(taken) = taken {
            self.on_taken(taken);
        }
        self.driver.places.hurry();
        let writing = async move {
            // What the buffer does not take now is delivered again: the node still has the old cursor.
            let _ = poll_fn(|cx| Poll::Ready(self.queue_due(cx))).await;
            let _ = self.connection.flush().await;
            self.connection.close().await;
        };
        let _ = timeout(CLOSE_TIME, writing).await;
        Ended::Dropped(done)
    }
}
