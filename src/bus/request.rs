//! Requests between nodes: who waits for which answer. Called by both links.
//!
//! async-nats' own request leaks what it keeps for a caller that gives up, and its time-out does not cover the wait
//! for a connection. So each request has a number, its answer comes to `natter.node.<node>.answer.<number>`, one
//! subscription hears all of them, and a caller's place in the table ends with the caller.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use super::RequestError;
use crate::subject::Subject;

/// The way a request goes.
pub(super) trait Way {
    /// The generation of the connection; `None` without one.
    fn generation(&self) -> Option<u64>;

    /// Publishes with a reply subject, or drops and counts it: false.
    fn publish(&self, subject: &Subject, reply: &Subject, payload: Bytes) -> bool;
}

type Outcome = Result<Bytes, RequestError>;

/// The requests of one node that wait for their answers.
pub(super) struct Requests {
    node: Box<str>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

struct Waiting {
    /// The connection that the request went out on: its answer cannot come on another.
    generation: u64,
    tell: oneshot::Sender<Outcome>,
}

/// A caller's place in the table.
struct Place<'a> {
    requests: &'a Requests,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.requests.waiting.lock().remove(&self.number);
    }
}

impl Requests {
    pub(super) fn new(node: &str) -> Arc<Self> {
        // Not from 1: an answer to a former process of the name must not meet a request of this one.
        let next = AtomicU64::new(rand::random());
        Arc::new(Self { node: node.into(), next, waiting: Mutex::default() })
    }

    /// Where all answers arrive.
    pub(super) fn inbox(&self) -> Subject {
        Subject::node(&self.node, "answer.*")
    }

    /// Called for each message there: an answer, or the server's word that nobody hears the request.
    pub(super) fn on_answer(&self, subject: &str, is_no_responders: bool, payload: &[u8]) {
        let number = subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        let Some(waiting) = number.and_then(|number| self.waiting.lock().remove(&number)) else { return };
        // Payloads are slices of a read buffer: to keep one would keep the whole buffer.
        let outcome =
            if is_no_responders { Err(RequestError::NoResponders) } else { Ok(Bytes::copy_from_slice(payload)) };
        // A caller that gave up in this moment needs no answer.
        let _ = waiting.tell.send(outcome);
    }

    pub(super) async fn ask(&self, way: &impl Way, subject: &Subject, payload: Bytes, patience: Duration) -> Outcome {
        let generation = way.generation().ok_or(RequestError::NotConnected)?;
        let (place, told) = self.enter(generation);
        let reply = Subject::answer(&self.node, place.number);
        let sent = way.publish(subject, &reply, payload);
        // A loss of the connection is told to those in the table: whoever came after that looks here.
        if !sent || way.generation() != Some(generation) {
            return Err(RequestError::NotConnected);
        }
        match timeout(patience, told).await {
            Ok(outcome) => outcome.unwrap_or(Err(RequestError::NotConnected)),
            Err(_) => Err(RequestError::TimedOut),
        }
    }

    fn enter(&self, generation: u64) -> (Place<'_>, oneshot::Receiver<Outcome>) {
        let (tell, told) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(number, Waiting { generation, tell });
        (Place { requests: self, number }, told)
    }

    /// Ends the waits for answers that can only come on another connection than this one.
    pub(super) fn end_all_but(&self, generation: Option<u64>) {
        self.waiting.lock().retain(|_, waiting| Some(waiting.generation) == generation);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_caller_that_gives_up_leaves_nothing() {
        let requests = Requests::new("n1");
        let (first, second) = (requests.enter(1), requests.enter(1));
        assert_ne!(first.0.number, second.0.number);
        drop(first);
        assert_eq!(requests.waiting.lock().len(), 1);
        drop(second);
        assert!(requests.waiting.lock().is_empty());
    }

    #[test]
    fn who_waits_for_another_connection_is_told() {
        let requests = Requests::new("n1");
        let ((_one, lost), (_two, kept)) = (requests.enter(1), requests.enter(2));
        requests.end_all_but(Some(2));
        assert!(matches!(lost.now_or_never(), Some(Err(_))));
        assert!(kept.now_or_never().is_none());
        let (_three, lost) = requests.enter(2);
        requests.end_all_but(None);
        assert!(matches!(lost.now_or_never(), Some(Err(_))));
    }
}
