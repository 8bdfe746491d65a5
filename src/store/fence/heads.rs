//! Heads, and the answers that wait for them (F6): one raise is under way at a time, and what comes meanwhile goes with
//! the next one.

use super::{Effect, Raise};
use crate::{
    model::{ConvId, Counts, ReadMark, Row, Seq, Side, UserId, moves_mark, room::Room},
    store::{Appended, StoreResult},
};

/// The heads of one conversation.
#[derive(Debug)]
pub(super) struct Heads<T> {
    /// Quorums have heads at least here.
    raised: Seq,
    /// The room's row has the events up to here.
    shown: Seq,
    /// Who wrote what is placed and not raised yet; what a recovery found is in no such list.
    authors: Authors,
    /// Read marks that quorums have, by sender.
    marked: Vec<(UserId, ReadMark)>,
    /// What is under way.
    under_way: Option<(Raise, Vec<Held<T>>)>,
    /// Marks for the next raise.
    marks: Vec<(UserId, ReadMark)>,
    /// Answers for the next raise.
    waiting: Vec<Held<T>>,
}

/// The end of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Top<'a> {
    pub(super) seq: Seq,
    /// `None` where it is lost.
    pub(super) row: Option<&'a Row>,
    pub(super) counts: Counts,
    /// The last event of a room there or below.
    pub(super) event: Seq,
    pub(super) room: Option<&'a Room>,
}

impl Top<'_> {
    /// The service that wrote the whole log, if one did: nobody ever wrote to it.
    fn sole_author(&self, conv: &ConvId) -> Option<UserId> {
        let row = self.row.filter(|row| row.service)?;
        let all = Side::of(conv, &row.sender).map(|side| self.counts.of(side));
        (all == Some(self.seq)).then(|| row.sender.clone())
    }
}

/// Who wrote the rows that the next raise is about.
#[derive(Debug, Default)]
enum Authors {
    /// Rows of an earlier epoch are among them: only their counts tell.
    #[default]
    Unknown,
    /// Nothing is placed since the last raise.
    None,
    /// One service wrote them all.
    Service(UserId),
    /// A user wrote one at least.
    Several,
}

impl Authors {
    fn add(&mut self, row: &Row) {
        *self = match std::mem::replace(self, Self::Several) {
            Self::Unknown => Self::Unknown,
            Self::None if row.service => Self::Service(row.sender.clone()),
            Self::Service(service) if row.service && row.sender == service => Self::Service(service),
            Self::None | Self::Service(_) | Self::Several => Self::Several,
        };
    }
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

/// Senders whose read marks are remembered.
const MARKED: usize = 64;

impl<T> Default for Heads<T> {
    fn default() -> Self {
        Self {
            raised: 0,
            shown: 0,
            authors: Authors::Unknown,
            marked: Vec::new(),
            under_way: None,
            marks: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

fn raise(marks: &mut Vec<(UserId, ReadMark)>, user: &UserId, to: ReadMark) {
    match marks.iter_mut().find(|(marked, _)| marked == user) {
        Some((_, mark)) => mark.raise(to),
        None => marks.push((user.clone(), to)),
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

    /// A row of this epoch stands: the next raise is about it.
    pub(super) fn placed(&mut self, row: &Row, read_upto: Seq) {
        self.authors.add(row);
        self.mark(row, read_upto);
    }

    /// The read mark of a row's sender goes there, where nothing below it was kept from the sender. A service reads nothing.
    pub(super) fn mark(&mut self, row: &Row, read_upto: Seq) {
        let Row { seq, sender: user, service, counts, .. } = row;
        if *service {
            return;
        }
        let under_way = self.under_way.iter().flat_map(|(raise, _)| &raise.marks);
        let known = self.marked.iter().chain(under_way).chain(&self.marks);
        let mark = known.filter(|(marked, _)| marked == user).map(|(_, mark)| mark.seq).max().unwrap_or(0);
        if mark < *seq && moves_mark(*seq, read_upto, mark) {
            raise(&mut self.marks, user, ReadMark { seq: *seq, counts: *counts });
        }
    }

    /// Raises what is to be raised, unless a raise is under way. All heads, but that of a service that wrote all of it: what
    /// others wrote to it before was raised before.
    pub(super) fn advance(&mut self, conv: &ConvId, end: Top<'_>, effects: &mut Vec<Effect<T>>) {
        if self.under_way.is_some() {
            return;
        }
        let (held, top) = (std::mem::take(&mut self.waiting), end.seq);
        let again = top > 0 && held.iter().any(|held| matches!(held, Held::Mend(_)));
        if self.raised >= top && self.marks.is_empty() && !again {
            effects.extend(held.into_iter().map(|held| held.answer(top)));
            return;
        }
        let spared = match std::mem::replace(&mut self.authors, Authors::None) {
            Authors::Service(service) if !again => Some(service),
            Authors::Unknown | Authors::None | Authors::Service(_) => end.sole_author(conv),
            Authors::Several => None,
        };
        // Somebody must have a head, or nobody finds the log.
        let spared = spared.filter(|service| conv.peer_of(service).is_some_and(|peer| peer != *service));
        let (last, marks) = (end.row.cloned(), std::mem::take(&mut self.marks));
        let room = end.room.filter(|room| again || room.applied > self.shown).cloned().map(Box::new);
        let raise = Raise { upto: top, last, counts: end.counts, spared, marks, event: end.event, room };
        effects.push(Effect::Raise(raise.clone()));
        self.under_way = Some((raise, held));
    }

    /// The raise under way is acknowledged.
    pub(super) fn on_raised(&mut self, effects: &mut Vec<Effect<T>>) {
        let Some((raise, held)) = self.under_way.take() else { return };
        self.raised = self.raised.max(raise.upto);
        self.shown = raise.room.map_or(self.shown, |room| room.applied);
        let (upto, marks) = (raise.upto, raise.marks);
        if self.marked.len() > MARKED {
            // Many write to a room; whoever is forgotten has its mark written once more.
            self.marked.clear();
        }
        marks.iter().for_each(|(user, mark)| self::raise(&mut self.marked, user, *mark));
        effects.extend(held.into_iter().map(|held| held.answer(upto)));
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
