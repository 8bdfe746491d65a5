//! Opens the configured store. Called by `serve`, `dev`, `migrate` and `doctor`, so that all of them use the same one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::backup;
use crate::{
    config::{self, Config, StoreKind},
    metrics::Metrics,
    model::room::RoomLimits,
    store::{
        Store,
        embedded::{EmbeddedOptions, EmbeddedStore, OpenError},
        scylla::{ScyllaOptions, ScyllaStore, migrate},
    },
};

/// Opens the configured store. With `accept_loss` a damaged embedded one goes on with what is left. `migrating` first brings a cluster's schema to this build's version. `metrics` shows
/// what the store's driver counts.
///
/// # Errors
/// The folder is in use, foreign or of another format; the cluster does not answer, or its schema is not this build's.
pub(super) async fn open(
    config: &Config,
    accept_loss: bool,
    migrating: bool,
    metrics: &Metrics,
) -> anyhow::Result<Store> {
    match config.store.kind {
        StoreKind::Embedded => Ok(Store::of(open_embedded(config, accept_loss).await?)),
        StoreKind::Scylla => open_scylla(config, migrating, metrics).await,
    }
}

async fn open_scylla(config: &Config, migrating: bool, metrics: &Metrics) -> anyhow::Result<Store> {
    let scylla = &config.store.scylla;
    let rooms = RoomLimits { members: config.limits.members_per_room };
    let options = ScyllaOptions { node: config.node.name.to_string(), rooms, ..ScyllaOptions::from(scylla) };
    if migrating {
        migrate(&options).await?;
    }
    let store = ScyllaStore::connect(options).await?;
    metrics.show_driver(store.driver());
    warn_of_few_copies(&store, scylla);
    Ok(Store::shared(store))
}

/// What counts is the keyspace's own replication, not the configured one, which is used only when the keyspace is
/// created.
fn warn_of_few_copies(store: &ScyllaStore, scylla: &config::Scylla) {
    match store.replication_factor(&scylla.datacenter) {
        Some(copies @ ..=1) => tracing::warn!(
            keyspace = %scylla.keyspace,
            copies,
            "the keyspace keeps one copy of each row: a lost disk loses messages; use three copies outside development"
        ),
        Some(copies) if copies != scylla.replication_factor as usize => tracing::warn!(
            keyspace = %scylla.keyspace,
            copies,
            configured = scylla.replication_factor,
            "store.scylla.replication_factor is used only when the keyspace is created; change it with ALTER KEYSPACE"
        ),
        _ => {}
    }
}

/// Opens the embedded store in the configured data folder.
///
/// # Errors
/// When the folder is in use, foreign, of another format, or damaged and that is not accepted.
pub(super) async fn open_embedded(config: &Config, accept_loss: bool) -> anyhow::Result<Arc<EmbeddedStore>> {
    let dir = config.store.embedded.store_dir();
    let options = EmbeddedOptions { accept_loss, ..EmbeddedOptions::from(config) };
    keep_private();
    let opened = tokio::task::spawn_blocking({
        let dir = dir.clone();
        move || {
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            open_when_free(&dir, options)
        }
    });
    let store = opened.await.context("opening the store")??;
    backup::listen(&store, &dir);
    Ok(store)
}

/// The engine makes files all the time, with the mode that this leaves; a data folder is nobody else's.
pub(super) fn keep_private() {
    // SAFETY: umask only sets a number of this process.
    unsafe { libc::umask(0o077) };
}

/// A killed process holds its folder for some milliseconds more; starting the next one at once should work on the first
/// try.
fn open_when_free(dir: &std::path::Path, options: EmbeddedOptions) -> anyhow::Result<Arc<EmbeddedStore>> {
    let patience = Instant::now() + Duration::from_secs(2);
    loop {
        match EmbeddedStore::open(dir, options) {
            Err(OpenError::InUse { .. }) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(50)),
            done => return Ok(done?),
        }
    }
}
