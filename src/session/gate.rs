//! Which requests pass a connection's rate limit. After a `send` was refused for it, the sends behind it are refused
//! too, so that what a client wrote ahead of the answers is not stored out of its order. Used by [`super::Session`].

use super::{Rate, Tick, rate::Bucket};
use crate::{
    model::{Cid, Recipient},
    protocol::{Ask, ClientFrame, ErrorCode, Refused, ask},
};

/// Sends behind a refused one pass again after this long, in milliseconds, though it did not come: its writer gave it
/// up. Long enough that everything that was written before the refusal was read has arrived by then.
const HOLD: Tick = 10_000;

/// Frames that ask for nothing: what cannot be read, and WebSocket pings. Nobody needs more of them, so whoever keeps
/// sending them is closed. Holds where requests are not limited too.
const RUBBISH: Rate = Rate { per_sec: 100, burst: 1_000 };

/// Refusals for the rate limit. Many more than a client gets that writes ahead and waits when it is told to; one that
/// goes on regardless costs a decoding and an answer for each, and is closed.
const REFUSALS: Rate = Rate { per_sec: 100, burst: 10_000 };

/// A message costs one more for each of so many bytes.
const SEND_BYTES: usize = 16 << 10;
/// Rows of a page that cost one.
const PAGE_ROWS: usize = 16;
/// A row about a message: the message is read.
const ABOUT: u32 = 3;
/// Reading the inbox for a list.
const INBOX: u32 = 10;
/// Asking all nodes of a user, and the store.
const GATHER: u32 = 20;
/// Finding out who is online and whether the asker may know it: what a list of them costs besides one for each four.
const PROBES: u32 = 5;
/// Rows of both users, durable, and told to all their nodes.
const BLOCK: u32 = 5;
/// An acknowledgement that the store must judge. Clients repeat hundreds of them after a reconnect.
const CHECK: u32 = 1;
/// What an acknowledgement costs besides when there was nothing to acknowledge.
const IN_VAIN: u32 = 39;

/// The rate limit of one connection.
#[derive(Debug)]
pub(super) struct Gate {
    rubbish: Bucket,
    refusals: Bucket,
    limit: Option<(Rate, Bucket)>,
    /// Boxed: almost no connection ever has one.
    held: Option<Box<Held>>,
}

/// A send that was refused: those that follow wait for it.
#[derive(Debug)]
struct Held {
    to: Recipient,
    cid: Cid,
    until: Tick,
}

impl Gate {
    /// A gate of a new connection; `None`: not limited.
    pub(super) fn new(rate: Option<Rate>, now: Tick) -> Self {
        Self {
            rubbish: Bucket::full(RUBBISH, now),
            refusals: Bucket::full(REFUSALS, now),
            limit: rate.map(|rate| (rate, Bucket::full(rate, now))),
            held: None,
        }
    }

    /// Whether a frame that asks for nothing is one too many.
    pub(super) fn is_fed_up(&mut self, now: Tick) -> bool {
        !self.rubbish.take(RUBBISH, 1, now)
    }

    /// Whether a refusal of [`Self::admit`] or [`Self::admit_check`] is one too many.
    pub(super) fn is_deaf(&mut self, now: Tick) -> bool {
        !self.refusals.take(REFUSALS, 1, now)
    }

    /// Lets an acknowledgement pass that the store must judge.
    ///
    /// # Errors
    /// What to answer, with how long to wait.
    pub(super) fn admit_check(&mut self, now: Tick) -> Result<(), Refused> {
        let Some((rate, bucket)) = &mut self.limit else { return Ok(()) };
        if bucket.take(*rate, CHECK, now) {
            return Ok(());
        }
        let words = "too many requests: wait retry_after_ms, then send it again";
        Err(Refused::new(ErrorCode::RateLimited, words).after(bucket.wait(*rate, CHECK, now)))
    }

    /// The store was asked in vain: about what does not exist, or is not the client's. Only a client that guesses does
    /// that again and again.
    pub(super) fn fine(&mut self, now: Tick) {
        if let Some((rate, bucket)) = &mut self.limit {
            bucket.fine(*rate, IN_VAIN, now);
        }
    }

    /// Lets a frame pass or says why not.
    ///
    /// # Errors
    /// What to answer, with how long to wait.
    pub(super) fn admit(&mut self, frame: &ClientFrame, now: Tick) -> Result<(), Refused> {
        let Some((rate, bucket)) = &mut self.limit else { return Ok(()) };
        if !frame.op().is_limited() {
            return Ok(());
        }
        let price = price(frame);
        let refused = |words: String, wait| Err(Refused::new(ErrorCode::RateLimited, words).after(wait));
        let send = match frame {
            ClientFrame::Ask(Ask::Send(send)) => Some(send),
            _ => None,
        };
        if let (Some(send), Some(held)) = (send, &self.held)
            && now < held.until
            && !held.is(send)
        {
            let words = format!("cid: {:?} was refused before it, send that one first and then this again", held.cid);
            return refused(words, bucket.wait(*rate, price, now));
        }
        if bucket.take(*rate, price, now) {
            if send.is_some() {
                self.held = None;
            }
            return Ok(());
        }
        if let Some(ask::Send { to, cid, .. }) = send {
            self.held = Some(Box::new(Held { to: to.clone(), cid: cid.clone(), until: now + HOLD }));
        }
        let words = "too many requests: wait retry_after_ms, then send it again with the same cid";
        refused(words.into(), bucket.wait(*rate, price, now))
    }
}

/// What a frame costs, by the rows that it makes the store read and write. A list reads four rows for each conversation,
/// and the whole inbox for its order.
fn price(frame: &ClientFrame) -> u32 {
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    match frame {
        ClientFrame::Ask(Ask::Send(send)) => 1 + small(send.body.size() / SEND_BYTES),
        ClientFrame::Ask(Ask::Edit(about) | Ask::Delete(about) | Ask::React(about) | Ask::Unreact(about)) => {
            let body = if let ask::Say::Edit(body) = &about.what { body.size() } else { 0 };
            ABOUT + small(body / SEND_BYTES)
        }
        ClientFrame::Ask(Ask::Read(_)) => 2,
        ClientFrame::Ask(Ask::History(history)) => 1 + small(history.limit / PAGE_ROWS),
        ClientFrame::Ask(Ask::Conversations(list)) => INBOX + small(4 * list.limit / PAGE_ROWS),
        ClientFrame::Ask(Ask::Sessions(_) | Ask::EndSession(_)) => GATHER,
        ClientFrame::Ask(Ask::Rooms(list)) => INBOX + small(4 * list.limit / PAGE_ROWS),
        ClientFrame::Ask(Ask::Members(list)) => 2 + small(list.limit / PAGE_ROWS),
        ClientFrame::Ask(Ask::Presence(ask)) => PROBES + small(ask.users.len() / 4),
        ClientFrame::Ask(Ask::Block(_) | Ask::Unblock(_)) => BLOCK,
        ClientFrame::Ask(Ask::Blocks(list)) => 2 + small(list.limit / PAGE_ROWS),
        ClientFrame::Ask(Ask::Readers(list)) => 2 + small(2 * list.limit / PAGE_ROWS),
        // The limit of rooms is counted in those that the user is in.
        ClientFrame::Ask(Ask::Create(_) | Ask::Join(_)) => INBOX,
        ClientFrame::Ask(
            Ask::Leave(_)
            | Ask::Invite(_)
            | Ask::Kick(_)
            | Ask::Role(_)
            | Ask::Topic(_)
            | Ask::Lifetime(_)
            | Ask::Room(_),
        ) => 2,
        _ => 1,
    }
}

impl Held {
    fn is(&self, send: &ask::Send) -> bool {
        self.to == send.to && self.cid == send.cid
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{model::UserId, protocol::Body};

    const RATE: Rate = Rate { per_sec: 10, burst: 3 };

    fn send(cid: u64) -> ClientFrame {
        let (to, cid) = (Recipient::User(UserId::new("bob").unwrap()), Cid::new(&format!("c{cid}")).unwrap());
        ClientFrame::Ask(Ask::Send(ask::Send {
            to,
            cid,
            body: Body::text("x"),
            handed: 0,
            options: ask::SendOptions::default(),
        }))
    }

    #[test]
    fn what_follows_a_refused_send_waits_for_it() {
        let mut gate = Gate::new(Some(RATE), 0);
        assert!((0..3).all(|cid| gate.admit(&send(cid), 0).is_ok()));
        assert_eq!(gate.admit(&send(3), 0).unwrap_err().retry_after_ms, Some(100));
        let behind = gate.admit(&send(4), 150).unwrap_err();
        assert_eq!((behind.code, behind.retry_after_ms), (ErrorCode::RateLimited, Some(0)), "there is room by now");
        assert!(behind.message.contains("\"c3\""), "{behind}");
        assert!(
            gate.admit(&ClientFrame::Ask(Ask::Unserved(crate::protocol::Op::Presence)), 150).is_ok(),
            "only sends wait"
        );
        assert!(gate.admit(&send(3), 200).is_ok());
        assert!(gate.admit(&send(4), 300).is_ok());
    }

    #[test]
    fn what_makes_the_store_work_more_costs_more() {
        let rate = Rate { per_sec: 100, burst: 100 };
        let passed = |frame: &ClientFrame| {
            let mut gate = Gate::new(Some(rate), 0);
            (0..1_000).filter(|_| gate.admit(frame, 0).is_ok()).count()
        };
        let conversations = |limit| ClientFrame::Ask(Ask::Conversations(ask::Conversations { after: None, limit }));
        let history = |limit| {
            let conv = crate::model::ConvId::new("dm:a:b").unwrap();
            ClientFrame::Ask(Ask::History(ask::History { conv, from: ask::HistoryFrom::After(0), limit, raw: false }))
        };
        let (to, cid) = (Recipient::User(UserId::new("bob").unwrap()), Cid::new("c").unwrap());
        let large = ClientFrame::Ask(Ask::Send(ask::Send {
            to,
            cid,
            body: Body::text(&"x".repeat(50 << 10)),
            handed: 0,
            options: ask::SendOptions::default(),
        }));
        assert_eq!((passed(&send(1)), passed(&large)), (100, 25));
        assert_eq!((passed(&history(10)), passed(&history(200))), (100, 7));
        assert_eq!((passed(&conversations(1)), passed(&conversations(100))), (10, 2));
        let mut gate = Gate::new(Some(rate), 0);
        let judged = (0..100).filter(|_| gate.admit_check(0).is_ok()).count();
        assert_eq!(judged, 100);
        let mut gate = Gate::new(Some(rate), 0);
        let in_vain = (0..100).filter(|_| gate.admit_check(0).is_ok().then(|| gate.fine(0)).is_some());
        assert_eq!(in_vain.count(), 3, "guessing is what costs most");
    }

    #[test]
    fn rubbish_is_tolerated_for_a_while() {
        let mut gate = Gate::new(None, 0);
        assert!((0..1_000).all(|_| !gate.is_fed_up(0)));
        assert!(gate.is_fed_up(0));
        assert!(!gate.is_fed_up(10), "one of 100 a second");
    }

    #[test]
    fn who_goes_on_after_refusals_is_deaf_in_the_end() {
        let mut gate = Gate::new(Some(RATE), 0);
        assert!((0..REFUSALS.burst).all(|_| !gate.is_deaf(0)), "as many as a client writes ahead");
        assert!(gate.is_deaf(0));
        assert!(!gate.is_deaf(10), "one of 100 a second");
    }

    #[test]
    fn a_send_that_was_given_up_does_not_block_for_ever() {
        let mut gate = Gate::new(Some(RATE), 0);
        assert_eq!((0..4).filter(|cid| gate.admit(&send(*cid), 0).is_ok()).count(), 3);
        assert!(gate.admit(&send(9), HOLD - 1).is_err());
        assert!(gate.admit(&send(9), HOLD).is_ok());
    }

    proptest! {
        /// A client that writes ahead of the answers, and starts again from the refused one when it reads them, late:
        /// its messages pass in the order in which it wrote them.
        #[test]
        fn what_is_written_ahead_passes_in_order(steps in proptest::collection::vec((0..60_u64, any::<bool>()), 1..300)) {
            let (mut gate, mut now) = (Gate::new(Some(RATE), 0), 0);
            let (mut next, mut refused, mut passed) = (0, None, Vec::new());
            for (time, reads) in steps {
                now += time;
                if reads && let Some(from) = refused.take() {
                    next = from;
                }
                match gate.admit(&send(next), now) {
                    Ok(()) => passed.push(next),
                    Err(_) => refused = refused.or(Some(next)),
                }
                next += 1;
                if refused.is_none() {
                    prop_assert_eq!(passed.len() as u64, next, "a hole: {:?}", passed);
                }
            }
            prop_assert!(passed.iter().enumerate().all(|(place, cid)| place as u64 == *cid), "{passed:?}");
        }
    }
}
