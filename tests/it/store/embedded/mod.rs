//! The embedded store: the contract of all stores, and what only this engine promises about its folder, its disk
//! and its process.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use natter::store::{
    Engine as _, Store,
    embedded::{
        EmbeddedOptions, EmbeddedStore, OpenError,
        verify::{Report, verify},
    },
};
use tempfile::TempDir;

use crate::{harness::PATIENCE, store::contract::Bed};

mod backup;
mod child;
mod commits;
mod damage;
mod devices;
mod faults;
mod folder;
mod kill;
mod kinds;
mod load;
mod power;
mod rooms;
mod rooms_crash;
mod sealed;
mod synced;

store_contract!(contract, crate::store::embedded::fresh);
room_contract!(room_contract, crate::store::embedded::fresh);
kind_contract!(kind_contract, crate::store::embedded::fresh);

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

/// Opens the store of a folder. Its last owner in this process may still be writing out on a disk that others keep busy:
/// closing waits for that, but not for ever.
fn open(dir: &Path) -> Arc<EmbeddedStore> {
    let begin = Instant::now();
    loop {
        match EmbeddedStore::open(dir, EmbeddedOptions::default()) {
            Err(OpenError::InUse { .. }) if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
}

/// Checks the store of a folder, whose last owner may still be writing out as well.
fn report_of(dir: &Path) -> Report {
    let begin = Instant::now();
    loop {
        match verify(dir, EmbeddedOptions::default(), |_| ()) {
            Err(OpenError::InUse { .. }) if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            report => return report.unwrap(),
        }
    }
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
