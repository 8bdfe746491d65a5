//! Which messages a conversation holds already, in memory: so that a known conversation needs no read per message (F4).

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use crate::model::{Cid, Seq, UserId};

/// Keyed anew in each process: no client can choose cids that collide.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Where a cid may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At this seq, unless two cids have one hash: the row decides.
    At(Seq),
    /// Nowhere that counts.
    Nowhere,
    /// The store must be asked.
    Unknown,
}

/// The cids of a log's newest rows, by their hashes.
#[derive(Debug, Default)]
pub(super) struct Cids {
    seqs: HashMap<u64, Seq>,
    /// From this seq on every row's cid is here.
    from: Seq,
}

fn hash(sender: &UserId, cid: &Cid) -> u64 {
    KEYS.hash_one((sender.as_str(), cid.as_str()))
}

impl Cids {
    pub(super) fn load(&mut self, found: &[(Seq, UserId, Cid)], from: Seq) {
        self.from = from;
        found.iter().for_each(|(seq, sender, cid)| self.add(sender, cid, *seq));
    }

    /// A row stands, or is about to be written, at `seq`.
    pub(super) fn add(&mut self, sender: &UserId, cid: &Cid, seq: Seq) {
        self.seqs.insert(hash(sender, cid), seq);
    }

    /// Where the cid stands at or above `from`.
    pub(super) fn find(&self, sender: &UserId, cid: &Cid, from: Seq) -> Place {
        match self.seqs.get(&hash(sender, cid)) {
            Some(seq) => Place::At(*seq),
            None if self.from <= from => Place::Nowhere,
            None => Place::Unknown,
        }
    }

    /// Forgets what is below `from`.
    pub(super) fn trim(&mut self, from: Seq) {
        self.seqs.retain(|_, seq| *seq >= from);
        self.seqs.shrink_to_fit();
    }

    pub(super) fn len(&self) -> usize {
        self.seqs.len()
    }
}
