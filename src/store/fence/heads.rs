//! Heads, and the answers that wait for them (F6): one raise is under way at a time, and what comes meanwhile goes with
//! the next one.

use super::{Effect, Raise};
use crate::{
    model::{Row, Seq, UserId, moves_mark},
    store::{Appended, StoreResult},
};

/// The heads of one conversation.
#[derive(Debug)]
pub(super) struct Heads<T> {
    /// Quorums have heads at least here.
    raised: Seq,
    /// Read marks that quorums have, by sender.
    marked: Vec<(UserId, Seq)>,
    /// What is under way.
    under_way: Option<(Raise, Vec<Held<T>>)>,
    /// Marks for the next raise.
    marks: Vec<(UserId, Seq)>,
    /// Answers for the next raise.
    waiting: Vec<Held<T>>,
}

/// An answer that waits.
#[derive(Debug)]
enum Held<T> {
    Send(T, StoreResult<Appended>),
    /// Answered with the seq that the heads were raised to.
    Mend(T),
}

impl<T> Held<T> {
    fn answer(self, upto: Seq) -> Effect<T> {
        match self {
            Self::Send(ticket, result) => Effect::Answer(ticket, result),
            Self::Mend(ticket) => Effect::Mended(ticket, upto),
        }
    }

    fn ticket(self) -> T {
        let (Self::Send(ticket, _) | Self::Mend(ticket)) = self;
        ticket
    }
}

impl<T> Default for Heads<T> {
    fn default() -> Self {
        Self { raised: 0, marked: Vec::new(), under_way: None, marks: Vec::new(), waiting: Vec::new() }
    }
}

fn larger(marks: &mut Vec<(UserId, Seq)>, user: &UserId, seq: Seq) {
    match marks.iter_mut().find(|(marked, _)| marked == user) {
        Some((_, mark)) => *mark = seq.max(*mark),
        None => marks.push((user.clone(), seq)),
    }
}

impl<T> Heads<T> {
    /// Answers when everything that holds at this moment is raised.
    pub(super) fn answer_later(&mut self, ticket: T, result: StoreResult<Appended>) {
        self.waiting.push(Held::Send(ticket, result));
    }

    /// Raises all heads once more, whatever this epoch has raised: what was acknowledged may be lost since.
    pub(super) fn mend(&mut self, ticket: T) {
        self.waiting.push(Held::Mend(ticket));
    }

    /// The user's read mark goes to `seq`, a message of the user's own, where nothing below it was kept from the user.
    pub(super) fn mark(&mut self, user: &UserId, seq: Seq, read_upto: Seq) {
        let under_way = self.under_way.iter().flat_map(|(raise, _)| &raise.marks);
        let known = self.marked.iter().chain(under_way).chain(&self.marks);
        let mark = known.filter(|(marked, _)| marked == user).map(|(_, mark)| *mark).max().unwrap_or(0);
        if mark < seq && moves_mark(seq, read_upto, mark) {
            larger(&mut self.marks, user, seq);
        }
    }

    /// Raises what is to be raised, unless a raise is under way.
    pub(super) fn advance(&mut self, top: Seq, last: Option<&Row>, effects: &mut Vec<Effect<T>>) {
        if self.under_way.is_some() {
            return;
        }
        let held = std::mem::take(&mut self.waiting);
        let again = top > 0 && held.iter().any(|held| matches!(held, Held::Mend(_)));
        if self.raised >= top && self.marks.is_empty() && !again {
            effects.extend(held.into_iter().map(|held| held.answer(top)));
            return;
        }
        let raise = Raise { upto: top, last: last.cloned(), marks: std::mem::take(&mut self.marks) };
        effects.push(Effect::Raise(raise.clone()));
        self.under_way = Some((raise, held));
    }

    /// The raise under way is acknowledged.
    pub(super) fn on_raised(&mut self, effects: &mut Vec<Effect<T>>) {
        let Some((raise, held)) = self.under_way.take() else { return };
        self.raised = self.raised.max(raise.upto);
        raise.marks.iter().for_each(|(user, seq)| larger(&mut self.marked, user, *seq));
        effects.extend(held.into_iter().map(|held| held.answer(raise.upto)));
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty() && self.marks.is_empty()
    }

    /// Everybody who waits.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = T> + use<T> {
        let under_way = self.under_way.take().map(|(_, held)| held).unwrap_or_default();
        under_way.into_iter().chain(std::mem::take(&mut self.waiting)).map(Held::ticket)
    }
}
