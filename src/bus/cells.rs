//! The NATS clusters ("cells") that a mesh is spread over, and a bus to each. Users and rooms are hashed over them, so that
//! the memory for interest, the storm of subscriptions after a restart, and what a dead cluster costs are divided by their
//! number. What nodes and services say to each other goes over the first. One cell is the rule.
//!
//! Built by the node; routing, presence and the gateway ask it which bus a subject is on.

use std::{fmt, sync::Arc};

use futures_util::future::try_join_all;

use super::{Bus, BusError, NatsOptions};
use crate::{
    config::{Nats, ServerUrl},
    fnv::fnv1a,
    metrics::Metrics,
    subject::Subject,
};

/// One of them, by its place in `nats.cells`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell(u8);

impl fmt::Display for Cell {
    /// The first is 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u16::from(self.0) + 1)
    }
}

/// Some of them, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CellSet(u64);

impl CellSet {
    /// One more.
    pub fn insert(&mut self, cell: Cell) {
        self.0 |= 1 << cell.0;
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Cell> {
        (0..u64::BITS as u8).filter(move |n| self.0 >> n & 1 == 1).map(Cell)
    }
}

impl FromIterator<Cell> for CellSet {
    fn from_iter<I: IntoIterator<Item = Cell>>(cells: I) -> Self {
        let mut all = Self::default();
        cells.into_iter().for_each(|cell| all.insert(cell));
        all
    }
}

/// A bus to each cell. Cheap to clone.
#[derive(Clone)]
pub struct Cells(Arc<[Arc<dyn Bus>]>);

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cells({})", self.0.len())
    }
}

impl Cells {
    /// Connects to every cell, as [`super::connect`] does to one: with these servers, or with those of the options where
    /// there are none.
    ///
    /// # Errors
    /// Those of [`super::connect`], and more than [`Nats::CELLS`].
    pub async fn connect(
        options: NatsOptions,
        cells: &[Vec<ServerUrl>],
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BusError> {
        if cells.len() > Nats::CELLS {
            return Err(BusError::Other(format!("at most {} cells", Nats::CELLS).into()));
        }
        let each = match cells {
            [] => vec![options],
            cells => cells.iter().map(|urls| NatsOptions { urls: urls.clone(), ..options.clone() }).collect(),
        };
        metrics.nats_cells.set(i64::try_from(each.len()).unwrap_or(i64::MAX));
        let buses = each.into_iter().map(|options| super::connect(options, metrics.clone()));
        Ok(Self(try_join_all(buses).await?.into()))
    }

    /// What carries everything that is no user's and no room's.
    pub fn first(&self) -> &Arc<dyn Bus> {
        &self.0[0]
    }

    /// The cell of a subject. All nodes must find the same.
    pub fn cell(&self, subject: &Subject) -> Cell {
        place(subject.as_str(), self.0.len())
    }

    /// The bus of a subject.
    pub fn of(&self, subject: &Subject) -> &Arc<dyn Bus> {
        self.at(self.cell(subject))
    }

    /// The bus that a message came over.
    pub fn that_brought(&self, subject: &str) -> &Arc<dyn Bus> {
        self.at(place(subject, self.0.len()))
    }

    /// The bus of a cell.
    pub fn at(&self, cell: Cell) -> &Arc<dyn Bus> {
        &self.0[usize::from(cell.0)]
    }

    /// All cells.
    pub fn all(&self) -> impl Iterator<Item = Cell> + use<> {
        (0..self.0.len() as u8).map(Cell)
    }

    /// A value for each.
    pub fn map<T>(&self, mut of: impl FnMut(Cell) -> T) -> PerCell<T> {
        PerCell(self.all().map(&mut of).collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those without a connection now.
    pub fn away(&self) -> usize {
        self.0.iter().filter(|bus| bus.connected().is_none()).count()
    }

    /// Why servers refuse this node, as [`Bus::refusal`].
    pub fn refusal(&self) -> Option<Arc<str>> {
        self.0.iter().find_map(|bus| bus.refusal())
    }

    /// Closes all of them.
    pub async fn close(&self) {
        futures_util::future::join_all(self.0.iter().map(|bus| bus.close())).await;
    }
}

/// The cell of a subject, of so many. Never more than [`Nats::CELLS`], and so within a byte.
pub fn place(subject: &str, cells: usize) -> Cell {
    let owner = if cells > 1 { Subject::owner_in(subject) } else { None };
    Cell(owner.map_or(0, |owner| (fnv1a(owner.as_bytes()) % cells as u64) as u8))
}

/// One value for each cell.
#[derive(Debug)]
pub struct PerCell<T>(Box<[T]>);

impl<T> PerCell<T> {
    /// That of a cell.
    pub fn of(&self, cell: Cell) -> &T {
        &self.0[usize::from(cell.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RoomId, UserId};

    #[test]
    fn what_is_one_users_is_in_one_cell_and_users_are_spread_evenly() {
        let cell = |subject: Subject| place(subject.as_str(), 3);
        let mut found = [0; 3];
        for n in 0..3_000 {
            let user = UserId::new(&format!("user{n}")).unwrap();
            let of_user = cell(Subject::user(&user));
            assert_eq!(cell(Subject::presence(&user)), of_user);
            found[usize::from(of_user.0)] += 1;
        }
        assert!(found.iter().all(|count| (900..1_100).contains(count)), "{found:?}");
        let rooms = (0..100).map(|n| cell(Subject::room(&RoomId::new(&format!("r{n}")).unwrap())));
        assert_eq!(rooms.collect::<CellSet>().iter().count(), 3);
        for subject in [Subject::log(7), Subject::node("n1", "here"), Subject::all_sends(), Subject::event("offline")] {
            assert_eq!(cell(subject), Cell(0));
        }
    }

    /// Nodes of another version must find the same.
    #[test]
    fn the_cell_of_a_user_never_changes() {
        let cell = |name: &str| place(Subject::user(&UserId::new(name).unwrap()).as_str(), 5).0;
        assert_eq!(["alice", "bob", "carol", "dave", "eve"].map(cell), [3, 2, 2, 2, 1]);
    }
}
