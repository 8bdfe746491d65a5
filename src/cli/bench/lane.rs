//! One connection of a run: what its two kinds, sender and receiver, have in common. Called by `drive`.
//!
//! A lane is one future. Each time it is polled it reads everything that has arrived, queues everything that is to be
//! sent, and writes that with one system call.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::Semaphore, time::sleep};

use super::{
    link,
    payload::{Peek, peek},
    run_state::{Phase, RunState},
    track::{Order, Seqs},
};
use crate::{
    client::{ConnectError, Connection, Incoming},
    protocol::{client::Outgoing, close::should_reconnect},
};

/// Messages per acknowledgement while they keep coming; the rest is acknowledged ten times a second.
const ACK_BATCH: u64 = 32;
const READ_BUFFER: usize = 16 << 10;
const RECONNECT: Duration = Duration::from_millis(250);

/// What makes a lane a sender or a receiver.
pub(super) trait Side {
    /// A message, in its order.
    fn on_message(&mut self, frame: &Peek<'_>, order: Order, now: u64);
    /// Any other frame.
    fn on_frame(&mut self, frame: &Peek<'_>, now: u64);
    /// The lane is connected, for the first time or again.
    fn on_connected(&mut self);
    /// Queues what is to be sent.
    fn queue(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), ConnectError>;
}

/// Who a lane is and where it connects.
pub(super) struct Lane<S> {
    pub(super) shared: Rc<RunState>,
    pub(super) number: usize,
    pub(super) user: String,
    /// The one conversation of this lane.
    pub(super) conv: String,
    pub(super) url: String,
    pub(super) side: S,
    pub(super) seqs: Seqs,
    pub(super) caught_up: bool,
    pub(super) round: u64,
}

enum Ended {
    Done,
    Lost(u16),
}

impl<S: Side> Lane<S> {
    /// Runs until the phase is `Done`. Reconnects when a connection is lost before that.
    pub(super) async fn run(mut self, gate: Rc<Semaphore>) {
        for attempt in 1.. {
            let connected = {
                let _turn = gate.acquire().await;
                link::open(&self.shared.plan, &self.url, &self.user, attempt, READ_BUFFER).await
            };
            match connected {
                Ok(connection) => {
                    self.seqs.on_connected();
                    self.side.on_connected();
                    match self.use_up(connection).await {
                        Ended::Done => return,
                        Ended::Lost(code) => self.shared.stats.borrow_mut().error(&format!("closed_{code}")),
                    }
                }
                Err(error) if self.shared.phase.get() == Phase::Connecting => {
                    self.shared.fatal.borrow_mut().get_or_insert(error.into());
                    return;
                }
                Err(_) => self.shared.stats.borrow_mut().error("not_connected"),
            }
            if self.shared.phase.get() == Phase::Done {
                return;
            }
            sleep(RECONNECT).await;
        }
    }

    async fn use_up(&mut self, mut connection: Connection) -> Ended {
        let ended = poll_fn(|cx| self.poll(&mut connection, cx)).await;
        match ended {
            Ended::Done => {
                connection.close().await;
                Ended::Done
            }
            Ended::Lost(code) if !should_reconnect(code) => {
                self.shared.stats.borrow_mut().error(&format!("closed_{code}"));
                Ended::Done
            }
            lost => lost,
        }
    }

    fn poll(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<Ended> {
        self.shared.register(self.number, cx.waker());
        if self.shared.phase.get() == Phase::Done {
            return Poll::Ready(Ended::Done);
        }
        let now = self.shared.now();
        while let Poll::Ready(incoming) = connection.poll_next(cx) {
            match incoming {
                Incoming::Frame(payload) => match peek(connection.encoding(), &payload) {
                    Some(frame) => self.on_frame(&frame, now),
                    None => self.shared.stats.borrow_mut().error("unreadable_frame"),
                },
                Incoming::Closed { code, .. } => return Poll::Ready(Ended::Lost(code)),
            }
        }
        match self.write(connection, cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(Ended::Lost(1006)),
        }
    }

    fn on_frame(&mut self, frame: &Peek<'_>, now: u64) {
        match frame.op {
            "message" => {
                let order = self.seqs.on_seq(frame.seq.unwrap_or(0));
                self.count(order);
                self.side.on_message(frame, order, now);
            }
            "caught_up" if !self.caught_up => {
                self.caught_up = true;
                self.shared.ready.set(self.shared.ready.get() + 1);
            }
            "error" => {
                self.shared.stats.borrow_mut().error(frame.code.unwrap_or("error"));
                self.side.on_frame(frame, now);
            }
            _ => self.side.on_frame(frame, now),
        }
    }

    fn count(&self, order: Order) {
        let integrity = &mut self.shared.stats.borrow_mut().integrity;
        match order {
            Order::New | Order::Redelivered => {}
            Order::Twice => integrity.duplicated += 1,
            Order::Gap => integrity.out_of_order += 1,
        }
    }

    fn write(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), ConnectError> {
        self.side.queue(connection, cx)?;
        let round = self.shared.round.get();
        let batch = if std::mem::replace(&mut self.round, round) == round { ACK_BATCH } else { 1 };
        if connection.poll_ready(cx)?.is_ready()
            && let Some(seq) = self.seqs.ack(batch)
        {
            connection.queue(&Outgoing::Ack { conv: &self.conv, seq })?;
        }
        let _ = connection.poll_flush(cx)?;
        Ok(())
    }
}
