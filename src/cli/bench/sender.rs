//! The lane that sends. Called by `lane`.

use std::{collections::VecDeque, rc::Rc, task::Context};

use super::{
    lane::Side,
    payload::{Payload, Peek},
    plan::Load,
    run_state::{Phase, RunState},
    stats::record,
    track::Order,
};
use crate::{
    client::{ConnectError, Connection},
    protocol::{Body, client::Outgoing},
};

/// A message that was refused for a while is sent again after this many rounds.
const RETRY_ROUNDS: u64 = 2;

/// The sending side.
pub(super) struct Sender {
    shared: Rc<RunState>,
    sender: usize,
    /// To whom, as a send names it: message after message to the next one.
    to: Vec<String>,
    next: u64,
    /// When each message from `first` on was due; `None` once it has been answered.
    unanswered: VecDeque<Option<u64>>,
    first: u64,
    /// To be sent again: refused for a while, or unanswered when the connection was lost.
    again: VecDeque<u64>,
    held: VecDeque<(u64, u64)>,
}

impl Sender {
    /// The sender with this number, to all of `to` in turn, of whom there must be one.
    pub(super) fn new(shared: Rc<RunState>, sender: usize, to: Vec<String>) -> Self {
        Self {
            shared,
            sender,
            to,
            next: 0,
            unanswered: VecDeque::new(),
            first: 0,
            again: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    fn due_of(&self, number: u64) -> Option<u64> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.unanswered.get(at).copied().flatten()
    }

    /// Removes a message; returns when it was due.
    fn settle(&mut self, number: u64) -> Option<u64> {
        let due = self.due_of(number)?;
        self.unanswered[(number - self.first) as usize] = None;
        while let Some(None) = self.unanswered.front() {
            self.unanswered.pop_front();
            self.first += 1;
        }
        self.shared.senders[self.sender].borrow_mut().unanswered -= 1;
        Some(due)
    }

    fn on_sent(&mut self, number: u64, now: u64) {
        let Some(due) = self.settle(number) else { return };
        self.shared.senders[self.sender].borrow_mut().answered.insert(number);
        let mut stats = self.shared.stats.borrow_mut();
        if self.shared.measured(due) {
            record(&mut stats.answered, now.saturating_sub(due));
        }
        stats.sent += u64::from(self.shared.measured(now));
        stats.all_sent += 1;
    }

    /// The next message to write, with the time it was due.
    fn pick(&mut self, now: u64) -> Option<Payload> {
        while let Some(number) = self.again.pop_front() {
            if let Some(due) = self.due_of(number) {
                return Some(Payload { sender: self.sender, number, due });
            }
        }
        let due = self.next_due(now)?;
        let number = self.next;
        self.next += 1;
        self.unanswered.push_back(Some(due));
        self.shared.senders[self.sender].borrow_mut().unanswered += 1;
        Some(Payload { sender: self.sender, number, due })
    }

    fn next_due(&self, now: u64) -> Option<u64> {
        let mut sent = self.shared.senders[self.sender].borrow_mut();
        match self.shared.plan.load {
            Load::Rate(_) => sent.due.pop_front(),
            Load::InFlight(most) => {
                let sending = self.shared.phase.get() == Phase::Sending && self.next < self.shared.plan.most;
                (sending && sent.unanswered < most).then_some(now)
            }
        }
    }
}

impl Side for Sender {
    fn on_message(&mut self, _frame: &Peek<'_>, _order: Order, _now: u64) {}

    fn on_frame(&mut self, frame: &Peek<'_>, now: u64) {
        match (frame.op, frame.reference) {
            ("sent", Some(number)) => self.on_sent(number, now),
            ("error", Some(number)) if frame.retry => self.held.push_back((self.shared.round.get(), number)),
            ("error", Some(number)) => drop(self.settle(number)),
            _ => {}
        }
    }

    fn on_connected(&mut self) {
        self.held.clear();
        let numbers = self.first..self.next;
        self.again = numbers.filter(|number| self.due_of(*number).is_some()).collect();
    }

    fn queue(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), ConnectError> {
        let round = self.shared.round.get();
        while let Some((since, number)) = self.held.front().copied()
            && since + RETRY_ROUNDS <= round
        {
            self.held.pop_front();
            self.again.push_back(number);
        }
        // A message is due when there is room for it, not when the lane was woken for some other reason.
        let now = self.shared.now();
        while connection.poll_ready(cx)?.is_ready() {
            let Some(payload) = self.pick(now) else { break };
            let number = payload.number;
            let cid = number.to_string();
            let body = Body::text(&payload.text(self.shared.plan.body));
            let reference = Some(number);
            let to = self.to[usize::try_from(number).unwrap_or(0) % self.to.len()].as_str();
            connection.queue(&Outgoing::Send {
                reference,
                to,
                cid: &cid,
                body: &body,
                reply_to: None,
                mentions: &[],
                expires: None,
            })?;
        }
        Ok(())
    }
}
