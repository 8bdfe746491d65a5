//! The embedded store: the contract of all stores, and what only this engine promises about its folder, its disk
//! and its process.

use std::{path::Path, sync::Arc};

use natter::store::{
    Engine as _, Store,
    embedded::{EmbeddedOptions, EmbeddedStore},
};
use tempfile::TempDir;

use crate::store::contract::Bed;

mod backup;
mod child;
mod commits;
mod damage;
mod devices;
mod faults;
mod folder;
mod kill;
mod load;
mod power;
mod rooms;
mod rooms_crash;
mod synced;

store_contract!(contract, crate::store::embedded::fresh);
room_contract!(room_contract, crate::store::embedded::fresh);

/// An embedded store in its own folder.
pub struct Embedded {
    store: Option<Arc<EmbeddedStore>>,
    dir: TempDir,
}

/// A new store.
pub async fn fresh() -> Embedded {
    let dir = tempfile::tempdir().unwrap();
    Embedded { store: Some(open(dir.path())), dir }
}

/// Opens the store in `dir`.
fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, EmbeddedOptions::default()).unwrap()
}

impl Bed for Embedded {
    fn store(&self) -> Store {
        Store::of(self.store.clone().unwrap())
    }

    async fn reopen(&mut self) {
        let store = self.store.take().unwrap();
        store.close().await.unwrap();
        drop(store);
        self.store = Some(open(self.dir.path()));
    }
}
