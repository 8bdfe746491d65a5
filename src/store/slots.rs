//! The right to write, for an engine that several nodes share: each conversation belongs to a slot, each slot has at
//! most one home, and only the home appends to the slot's conversations.
//!
//! Implemented by the CQL engine; the embedded one, whose process is its only writer, has no slots. Called by whoever
//! routes appends to their homes. An incarnation is one life of a node's process; its right to write can be taken away
//! (it is *fenced*), never given back: the process then takes a new incarnation and starts without slots.

use std::fmt;

use compact_str::CompactString;
use tokio::sync::watch;

use super::StoreFuture;
use crate::{fnv::fnv1a, model::ConvId};

/// How many slots there are. Stored homes depend on it: it never changes.
pub const SLOTS: u16 = 1024;

/// A group of conversations that share a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a conversation: FNV-1a over its id, which every build must compute alike.
    pub fn of(conv: &ConvId) -> Self {
        let hash = fnv1a(conv.as_str().as_bytes());
        // The low bits of FNV are its weakest.
        Self(((hash ^ (hash >> 32)) % u64::from(SLOTS)) as u16)
    }

    /// The slot of a number, where there is one.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }

    /// Its number, below [`SLOTS`].
    pub fn number(self) -> u16 {
        self.0
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a node's process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation {
    /// The node's name.
    pub node: CompactString,
    /// 1 or more; grows with each life of the name, never used twice.
    pub number: u64,
}

impl Incarnation {
    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, number) = text.rsplit_once('/')?;
        Some(Self { node: node.into(), number: number.parse().ok()? })
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.number)
    }
}

/// Who is home of a slot, since which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Grows with each change of home.
    pub epoch: u64,
    /// The home.
    pub home: Incarnation,
}

/// What became of [`Slots::take`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take {
    /// This process is home now.
    Mine,
    /// Another incarnation is, and nobody has fenced it.
    Held(Incarnation),
}

/// Taking, giving and losing the right to write. Every change is a compare-and-set in the store, so whatever callers
/// believe, a slot never has two homes that both can finish an append.
pub trait Slots: Send + Sync + 'static {
    /// This process as a writer. Another one some time after it was fenced; until then the fenced one, without slots.
    fn incarnation(&self) -> Incarnation;

    /// Whether this process is home of the slot, as far as it knows.
    fn holds(&self, slot: Slot) -> bool;

    /// The slots of this process.
    fn held(&self) -> Vec<Slot>;

    /// Changes with every change of [`Slots::held`].
    fn changes(&self) -> watch::Receiver<u64>;

    /// The home on record: a serial read.
    fn term(&self, slot: Slot) -> StoreFuture<'_, Option<Term>>;

    /// Becomes home of a slot whose home is nobody, fenced, or a former life of this node (which is fenced first).
    /// Where this process gave the slot up before and nobody took it, it is home again, in a new epoch.
    fn take(&self, slot: Slot) -> StoreFuture<'_, Take>;

    /// Takes an incarnation's right to write away, for all of its slots and for ever. When it is answered, nothing that
    /// the incarnation writes from now on is ever answered as stored.
    fn fence<'a>(&'a self, who: &'a Incarnation) -> StoreFuture<'a, ()>;

    /// Gives a slot of this process to `to`: takes no more appends, ends those under way, then changes the record. True
    /// when `to` is home; it must still be told. In any other case this process is not home either until it takes the
    /// slot again.
    fn hand_over<'a>(&'a self, slot: Slot, to: &'a Incarnation) -> StoreFuture<'a, bool>;

    /// Whether the store does not answer this process, or has only just begun to again. Such a home cannot append; others
    /// may take its slots, and it takes nobody's.
    fn is_stuck(&self) -> bool;

    /// Leaves a note in the store for `home`: this process would like the slot. For when NATS carries nothing.
    fn want<'a>(&'a self, slot: Slot, home: &'a Incarnation) -> StoreFuture<'a, ()>;

    /// The notes left for this process in the last seconds.
    fn wanted(&self) -> StoreFuture<'_, Vec<(Slot, Incarnation)>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_s_slot_is_the_same_in_every_build() {
        let slot = |conv: &str| Slot::of(&ConvId::new(conv).unwrap()).number();
        assert_eq!([slot("dm:alice:bob"), slot("dm:bob:bob"), slot("dm:u1:u2")], [70, 1001, 619]);
    }

    #[test]
    fn conversations_spread_over_all_slots() {
        let mut counts = [0_u32; SLOTS as usize];
        for n in 0..100_000 {
            let conv = ConvId::new(&format!("dm:a{n}:b{n}")).unwrap();
            counts[usize::from(Slot::of(&conv).number())] += 1;
        }
        assert!(
            counts.iter().all(|count| (40..200).contains(count)),
            "{:?}",
            (counts.iter().min(), counts.iter().max())
        );
    }
}
