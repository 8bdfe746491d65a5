//! One connection of a run: what its kinds, sender and receiver, have in common. Called by the scenarios with messages.
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
    link::{self, Again},
    payload::{Peek, peek},
    run_state::{Phase, RunState},
    track::{Convs, Order},
};
use crate::{
    client::{ConnectError, Connection, Incoming},
    protocol::{client::Outgoing, close::should_reconnect},
};

/// What senders acknowledge of their own messages at once.
pub(super) const OWN_ACKS: u64 = 32;
const READ_BUFFER: usize = 16 << 10;

/// What makes a lane a sender or a receiver.
pub(super) trait Side {
    /// A message, in its order.
    fn on_message(&mut self, frame: &Peek<'_>, order: Order, now: u64);
    /// Any other frame.
    fn on_frame(&mut self, frame: &Peek<'_>, now: u64);
    /// The lane is connected, for the first time or again.
    fn on_connected(&mut self);
    /// It is caught up, after a try that began at `began`.
    fn on_caught_up(&mut self, _began: u64, _now: u64) {}
    /// Whether the connection is to end now, and another one to be made.
    fn leaves(&mut self) -> bool {
        false
    }
    /// Queues what is to be sent.
    fn queue(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), ConnectError>;
}

/// Who a lane is and where it connects.
pub(super) struct Lane<S> {
    shared: Rc<RunState>,
    number: usize,
    user: String,
    url: String,
    side: S,
    convs: Convs,
    /// When the try began that has not led to `caught_up` yet.
    login: Option<u64>,
    /// Whether it is one of those that are ready.
    counted: bool,
    /// How many cuts it has seen.
    cuts: u64,
    round: u64,
}

enum Ended {
    Done,
    /// The bench cut all of them.
    Cut,
    /// Its side left.
    Left,
    Lost(u16),
}

impl<S: Side> Lane<S> {
    /// The lane with this number, of `user` at `url`.
    pub(super) fn new(
        shared: &Rc<RunState>,
        number: usize,
        (user, url): (String, &str),
        side: S,
        convs: Convs,
    ) -> Self {
        let (shared, url) = (shared.clone(), url.to_owned());
        Self { shared, number, user, url, side, convs, login: None, counted: false, cuts: 0, round: 0 }
    }

    /// Runs until the phase is `Done`. Reconnects by the rules for clients when a connection is lost before that.
    pub(super) async fn run(mut self, gate: Rc<Semaphore>) {
        let mut again = Again::default();
        for attempt in 1.. {
            match self.connected(attempt, &gate).await {
                Some(Ok(connection)) => match self.use_up(connection, &mut again).await {
                    Ended::Done => return,
                    Ended::Cut => self.counted = false,
                    Ended::Left => {
                        let counted = usize::from(std::mem::take(&mut self.counted));
                        self.shared.ready.set(self.shared.ready.get() - counted);
                    }
                    Ended::Lost(code) => self.shared.stats.borrow_mut().error(&format!("closed_{code}")),
                },
                Some(Err(come_back)) => again.told(come_back),
                None => return,
            }
            if self.shared.phase.get() == Phase::Done {
                return;
            }
            sleep(again.wait()).await;
        }
    }

    /// One try; `None` when there will be no other.
    async fn connected(&mut self, attempt: u64, gate: &Semaphore) -> Option<Result<Connection, Option<Duration>>> {
        let _turn = gate.acquire().await.ok()?;
        self.cuts = self.shared.cuts.get();
        let began = self.shared.now();
        match link::open(&self.shared.plan.mesh, &self.url, &self.user, attempt, READ_BUFFER).await {
            Ok(connection) => {
                self.login = Some(began);
                if !self.counted {
                    self.shared.logins.borrow_mut().on_welcome(began, self.shared.now());
                }
                self.convs.on_connected();
                self.side.on_connected();
                Some(Ok(connection))
            }
            Err(not) if self.shared.phase.get() == Phase::Connecting => {
                self.shared.fatal.borrow_mut().get_or_insert(not.into());
                None
            }
            Err(not) => {
                self.shared.stats.borrow_mut().error(&not.word());
                Some(Err(not.come_back))
            }
        }
    }

    async fn use_up(&mut self, mut connection: Connection, again: &mut Again) -> Ended {
        let ended = poll_fn(|cx| self.poll(&mut connection, again, cx)).await;
        match ended {
            Ended::Done => {
                connection.close().await;
                Ended::Done
            }
            Ended::Lost(code) if !should_reconnect(code) => {
                self.shared.stats.borrow_mut().error(&format!("closed_{code}"));
                Ended::Done
            }
            other => other,
        }
    }

    fn poll(&mut self, connection: &mut Connection, again: &mut Again, cx: &mut Context<'_>) -> Poll<Ended> {
        self.shared.register(self.number, cx.waker());
        if self.shared.phase.get() == Phase::Done {
            return Poll::Ready(Ended::Done);
        }
        if self.shared.cuts.get() != self.cuts {
            return Poll::Ready(Ended::Cut);
        }
        let now = self.shared.now();
        while let Poll::Ready(incoming) = connection.poll_next(cx) {
            match incoming {
                Incoming::Frame(payload) => match peek(connection.encoding(), &payload) {
                    Some(frame) => self.on_frame(&frame, again, now),
                    None => self.shared.stats.borrow_mut().error("unreadable_frame"),
                },
                Incoming::Closed { code, .. } => return Poll::Ready(Ended::Lost(code)),
            }
        }
        match self.write(connection, cx) {
            Ok(()) if self.side.leaves() => Poll::Ready(Ended::Left),
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(Ended::Lost(1006)),
        }
    }

    fn on_frame(&mut self, frame: &Peek<'_>, again: &mut Again, now: u64) {
        match frame.op {
            "message" => {
                let order = self.convs.on_seq(frame.conv.unwrap_or_default(), frame.seq.unwrap_or(0));
                self.count(order);
                self.side.on_message(frame, order, now);
            }
            "caught_up" => self.on_caught_up(again, now),
            "goodbye" => again.told(frame.reconnect_ms.map(Duration::from_millis)),
            "error" => {
                self.shared.stats.borrow_mut().error(frame.code.unwrap_or("error"));
                self.side.on_frame(frame, now);
            }
            _ => self.side.on_frame(frame, now),
        }
    }

    fn on_caught_up(&mut self, again: &mut Again, now: u64) {
        again.reset();
        let login = self.login.take().unwrap_or(now);
        self.side.on_caught_up(login, now);
        if !std::mem::replace(&mut self.counted, true) {
            self.shared.ready.set(self.shared.ready.get() + 1);
            self.shared.logins.borrow_mut().on_caught_up(login, now);
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
        if std::mem::replace(&mut self.round, round) != round {
            self.convs.acknowledge_all();
        }
        while connection.poll_ready(cx)?.is_ready()
            && let Some((conv, seq)) = self.convs.next_ack()
        {
            connection.queue(&Outgoing::Ack { conv, seq })?;
        }
        let _ = connection.poll_flush(cx)?;
        Ok(())
    }
}
