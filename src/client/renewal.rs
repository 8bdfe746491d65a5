//! A fresh token for a session, before the old one ends (rule 19). Called by the pump.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{sync::oneshot, time::Instant};

use super::{
    RequestError, TokenSource,
    requests::{Call, PendingCall, Reply},
};
use crate::model::Millis;

/// So long before the end …
const BEFORE: Duration = Duration::from_secs(60);
/// … and so long after a try that did not work, while the old token lasts.
const AGAIN: Duration = Duration::from_secs(10);

type Answer = oneshot::Receiver<Result<Reply, RequestError>>;

enum State {
    /// There is nothing to do, or not yet.
    Waiting(Option<Instant>),
    /// The source makes one.
    Making(BoxFuture<'static, Result<String, String>>),
    /// The node was asked to take it.
    Asking(Answer),
}

/// The token of one connection.
pub(super) struct Renewal {
    source: TokenSource,
    /// How far the node's clock is ahead of the time since here.
    origin: (Millis, Instant),
    state: State,
}

impl Renewal {
    /// `ts` is the node's clock, `exp` when the token ends by it.
    pub(super) fn new(source: TokenSource, ts: Millis, exp: Millis, now: Instant) -> Self {
        let mut renewal = Self { source, origin: (ts, now), state: State::Waiting(None) };
        renewal.ends_at(exp, now);
        renewal
    }

    fn ends_at(&mut self, exp: Millis, now: Instant) {
        let (ts, since) = self.origin;
        let left = Duration::from_millis(exp.saturating_sub(ts)).saturating_sub(now.duration_since(since));
        let wait = if left > 2 * BEFORE { left - BEFORE } else { left / 2 };
        let due = (self.source.renews() && !left.is_zero()).then(|| now.checked_add(wait)).flatten();
        self.state = State::Waiting(due);
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(due) => due,
            _ => None,
        }
    }

    /// Goes on as far as it can; gives a request that is to be made.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<PendingCall> {
        loop {
            match &mut self.state {
                State::Waiting(Some(due)) if *due <= now => {
                    let source = self.source.clone();
                    self.state = State::Making(Box::pin(async move { source.get().await }));
                }
                State::Waiting(_) => return None,
                State::Making(made) => match made.as_mut().poll(cx) {
                    Poll::Ready(Ok(token)) => {
                        let (reply, answer) = oneshot::channel();
                        self.state = State::Asking(answer);
                        return Some(PendingCall { ask: Call::Token { token }, reply, permit: None });
                    }
                    Poll::Ready(Err(_)) => self.state = State::Waiting(Some(now + AGAIN)),
                    Poll::Pending => return None,
                },
                State::Asking(answer) => match Pin::new(answer).poll(cx) {
                    Poll::Ready(Ok(Ok(Reply::Token(exp)))) => self.ends_at(exp, now),
                    // The old one stands.
                    Poll::Ready(_) => self.state = State::Waiting(Some(now + AGAIN)),
                    Poll::Pending => return None,
                },
            }
        }
    }
}
