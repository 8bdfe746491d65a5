//! What the store, its readers and its writer thread share: the open tables, and why there are none.

use std::sync::{Arc, OnceLock, PoisonError, RwLock, atomic::AtomicU64};

use super::{stamps::Counters, tables::Tables};
use crate::store::{StoreError, StoreResult};

/// Shared by [`super::EmbeddedStore`] and [`super::writer::Writer`].
#[derive(Default)]
pub(super) struct Shared {
    /// `None` once closed, so that the folder is free even while somebody still holds the store, and while the store is
    /// down.
    tables: RwLock<Option<Arc<Tables>>>,
    /// Why the store takes no writes; set by the first write that fails.
    failure: RwLock<Option<StoreError>>,
    /// The first damage that was met. Reads of what is whole go on, but the node is not ready: somebody has to look.
    damage: OnceLock<StoreError>,
    /// What tells that heads have changed.
    pub(super) stamps: Counters,
    /// Commits that waited for the disk.
    pub(super) syncs: AtomicU64,
    /// Messages stored.
    pub(super) messages: AtomicU64,
    /// Rows that the writer looked up.
    pub(super) lookups: AtomicU64,
    /// Rows written.
    pub(super) rows: AtomicU64,
}

impl Shared {
    /// The open tables, to be read.
    pub(super) fn tables(&self) -> StoreResult<Arc<Tables>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner).clone();
        tables.ok_or_else(|| self.failure().unwrap_or_else(closed))
    }

    /// Takes the tables out of reach: whoever reads now still has them.
    pub(super) fn take_tables(&self) -> Option<Arc<Tables>> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The tables are open, and writes are taken.
    pub(super) fn open(&self, tables: Arc<Tables>) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Some(tables);
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = None;
        // What was refused may be there all the same, and nobody counted it.
        self.stamps.begin_anew();
    }

    /// Writes are refused with this cause.
    pub(super) fn fail(&self, cause: &str) {
        let failure = StoreError::unavailable(cause);
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// Remembers damage and passes the result on.
    pub(super) fn noted<T>(&self, result: StoreResult<T>) -> StoreResult<T> {
        if let Err(error @ StoreError::Damaged(_)) = &result
            && self.damage.set(error.clone()).is_ok()
        {
            tracing::error!(%error, "what is stored cannot be read; this node is not ready any more");
        }
        result
    }

    /// The first damage that was met.
    pub(super) fn damage(&self) -> StoreResult<()> {
        self.damage.get().map_or(Ok(()), |damage| Err(damage.clone()))
    }

    /// Why writes are refused, if they are.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failure.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The answer of a store that was closed.
pub(super) fn closed() -> StoreError {
    StoreError::unavailable("the store is closed")
}
