//! Three replicas, the slot and node records, the homes, and what is under way between them.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Mutant, Random, Scene,
    check::Promises,
    folds::FOLD_CIDS,
    home::{Home, Phase, sender},
    rooms::ROOM_CIDS,
};
use crate::{
    model::{Counts, Seq, room::Member},
    store::fence::{Epoch, Head, Made, RoomAt},
};

/// Message 0 is called 'a'.
pub(super) const CID_BASE: u8 = b'a';
/// Messages that clients send, again and again until they are answered, and after it.
pub(super) const CIDS: usize = 5;
/// Homes that take the slot from each other.
pub(super) const HOMES: usize = 3;

/// A row on a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) timestamp: Epoch,
    pub(super) cid: u8,
    pub(super) w: Epoch,
    pub(super) pw: Epoch,
    pub(super) counts: Counts,
    pub(super) service: bool,
    pub(super) event: Seq,
    pub(super) made: Option<Box<Made>>,
}

/// One copy of everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Replica {
    pub(super) rows: BTreeMap<Seq, Stored>,
    /// Cid rows: timestamp and seq.
    pub(super) cids: BTreeMap<u8, (Epoch, Seq)>,
    pub(super) heads: [Head; 2],
    /// The room's row; its head is the one of both users.
    pub(super) room: RoomAt,
    pub(super) members: [Option<Member>; 2],
    /// The last word of each user on one message: its seq and which message it is.
    pub(super) folds: [Option<(Seq, u8)>; 2],
    pub(super) fenced: Vec<u64>,
}

/// One cell on its way to one replica.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Row(Seq, Stored),
    Cid(u8, Epoch, Seq),
    Head(usize, Head),
    Fence(u64),
    Room(RoomAt),
    Member(usize, Member),
    Fold(usize, Seq, u8),
}

/// The larger head; a register keeps the first of two equal ones, which must be the same.
pub(super) fn further(one: Head, other: Head) -> Head {
    if other.seq > one.seq { other } else { one }
}

impl Replica {
    /// The larger of the heads.
    pub(super) fn head(&self) -> Head {
        further(self.heads[0], self.heads[1])
    }

    pub(super) fn take(&mut self, cell: Cell) {
        match cell {
            Cell::Row(seq, row) => {
                let at = self.rows.entry(seq).or_insert_with(|| row.clone());
                if (row.timestamp, row.cid) > (at.timestamp, at.cid) {
                    *at = row;
                }
            }
            Cell::Cid(cid, timestamp, seq) => {
                let at = self.cids.entry(cid).or_insert((timestamp, seq));
                *at = (timestamp, seq).max(*at);
            }
            Cell::Head(user, head) => self.heads[user] = further(self.heads[user], head),
            Cell::Fence(incarnation) => self.fenced.push(incarnation),
            Cell::Room(at) => {
                self.heads = self.heads.map(|head| further(head, at.head));
                self.room.take(at);
            }
            Cell::Member(user, member) => take_member(&mut self.members[user], member),
            Cell::Fold(user, seq, cid) => take_fold(&mut self.folds[user], Some((seq, cid))),
        }
    }
}

impl RoomAt {
    /// A copy's columns: each is the one with the higher timestamp.
    pub(super) fn take(&mut self, other: Self) {
        if other.head.seq > self.head.seq {
            (self.head, self.event) = (other.head, other.event);
        }
        let applied = |at: &Self| at.room.as_ref().map_or(0, |room| room.applied);
        if applied(&other) > applied(self) {
            self.room = other.room;
        }
    }
}

/// A member's row is the one with the higher timestamp; of two with the same one keeps the first, which must be the same.
pub(super) fn take_member(at: &mut Option<Member>, member: Member) {
    if at.as_ref().is_none_or(|at| at.changed < member.changed) {
        *at = Some(member);
    }
}

/// A fold is the one with the higher timestamp; of two with the same one a store keeps either, so they must be the same.
pub(super) fn take_fold(at: &mut Option<(Seq, u8)>, fold: Option<(Seq, u8)>) {
    *at = (*at).max(fold);
}

/// A change of the slot's record that was proposed and may be applied at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) from: (Epoch, u64),
    pub(super) to: u64,
}

/// What all share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) random: Random,
    pub(super) mutant: Option<Mutant>,
    pub(super) replicas: [Replica; 3],
    /// Cells that nobody waits for any more, or that the third replica has still to get.
    late: VecDeque<(usize, Cell)>,
    /// Epoch and incarnation of the home on record: a register that is changed by compare-and-set only.
    pub(super) slot: (Epoch, u64),
    pub(super) proposals: Vec<Proposal>,
    pub(super) incarnations: u64,
    pub(super) promises: Promises,
    pub(super) adopted: usize,
    /// Every other schedule mends as well: those that break what is rarely broken stay as they were found.
    pub(super) mends: bool,
    pub(super) mended: usize,
    /// In every fourth schedule the second user is a service.
    services: bool,
    /// The conversation is a room.
    pub(super) rooms: bool,
    /// Some messages are reactions.
    folds: bool,
    history: Vec<String>,
}

impl Shared {
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        self.history.push(what());
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether a service writes this message.
    pub(super) fn is_of_service(&self, cid: u8) -> bool {
        self.services && sender(cid) == 1
    }

    /// Any message that clients send.
    pub(super) fn some_message(&mut self) -> u8 {
        if self.folds {
            return FOLD_CIDS[self.random.below(FOLD_CIDS.len())];
        }
        if self.rooms { ROOM_CIDS[self.random.below(ROOM_CIDS.len())] } else { self.random.below(CIDS) as u8 }
    }

    pub(super) fn new_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        self.incarnations
    }

    /// A cell may reach a replica at any later time.
    pub(super) fn later(&mut self, replica: usize, cell: Cell) {
        if self.late.len() == 24 {
            self.late.pop_front();
        }
        self.late.push_back((replica, cell));
    }

    /// Whether a quorum of these two replicas shows the incarnation fenced.
    pub(super) fn shows_fenced(&self, replica: usize, incarnation: u64) -> bool {
        self.replicas[replica].fenced.contains(&incarnation)
    }

    fn apply_some_proposal(&mut self) {
        let at = self.random.below(self.proposals.len());
        let proposal = self.proposals.swap_remove(at);
        if proposal.from == self.slot {
            self.slot = (self.slot.0 + 1, proposal.to);
            let slot = self.slot;
            self.note(|| format!("the slot is {slot:?}"));
        }
    }
}

/// Everything.
pub(super) struct World {
    shared: Shared,
    homes: Vec<Home>,
}

impl World {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>, scene: Scene) -> Self {
        let (rooms, folds) = (scene == Scene::Room, scene == Scene::Folds);
        let mut shared = Shared {
            random: Random::new(seed),
            mutant,
            replicas: Default::default(),
            late: VecDeque::new(),
            slot: (1, 1),
            proposals: Vec::new(),
            incarnations: 0,
            promises: Promises::of(rooms),
            adopted: 0,
            mends: seed % 2 == 1,
            mended: 0,
            services: scene == Scene::Direct && seed % 4 == 3,
            rooms,
            folds,
            history: Vec::new(),
        };
        let mut homes: Vec<Home> = (0..HOMES).map(|name| Home::new(name, shared.new_incarnation())).collect();
        homes[0].phase = Phase::Home(1);
        Self { shared, homes }
    }

    pub(super) fn history(&self) -> String {
        self.shared.history.join("\n")
    }

    pub(super) fn answered(&self) -> usize {
        self.shared.promises.answered()
    }

    pub(super) fn denied(&self) -> usize {
        self.shared.promises.folded.denied()
    }

    pub(super) fn epochs(&self) -> u64 {
        self.shared.slot.0
    }

    pub(super) fn adopted(&self) -> usize {
        self.shared.adopted
    }

    pub(super) fn mended(&self) -> usize {
        self.shared.mended
    }

    /// Something happens; an error says which promise it broke.
    pub(super) fn step(&mut self) -> Result<(), String> {
        let shared = &mut self.shared;
        match shared.random.below(16) {
            0 if !shared.late.is_empty() => {
                let at = shared.random.below(shared.late.len());
                if let Some((replica, cell)) = shared.late.remove(at) {
                    shared.note(|| format!("late: replica {replica} gets {cell:?}"));
                    shared.replicas[replica].take(cell);
                }
            }
            1 if !shared.proposals.is_empty() => shared.apply_some_proposal(),
            _ => {
                let at = shared.random.below(HOMES);
                self.homes[at].step(shared)?;
            }
        }
        let above = Seq::from(self.shared.is(Mutant::ReadAboveHead));
        self.shared.promises.check(&self.shared.replicas, above, self.shared.services)
    }
}
